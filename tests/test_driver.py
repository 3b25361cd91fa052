"""The driver: shares, shapes, threads. Every split of the work must give the same results."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxscale as js
from jaxscale import _driver
from jaxscale._evaluate import Rows
from jaxscale._lanes import Queue, Stopping, drain
from jaxscale._levenberg_marquardt import levenberg_marquardt
from jaxscale._problem import Problem, bucket, pad_rows, problem_value, set_axes, take_sets
from jaxscale._refit import fit_rows
from jaxscale._starts import sobol

LIMITS = Stopping(300, np.iinfo(np.int32).max, 0.0)


@pytest.fixture(scope="module")
def rows(simulated_fit):
    return fit_rows(simulated_fit)


def problem_of(fit, rows):
    return Problem(fit.law, fit.objective, rows)


def resampled(rows, n):
    """Weights of each set, so that the sets differ in one leaf only."""
    weight = np.random.default_rng(0).multinomial(60, np.full(60, 1 / 60), size=n).astype(float)
    return Rows(rows.inputs, rows.loss, weight, rows.log_loss_ref)


def drained(problem, starts, which, count, blocks=(16, 4)):
    ones = np.ones(len(starts))
    queue = Queue(starts, np.asarray(which), ones, ones, np.asarray(count))
    return drain(levenberg_marquardt(), blocks, problem, queue, LIMITS)


def test_every_item_ends_where_it_does_alone(simulated_fit, rows):
    starts = sobol(simulated_fit.law, rows, 40, jax.random.key(1))
    problem = problem_of(simulated_fit, rows)
    together = drained(problem, starts, np.zeros(40, int), 37)
    for i in (0, 20, 36):
        alone = drained(problem, starts[i : i + 1], [0], 1, blocks=(1,))
        np.testing.assert_allclose(together.value[i], alone.value[0], rtol=1e-9)
        assert together.converged[i]
    exact = [problem_value(problem, jnp.asarray(theta)) for theta in together.theta[:37]]
    np.testing.assert_allclose(together.value[:37], exact, rtol=1e-12)


def test_what_lies_beyond_the_count_is_left_alone(simulated_fit, rows):
    starts = sobol(simulated_fit.law, rows, 40, jax.random.key(1))
    ended = drained(problem_of(simulated_fit, rows), starts, np.zeros(40, int), 5)
    assert np.all(np.asarray(ended.steps[:5]) > 0)
    assert np.all(np.asarray(ended.steps[5:]) == 0)
    np.testing.assert_array_equal(ended.theta[5:], starts[5:])
    assert not np.isfinite(np.asarray(ended.value[32:])).any()


def test_an_empty_queue_ends_at_once(simulated_fit, rows):
    starts = sobol(simulated_fit.law, rows, 4, jax.random.key(1))
    ended = drained(problem_of(simulated_fit, rows), starts, np.zeros(4, int), 0)
    assert not np.asarray(ended.steps).any()


def test_a_lane_is_given_up_at_max_steps(simulated_fit, rows):
    starts = sobol(simulated_fit.law, rows, 8, jax.random.key(1))[None]
    problem = problem_of(simulated_fit, rows)
    ended = _driver.run(problem, starts, levenberg_marquardt(), LIMITS._replace(max_steps=4))
    assert np.all(ended.steps == 4)
    assert not ended.converged.any()


@pytest.mark.parametrize("queue", [16, 50, 4096])
@pytest.mark.parametrize("restarts", [1, 3])
def test_the_cut_into_shares_does_not_matter(simulated_fit, rows, monkeypatch, queue, restarts):
    n = 50
    starts = sobol(simulated_fit.law, rows, n * restarts, jax.random.key(2))
    starts = starts.reshape(n, restarts, -1)
    problem = problem_of(simulated_fit, resampled(rows, n))
    whole = _driver.run(problem, starts, levenberg_marquardt(), LIMITS)
    monkeypatch.setattr(_driver, "_CPU_QUEUE", queue)
    ticks = []
    parts = _driver.run(problem, starts, levenberg_marquardt(), LIMITS, ticks.append)
    assert parts.theta.shape == (n, restarts, 5)
    assert sum(ticks) == n * restarts
    np.testing.assert_allclose(parts.value, whole.value, rtol=1e-9)


def test_sets_of_many_rows_are_taken_a_few_at_a_time(simulated_fit, rows, monkeypatch):
    starts = np.broadcast_to(np.asarray(simulated_fit.free), (9, 1, 5))
    problem = problem_of(simulated_fit, resampled(rows, 9))
    whole = _driver.run(problem, starts, levenberg_marquardt(), LIMITS)
    monkeypatch.setattr(_driver, "_MOST_CELLS", 2 * 64)
    seen = []
    take = _driver.take_sets

    def taken(problem, first, last, size):
        seen.append(last - first)
        return take(problem, first, last, size)

    monkeypatch.setattr(_driver, "take_sets", taken)
    parts = _driver.run(problem, starts, levenberg_marquardt(), LIMITS)
    assert max(seen) <= 2
    np.testing.assert_allclose(parts.value, whole.value, rtol=1e-9)


def layout_of(fit, rows, runs, sets, restarts):
    """How a job of so many runs, sets (0: one, shared) and restarts is cut for two cores."""
    more = jax.tree.map(lambda x: jnp.resize(x, (runs,)) if jnp.ndim(x) else x, rows)
    if sets:
        more = Rows(more.inputs, more.loss, np.ones((sets, runs)), more.log_loss_ref)
    problem = problem_of(fit, more)
    count = max(sets, 1)
    start = np.broadcast_to(np.asarray(fit.free), (count * restarts, 5))
    which = np.repeat(np.arange(count), restarts)
    near = np.ones(len(start))
    job = _driver._Job(problem, start, which, np.ones(count), near, levenberg_marquardt(), LIMITS)
    return _driver._layout(job, 2, True)


def test_long_tables_are_looked_at_often_and_kept_in_memory(simulated_fit, rows):
    usual = layout_of(simulated_fit, rows, 60, 0, 10_000)
    assert usual.queue == 4096
    assert usual.blocks == (96,)
    long = layout_of(simulated_fit, rows, 1 << 17, 0, 10_000)
    assert long.queue == 2 * long.blocks[0] == 64
    assert sum(map(len, long.shares)) == 10_000
    own = layout_of(simulated_fit, rows, 1 << 17, 3, 1000)
    assert own.blocks[0] * (1 << 17) <= _driver._MOST_CELLS
    assert sum(map(len, own.shares)) == 3000


def test_an_interrupt_stops_every_worker(simulated_fit, rows, monkeypatch):
    """What Ctrl-C does: shares that have not begun are left."""
    monkeypatch.setattr(_driver, "_CPU_QUEUE", 16)
    seen, share = [], _driver._share

    def interrupted(*arguments):
        seen.append(1)
        if len(seen) == 4:
            raise KeyboardInterrupt
        return share(*arguments)

    monkeypatch.setattr(_driver, "_share", interrupted)
    starts = sobol(simulated_fit.law, rows, 1600, jax.random.key(2))[None]
    problem = problem_of(simulated_fit, rows)
    with pytest.raises(KeyboardInterrupt):
        _driver.run(problem, starts, levenberg_marquardt(), LIMITS)
    assert len(seen) < 20  # of 100


def test_fewer_starts_than_devices(simulated_fit, rows):
    mesh = jax.make_mesh((2,), ("devices",))
    starts = np.asarray(simulated_fit.free)[None, None]
    with js.use_mesh(mesh):
        ended = _driver.run(problem_of(simulated_fit, rows), starts, levenberg_marquardt(), LIMITS)
    assert ended.value[0, 0] == pytest.approx(float(simulated_fit.value), rel=1e-9)


def test_a_grid_of_starts_serves_every_set_of_a_stack():
    """Also for a law without units, whose starts do not depend on the set."""

    @js.law(a=js.real(0.5, 2.0), b=js.real(-1.0, 1.0))
    def straight(x, *, a, b):
        """L(x) = exp(a + b log x)"""
        return jnp.exp(a + b * jnp.log(x))

    x = np.geomspace(1.0, 9.0, 12)
    tables = {
        name: js.Runs.from_arrays(x=x, loss=np.exp(1.0 + b * np.log(x)))
        for name, b in (("flat", -0.1), ("steep", -0.5))
    }
    fit = js.fit(
        straight, js.Runs.stack(tables), starts=js.grid(a=[0.8, 1.2], b=[-0.3, 0.1]),
        objective=js.LogGaussian(),
    )  # fmt: skip
    np.testing.assert_allclose(fit.params["b"], [-0.1, -0.5], atol=1e-6)


def test_padding_with_rows_changes_nothing(simulated_fit, rows):
    problem = problem_of(simulated_fit, rows)
    padded = pad_rows(problem)
    assert padded.rows.loss.shape == (64,)
    at = jnp.asarray(simulated_fit.free) + 0.1
    expected = float(problem_value(problem, at))
    assert float(problem_value(padded, at)) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("n", [1, 5, 16, 17, 240, 1000, 100_001])
def test_rows_are_padded_by_an_eighth_at_most(n):
    column = np.ones(n)
    problem = Problem(
        js.laws.power_law, js.LogGaussian(), Rows((column,), column, column, np.zeros(()))
    )
    padded = pad_rows(problem).rows.loss.shape[0]
    assert n <= padded <= max(16, n + max(16, n // 8))


def test_taking_sets_repeats_the_last_one(simulated_fit, rows):
    problem = problem_of(simulated_fit, resampled(rows, 5))
    some = take_sets(problem, 1, 4, bucket(3, 4))
    assert some.rows.weight.shape == (4, 60)
    np.testing.assert_array_equal(some.rows.weight[2], some.rows.weight[3])
    np.testing.assert_array_equal(some.rows.weight[:3], problem.rows.weight[1:4])
    assert some.rows.loss.shape == (60,)
    assert jax.tree.leaves(set_axes(some)) == [0]


def test_optimizers_without_a_test_of_their_own_keep_their_best(simulated_fit, rows):
    """A rate of learning so large that the last step is not the best one."""
    import optax

    starts = sobol(simulated_fit.law, rows, 32, jax.random.key(3))[None]
    problem = problem_of(simulated_fit, rows)
    limits = Stopping(60, 60, 1e-9)
    ended = _driver.run(problem, starts, optax.adam(0.5), limits)
    at_end = [problem_value(problem, jnp.asarray(theta)) for theta in ended.theta[0]]
    np.testing.assert_allclose(ended.value[0], at_end, rtol=1e-9)
    begin = [problem_value(problem, jnp.asarray(theta)) for theta in starts[0]]
    assert np.median(ended.value[0] / begin) < 0.5


def test_every_item_keeps_the_smoothing_of_its_own_start(simulated_fit, rows):
    problem = problem_of(simulated_fit, resampled(rows, 3))
    start = np.broadcast_to(np.asarray(simulated_fit.free), (6, 5))
    which, near = np.repeat(np.arange(3), 2), np.tile([0.02, 1.0], 3)
    mixed = _driver.run_items(problem, start, which, near, levenberg_marquardt(), LIMITS)
    for i, factor in enumerate((0.02, 1.0)):
        alone = _driver.run(problem, start[:3, None], levenberg_marquardt(), LIMITS, near=factor)
        np.testing.assert_array_equal(mixed.steps[i::2], alone.steps[:, 0])
        np.testing.assert_allclose(mixed.value[i::2], alone.value[:, 0], rtol=1e-12)
    assert mixed.steps[::2].mean() < mixed.steps[1::2].mean()
