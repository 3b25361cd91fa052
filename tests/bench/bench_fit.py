"""Fits per second and their hit share, beside SciPy, Optimistix and plain Optax.

Three kinds of work on the 240 Chinchilla rows, LogHuber(1e-3), float64: restarts from default
starts, the grid of 4,500 starts of Hoffmann et al., and 1,000 simulated data sets of 64 restarts
each, fitted as one stack. The others do a part of the same starts on the same machine in the same
run.

    python tests/bench/bench_fit.py [--restarts 10000] [--sets 1000] [--others 256] [--write]

How to read the result. A restart counts as a hit if its objective ends within 1e-6 of the best one
known for its data. Hits per second are what a user feels. "Share of the roofline" compares the
seconds of the whole call of `js.fit` (starts, optimization, certificate, refinement, verdict) with
the bare passes over the data that its steps need. A target is judged at its full size only.
`--write` replaces this part of tests/bench/RESULTS.md.
"""

import argparse
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from common import (
    LAW,
    OBJECTIVE,
    TARGETS,
    Found,
    Passes,
    Target,
    best_known,
    competitors,
    load,
    machine,
    method_table,
    on_cpu,
    parser_for,
    passes_of,
    publish,
    rows_of,
    say,
    target_table,
    timed,
)

import jaxscale as js
from jaxscale._evaluate import Rows
from jaxscale._reference import log_references
from jaxscale._starts import sobol

SEED = 1  # processes of SciPy load this file: no JAX arrays at the top


class Done(NamedTuple):
    """One kind of work by every method: the first is jaxscale, with its mean steps."""

    target: Target
    found: list[Found]
    best: np.ndarray
    steps: float


def ours(runs: js.Runs, name: str, **settings: Any) -> tuple[Found, float, np.ndarray]:
    """What `js.fit` did, its mean steps per restart, and the optima that it reports."""

    def work() -> js.Fit:
        key = jax.random.key(SEED)
        return js.fit(LAW, runs, objective=OBJECTIVE, key=key, show_progress=False, **settings)

    seconds, fit = timed(work)
    each = [fit.restarts] if fit.sets is None else fit.restarts
    found = Found(name, seconds, np.stack([one.value for one in each]))
    say(found)
    steps = float(np.mean([one.steps for one in each]))
    return found, steps, np.atleast_1d(np.asarray(fit.value, float))


def restarts(runs: js.Runs, options: argparse.Namespace) -> Done:
    found, steps, best = ours(runs, "jaxscale, default starts", restarts=options.restarts)
    rows = rows_of(runs)
    starts = sobol(LAW, rows, options.others, jax.random.key(SEED))
    others = competitors(rows, starts, by_scipy=options.scipy, steps=(200, 100))
    return Done(TARGETS["restarts"], [found, *others], best_known(others, best), steps)


def grid(runs: js.Runs, options: argparse.Namespace, best: np.ndarray) -> Done:
    """Hoffmann's grid. Many of its starts have a dead term, and so has the end of their search."""
    points = js.hoffmann_grid()
    found, steps, own = ours(runs, "jaxscale, Hoffmann's grid", starts=points)
    free = points.free(LAW, log_references(LAW, runs))
    # A random part, as neighbors in the grid are alike.
    some = np.random.default_rng(0).permutation(len(free))[: options.others]
    others = competitors(rows_of(runs), free[some], by_scipy=options.scipy, steps=(400, 200))
    known = best_known(others, np.minimum(own, best))
    return Done(TARGETS["grid"], [found, *others], known, steps)


def simulated(runs: js.Runs, truth: js.Fit, count: int) -> js.Runs:
    """Losses of the fitted law on the design of the real rows, with 1% log noise."""
    predicted = np.asarray(truth.predicted())

    def one(seed: int) -> js.Runs:
        noise = np.random.default_rng(seed).normal(size=len(predicted))
        # The published table has runs that were read off a figure twice.
        return js.Runs.from_arrays(
            loss=predicted * np.exp(0.01 * noise), duplicates="keep", **runs.inputs
        )

    return js.Runs.stack({f"seed {seed}": one(seed) for seed in range(count)})


def part_of(stack: js.Runs, count: int, restarts: int) -> tuple[Rows, np.ndarray]:
    """Rows and starts of the first data sets, one lane per restart."""
    rows = rows_of(stack)
    sets = [jax.tree.map(lambda x, i=i: x[i], rows) for i in range(count)]
    starts = np.concatenate([sobol(LAW, one, restarts, jax.random.key(SEED)) for one in sets])
    lanes = jax.tree.map(lambda *x: jnp.repeat(jnp.stack(x), restarts, axis=0), *sets)
    # The design is common to all sets, and shared, as anyone would do.
    return Rows(sets[0].inputs, lanes.loss, sets[0].weight, lanes.log_loss_ref), starts


def stacked(runs: js.Runs, truth: js.Fit, options: argparse.Namespace) -> Done:
    stack = simulated(runs, truth, options.sets)
    each = options.set_restarts
    found, steps, best = ours(stack, "jaxscale, one stack", restarts=each)
    few = min(max(options.others // each, 1), options.sets)
    rows, starts = part_of(stack, few, each)
    by_scipy = max(options.scipy // each, 1) * each
    others = competitors(rows, starts, by_scipy=by_scipy, steps=(200, 100), problems=few)
    return Done(TARGETS["sets"], [found, *others], best_known(others, best), steps)


def report(done: list[Done], passes: Passes) -> str:
    works = [(each.target, each.found[0], each.best, each.steps) for each in done]
    sets = done[2].found[0]
    reached = np.min(sets.values, axis=1) <= done[2].best * (1 + 1e-6)
    return "\n".join(
        [
            "Made by `python tests/bench/bench_fit.py --write`. Warm times; every method on the "
            "same starts, the others on a part of them.",
            f"Machine: {machine()}.",
            "",
            target_table(works, passes),
            "",
            passes.sentence,
            "",
            "Restarts from default starts:",
            "",
            method_table(done[0].found, done[0].best, "restarts"),
            "",
            "Hoffmann's grid:",
            "",
            method_table(done[1].found, done[1].best, "restarts"),
            "",
            f"{len(sets.values):,} data sets simulated on the design of the real rows with 1% "
            f"noise, {sets.values.shape[1]} restarts each; {reached.mean():.1%} of the sets reach "
            "their optimum:",
            "",
            method_table(done[2].found, done[2].best, "restarts"),
        ]
    )


def main() -> None:
    parser = parser_for(__doc__)
    parser.add_argument("--restarts", type=int, default=10_000, help="from default starts")
    parser.add_argument("--sets", type=int, default=1000, help="simulated data sets")
    parser.add_argument("--set-restarts", type=int, default=64, help="restarts of each data set")
    parser.add_argument("--others", type=int, help="starts for the others; 256, or 8192 on a GPU")
    parser.add_argument("--scipy", type=int, default=256, help="starts for SciPy")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    options.others = options.others or (256 if on_cpu() else 8192)
    options.scipy = min(options.scipy, options.others)
    runs = load()
    truth = js.fit(LAW, runs, objective=OBJECTIVE, restarts=256, key=jax.random.key(0))
    first = restarts(runs, options)
    done = [first, grid(runs, options, first.best), stacked(runs, truth, options)]
    text = report(done, passes_of(rows_of(runs)))
    publish("Restarts: the 240 Chinchilla rows, LogHuber(1e-3)", text, options)


if __name__ == "__main__":
    main()
