"""Published intervals and parameters held against draws, and how too narrow ones come about."""

import dataclasses
import types

import cases
import jax
import numpy as np
import pandas as pd
import pytest

import jaxscale as js
from jaxscale._audit import Audit, audit
from jaxscale._draws import Draws
from jaxscale._early_stop import early_stop
from jaxscale._law import physical_params
from jaxscale._published_point import _read, published_point
from jaxscale._quantity import Parameter, optimal_N
from jaxscale._refit import refit_sets
from jaxscale._rounding import as_printed

HOFFMANN = {"a": (0.454, 0.455), "level": 0.8}


def with_runs(fit, *, times=1.0, padding=0):
    """The same fit, with all weights multiplied, and runs of weight zero that make no sense."""
    runs = fit.runs
    more = 1.0 + np.arange(padding)
    runs = js.Runs.from_arrays(
        loss=np.concatenate([runs.loss, 1e3 * more]),
        weight=np.concatenate([times * np.asarray(runs.weight), 0 * more]),
        **{name: np.concatenate([x, 1e20 * more]) for name, x in runs.inputs.items()},
    )
    return dataclasses.replace(fit, runs=runs, value=times * fit.value)


def pairs_draws(fit, index):
    """Draws from refits to resamples, which are rows of run numbers."""
    weight = np.stack([np.bincount(i, minlength=index.shape[1]) for i in index])
    theta = refit_sets(fit, weight=weight).theta
    params = physical_params(fit.law, theta, fit.log_refs)
    params = {name: np.asarray(x) for name, x in params.items()}
    return Draws(fit, "pairs bootstrap", params, np.ones(len(index)))


@pytest.fixture(scope="module")
def chinchilla_draws(chinchilla_fit):
    """The very 4,000 resamples of the replication: NumPy's legacy generator with seed 42."""
    return pairs_draws(chinchilla_fit, np.random.RandomState(42).choice(240, (4000, 240)))


@pytest.fixture(scope="module")
def normal_draws(simulated_fit):
    """4,000 draws with known mean and covariance, independent in (log E, log A, ..., beta)."""
    noise = np.random.default_rng(5).normal(size=(4000, 5))
    noise = (noise - noise.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(noise.T)).T)
    sd = {"E": 0.01, "A": 0.1, "B": 0.2, "alpha": 0.01, "beta": 0.02}
    center = {name: float(x) for name, x in simulated_fit.params.items()}
    params = {
        name: center[name] * np.exp(sd[name] * noise[:, i])
        if name in "EAB"
        else center[name] + sd[name] * noise[:, i]
        for i, name in enumerate(simulated_fit.law.names)
    }
    return Draws(simulated_fit, "normal draws", params, np.ones(4000)), center, sd


# Right: the published replication.


def test_runs_that_the_claimed_interval_would_need(chinchilla_draws):
    row = audit(chinchilla_draws, claimed=HOFFMANN).frame().iloc[0]
    # Same resamples as the notebook (cells 57 and 59); its optimizer stopped a little earlier.
    assert row["runs_delta"] == pytest.approx(632_739.6, rel=2e-3)
    assert row["runs_percentile"] == pytest.approx(634_773, rel=2e-3)
    # Our own refit in SciPy, to the digits it was noted with.
    assert row["runs_delta"] == pytest.approx(632_136, abs=5)
    assert row["runs_percentile"] == pytest.approx(634_405, abs=5)
    assert row["ratio"] == pytest.approx(51.4, abs=0.05)
    assert not row["inside"]
    assert row["share_inside"] == 0


def test_the_audit_in_plain_english(chinchilla_draws):
    found = audit(chinchilla_draws, claimed=HOFFMANN, published="hoffmann_2022", n_runs=400)
    assert found.sentences[0] == (
        "The claimed 80% interval of a (0.454, 0.455) is 51 times narrower than these 240 runs "
        "support: it would need about 634,000 runs like these, and was made from 400."
    )
    assert "0.5139, lies outside it" in found.sentences[1]
    assert found.sentences[2].startswith("hoffmann_2022 is 21% worse than the optimum")
    assert "they reject it" in found.sentences[2]
    assert found.sentences[0] in repr(found)
    assert "<table" in found._repr_html_()


def test_hoffmann_is_rejected(chinchilla_draws, key):
    point = audit(chinchilla_draws, published="hoffmann_2022").point
    assert point.df == 5
    assert point.excess == pytest.approx(0.209, abs=5e-4)
    assert point.wald == pytest.approx(234.6, abs=0.1)
    assert point.lr == pytest.approx(83.24, abs=0.01)
    # The replication centers its test on the least-absolute-deviations fit, whose likelihood it
    # uses, with the covariance of the Huber refits.
    runs = chinchilla_draws.runs
    l1 = js.fit(js.laws.chinchilla, runs, objective=js.LogL1(), restarts=128, key=key)
    point = audit(dataclasses.replace(chinchilla_draws, fit=l1), published="hoffmann_2022").point
    assert point.wald == pytest.approx(239.6, abs=0.05)
    assert point.wald == pytest.approx(238.40, rel=0.01)
    assert f"{point.lr:.2f}" == "84.00"
    assert f"{point.lr_p:.1e}" == "1.2e-16"
    # They print a sum of absolute residuals of 1.1294947 at their own optimum.
    assert point.optimum == pytest.approx(1.1294947, rel=1e-7)


def test_rounding_to_two_digits_breaks_a_law(chinchilla_draws):
    rounded = audit(chinchilla_draws, published="hoffmann_2022_rounded").point
    assert rounded.rounding.matters
    assert rounded.rounding.rms > rounded.rounding.rmse
    low, high = rounded.rounding.optimal_N
    assert high / low > 1.5
    assert (
        "do not suffice" in audit(chinchilla_draws, published="hoffmann_2022_rounded").sentences[1]
    )
    for name in ("hoffmann_2022", "besiroglu_2024", "besiroglu_2024_l1"):
        assert not audit(chinchilla_draws, published=name).point.rounding.matters


def test_the_replication_is_allowed(chinchilla_draws):
    point = audit(chinchilla_draws, published="besiroglu_2024_l1").point
    assert point.wald_p > 0.99
    assert point.objective == pytest.approx(1.0186447e-3, rel=1e-6)
    assert "allow it" in point.sentences[0]


# Right: known draws.


def test_standard_errors_and_counts_of_known_draws(normal_draws):
    draws, center, sd = normal_draws
    claimed = {"alpha": (0.0, 0.4), "a": (0.5, 0.51), "E": (1.0, 3.0), "level": 0.9}
    table = audit(draws, claimed=claimed).frame().set_index("quantity")
    alpha, beta = center["alpha"], center["beta"]
    a_error = np.hypot(beta * sd["alpha"], alpha * sd["beta"]) / (alpha + beta) ** 2
    # Moments of the draws are exact; the mean of log E is exact, too.
    assert table.loc["alpha", "se"] == pytest.approx(sd["alpha"], rel=1e-9)
    assert table.loc["a", "se"] == pytest.approx(a_error, rel=1e-9)
    assert table.loc["E", "se"] == pytest.approx(center["E"] * sd["E"], rel=1e-9)
    z = 1.6448536
    assert table.loc["a", "runs_delta"] == pytest.approx(60 * (2 * z * a_error / 0.01) ** 2)
    assert table.loc["alpha", "inside"]
    assert table.loc["alpha", "share_inside"] == pytest.approx(1.0, abs=1e-3)
    # Quantiles of 4,000 draws: standard error of a 90% width is about 2%.
    assert table["runs_percentile"].to_numpy() == pytest.approx(table["runs_delta"], rel=0.15)


def test_wald_distance_of_known_draws(normal_draws):
    draws, center, sd = normal_draws
    moved = dict(center, A=center["A"] * np.exp(2 * sd["A"]), beta=center["beta"] - sd["beta"])
    point = audit(draws, published=moved).point
    assert point.wald == pytest.approx(5.0, rel=1e-9)
    assert point.wald_p == pytest.approx(0.41588, abs=1e-5)
    assert point.lr == pytest.approx(2 * loss_of_likelihood(draws.fit, moved), rel=1e-6)
    assert point.frame()["df"].tolist() == [5, 5]


def loss_of_likelihood(fit, params):
    """By the public noise model, with its scale fitted at either point."""
    runs = fit.runs

    def log_likelihood(params):
        predicted = fit.law(runs.inputs["N"], runs.inputs["D"], **params)
        r = np.asarray(fit.objective.residual(predicted, runs.loss))
        return float(np.sum(fit.objective.log_prob(r, fit.objective.noise_scale(r, runs.weight))))

    return log_likelihood(fit.params) - log_likelihood(params)


@pytest.mark.parametrize(
    ("claimed", "words"),
    [
        ((0.0, 1.0), "times wider"),
        ((0.3344, 0.3656), "about as wide"),
        ((0.3499, 0.3501), "times narrower"),
    ],
)
def test_wide_and_narrow_claims(normal_draws, claimed, words):
    found = audit(normal_draws[0], claimed={"alpha": claimed, "level": 0.8})
    assert words in found.sentences[0]


def test_quantities_beyond_parameters(normal_draws):
    flop = optimal_N(1e21)
    table = audit(normal_draws[0], claimed={flop: (1e9, 5e9), "level": 0.8}).frame()
    assert table["quantity"].tolist() == [flop.label]
    assert np.isfinite(table["runs_delta"]).all()


def test_printed_digits(normal_draws):
    draws, center, _ = normal_draws
    few = audit(draws, published={name: f"{x:.2g}" for name, x in center.items()}).point.rounding
    many = audit(draws, published={name: f"{x:.8g}" for name, x in center.items()}).point.rounding
    assert few.matters
    assert not many.matters
    # A trailing zero in a string is a digit; a float cannot carry it.
    text, number = ({**center, "alpha": x} for x in ("0.3500", 0.35))
    moved = [audit(draws, published=p).point.rounding.worst for p in (text, number)]
    assert moved[1] > 50 * moved[0]


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (400, "400"), (400.0, "400"), (8.8e13, "8.8E+13"), (7.788e7, "7.788E+7"), (0.0, "0"),
        (18186, "18186"), (0.34, "0.34"), (1.6e-8, "1.6E-8"), (np.float64(1.69), "1.69"),
    ],
)  # fmt: skip
def test_shortest_form_of_a_number(number, text):
    assert as_printed(number) == text
    assert float(text) == number


def test_numbers_of_many_digits_were_not_printed(normal_draws):
    draws, center, _ = normal_draws
    point = published_point(draws, center)
    assert point.rounding is None
    assert not any("digits" in sentence for sentence in point.sentences)
    point = published_point(draws, {**center, "alpha": 0.35, "A": 400})
    assert point.rounding.names == ("A", "alpha")
    assert point.sentences[-1].startswith("The printed digits of A, alpha ")
    # Half a unit of 400, not of 400.0, on a run where nothing but A / N^alpha matters.
    only_A = published_point(draws, {**center, "A": 400}).rounding
    runs, at = draws.runs, {**center, "A": 400.0}
    predicted = [
        np.asarray(draws.law(runs.inputs["N"], runs.inputs["D"], **{**at, "A": A}))
        for A in (400.5, 400.0)
    ]
    assert only_A.worst == pytest.approx(np.log(predicted[0] / predicted[1]).max(), rel=2e-3)


def test_every_published_entry_can_be_audited(normal_draws):
    draws = normal_draws[0]
    entries = [js.published.get(name) for name in js.published.names()]
    points = [published_point(draws, e) for e in entries if e.law == draws.law]
    assert all(np.isfinite(point.lr) and point.sentences for point in points)
    # All its exponents have ten digits, and the rest are exponentials.
    assert next(p for p in points if p.name == "mcleish_2025_hot").rounding is None
    # The other laws: only what is read, without draws.
    assert all(_read(e.law, e)[0] == e.name for e in entries)


def test_the_end_of_a_support(normal_draws):
    point = published_point(normal_draws[0], "bhagia_2024_csqa")
    assert point.ends == ("E",)
    assert np.isnan([point.wald, point.wald_p]).all()
    fit = normal_draws[0].fit
    assert point.lr == pytest.approx(2 * loss_of_likelihood(fit, point.params))
    assert "they reject it: likelihood ratio" in point.sentences[0]
    assert "Wald" not in point.sentences[0]
    assert point.sentences[1].startswith("There is no Wald test: E = 0 lies at the end")
    assert "E" not in point.rounding.names
    assert np.isfinite(point.rounding.worst)
    broken = {name: np.where(np.arange(4000) < 1, np.inf, x) for name, x in
              normal_draws[0].params.items()}  # fmt: skip
    point = published_point(dataclasses.replace(normal_draws[0], params=broken), "hoffmann_2022")
    assert "reject it: likelihood ratio" in point.sentences[0]
    assert "no finite covariance" in point.sentences[1]
    found = audit(dataclasses.replace(normal_draws[0], params=broken), claimed=HOFFMANN)
    assert np.isnan(found.frame().loc[0, "runs_delta"])
    assert found.sentences[0].startswith("The claimed 80% interval of a (0.454, 0.455) ")


def test_weights_are_relative_and_padding_does_not_count(normal_draws):
    draws, center, sd = normal_draws
    moved = dict(center, A=center["A"] * np.exp(sd["A"]))
    plain = published_point(draws, moved)
    for change in ({"times": 7.0}, {"times": 1 / 60}, {"padding": 9}):
        other = dataclasses.replace(draws, fit=with_runs(draws.fit, **change))
        point = published_point(other, moved)
        assert (point.n_runs, point.df) == (60, 5)
        assert point.lr == pytest.approx(plain.lr, rel=1e-9), change
        assert point.median_ratio == pytest.approx(plain.median_ratio, rel=1e-12), change
        assert point.excess == pytest.approx(plain.excess, rel=1e-9), change
        runs = audit(other, claimed={"alpha": (0.3499, 0.3501), "level": 0.8}).frame()["runs_delta"]
        assert (
            runs[0]
            == audit(draws, claimed={"alpha": (0.3499, 0.3501), "level": 0.8})
            .frame()
            .loc[0, "runs_delta"]
        )


def test_sentences_name_both_counts_where_they_differ(normal_draws):
    draws, center, _ = normal_draws
    claimed = {"alpha": (0.3499, 0.3501), "level": 0.8}
    alike = audit(draws, claimed=claimed)
    assert "delta method" not in alike.sentences[0]
    # One draw far away spoils a variance, not a quantile.
    alpha = draws.params["alpha"].copy()
    alpha[0] = center["alpha"] + 5.0
    wild = dataclasses.replace(draws, params={**draws.params, "alpha": alpha})
    found = audit(wild, claimed=claimed)
    row = found.frame().iloc[0]
    assert row["runs_delta"] > 10 * row["runs_percentile"]
    assert row["runs_percentile"] == pytest.approx(60 * row["ratio"] ** 2)
    head = f"would need about {float(f'{row.runs_percentile:.3g}'):,.0f} runs like these"
    tail = f" (about {float(f'{row.runs_delta:.3g}'):,.0f} by the delta method)."
    assert found.sentences[0].endswith(head + tail)


def test_a_claim_about_a_quantity_called_level(key):
    @js.law(level=js.positive(0.1, 1.0), alpha=js.positive(0.1, 1.0))
    def named(x, *, level, alpha):
        return level * x**-alpha

    x = np.geomspace(1, 100, 12)
    wiggle = 1 + 0.01 * np.sin(x)
    runs = js.Runs.from_arrays(x=x, loss=2 * x**-0.3 * wiggle)
    made = js.fit(named, runs, restarts=4, key=key)
    center = {name: float(v) for name, v in made.params.items()}
    noise = np.random.default_rng(0).normal(size=(2, 50))
    params = {k: v * np.exp(0.01 * e) for (k, v), e in zip(center.items(), noise, strict=True)}
    draws = Draws(made, "normal draws", params, np.ones(50))
    claimed = {Parameter("level"): (1.9, 2.1), "level": 0.9}
    found = audit(draws, claimed=claimed)
    assert found.level == 0.9
    assert found.frame()["quantity"].tolist() == ["level"]
    with pytest.raises(js.DataError, match="'level' is the probability content"):
        audit(draws, claimed={"level": (1.9, 2.1)})


def test_other_units_are_suspected(normal_draws):
    draws, center, _ = normal_draws
    billions = {**center, "A": center["A"] * 1e9 ** -center["alpha"], "E": 0.8}
    sentences = audit(draws, published=billions).sentences
    assert any("counted in its units" in sentence for sentence in sentences)
    assert not any("units" in s for s in audit(draws, published=center).sentences)


def test_anything_with_draws_will_do(normal_draws):
    posterior = types.SimpleNamespace(draws=normal_draws[0])
    assert isinstance(audit(posterior, claimed=HOFFMANN), Audit)


def test_a_bare_fit_is_bootstrapped_with_a_key(simulated_fit, key):
    found = audit(simulated_fit, claimed={"a": (0.4, 0.6), "level": 0.8}, key=key)
    assert len(found.draws) == 4000


# Errors.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "claimed intervals"),
        ({"claimed": {"a": (0.4, 0.5)}}, "at which level"),
        ({"claimed": {"a": (0.4, 0.5), "level": 80}}, "between 0 and 1"),
        ({"claimed": {"level": 0.8}}, "give claimed intervals"),
        ({"claimed": {"a": (0.4, 0.5), "level": "80%"}}, "between 0 and 1"),
        ({"claimed": {"a": (0.4, 0.5), "level": (0.1, 0.9)}}, "a number, got"),
        ({"claimed": {"level": [0.8]}, "published": "hoffmann_2022"}, "a number, got"),
        ({"claimed": {"a": (1, 2), Parameter("A"): (1, 2), "A": (1, 3), "level": 0.8}}, "A is cla"),
        ({"claimed": {"a": (0.5, 0.4), "level": 0.8}}, "the lower first"),
        ({"claimed": {"a": 0.5, "level": 0.8}}, "the lower first"),
        ({"claimed": {"c": (0.4, 0.5), "level": 0.8}}, "has no quantity 'c'"),
        ({"claimed": HOFFMANN, "n_runs": 0}, "n_runs"),
        ({"published": "nobody_1900"}, "nobody_1900"),
        ({"published": "kaplan_2020_n"}, "parameter set of"),
        ({"published": {"A": 1.0}}, "needs E, A, B, alpha, beta"),
        ({"published": {**dict.fromkeys("EAB", 1.0), "alpha": "x", "beta": 0.3}}, "not a number"),
        ({"published": {**dict.fromkeys("EAB", -1.0), "alpha": 0.3, "beta": 0.3}}, "not inside"),
        ({"published": {**dict.fromkeys("EAB", "inf"), "alpha": 0.3, "beta": 0.3}}, "not inside"),
        ({"published": {**dict.fromkeys("EAB", np.nan), "alpha": 0.3, "beta": 0.3}}, "not a num"),
    ],
)
def test_bad_questions(normal_draws, arguments, message):
    with pytest.raises(js.JaxscaleError, match=message):
        audit(normal_draws[0], **arguments)


def test_bad_sources(simulated_fit, normal_draws):
    with pytest.raises(js.DataError, match="bootstrap"):
        audit(simulated_fit, claimed=HOFFMANN)
    with pytest.raises(js.DataError, match="got dict"):
        audit({}, claimed=HOFFMANN)
    few = {name: x[:5] for name, x in normal_draws[0].params.items()}
    with pytest.raises(js.DataError, match="too few"):
        audit(dataclasses.replace(normal_draws[0], params=few), published="hoffmann_2022")


# How narrow intervals come about.


@pytest.mark.slow
def test_stopping_early_makes_narrow_intervals(chinchilla_fit):
    found = early_stop(chinchilla_fit, key=jax.random.key(42))
    table = found.frame().set_index("minimized")
    mean, total, scaled = table.loc["mean"], table.loc["sum"], table.loc["sum*1e3"]
    # One fit to the 240 runs from Hoffmann's values: deterministic. SciPy versions may differ by
    # an iteration or two, but not in where it ends.
    assert mean["iterations"] == 2
    assert total["iterations"] == pytest.approx(19, abs=4)
    assert scaled["iterations"] == pytest.approx(65, abs=20)
    printed = {"A": "406.4", "B": "410.7", "E": "1.6934", "alpha": "0.3390", "beta": "0.2847"}
    assert all(cases.agrees(mean[name], digits) for name, digits in printed.items())
    assert cases.agrees(total["E"], "1.6985")
    assert cases.agrees(total["a"], "0.4572")
    assert scaled["a"] == pytest.approx(0.51390, abs=5e-5)
    assert mean["excess"] > total["excess"] > 0.1
    assert scaled["excess"] < 1e-6
    # The width from 200 resamples has a standard error of 6% (normal draws); four of them. Under
    # "sum" most resamples end at the start and a few far away, so its spread is rougher.
    assert mean["width"] == pytest.approx(0.0016, rel=0.25)
    assert mean["sd"] == pytest.approx(0.0007, rel=0.25)
    assert cases.agrees(mean["median"], "0.4565")
    assert total["width"] == pytest.approx(0.0018, rel=0.5)
    assert scaled["width"] == pytest.approx(0.0484, rel=0.25)
    # Same resamples, so that the optimizers can be compared without Monte Carlo error.
    assert scaled["width"] == pytest.approx(table.loc["converged", "width"], rel=0.05)
    assert table.loc["converged", "width"] > 20 * mean["width"]
    assert "default tolerances" in found.sentence
    assert found.sentence in repr(found)


def test_early_stop_on_other_runs(simulated_fit, key):
    found = early_stop(
        simulated_fit, key=key, start=simulated_fit.params, resamples=10, scalings=["mean*2"]
    )
    assert found.frame()["minimized"].tolist() == ["mean*2", "converged"]
    assert isinstance(found.frame(), pd.DataFrame)
    assert "<table" in found._repr_html_()
    assert found.start == pytest.approx({k: float(v) for k, v in simulated_fit.params.items()})


def test_early_stop_does_not_count_padding_and_takes_weights_as_relative(simulated_fit, key):
    def table(fit):
        found = early_stop(fit, key=key, resamples=2, scalings=["mean*1e2"])
        return found.frame().set_index("minimized").astype(float)

    expected = table(simulated_fit)
    for change in ({"padding": 4}, {"times": 8.0}):
        found = table(with_runs(simulated_fit, **change))
        pd.testing.assert_frame_equal(found, expected, rtol=1e-4, atol=1e-9)


def test_early_stop_refuses(simulated_fit, key):
    for wrong in ("median", "sum*x", "sum*0", "2*sum"):
        with pytest.raises(js.DataError, match="a scaling is"):
            early_stop(simulated_fit, key=key, scalings=[wrong])
    with pytest.raises(js.DataError, match="a start needs"):
        early_stop(simulated_fit, key=key, start={"A": 1.0})
    with pytest.raises(js.DataError, match="at least 2"):
        early_stop(simulated_fit, key=key, resamples=1)
    other = dataclasses.replace(simulated_fit, objective=js.LogGaussian())
    with pytest.raises(js.LawError, match="LogHuber only"):
        early_stop(other, key=key)


def test_a_posterior_speaks_of_a_probability(normal_draws):
    draws = normal_draws[0]
    posterior = types.SimpleNamespace(draws=dataclasses.replace(draws, center="median"))
    alpha = np.sort(draws.params["alpha"])
    claims = {
        (alpha[0] - 1, (alpha[123] + alpha[124]) / 2): "is 3.1%",
        (0.0, 1.0): "is above 99.975%",
        (0.8, 0.9): "is below 0.025%",
    }
    for claimed, said in claims.items():
        found = audit(posterior, claimed={"alpha": claimed, "level": 0.8})
        head = "The posterior probability that the true alpha lies in the claimed interval "
        assert found.sentences[1].startswith(head + said)
        assert f"its posterior median is {np.median(alpha):.4g}" in found.sentences[1]
    assert found.frame()["share_inside"].tolist() == [0.0]
    narrow = audit(posterior, claimed={"alpha": (0.3499, 0.3501), "level": 0.8})
    assert "runs like these" in narrow.sentences[0]


def test_doubt_about_the_draws_is_said(normal_draws):
    draws = dataclasses.replace(normal_draws[0], doubt="The chains disagree.")
    found = audit(draws, claimed=HOFFMANN)
    assert found.sentences[-1] == "Mind the draws: The chains disagree."


def test_draws_without_any_width_judge_nothing(simulated_fit):
    """All draws alike give no interval, and no division by its width."""
    params = {name: np.full(5, float(x)) for name, x in simulated_fit.params.items()}
    draws = js.Draws(simulated_fit, "one point", params, np.ones(5))
    found = js.audit(draws, claimed={"alpha": (0.3, 0.4), "level": 0.9})
    assert "cannot be judged: the draws give no interval" in found.sentences[0]
