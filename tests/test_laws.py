"""Laws of dense models: value, gradient, units, optimum; and laws that users write.

What holds for every law of the catalogue is in test_catalogue.py.
"""

import itertools

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from jax.test_util import check_grads

import jaxscale as js
from jaxscale import laws, published
from jaxscale._law import check_units
from jaxscale.laws.chinchilla import (
    compute_for_loss,
    loss_exponent,
    optimal_loss,
    size_overhead,
    smallest_ratio,
)
from jaxscale.laws.power import scale_for_loss

ALL = [
    laws.power_law,
    laws.power_law_offset,
    laws.chinchilla,
    laws.coupled_power,
    laws.brandfonbrener,
    laws.kaplan_nd,
]
DENSE = [name for name in published.names() if published.get(name).law in ALL]
ALLOCATING = [law for law in ALL if law.optimum is not None and law.inputs == ("N", "D")]
POINTS = 5


def by_name(law):
    return law.name


def random_point(law, seed):
    """Inputs near one and parameters from the start box: a point in reference units."""
    rng = np.random.default_rng(seed)
    inputs = {name: float(rng.uniform(0.7, 1.4)) for name in law.inputs}
    params = {
        name: float(p.from_free(p.start(float(rng.uniform(0.05, 0.95))))) for name, p in law.params
    }
    return inputs, params


def value_at(law, inputs, params):
    return law(*(inputs[name] for name in law.inputs), **params)


# Values.


@pytest.mark.parametrize("vector", cases.VECTORS, ids=lambda vector: vector.entry)
def test_vector(vector):
    law = laws.get(vector.law)
    value = value_at(law, vector.inputs, vector.params)
    assert cases.agrees(value, vector.value), float(value)
    # In float32 the value keeps five digits although N is 1e9 and constants reach 1e14.
    single = {name: jnp.float32(x) for name, x in vector.params.items()}
    inputs = {name: jnp.float32(x) for name, x in vector.inputs.items()}
    low = value_at(law, inputs, single)
    assert low.dtype == jnp.float32
    assert np.isclose(float(low), float(vector.value), rtol=1e-5, atol=0)


def test_every_law_of_the_first_families_has_a_vector():
    assert {vector.law for vector in cases.VECTORS} >= {
        "power_law",
        "power_law_offset",
        "chinchilla",
        "coupled_power",
        "brandfonbrener",
        "kaplan_nd",
    }


@pytest.mark.parametrize("law", ALL, ids=by_name)
def test_arrays_broadcast_to_the_scalar_values(law):
    points = [random_point(law, seed) for seed in range(POINTS)]
    inputs = {name: np.array([p[0][name] for p in points]) for name in law.inputs}
    params = {name: np.array([p[1][name] for p in points]) for name in law.names}
    each = [float(value_at(law, *point)) for point in points]
    np.testing.assert_allclose(value_at(law, inputs, params), each, rtol=1e-14)


# Gradients.


@pytest.mark.parametrize("seed", range(POINTS))
@pytest.mark.parametrize("law", ALL, ids=by_name)
def test_gradient_by_every_input_and_parameter(law, seed):
    check_grads(
        lambda inputs, params: value_at(law, inputs, params),
        random_point(law, seed),
        order=2,
        modes=["fwd", "rev"],
        rtol=1e-4,  # numerical differences of step 1e-5 in double precision hold no more
        atol=1e-5,
    )


@pytest.mark.parametrize("name", DENSE)
def test_elasticities_at_published_parameters(name):
    """The same at real scales: d log L / d log z by central differences, for every z."""
    entry = published.get(name)
    scales = {"N": 3e8, "D": 7e9, "x": 3.0 if "PF-days" in entry.units else 2e8}
    point = {k: scales[k] for k in entry.law.inputs} | {
        k: v for k, v in entry.params.items() if v > 0
    }
    fixed = {k: v for k, v in entry.params.items() if k not in point}

    def log_loss(logs):
        values = {k: jnp.exp(x) for k, x in logs.items()} | fixed
        inputs = [values.pop(k) for k in entry.law.inputs]
        return jnp.log(entry.law(*inputs, **values))

    logs = {k: float(np.log(v)) for k, v in point.items()}
    gradient = jax.grad(log_loss)(logs)
    step = 1e-4
    for k, x in logs.items():
        up, down = (float(log_loss({**logs, k: x + s})) for s in (step, -step))
        # Truncation leaves about step^2 times the third derivative, a few times 1e-8 here.
        assert np.isclose(gradient[k], (up - down) / (2 * step), rtol=1e-6, atol=1e-7), k


# Units.


@pytest.mark.parametrize("seed", range(POINTS))
@pytest.mark.parametrize("law", ALL, ids=by_name)
def test_closed_under_a_change_of_every_unit(law, seed):
    inputs, params = random_point(law, seed)
    rng = np.random.default_rng(100 + seed)
    refs = {name: float(rng.normal(0, 3)) for name in sorted(law.scaled)}
    moved_inputs = {name: x * np.exp(refs.get(name, 0.0)) for name, x in inputs.items()}
    moved = law.to_physical(params, refs)
    before, after = value_at(law, inputs, params), value_at(law, moved_inputs, moved)
    expected = float(before) * np.exp(refs.get("loss", 0.0))
    np.testing.assert_allclose(float(after), expected, rtol=1e-12)
    back = law.to_reference(moved, refs)
    for name, value in params.items():
        np.testing.assert_allclose(float(back[name]), value, rtol=1e-12, err_msg=name)


@pytest.mark.parametrize("law", ALL, ids=by_name)
def test_declared_units_pass_their_own_check(law):
    check_units(law)


@pytest.mark.parametrize("law", ALL, ids=by_name)
def test_a_wrong_unit_of_any_parameter_is_found(law):
    """The check has power: dropping or doubling one unit must fail, whichever it is."""
    for i, (name, param) in enumerate(law.params):
        if not param.unit:
            continue
        others = law.params[:i], law.params[i + 1 :]
        for unit in ("", f"{param.unit} * {param.unit}"):
            wrong = js.Param(param.support, param.low, param.high, param.lower, param.upper, unit)
            broken = js.Law("broken", law.fn, (*others[0], (name, wrong), *others[1]), law.inputs)
            if not broken.scaled:
                continue
            with pytest.raises(js.LawError, match="does not keep its form"):
                check_units(broken)


# Maps between laws.


def random_nd(seed):
    rng = np.random.default_rng(seed)
    return np.exp(rng.uniform(np.log([[1e6], [1e8]]), np.log([[1e11], [1e13]]), (2, 20)))


def test_coupled_power_with_gamma_one_is_chinchilla():
    params = published.get("besiroglu_2024").params
    for seed in range(3):
        N, D = random_nd(seed)
        np.testing.assert_allclose(
            laws.coupled_power(N, D, gamma=1.0, **params),
            laws.chinchilla(N, D, **params),
            rtol=1e-14,
        )


@pytest.mark.parametrize("data", ["smollm_corpus", "starcoder"])
def test_coupled_power_with_linear_data_term_is_brandfonbrener(data):
    p = published.get(f"brandfonbrener_2024_{data}").params
    inner = p["alpha"] / p["beta"]
    N, D = random_nd(0)
    coupled = laws.coupled_power(
        N, D, E=p["E"], A=p["A"] ** inner, B=p["B"], alpha=inner, beta=1.0, gamma=p["beta"]
    )
    np.testing.assert_allclose(coupled, laws.brandfonbrener(N, D, **p), rtol=1e-13)


def test_kaplan_is_both_of_them_without_a_floor():
    p = published.get("kaplan_2020_nd").params
    inner = p["alpha_N"] / p["alpha_D"]
    N, D = random_nd(0)
    kaplan = laws.kaplan_nd(N, D, **p)
    coupled = laws.coupled_power(
        N, D, E=0.0, A=p["N_c"] ** inner, B=p["D_c"], alpha=inner, beta=1.0, gamma=p["alpha_D"]
    )
    np.testing.assert_allclose(coupled, kaplan, rtol=1e-13)
    floorless = laws.brandfonbrener(
        N, D, E=0.0, A=p["N_c"], B=p["D_c"], alpha=p["alpha_N"], beta=p["alpha_D"]
    )
    np.testing.assert_allclose(floorless, kaplan, rtol=1e-13)


def test_limits_of_the_joint_laws_are_power_laws():
    p = published.get("besiroglu_2024").params
    endless = laws.chinchilla(1e9, 1e300, **p)
    alone = laws.power_law_offset(1e9, E=p["E"], A=p["A"], alpha=p["alpha"])
    assert np.isclose(endless, alone, rtol=1e-14, atol=0)
    k = published.get("kaplan_2020_nd").params
    alone = laws.power_law(1e9, A=k["N_c"] ** k["alpha_N"], alpha=k["alpha_N"])
    # rtol: D_c / D itself is 2e-17 of the sum at D = 1e30, below round-off.
    assert np.isclose(laws.kaplan_nd(1e9, 1e30, **k), alone, rtol=1e-13, atol=0)


# Optimal allocation under C = 6 N D.


def brute_force_optimum(law, C, params):
    """log N of the lowest loss along C = 6 N D: a dense grid, then a bracketed search."""
    middle = 0.5 * np.log(C / 6)
    grid = middle + np.linspace(-40, 40, 4001)

    def loss(log_N):
        return np.asarray(law(np.exp(log_N), C / 6 / np.exp(log_N), **params))

    values = loss(grid)
    i = int(np.argmin(values))
    assert 0 < i < len(grid) - 1
    found = scipy.optimize.minimize_scalar(
        lambda x: float(loss(x)),
        bounds=(grid[i - 1], grid[i + 1]),
        method="bounded",
        options={"xatol": 1e-10},
    )
    return found.x, min(float(found.fun), float(values.min())), loss


def assert_optimal(law, C, params):
    log_N = float(np.log(law.optimum(C, **params)))
    best, lowest, loss = brute_force_optimum(law, C, params)
    assert float(loss(log_N)) <= lowest * (1 + 1e-15)
    # A minimum is flat: round-off 1e-16 of the loss hides moves of about 1e-7 in log N.
    assert abs(log_N - best) < 1e-6


@pytest.mark.parametrize("seed", range(POINTS))
@pytest.mark.parametrize("law", ALLOCATING, ids=by_name)
def test_closed_form_optimum_in_reference_units(law, seed):
    _, params = random_point(law, seed)
    assert_optimal(law, float(np.random.default_rng(seed).uniform(1.0, 60.0)), params)


@pytest.mark.parametrize("name", [n for n in DENSE if published.get(n).law in ALLOCATING])
def test_closed_form_optimum_at_published_parameters(name):
    entry = published.get(name)
    for C in (1e19, 1e22, 1e25):
        assert_optimal(entry.law, C, entry.params)


def test_optimum_of_the_coupled_law_does_not_depend_on_gamma():
    params = published.get("busbridge_2025").params
    C = 1e21
    closed = float(np.log(laws.coupled_power.optimum(C, **params)))
    for gamma in (0.1, 0.452, 1.0, 1.7):
        at_gamma = params | {"gamma": gamma}
        best, _, _ = brute_force_optimum(laws.coupled_power, C, at_gamma)
        assert abs(best - closed) < 1e-5  # the search sees the loss, not its slope
        assert np.log(laws.coupled_power.optimum(C, **at_gamma)) == closed


@pytest.mark.parametrize("law", [law for law in ALLOCATING if law.derived], ids=by_name)
def test_derived_exponents_are_the_slopes_of_the_optimum(law):
    _, params = random_point(law, 0)
    derived = {name: float(fn(**params)) for name, fn in law.derived}
    slope = jax.grad(lambda log_C: jnp.log(law.optimum(jnp.exp(log_C), **params)))(50.0)
    assert np.isclose(slope, derived["a"], rtol=1e-12, atol=0)
    assert np.isclose(derived["a"] + derived["b"], 1.0, rtol=1e-15, atol=0)


# What follows from the optimum in closed form.

FRONTIER = ("hoffmann_2022", "besiroglu_2024", "busbridge_2025")


@pytest.mark.parametrize("name", FRONTIER)
def test_loss_along_the_frontier_and_its_inverse(name):
    entry = published.get(name)
    C = np.geomspace(1e18, 1e26, 5)
    N = np.asarray(entry.law.optimum(C, **entry.params))
    loss = optimal_loss(C, **entry.params)
    np.testing.assert_allclose(loss, entry(N=N, D=C / 6 / N), rtol=1e-13)
    # rtol: C is read off what is left above the floor, down to a hundredth of the loss.
    np.testing.assert_allclose(compute_for_loss(loss, **entry.params), C, rtol=1e-10)
    slope = np.diff(np.log(np.asarray(loss) - entry.params["E"])) / np.diff(np.log(C))
    np.testing.assert_allclose(slope, -loss_exponent(**entry.params), rtol=1e-10)
    for unreached in (entry.params["E"], 0.5 * entry.params["E"]):
        assert float(compute_for_loss(unreached, **entry.params)) == np.inf
    slope = jax.grad(lambda E: compute_for_loss(1.0, **entry.params | {"E": E}))(1.0)
    assert np.isfinite(float(slope))


def test_printed_values_of_the_frontier():
    hoffmann, busbridge = (published.get(name).params for name in ("hoffmann_2022", FRONTIER[2]))
    assert cases.agrees(optimal_loss(5.76e23, **hoffmann), "1.91841")
    assert cases.agrees(optimal_loss(1e21, **busbridge), "2.16454")
    assert cases.agrees(loss_exponent(**busbridge), "0.0947")


@pytest.mark.parametrize("name", FRONTIER)
@pytest.mark.parametrize("k", [0.5, 0.9, 3.0, 20.0])
def test_compute_of_another_size_by_brute_force(name, k):
    entry, C = published.get(name), 1e21
    N = float(entry.law.optimum(C, **entry.params))
    loss = float(optimal_loss(C, **entry.params))
    D = scipy.optimize.brentq(
        lambda log_D: float(entry(N=k * N, D=np.exp(log_D))) - loss, 15, 60, xtol=1e-13
    )
    overhead = size_overhead(k, **entry.params)
    # rtol: the loss moves by 1e-16 of itself, a tenth of it by D.
    assert float(overhead) == pytest.approx(6 * k * N * np.exp(D) / C, rel=1e-8)


def test_sizes_that_are_too_small_cost_without_bound():
    params = published.get("besiroglu_2024").params
    least = float(smallest_ratio(**params))
    assert float(size_overhead(0.999 * least, **params)) == np.inf
    assert 1e3 < float(size_overhead(1.0001 * least, **params)) < np.inf
    assert float(size_overhead(1.0, **params)) == 1.0
    # No tokens are left over: the size alone uses up the loss.
    C, E = 1e21, params["E"]
    N = least * float(laws.chinchilla.optimum(C, **params))
    loss = float(optimal_loss(C, **params))
    assert params["A"] / N ** params["alpha"] == pytest.approx(loss - E, rel=1e-12)
    slope = jax.grad(lambda k: size_overhead(k, **params))(0.5 * least)
    assert np.isfinite(float(slope))


@pytest.mark.parametrize("name", ["hestness_2017_word_lm", "henighan_2020_math_n"])
def test_scale_at_which_a_loss_is_reached(name):
    entry, x = published.get(name), 1e9
    found = scale_for_loss(entry(x=x), **entry.params)
    assert float(found) == pytest.approx(x, rel=1e-9)
    assert float(scale_for_loss(entry.params.get("E", 0.0), **entry.params)) == np.inf


# Laws that users write.


def single_power():
    @js.law(
        E=js.positive(0.5, 3.0), A=js.positive(0.1, 3, unit="N**gamma"), gamma=js.real(0.05, 1.5)
    )
    def single_power(N, *, E, A, gamma):
        """L(N) = E + A N^-gamma."""
        return E + A * N**-gamma

    return single_power


def test_a_custom_law_recovers_noise_free_data():
    law, truth = single_power(), {"E": 1.7, "A": 410.0, "gamma": 0.34}
    N = np.geomspace(1e6, 1e11, 24)
    runs = js.Runs.from_arrays(N=N, loss=np.asarray(law(N, **truth)))
    fit = js.fit(law, runs, restarts=64, key=jax.random.key(1))
    assert fit.verdict.ok, fit.verdict
    for name, value in truth.items():
        assert np.isclose(fit.params[name], value, rtol=1e-8, atol=0), name


def test_a_custom_law_describes_itself():
    law = single_power()
    assert law.name == "single_power"
    assert law.inputs == ("N",)
    assert law.names == ("E", "A", "gamma")
    assert law.formula == "L(N) = E + A N^-gamma."
    assert law.scaled == {"N"}
    assert "single_power" in repr(law)
    assert hash(law) == hash(law)


def test_a_wrong_unit_names_the_input():
    @js.law(E=js.positive(0.5, 3.0), A=js.positive(0.1, 3, unit="D**beta"), beta=js.real(0.05, 1.5))
    def wrong(N, D, *, E, A, beta):
        return E + A * N**-beta + 0 * D

    runs = js.Runs.from_arrays(
        N=np.geomspace(1e6, 1e9, 9), D=np.geomspace(1e9, 1e11, 9)[::-1], loss=np.linspace(4, 3, 9)
    )
    with pytest.raises(js.LawError, match=r"'wrong' does not keep its form when D changes unit"):
        js.fit(wrong, runs, restarts=8, key=jax.random.key(0))


def test_wrong_keyword_names_are_refused():
    with pytest.raises(js.LawError, match=r"takes the parameters \['E', 'A'\].*\['A', 'B'\]"):

        @js.law(A=js.positive(0.1, 3), B=js.positive(0.1, 3))
        def law(N, *, E, A):
            return E + A / N


def test_a_unit_of_an_unknown_input_is_refused():
    with pytest.raises(js.LawError, match="mentions 'M', which is no input"):

        @js.law(A=js.positive(0.1, 3, unit="M"))
        def law(N, *, A):
            return A / N


def test_an_exponent_with_a_unit_is_refused():
    with pytest.raises(js.LawError, match="has a unit itself"):

        @js.law(A=js.positive(0.1, 3, unit="N**B"), B=js.positive(0.1, 3, unit="N"))
        def law(N, *, A, B):
            return A / N**B


@pytest.mark.parametrize("unit", ["N**", "N +", "sin(N)", "N + N", "2*N"])
def test_a_unit_that_is_no_product_of_powers_is_refused(unit):
    def declare_and_convert():
        made = js.law(A=js.positive(0.1, 3, unit=unit))(lambda N, *, A: A / N)
        made.to_physical({"A": 1.0}, {"N": 0.0})

    with pytest.raises(js.LawError, match="unit"):
        declare_and_convert()


# The catalogue.


def test_get_suggests_the_closest_names():
    with pytest.raises(js.LawError, match=r"no law called 'chinchila'; did you mean chinchilla"):
        laws.get("chinchila")
    with pytest.raises(js.LawError, match="'jaxscale laws' lists them all"):
        laws.get("zzz")


def test_names_and_get_agree():
    assert len(set(laws.names())) == len(laws.names())
    for name in laws.names():
        assert laws.get(name).name == name
        assert laws.get(name) is laws.get(name)


def test_every_input_says_what_it_counts():
    for name in laws.names():
        law = laws.get(name)
        assert all(law.about(x).counts for x in law.inputs), name


def test_families_stay_together():
    families = [laws.get(name).family for name in laws.names()]
    changes = sum(a != b for a, b in itertools.pairwise(families))
    assert changes == len(set(families)) - 1
    assert families[0] == "power"


def test_functions_that_make_laws_are_listed_with_their_formula():
    made = laws.made_to_order()
    assert set(made) >= {"bnsl(a count)", "data_mixing(a count)", "multi_power(schedules)"}
    assert all("=" in formula for formula in made.values())


def test_table_has_a_row_per_law_and_says_where_it_is_from():
    table = laws.table()
    assert list(table.columns) == [
        "name",
        "family",
        "inputs",
        "predicts",
        "parameters",
        "formula",
        "source",
        "evidence",
    ]
    assert tuple(table["name"]) == laws.names()
    for column in table.columns:
        assert (table[column].str.len() > 0).all(), column
    assert table["formula"].str.contains("=").all()
