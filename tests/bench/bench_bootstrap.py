"""Resamples per second, beside SciPy, Optimistix and plain Optax, and the cost of a coverage study.

4,000 pairs resamples of the 240 Chinchilla rows, LogHuber(1e-3), float64, every method from the
optimum of the fit, on the same resamples and the same machine in one run.

    python tests/bench/bench_bootstrap.py [--resamples 4000] [--others 256] [--write]

How to read the result. A resample counts as a hit if its objective ends within 1e-6 of the best
known for it: over all methods, and over cold starts that nobody is charged for. `js.bootstrap` is
what a user calls and what the target is for: it draws the resamples, refits them, and refits a
share of them from cold starts to make sure. The refits alone are what the others are asked for.
"Share of the roofline" compares the seconds with the bare passes over the data that the steps of
all these refits need. `--write` replaces this part of tests/bench/RESULTS.md.
"""

import argparse
import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from common import (
    LAW,
    OBJECTIVE,
    TARGETS,
    Found,
    best_known,
    competitors,
    load,
    machine,
    method_table,
    on_cpu,
    parser_for,
    passes_of,
    publish,
    say,
    seconds_of,
    target_table,
    timed,
)

import jaxscale as js
from jaxscale import _driver
from jaxscale._bootstrap import pairs_weights
from jaxscale._evaluate import Rows
from jaxscale._refit import fit_rows, refit_sets
from jaxscale._starts import sobol

SEED = 1


@contextlib.contextmanager
def counted() -> Iterator[list[int]]:
    """Total steps of every job of the driver, which refits do not report."""
    totals: list[int] = []
    ended = _driver._ended

    def noted(*arguments: Any) -> Any:
        out = ended(*arguments)
        totals.append(int(np.sum(out.steps)))
        return out

    with mock.patch.object(_driver, "_ended", noted):
        yield totals


def whole(fit: js.Fit, n: int) -> tuple[Found, float]:
    """`js.bootstrap`, and its steps per resample, those of its cold starts included."""

    def work() -> js.Draws:
        return js.bootstrap(fit, n=n, key=jax.random.key(SEED), show_progress=False)

    with counted() as steps:
        work()
    seconds, draws = timed(work)
    assert not draws.failed, "resamples would no longer be in order"
    return Found("jaxscale, js.bootstrap", seconds, draws.value[:, None]), sum(steps) / n


def refits(fit: js.Fit, weight: np.ndarray) -> tuple[Found, float]:
    """The refits alone, and their mean steps."""

    def work() -> np.ndarray:
        return refit_sets(fit, weight=weight).value

    with counted() as steps:
        work()
    found = Found("jaxscale, refits alone", *timed(work))
    return found._replace(values=found.values[:, None]), sum(steps) / len(weight)


def resamples(fit: js.Fit, n: int) -> np.ndarray:
    """The weights that `js.bootstrap` draws for this key."""
    key = jax.random.split(jax.random.key(SEED))[0]
    return pairs_weights(np.asarray(fit_rows(fit).weight), None, n, key)


def cold_best(fit: js.Fit, weight: np.ndarray, starts: int) -> np.ndarray:
    """Best objectives from starts all over the box: a check that the optimum is the global one."""
    points = sobol(LAW, fit_rows(fit), starts, jax.random.key(SEED + 1))
    begin = np.broadcast_to(points, (len(weight), *points.shape))
    return refit_sets(fit, weight=weight, starts=begin, cold=True).value


def others(fit: js.Fit, weight: np.ndarray, by_scipy: int) -> list[Found]:
    rows = fit_rows(fit)
    starts = np.broadcast_to(np.asarray(fit.free), (len(weight), len(LAW.params)))
    lanes = Rows(rows.inputs, rows.loss, jnp.asarray(weight), rows.log_loss_ref)
    return competitors(lanes, starts, by_scipy=by_scipy, steps=(100, 50), problems=len(weight))


def study_seconds(fit: js.Fit, sims: int) -> float:
    """A coverage study of so many tables and 400 resamples each, pairs and clusters; compiled."""

    def work(sims: int) -> None:
        js.calibrate(
            fit, key=jax.random.key(0), methods=["hessian", "pairs", "cluster pairs"], sims=sims,
            resamples=400, noise="clustered", by="N",
        )  # fmt: skip

    work(1)
    return seconds_of(lambda: work(sims))[0]


def study(fit: js.Fit, sims: int) -> str:
    seconds = study_seconds(fit, sims)
    return (
        f"A coverage study of {sims} simulated tables, each with 400 pairs and 400 cluster "
        f"resamples ({800 * sims:,} refits and {sims} Hessians): {seconds:.0f} s."
    )


def report(fit: js.Fit, options: argparse.Namespace) -> str:
    weight = resamples(fit, options.resamples)
    boot, boot_steps = whole(fit, options.resamples)
    alone, steps = refits(fit, weight)
    say(boot)
    say(alone)
    rest = others(fit, weight[: options.others], options.scipy)
    best = best_known([boot, alone, *rest], cold_best(fit, weight, options.cold))
    target = TARGETS["bootstrap"]
    works = [
        (target, boot, best, boot_steps),
        (target._replace(work="the same, refits alone"), alone, best, steps),
    ]
    passes = passes_of(fit_rows(fit))
    return "\n".join(
        [
            "Made by `python tests/bench/bench_bootstrap.py --write`. Warm times; every method "
            "from the optimum of the fit, the others on a part of the resamples.",
            f"Machine: {machine()}.",
            "",
            target_table(works, passes),
            "",
            passes.sentence + " Mean steps are per resample; those of `js.bootstrap` include its "
            "cold starts.",
            "",
            method_table([alone, boot, *rest], best, "resamples"),
            *(["", study(fit, options.sims)] if options.sims else []),
        ]
    )


def main() -> None:
    parser = parser_for(__doc__)
    parser.add_argument("--resamples", type=int, default=4000)
    parser.add_argument("--cold", type=int, default=8, help="cold starts of the best known optima")
    parser.add_argument("--others", type=int, help="for the others; 256, or 4000 on a GPU")
    parser.add_argument("--scipy", type=int, default=256, help="resamples for SciPy")
    parser.add_argument("--sims", type=int, default=200, help="tables of the study; 0 for none")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    options.others = min(options.others or (256 if on_cpu() else 4000), options.resamples)
    options.scipy = min(options.scipy, options.others)
    key = jax.random.key(0)
    fit = js.fit(LAW, load(), objective=OBJECTIVE, restarts=256, key=key, show_progress=False)
    heading = "Bootstrap: 4,000 resamples of the 240 Chinchilla rows, LogHuber(1e-3)"
    publish(heading, report(fit, options), options)


if __name__ == "__main__":
    main()
