"""What holds for every law of the catalogue: value, gradient, units, precision, recovery.

Points are runs of a realistic experiment (`catalogue.DESIGNS`) at its true parameters.
"""

import cases
import catalogue
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import jaxscale as js
from jaxscale import laws, published
from jaxscale._law import check_units

LAWS = [laws.get(name) for name in laws.names()]
POINTS = 3
RESTARTS = 128


def by_name(law):
    return law.name


def rows_of(law):
    """A few rows of the design: inputs by name, and the true parameters."""
    design = catalogue.DESIGNS[law.name]
    runs = len(next(iter(design.inputs.values())))
    some = np.random.default_rng(0).choice(runs, POINTS, replace=False)
    inputs = {name: np.asarray(x, float)[some] for name, x in design.inputs.items()}
    return inputs, {name: float(x) for name, x in design.params.items()}


def at(law, inputs, params):
    return law(*(inputs[name] for name in law.inputs), **params)


def test_every_law_has_a_design_and_every_design_a_law():
    assert set(catalogue.DESIGNS) == set(laws.names())
    for law in LAWS:
        design = catalogue.DESIGNS[law.name]
        assert set(design.inputs) == set(law.inputs), law.name
        assert set(design.params) == set(law.names), law.name
        assert design.reason or not design.open, law.name


@pytest.mark.parametrize("vector", catalogue.VECTORS, ids=lambda v: f"{v.law}-{v.entry}")
def test_vector(vector):
    law = laws.get(vector.law)
    value = float(at(law, vector.inputs, vector.params))
    assert cases.agrees(value, vector.value), value
    if vector.entry:
        entry = published.get(vector.entry)
        assert entry.law is law
        assert entry.params == pytest.approx(vector.params, rel=1e-12)
        assert cases.agrees(entry(**vector.inputs), vector.value)


@pytest.mark.parametrize("law", LAWS, ids=by_name)
def test_arrays_broadcast_and_single_precision_keeps_five_digits(law):
    inputs, params = rows_of(law)
    values = np.asarray(at(law, inputs, params))
    assert np.isfinite(values).all()
    for i, value in enumerate(values):
        one = {name: x[i] for name, x in inputs.items()}
        np.testing.assert_allclose(at(law, one, params), value, rtol=1e-12)
    low = at(
        law,
        {name: jnp.asarray(x, jnp.float32) for name, x in inputs.items()},
        {name: jnp.float32(x) for name, x in params.items()},
    )
    assert low.dtype == jnp.float32
    np.testing.assert_allclose(low, values, rtol=3e-5, atol=1e-6)


@pytest.mark.parametrize("law", LAWS, ids=by_name)
def test_gradient_by_every_input_and_parameter(law):
    """By relative changes of each, against finite differences, to second order."""
    inputs, params = rows_of(law)

    def moved(change):
        z = {name: x * (1 + change[name]) for name, x in {**inputs, **params}.items()}
        return at(law, {k: z[k] for k in inputs}, {k: z[k] for k in params})

    change = {name: np.zeros_like(x) for name, x in {**inputs, **params}.items()}
    check_grads(moved, (change,), order=2, modes=["fwd", "rev"], rtol=1e-3, atol=1e-4, eps=1e-5)


def closed_ends(law):
    """Inputs of the first row, each in turn moved to the ends that it may take."""
    inputs, _ = rows_of(law)
    for name in law.inputs:
        about = law.about(name)
        for end in (about.lower, about.upper):
            if about.closed and np.isfinite(end):
                yield {k: float(end) if k == name else float(x[0]) for k, x in inputs.items()}


@pytest.mark.parametrize("law", [x for x in LAWS if list(closed_ends(x))], ids=by_name)
def test_gradient_is_finite_at_the_ends_of_the_inputs(law):
    _, params = rows_of(law)

    def predicted(x, p):
        return law.fn(*(x[name] for name in law.inputs), **p)

    both = jax.jit(jax.value_and_grad(predicted, argnums=(0, 1)))
    for point in closed_ends(law):
        value, slopes = both({name: point[name] for name in law.inputs}, params)
        assert np.isfinite(value), point
        assert all(np.isfinite(x) for part in slopes for x in part.values()), (point, slopes)


@pytest.mark.parametrize("law", LAWS, ids=by_name)
def test_closed_under_a_change_of_every_unit(law):
    check_units(law)
    inputs, params = rows_of(law)
    rng = np.random.default_rng(1)
    refs = {name: float(rng.normal(0, 2)) for name in sorted(law.scaled)}
    there = {name: x * np.exp(refs.get(name, 0.0)) for name, x in inputs.items()}
    changed = law.to_physical(params, refs)
    expected = np.asarray(at(law, inputs, params)) * np.exp(refs.get("loss", 0.0))
    np.testing.assert_allclose(at(law, there, changed), expected, rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("law", LAWS, ids=by_name)
def test_recovers_its_parameters_or_says_which_are_open(law):
    """The fit is no worse than the truth; a parameter lies near it, or is known to be open.

    Near: within 5 standard errors of the truth, which 1 of 10^6 estimates exceeds.
    """
    design = catalogue.DESIGNS[law.name]
    runs, objective = catalogue.simulate(law, seed=0)
    options = {"restarts": RESTARTS, "key": jax.random.key(0), **design.options}
    fit = js.fit(law, runs, objective=objective, **options)
    residual = objective.residual(at(law, runs.inputs, design.params), runs.loss)
    truth = float(np.sum(runs.weight * np.asarray(objective.rho(residual))))
    assert float(fit.value) <= truth * (1 + 1e-9)
    if design.open:
        return
    # Where a design has a reason for fewer hits, enough must agree to trust the optimum.
    assert fit.restarts.hit_share >= (0.3 if design.reason else 0.9), fit.restarts
    assert fit.verdict.ok, fit.verdict
    near = js.laplace(fit, draws=2)
    spread = np.sqrt(np.diag(near.covariance))
    target = law.to_reference(design.params, fit.log_refs)
    for i, (name, param) in enumerate(law.params):
        off = (float(fit.free[i]) - float(param.to_free(target[name]))) / spread[i]
        assert abs(off) < 5, (name, off)
