"""What a newcomer types: a fit in full, the story of the narrow interval, report, checklist."""

import json
import re

import numpy as np
import pandas as pd
import pytest

import jaxscale as js


@pytest.fixture
def table(tmp_path, simulated):
    path = tmp_path / "runs.csv"
    simulated[0].frame()[["N", "D", "loss"]].to_csv(path, index=False)
    return path


@pytest.mark.slow
def test_without_a_file_the_shipped_runs_are_fitted_in_full(run, tmp_path):
    code, out, err = run("fit", "--restarts", "64")
    assert (code, err) == (0, "")
    folder = tmp_path / "jaxscale-fit"
    assert {path.name for path in folder.iterdir()} == {
        "fit.json", "fit.png", "parameters.csv", "restarts.csv", "runs.csv", "frontier.csv",
        "draws.json", "intervals.csv", "intervals.png",
    }  # fmt: skip
    found = pd.read_csv(folder / "intervals.csv").set_index(["quantity", "method"])
    methods = ["hessian", "HC1", "profile", "pairs bootstrap", "posterior (NUTS)"]
    assert list(found.loc["a"].index) == methods
    assert list(dict.fromkeys(found.index.get_level_values(0))) == [
        "a", "N*(C=1e+15)", "E", "A", "B", "alpha", "beta",
    ]  # fmt: skip
    # Each kind is an interval of its own kind, from the very fit that is saved.
    runs = js.Runs.from_frame(js.datasets.load_tiny_lm(), N="params", D="tokens")
    fit, draws = js.load(folder / "fit.json", runs=runs), js.load(folder / "draws.json")
    np.testing.assert_allclose(found.loc["a", "estimate"].iloc[:4], fit.derived["a"], rtol=1e-9)
    profile = js.profile(fit, "a", level=0.95)
    for method, expected in (
        ("hessian", js.laplace(fit).interval("a", 0.95)),
        ("pairs bootstrap", draws.interval("a", 0.95)),
        ("profile", (profile.low, profile.high)),
    ):
        assert np.allclose(found.loc[("a", method), ["low", "high"]].astype(float), expected)
    low, high = found.loc[("a", "posterior (NUTS)"), ["low", "high"]]
    assert low < fit.derived["a"] < high
    # The three lines say what the tables hold.
    lines = " ".join(out.split("In three lines")[1].split())
    low, high = found.loc[("a", "pairs bootstrap"), ["low", "high"]]
    assert f"a = {float(fit.derived['a']):.3g} ({low:.3g} to {high:.3g})" in lines
    best = js.allocate(draws, flop=1e15, level=0.95)
    assert (
        f"N = {float(best.N):.3g} ({best.bands['N'][0]:.3g} to {best.bands['N'][1]:.3g})" in lines
    )
    width = found.loc["a", "high"] - found.loc["a", "low"]
    ratio = width / width["pairs bootstrap"]
    assert f"The {ratio.idxmin()} interval of a is {ratio.min():.2f} times as wide" in lines
    assert out.count("share 27% of their residual variance") == 1


def test_a_file_is_fitted_quickly_unless_told(run, table, tmp_path):
    code, out, _ = run("fit", table, "--restarts", "32")
    assert code == 0
    assert "In three lines" not in out
    assert not (tmp_path / "jaxscale-fit" / "intervals.csv").exists()


def test_the_demo_shows_an_interval_that_is_too_narrow(run, tmp_path):
    code, out, err = run("demo")
    assert (code, err) == (0, "")
    text = " ".join(out.split())
    steps = ["A law is fitted", "A common script answers", "Would you have noticed?",
             "What to report"]  # fmt: skip
    assert all(f"{i}. {step}" in text for i, step in enumerate(steps, 1))
    times = float(re.search(r"give [\d.]+, ([\d.]+) times as much", text)[1])
    narrower = float(re.search(r"is ([\d.]+) times narrower than these 109 runs", text)[1])
    assert times > 3
    assert narrower > 3
    claimed = re.search(r"a in \(([\d.]+), ([\d.]+)\)\. The audit", text)
    report = re.search(r"fits: a in \(([\d.]+), ([\d.]+)\) at 80%", text)
    low, high = map(float, report.groups())
    assert low < float(claimed[1]) < float(claimed[2]) < high
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_report_is_one_file_with_everything(run, table, tmp_path):
    code, out, err = run(
        "report", table, "--restarts", "64", "--resamples", "100", "--title", "Runs & <laws>",
        "--say", "metric=nats <per> token", "--out", "deep/report.html",
    )  # fmt: skip
    assert (code, err) == (0, "")
    html = (tmp_path / "deep" / "report.html").read_text(encoding="utf-8")
    assert "Runs &amp; &lt;laws&gt;" in html
    assert "nats &lt;per&gt; token" in html
    assert "<laws>" not in html
    assert "jaxscale report" in html  # how to make it again
    for part in ("Restarts", "interval", "frontier", "acktest", "hecklist"):
        assert part in html
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", html)
    assert "metric" not in out.split("open:")[-1]


def test_checklist_says_what_is_open(run, table, tmp_path):
    code, out, _ = run("checklist", table, "--restarts", "32", "--say", "metric=nats per token")
    assert code == 0
    assert "nats per token" in out
    assert "60 runs" in out
    code, again, _ = run("checklist", table, "--restarts", "32", "--say", "metric=nats per token",
                         "--out", "list.md")  # fmt: skip
    assert code == 0
    assert (tmp_path / "list.md").read_text(encoding="utf-8").strip() == out.strip()
    assert "Wrote list.md" in again


@pytest.mark.parametrize("verb", ["report", "checklist"])
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--say", "colour=blue"], "--say colour: the checklist has"),
        (["--say", "metric"], "--say"),
        (["--out", "."], "folder"),
        (["--N", "size"], "size"),
    ],
)
def test_bad_requests_leave_nothing(run, table, tmp_path, verb, arguments, said):
    code, out, err = run(verb, table, *arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == [table]


def test_a_saved_fit_of_the_command_is_whole(run, table, tmp_path):
    code, _, _ = run("fit", table, "--restarts", "32", "--out", "f")
    assert code == 0
    path = tmp_path / "f" / "fit.json"
    content = json.loads(path.read_text())
    content["value"] *= 0.5
    path.write_text(json.dumps(content))
    code, out, err = run("predict", path, "--N", "1B", "--D", "1T")
    assert (code, out) == (2, "")
    assert "hash" in err or "changed" in err
