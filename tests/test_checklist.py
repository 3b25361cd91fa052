"""The checklist says what is known, in the words of the objects, and names what is not."""

import numpy as np
import pandas as pd
import pytest

import jaxscale as js
from jaxscale._checklist import QUESTIONS


@pytest.fixture(scope="module")
def study(key):
    """A table with seeds, a learning rate, a name for every run and five rows left out."""
    rng = np.random.default_rng(5)
    N, D = np.exp(rng.uniform(np.log([[1e7], [1e9]]), np.log([[1e10], [1e12]]), (2, 20)))
    N, D = np.tile(N, 2), np.tile(D, 2)
    lr = rng.uniform(1e-4, 1e-3, 40)
    noise = 0.004 * rng.normal(size=40) + 20 * (lr - lr.mean())
    loss = 1.8 + 480 * N**-0.35 + 2100 * D**-0.37
    table = pd.DataFrame(
        {
            "name": [f"run {i}" for i in range(40)],
            "params": N,
            "tokens": D,
            "flop": 6 * N * D,
            "lr": lr,
            "vocab": 32_000,
            "loss": loss * np.exp(noise),
        }
    )
    runs = js.Runs.from_frame(table, N="params", D="tokens", source="study.csv")
    runs = runs.take(np.arange(40) >= 5)
    return table, js.fit(js.laws.chinchilla, runs, restarts=128, key=key)


def test_answers_follow_from_fit_and_table(study):
    table, fit = study
    known = js.checklist(fit, table=table).answers
    assert tuple(known) == tuple(QUESTIONS)
    assert "E + A / N^alpha" in known["form"]
    assert known["interaction"] == "yes: their terms add"
    assert known["models"].startswith("35 runs of 20 sizes")
    assert known["dropped"] == "5 of 40 rows: 1, 2, 3, 4, 5"
    assert "lr vary" in known["omitted"]
    assert "residuals go with lr" in known["omitted"]
    for unused in ("name", "vocab", "flop", "params"):  # a label, a constant, C and N themselves
        assert unused not in known["omitted"]
    assert str(fit.restarts) == known["starts"]


def test_seeds_are_counted_and_measured(study):
    _, fit = study
    runs = fit.runs
    known = js.checklist(fit).answers["seeds"]
    assert known.startswith("15 of 20 settings were run more than once, 2 times at most")
    logs = pd.Series(np.log(runs.loss)).groupby(np.asarray(runs.inputs["N"])).agg(["var", "count"])
    expected = np.sqrt(logs["var"][logs["count"] == 2].mean())
    assert float(known.rsplit(": ", 1)[1]) == pytest.approx(expected, rel=0.05)


def test_interaction_is_seen(chinchilla_runs, key):
    fit = js.fit(js.laws.coupled_power, chinchilla_runs, restarts=64, key=key)
    assert js.checklist(fit).answers["interaction"] == "they interact: D with N"


def test_results_answer_for_intervals(study, key):
    _, fit = study
    boot = js.bootstrap(fit, n=200, key=key)
    assert "intervals" in js.checklist(fit).gaps
    assert js.checklist(fit, boot).answers["intervals"] == "pairs bootstrap, 200 draws"


def test_what_is_said_replaces_what_was_found_and_gaps_are_named(study):
    _, fit = study
    listed = js.checklist(fit, metric="nats per token *C4*", objective="as in the paper")
    assert listed.answers["objective"] == "as in the paper"
    assert "metric" not in listed.gaps
    assert "training_code" in listed.gaps
    text = listed.markdown()
    assert "- [ ] Where is the code that trained them? *not stated*" in text
    assert r"nats per token \*C4\*" in text
    assert text.count("- [x]") == len(QUESTIONS) - len(listed.gaps)


def test_html_escapes_what_users_say(study):
    _, fit = study
    shown = js.checklist(fit, metric="<script>alert(1)</script>")._repr_html_()
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown


def test_refusals(study):
    table, fit = study
    with pytest.raises(js.DataError, match="no item 'colour'; its items are form"):
        js.checklist(fit, colour="red")
    with pytest.raises(js.DataError, match="with all its rows"):
        js.checklist(fit, table=table.head(10))
