"""plan(): derivatives, search and bound against brute force and closed forms; real rows."""

import dataclasses
import itertools

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import jaxscale as js
from jaxscale import _design_search as search
from jaxscale._belief import belief_of
from jaxscale._design_bound import lower_bound
from jaxscale._design_noise import normal_variance
from jaxscale._draws import Draws
from jaxscale._plan import _prospect

TARGET = js.loss_at(N=70e9, D=1.4e12)
BUDGET = 1e21


@js.law(
    A=js.positive(0.3, 1.0, unit="loss * x**alpha"),
    alpha=js.real(0.02, 1.0),
)
def line(x, *, A, alpha):
    """L(x) = A x^-alpha"""
    return A * x**-alpha


@pytest.fixture(scope="module")
def grid():
    """42 sizes inside the range of the simulated runs and a little beyond."""
    table = js.candidates(N=np.geomspace(1e7, 2e10, 8), D=np.geomspace(1e9, 1e12, 8), max_flop=3e20)
    assert len(table) == 42
    return table


@pytest.fixture(scope="module")
def planned(simulated_fit, grid):
    return js.plan(simulated_fit, candidates=grid, budget=BUDGET, target=TARGET, most=12)


def inputs_of(table):
    return {name: table[name].to_numpy(float) for name in ("N", "D")}


# Derivatives.


def test_derivatives_against_finite_differences(simulated_fit, grid):
    """Of the log loss of every candidate, and of every kind of target."""
    inputs = inputs_of(grid)
    targets = (TARGET, js.optimal_N(1e23), "a", "B")
    belief = belief_of(simulated_fit, inputs)
    chosen = js._plan.resolve_all(belief, targets)
    _, aims = belief.aims(chosen)
    jacobian = belief.jacobian(inputs)[0]
    h = 1e-6
    for i in range(5):
        ends = []
        for side in (1, -1):
            free = belief.center + side * h * np.eye(5)[i]
            params = js._law.physical_params(belief.law, jnp.asarray(free), belief.log_refs)
            loss = np.asarray(belief.law(inputs["N"], inputs["D"], **params))
            fit = dataclasses.replace(simulated_fit, params=params)
            values = [
                np.log(float(belief.law(70e9, 1.4e12, **params))),
                np.log(float(js.allocate(fit, flop=1e23).N)),
                float(fit.derived["a"]),
                np.log(float(params["B"])),
            ]
            ends.append((np.log(loss), np.array(values)))
        numeric = [(up - down) / (2 * h) for up, down in zip(*ends, strict=True)]
        np.testing.assert_allclose(jacobian[i], numeric[0], rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(aims[0, :, i], numeric[1], rtol=1e-5, atol=1e-7)


def test_standard_errors_are_those_of_the_information_matrix(simulated_fit, grid, planned):
    """Before: of laplace(). After: of its inverse plus w J'J, inverted anew in NumPy."""
    known = js.laplace(simulated_fit)
    assert planned.se_before == pytest.approx(known.se(TARGET), rel=1e-9)
    belief = belief_of(simulated_fit, inputs_of(grid))
    run = planned.frame()
    J = belief.jacobian(inputs_of(run))[0]
    _, aims = belief.aims(planned.targets)
    assert belief.noise.cell == 0  # no run of the simulated table is repeated
    information = (
        np.linalg.inv(known.covariance) + (J * run["times"].to_numpy() / belief.noise.run) @ J.T
    )
    after = np.sqrt(aims[0, 0] @ np.linalg.inv(information) @ aims[0, 0])
    loss = float(simulated_fit.law(70e9, 1.4e12, **simulated_fit.params))
    assert planned.se_after == pytest.approx(after * loss, rel=1e-9)
    assert run["se"].iloc[-1] == pytest.approx(planned.se_after, rel=1e-12)
    assert (np.diff(run["se"]) < 0).all()


# Search against brute force.


def random_prospect(seed, criterion, cell, draws=1):
    """Five candidates of different cost, at most twice each, three parameters."""
    rng = np.random.default_rng(seed)
    aims = rng.normal(size=(draws, 2 if criterion == "information" else 1, 3))
    return search.Prospect(
        jacobian=jnp.asarray(rng.normal(size=(draws, 3, 5)) * np.exp(rng.normal(size=5))),
        prior=jnp.asarray(np.diag([1.0, 4.0, 0.5])),
        aims=None if criterion == "D" else jnp.asarray(aims),
        unit=jnp.ones(aims.shape[1]),
        cost=jnp.asarray(np.exp(rng.uniform(np.log(0.05), np.log(0.8), 5))),
        run=jnp.asarray(np.exp(rng.normal(size=5))),
        cell=jnp.full(5, cell),
        before=jnp.asarray([0.0, 1.0, 0.0, 0.0, 2.0]),
        limit=jnp.full(5, 2.0),
        logs=criterion != "c",
    )


def numpy_criterion(prospect, times):
    """The criterion by inverting information matrices, one draw at a time."""
    values = []
    for s, J in enumerate(np.asarray(prospect.jacobian)):
        total = np.linalg.inv(np.asarray(prospect.prior))
        for c, n in enumerate(times):
            old, run, cell = (float(x[c]) for x in (prospect.before, prospect.run, prospect.cell))
            told = (old + n and 1 / (cell + run / (old + n))) - (old and 1 / (cell + run / old))
            total = total + told * np.outer(J[:, c], J[:, c])
        covariance = np.linalg.inv(total)
        if prospect.aims is not None:
            aims = np.asarray(prospect.aims[s])
            covariance = aims @ covariance @ aims.T
        logs = 0.5 * np.linalg.slogdet(covariance)[1]
        values.append(logs if prospect.logs else np.trace(covariance))
    return np.mean(values)


def brute_force(prospect, most):
    """Every choice of every candidate, in NumPy."""
    cost, best = np.asarray(prospect.cost), np.inf
    for times in itertools.product(range(3), repeat=5):
        if cost @ times <= 1 and sum(times) <= most:
            best = min(best, numpy_criterion(prospect, times))
    return best


@pytest.mark.parametrize("criterion", ["c", "D", "information"])
@pytest.mark.parametrize("cell", [0.0, 0.7])
def test_search_against_brute_force(criterion, cell):
    """Exact is exact; exchange nearly always is; greedy is no better; the bound bounds."""
    hits = 0
    for seed in range(6):
        prospect = random_prospect(seed, criterion, cell, draws=2)
        best = brute_force(prospect, most=5)
        found = search.exact(prospect, 5)
        assert found.value == pytest.approx(best, rel=1e-9)
        assert numpy_criterion(prospect, found.times) == pytest.approx(best, rel=1e-9)
        swapped, simple = search.exchange(prospect, 5), search.greedy(prospect, 5)
        for choice in (swapped, simple):
            assert numpy_criterion(prospect, choice.times) == pytest.approx(choice.value, rel=1e-9)
            assert choice.times @ np.asarray(prospect.cost) <= 1 + 1e-9
            assert choice.times.sum() <= 5
            assert choice.times.max() <= 2
            assert choice.value >= best - 1e-9
        assert swapped.value <= simple.value + 1e-12
        hits += swapped.value <= best + 1e-9 * abs(best)
        assert lower_bound(prospect, found.times, 5) <= best + 1e-9
    # Exchanges are local: they may miss the optimum of one of these six problems.
    assert hits >= 5


def test_gains_are_differences_of_the_criterion():
    for criterion in ("c", "D", "information"):
        prospect = random_prospect(3, criterion, 0.3, draws=3)
        times = jnp.asarray([1, 0, 2, 0, 1])
        covariance = search.covariances(prospect, times, 5)
        told = prospect.information(times + 1) - prospect.information(times)
        gain = np.asarray(search.gains(prospect, covariance, told))
        before = numpy_criterion(prospect, np.asarray(times))
        for c in range(5):
            after = numpy_criterion(prospect, np.asarray(times.at[c].add(1)))
            assert gain[c] == pytest.approx(before - after, rel=1e-8)


# Closed forms: log L = log A - alpha log x is a straight line.


def line_guess():
    return js.Guess(line, {"A": 3.0, "alpha": 0.2}, objective=js.LogGaussian())


def line_candidates(cost, n=9):
    x = np.geomspace(1e2, 1e6, n)
    return pd.DataFrame({"x": x, "cost": cost(x)})


def test_d_optimal_line_is_half_at_each_end():
    """Two points at the ends, the same number of runs at each (de la Garza; Kiefer 1959)."""
    found = js.plan(
        line_guess(), candidates=line_candidates(np.ones_like), budget=20, criterion="D",
        noise=0.01, seeds=20, most=20,
    )  # fmt: skip
    assert dict(zip(found.runs["x"], found.runs["times"], strict=True)) == {1e2: 10, 1e6: 10}
    assert list(found.uncertainty["target"]) == ["A", "alpha"]


def test_extrapolation_design_of_a_line():
    """Hoel & Levine 1964: at the ends, in proportion to |z0 + 1| and |z0 - 1|, z in [-1, 1].

    For x = 1e8, z0 = 2, so that of 20 runs 15 are large and 5 small: variance 4 sd^2 / 20.
    """
    found = js.plan(
        line_guess(), candidates=line_candidates(np.ones_like), budget=20, noise=0.01,
        target=js.loss_at(x=1e8), seeds=20, most=20,
    )  # fmt: skip
    assert dict(zip(found.runs["x"], found.runs["times"], strict=True)) == {1e2: 5, 1e6: 15}
    loss = 3.0 * 1e8**-0.2
    assert found.se_after == pytest.approx(loss * 2 * 0.01 / np.sqrt(20), rel=1e-3)  # weak prior
    assert found.efficiency > 0.999


def test_extrapolation_design_with_costs():
    """With costs the times go as |lambda| / sqrt(cost), and se = sd sum |lambda| sqrt(cost) / B.

    lambda = (-1/2, 3/2) writes the target as a combination of the ends. The relaxation of the
    bound is the same problem, so that the bound shows the closed form, too.
    """
    cost = {1e2: 0.01, 1e6: 1.0}
    table = pd.DataFrame({"x": list(cost), "cost": list(cost.values())})
    found = js.plan(
        line_guess(), candidates=table, budget=155, noise=0.01, target=js.loss_at(x=1e8),
        seeds=1000, most=1000, method="exchange",
    )  # fmt: skip
    times = dict(zip(found.runs["x"], found.runs["times"], strict=True))
    # 500 / 150 would cost 155.
    assert times == {1e2: 500, 1e6: 150}
    best = 0.01 * (0.5 * 0.1 + 1.5 * 1.0) / np.sqrt(155)
    loss = 3.0 * 1e8**-0.2
    assert found.se_after == pytest.approx(loss * best, rel=1e-3)
    assert found.efficiency > 0.995


def test_seeds_of_a_cell_tell_less_and_less():
    """n seeds have variance cell^2 + run^2 / n: closed form for one setting of a known exponent."""

    @js.law(A=js.positive(0.3, 3.0))
    def constant(x, *, A):
        """L = A"""
        return A + 0 * x

    guess = js.Guess(constant, {"A": 2.0}, sd=10.0, objective=js.LogGaussian())
    noise = js.DesignNoise(run=0.03, cell=0.04)
    table = pd.DataFrame({"x": [1.0], "cost": [1.0]})
    for n in (1, 4):
        found = js.plan(guess, candidates=table, budget=n, target="A", noise=noise, seeds=n)
        assert len(found) == n
        expected = 1 / np.sqrt(1 / 10.0**2 + 1 / (0.04**2 + 0.03**2 / n))
        assert found.se_after == pytest.approx(2.0 * expected, rel=1e-9)
    # Weights make the next fit use a cell as this noise deserves it.
    assert found.runs["weight"].iloc[0] == pytest.approx((9 + 16) / (9 + 4 * 16))
    assert "adds 22% to what the first tells" in found.notes[0]
    # Two settings against two seeds: scale, or at least another cell, wins.
    two = pd.DataFrame({"x": [1.0, 2.0], "cost": [1.0, 1.0]})
    found = js.plan(guess, candidates=two, budget=2, target="A", noise=noise)
    assert list(found.runs["times"]) == [1, 1]


def test_runs_so_far_count_as_seeds_of_their_cell(simulated_fit):
    runs = simulated_fit.runs
    known = {name: np.asarray(runs.inputs[name])[:1] * 1.004 for name in ("N", "D")}
    table = pd.DataFrame({name: [x[0], x[0] * 1.3] for name, x in known.items()})
    table["cost"] = 1.0
    noise = js.DesignNoise(run=0.001, cell=0.02)
    found = js.plan(simulated_fit, candidates=table, budget=1, target=TARGET, noise=noise, seeds=1)
    assert found.prospects["times"].tolist() == [0, 1]
    assert found.prospects["gain"][0] < 0.01 * found.prospects["gain"][1]


# Noise.


def test_what_an_objective_loses_under_normal_noise():
    """Least squares nothing; absolute deviations pi/2; Huber's loss by his formula."""
    assert normal_variance(js.LogGaussian(), 0.02) == pytest.approx(0.02**2, rel=1e-3)
    assert normal_variance(js.LogL1(), 0.02) == pytest.approx(np.pi / 2 * 0.02**2, rel=1e-3)
    from scipy.stats import norm

    k = 0.01 / 0.02
    inside = 2 * norm.cdf(k) - 1
    psi2 = inside - 2 * k * norm.pdf(k) + 2 * k**2 * norm.cdf(-k)
    huber = normal_variance(js.LogHuber(0.01), 0.02) / 0.02**2
    assert huber == pytest.approx(psi2 / inside**2, rel=1e-3)
    q = 0.1
    density = norm.pdf(norm.ppf(q))
    tenth = normal_variance(js.LogQuantile(q), 0.02) / 0.02**2
    assert tenth == pytest.approx(q * (1 - q) / density**2, rel=1e-2)


def test_noise_of_the_fit_is_split_by_repeated_cells(key):
    """A table with 30 cells of two seeds: 0.01 of the cell, 0.004 of the seed.

    The intraclass correlation, 0.862, is measured from 30 pairs with a standard error of about
    0.05 (Fisher's z: (1 - rho^2) / sqrt(28.5)); it leaves +-0.15 with a probability below 1%.
    """
    rng = np.random.default_rng(5)
    N, D = np.exp(rng.uniform(np.log([[1e7], [1e9]]), np.log([[1e10], [1e12]]), (2, 30)))
    truth = {"E": 1.8, "A": 480.0, "B": 2100.0, "alpha": 0.35, "beta": 0.37}
    shared = np.repeat(0.01 * rng.normal(size=30), 2)
    N, D = np.repeat(N, 2), np.repeat(D, 2)
    loss = np.asarray(js.laws.chinchilla(N, D, **truth)) * np.exp(
        shared + 0.004 * rng.normal(size=60)
    )
    fit = js.fit(
        js.laws.chinchilla, js.Runs.from_arrays(N=N, D=D, loss=loss), restarts=128,
        objective=js.LogGaussian(), key=key,
    )  # fmt: skip
    noise = belief_of(fit, {"N": N, "D": D}).noise
    total = noise.run + noise.cell
    # 25 degrees of freedom for the cells: outside a factor of 3 with a probability below 1e-3.
    assert 1 / 3 < total / (0.01**2 + 0.004**2) < 3
    assert noise.cell / total == pytest.approx(0.862, abs=0.15)
    assert "share" in noise.notes[0]


class Growing(js.RunNoise):
    """Normal noise of standard deviation 0.01 (N / 1e9)^(1/2)."""

    factor: jax.Array

    @property
    def log(self):
        return True

    def _scale(self, inputs):
        return self.factor * 0.01 * jnp.sqrt(inputs["N"] / 1e9)

    def cdf(self, r, predicted, inputs):
        return jax.scipy.special.ndtr(r / self._scale(inputs))

    def bracket(self, u, predicted, inputs):
        quantile = jax.scipy.special.ndtri(u) * self._scale(inputs)
        return quantile - 1e-4, quantile + 1e-4


def scattered(fit, **more):
    """Draws around a fit, of known covariance in the coordinates of the fit."""
    rng = np.random.default_rng(2)
    free = np.asarray(fit.free) + 0.02 * rng.normal(size=(400, 5))
    params = js._law.physical_params(fit.law, jnp.asarray(free), fit.log_refs)
    params = {name: np.asarray(x) for name, x in params.items()}
    return Draws(fit=fit, method="scatter", params=params, scale=np.full(400, 0.01), **more)


def test_draws_know_noise_that_depends_on_the_run(simulated_fit, grid):
    draws = scattered(simulated_fit, noise=Growing(jnp.ones(400)))
    noise = belief_of(draws, inputs_of(grid)).noise
    expected = (0.01 * np.sqrt(grid["N"] / 1e9)) ** 2
    np.testing.assert_allclose(noise.run + noise.cell, expected, rtol=1e-6)


# Sources.


def test_draws_are_planned_with_their_own_covariance(simulated_fit, grid):
    draws = scattered(simulated_fit, doubt="The chains disagree.", notes=("a note",))
    found = js.plan(draws, candidates=grid, budget=BUDGET, target=TARGET, most=12)
    assert found.se_before == pytest.approx(draws[TARGET].std(), rel=0.1)
    assert found.se_after < found.se_before
    assert found.notes[:2] == ("The chains disagree.", "a note")
    again = js.plan(draws, candidates=grid, budget=BUDGET, target=TARGET, most=12)
    pd.testing.assert_frame_equal(found.frame(), again.frame())
    # The mean over draws of c'Sc with S the covariance of all draws, in NumPy.
    belief = belief_of(draws, inputs_of(grid))
    _, aims = belief.aims(found.targets)
    spread = np.mean([a[0] @ belief.covariance @ a[0] for a in aims])
    loss = float(found.uncertainty["estimate"].iloc[0])
    assert found.se_before == pytest.approx(loss * np.sqrt(spread), rel=1e-9)


def test_information_about_two_targets(simulated_fit, grid):
    targets = ["a", TARGET]
    found = js.plan(
        simulated_fit, candidates=grid, budget=BUDGET, target=targets, criterion="information",
        most=12,
    )  # fmt: skip
    assert list(found.frame().filter(like="se ").columns) == ["se a", f"se {TARGET}"]
    assert (found.uncertainty["se_after"] < found.uncertainty["se_before"]).all()
    alone = js.plan(simulated_fit, candidates=grid, budget=BUDGET, target="a", most=12)
    assert alone.se_after <= found.se_after * (1 + 1e-9)
    with pytest.raises(js.LawError, match="follow from each other"):
        js.plan(
            simulated_fit, candidates=grid, budget=BUDGET, target=["a", "b"],
            criterion="information",
        )  # fmt: skip


def test_guess_from_a_published_entry(grid):
    entry = js.published.get("besiroglu_2024")
    options = {"candidates": grid, "budget": BUDGET, "target": "a", "noise": 0.01, "most": 12}
    found = js.plan(entry, **options)
    same = js.plan(js.Guess(entry.law, entry.params), **options)
    pd.testing.assert_frame_equal(found.frame(), same.frame())
    sure = js.plan(js.Guess(entry.law, entry.params, sd=0.1), **options)
    assert sure.se_before < found.se_before
    # sd = 0.1 in both exponents: a = beta / (alpha + beta) by its derivatives, averaged.
    alpha, beta = entry.params["alpha"], entry.params["beta"]
    expected = 0.1 * np.hypot(alpha, beta) / (alpha + beta) ** 2
    assert sure.se_before == pytest.approx(expected, rel=0.3)


# What a plan never does.


def test_more_money_never_hurts_and_is_never_exceeded(simulated_fit, grid):
    found = [
        js.plan(simulated_fit, candidates=grid, budget=budget, target=TARGET, most=12)
        for budget in (3e18, 3e19, 3e20, 3e21)
    ]
    assert all(plan.cost <= plan.budget * (1 + 1e-9) for plan in found)
    assert all(plan.frame()["cumulative"].iloc[-1] == pytest.approx(plan.cost) for plan in found)
    assert all(np.diff([plan.se_after for plan in found]) < 0)
    assert all(0 < plan.efficiency <= 1 for plan in found)
    assert "of the budget is spent" in " ".join(found[-1].notes)
    assert max(found[-1].frame()["times"]) <= 3
    assert all(len(plan) <= 12 for plan in found)


def test_units_do_not_matter(simulated, key, grid, planned):
    runs, _ = simulated
    billions = js.Runs.from_arrays(
        N=runs.inputs["N"] / 1e9, D=runs.inputs["D"] / 1e9, loss=runs.loss
    )
    fit = js.fit(js.laws.chinchilla, billions, restarts=128, key=key)
    table = grid.assign(N=grid["N"] / 1e9, D=grid["D"] / 1e9)
    found = js.plan(fit, candidates=table, budget=BUDGET, target=js.loss_at(N=70, D=1400), most=12)
    assert found.se_after == pytest.approx(planned.se_after, rel=1e-5)
    assert found.efficiency == pytest.approx(planned.efficiency, rel=1e-3)
    np.testing.assert_allclose(found.frame()["N"] * 1e9, planned.frame()["N"], rtol=1e-9)


def test_method_order(simulated_fit, grid, planned):
    simple = js.plan(
        simulated_fit, candidates=grid, budget=BUDGET, target=TARGET, most=12, method="greedy"
    )
    assert planned.se_after <= simple.se_after
    assert planned.efficiency * planned.se_after <= simple.se_after
    few = grid.iloc[[0, 5, 20, 40]]
    best = {
        method: js.plan(
            simulated_fit, candidates=few, budget=BUDGET, target=TARGET, method=method
        ).se_after
        for method in ("exact", "exchange")
    }
    assert best["exact"] == best["exchange"]
    with pytest.raises(js.DataError, match="too many choices"):
        js.plan(simulated_fit, candidates=grid, budget=BUDGET, target=TARGET, method="exact")


def test_notes_say_where_to_look(simulated_fit, grid, planned):
    said = " ".join(planned.notes)
    assert "At the edge of the candidates" in said
    assert "Hardly any run has been repeated" in said
    far = js.candidates(N=[1e11, 3e11], D=[1e9, 1e12])
    found = js.plan(simulated_fit, candidates=far, budget=1e25, target=TARGET)
    assert "times the largest N in the data" in " ".join(found.notes)
    few = js.plan(
        js.published.get("besiroglu_2024"), candidates=grid.iloc[:3], budget=BUDGET, target="a",
        noise=0.01,
    )  # fmt: skip
    assert "cannot determine the 5 parameters" in " ".join(few.notes)


def test_plan_reads_well(planned):
    text = repr(planned)
    assert "FLOPs bring the standard error of L(N=70000000000, D=1.4e+12) from" in text
    assert f"can be below {planned.efficiency:.0%} of that" in text
    page = dataclasses.replace(planned, notes=("a < b",))._repr_html_()
    assert "a &lt; b" in page
    assert "<table" in page


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"budget": 1.0}, "pays for none"),
        ({"budget": -1.0}, "positive number"),
        ({"target": None}, "say what the runs are for"),
        ({"target": "gamma"}, "no quantity 'gamma'"),
        ({"criterion": "A"}, "criterion"),
        ({"method": "simplex"}, "method"),
        ({"seeds": 0}, "seeds"),
        ({"level": 2}, "level"),
        ({"noise": -0.1}, "standard deviation"),
        ({"noise": 0.0}, "run > 0"),
        ({"candidates": pd.DataFrame({"N": [1e9]})}, "'D' is missing"),
        ({"candidates": pd.DataFrame({"N": [1e9, -1.0], "D": 1e9})}, "row 2 has -1 as N"),
        ({"candidates": pd.DataFrame({"N": [1e9, "x"], "D": 1e9})}, "row 2 has 'x'"),
        ({"candidates": pd.DataFrame({"N": [1e9], "D": 1e9, "cost": 0.0})}, "as cost"),
        ({"candidates": "a table"}, "not a usable table"),
    ],
)
def test_bad_requests(simulated_fit, grid, change, said):
    options = {"candidates": grid, "budget": BUDGET, "target": TARGET, **change}
    with pytest.raises(js.JaxscaleError, match=said):
        js.plan(simulated_fit, **options)


def test_bad_guesses(grid):
    params = dict(js.published.get("besiroglu_2024").params)
    for change, said in (
        ({"params": {"E": 1.0}}, "needs E, A, B"),
        ({"params": {**params, "A": -1.0}}, "is not inside"),
        ({"sd": 0.0}, "positive number"),
        ({"sd": {"gamma": 1.0}}, "no parameter 'gamma'"),
    ):
        with pytest.raises(js.LawError, match=said):
            js.Guess(js.laws.chinchilla, **{"params": params, **change})
    with pytest.raises(js.DataError, match="noise must be stated"):
        js.plan(js.Guess(js.laws.chinchilla, params), candidates=grid, budget=BUDGET, target="a")


# Real rows.


def test_chinchilla_rows(chinchilla_fit):
    """How far 1e21 FLOPs would have gone, 17% of what the largest of the 240 runs cost."""
    table = js.candidates(
        N=np.geomspace(6e7, 1.6e10, 9), D=np.geomspace(1e9, 3e11, 9), max_flop=3e20
    )
    found = {
        cov: js.plan(
            chinchilla_fit, candidates=table, budget=1e21, target=js.optimal_N(5.76e23), most=12,
            cov=cov, by="N" if cov == "cluster" else None,
        )
        for cov in ("hessian", "cluster")
    }  # fmt: skip
    for cov, plan in found.items():
        by = {"by": "N"} if cov == "cluster" else {}
        known = js.laplace(chinchilla_fit, cov=cov, **by).se(js.optimal_N(5.76e23))
        assert plan.se_before == pytest.approx(known, rel=1e-9)
        assert plan.se_after < 0.9 * plan.se_before
        assert plan.uncertainty["estimate"].iloc[0] == pytest.approx(7.319e10, rel=1e-3)
    assert found["cluster"].se_before > 1.3 * found["hessian"].se_before
    assert "share" in " ".join(found["hessian"].notes)  # some rows repeat a size and budget


def test_shipped_rows(key):
    """Seven of the shipped runs were repeated: their seeds say little that is new."""
    runs = js.Runs.from_frame(js.datasets.load_tiny_lm(), N="params", D="tokens")
    fit = js.fit(js.laws.chinchilla, runs, restarts=128, key=key)
    table = js.candidates(N=np.geomspace(4e3, 2e6, 8), D=np.geomspace(1e5, 3e7, 8), min_flop=1e11)
    found = js.plan(fit, candidates=table, budget=5e13, target=js.loss_at(N=1e7, D=2e8), most=12)
    assert found.se_after < 0.8 * found.se_before
    share = belief_of(fit, inputs_of(table)).noise
    assert share.cell / (share.cell + share.run) > 0.7  # seeds 0.4%, residuals 1.25%
    assert found.frame()["times"].max() == 1


def test_picture(planned, simulated_fit):
    ax = js.plot.plan(planned, ax=Figure().subplots())
    rings = ax.collections[-1]
    assert len(rings.get_offsets()) == len(planned.runs)
    assert f"{len(planned)} runs for L(N=70000000000" in ax.get_title()
    points = ax.lines[0]
    assert len(points.get_xdata()) == 60
    guess = js.plan(
        line_guess(), candidates=line_candidates(lambda x: x), budget=1e7, noise=0.01, target="A"
    )
    ax = js.plot.plan(guess, ax=Figure().subplots())
    assert "gain" in ax.get_ylabel()
    with pytest.raises(js.DataError, match="no input 'Q'"):
        js.plot.plan(planned, x="Q", ax=ax)


def test_prospect_refuses_what_is_known(simulated_fit, grid):
    """A target without uncertainty leaves nothing to plan."""
    belief = belief_of(simulated_fit, inputs_of(grid))
    with pytest.raises(js.LawError, match="nothing to plan"):
        _prospect(belief, inputs_of(grid), np.ones(42), np.ones(42), np.zeros((1, 1, 5)), "c")


def test_command(monkeypatch, capsys, tmp_path, simulated_fit):
    import sys

    from jaxscale._cli import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "result").mkdir()
    js.save("result/fit.json", simulated_fit)
    simulated_fit.runs.frame().to_csv("result/runs.csv", index=False)
    js.save("alone.json", simulated_fit)
    js.save("draws.json", scattered(simulated_fit))

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["jaxscale", "plan", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        return stop.value.code or 0, captured.out, captured.err

    asked = ("--budget", "1e21", "--target", "loss@N=70B,D=1.4T", "--most", "8")
    code, out, err = run(
        "result/fit.json", *asked, "--max-run-flop", "3e20", "--out", "plan.csv",
        "--figure", "plan.png",
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    for part in ("standard error of L(N=70000000000", "Runs to train", "seeds", "Note: "):
        assert part in " ".join(out.split())
    written = pd.read_csv("plan.csv")
    assert written["times"].sum() <= 8
    assert written["flop"].max() <= 3e20
    assert written["cumulative"].iloc[-1] <= 1e21
    assert (tmp_path / "plan.png").read_bytes().startswith(b"\x89PNG")
    code, out, err = run("draws.json", "--budget", "1e21", "--target", "N*@5.76e23", "--most", "8")
    assert (code, err) == (0, "")
    assert "N*(C=5.76e+23)" in out
    for arguments, said in (
        (("alone.json", *asked), "no runs.csv beside it"),
        (("draws.json", "--budget", "1", "--target", "a"), "no candidate costs between"),
        (("draws.json", "--budget", "1e21", "--target", "M*@1e23"), "write loss@N=70B"),
        (("draws.json", "--budget", "1e21", "--target", "a", "--N", "1e9"), "a range such as"),
        (("draws.json", "--budget", "1e21", "--target", "loss@N=70B"), "needs the inputs N, D"),
        (("draws.json", "--budget", "1e21", "--target", "a", "--noise", "1,2,3"), "one or two"),
    ):
        code, out, err = run(*arguments, "--out", "other.csv")
        assert (code, out) == (2, "")
        assert said in err
        assert err.count("\n") == 1
        assert not (tmp_path / "other.csv").exists()


def test_saved_runs_are_the_exact_ones(chinchilla_fit, tmp_path):
    """Numbers written and read back have the hash of the runs that were fitted."""
    from jaxscale._cli._plan import _source

    cases.data_path("chinchilla_epoch.csv")
    js.save(tmp_path / "fit.json", chinchilla_fit)
    chinchilla_fit.runs.frame().to_csv(tmp_path / "runs.csv", index=False)
    assert _source(tmp_path / "fit.json").runs.digest() == chinchilla_fit.digest
