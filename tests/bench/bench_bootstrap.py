"""Resamples per second, beside SciPy, Optimistix and plain Optax, and the cost of a coverage study.

4,000 pairs resamples of the 240 Chinchilla rows, LogHuber(1e-3), float64, every method from the
optimum of the fit, on the same resamples and the same machine in one run. A resample is at its
optimum if its objective is within 1e-6 of the best that any method found for it.

    python tests/bench/bench_bootstrap.py [--others 64] [--write]

`--write` replaces this part of tests/bench/RESULTS.md.
"""

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optimistix as optx
from bench_fit import (
    LAW,
    OBJECTIVE,
    best_of,
    load,
    machine,
    once,
    scipy_minima,
    write_part,
)

import jaxscale as js
from jaxscale._bootstrap import pairs_weights
from jaxscale._evaluate import Rows, residuals
from jaxscale._refit import fit_rows, refit_sets

RESAMPLES = 4000
Found = tuple[float, np.ndarray]


def ours(fit: js.Fit, weight: np.ndarray) -> Found:
    seconds, found = best_of(5, lambda: refit_sets(fit, weight=weight).value)
    return seconds, found


def scipy_lbfgsb(fit: js.Fit, rows: Rows, weights: np.ndarray) -> Found:
    starts = np.broadcast_to(np.asarray(fit.free), (len(weights), len(LAW.params)))
    return scipy_minima(rows, starts, weights)


def weighted_value(rows: Rows) -> Callable[[Any, Any], Any]:
    """The objective of one resample as anyone would write it, scaled to order one."""

    def value(theta: Any, weight: Any) -> Any:
        return 1e3 * jnp.sum(weight * OBJECTIVE.rho(residuals(LAW, OBJECTIVE, theta, rows)))

    return value


def optimistix_bfgs(fit: js.Fit, rows: Rows, weights: np.ndarray) -> Found:
    value, start = weighted_value(rows), jnp.asarray(fit.free)
    solver = optx.BFGS(rtol=1e-9, atol=1e-9)

    @jax.jit
    def work(weights: Any) -> Any:
        def one(weight: Any) -> Any:
            found = optx.minimise(value, solver, start, args=weight, max_steps=2000, throw=False)
            return value(found.value, weight) / 1e3

        return jax.vmap(one)(weights)

    seconds, values = once(work, weights)
    return seconds, np.asarray(values)


def optax_lbfgs(fit: js.Fit, rows: Rows, weights: np.ndarray, steps: int = 50) -> Found:
    value, optimizer, start = weighted_value(rows), optax.lbfgs(), jnp.asarray(fit.free)

    @jax.jit
    def work(weights: Any) -> Any:
        def one(weight: Any) -> Any:
            def alone(theta: Any) -> Any:
                return value(theta, weight)

            look = optax.value_and_grad_from_state(alone)

            def step(carry: Any, _: Any) -> Any:
                theta, state = carry
                v, g = look(theta, state=state)
                updates, state = optimizer.update(g, state, theta, value=v, grad=g, value_fn=alone)
                return (optax.apply_updates(theta, updates), state), None

            (theta, _), _ = jax.lax.scan(step, (start, optimizer.init(start)), length=steps)
            return alone(theta) / 1e3

        return jax.vmap(one)(weights)

    seconds, values = once(work, weights)
    return seconds, np.asarray(values)


def study_seconds(fit: js.Fit) -> float:
    """A coverage study of 200 tables and 400 resamples each, pairs and clusters; compiled."""

    def work(sims: int) -> None:
        js.calibrate(
            fit, key=jax.random.key(0), methods=["hessian", "pairs", "cluster pairs"], sims=sims,
            resamples=400, noise="clustered", by="N",
        )  # fmt: skip

    work(1)
    began = time.perf_counter()
    work(200)
    return time.perf_counter() - began


def report(found: dict[str, Found], study: float) -> str:
    few = min(len(values) for _, values in found.values())
    best = np.min([values[:few] for _, values in found.values()], axis=0)
    rates = {name: len(values) / seconds for name, (seconds, values) in found.items()}
    reference = next(rate for name, rate in rates.items() if name.startswith("SciPy"))
    rows = [
        f"| {name} | {len(values):,} | {seconds:.2f} | {rates[name]:,.0f} | "
        f"{np.mean(values[:few] <= best * (1 + 1e-6)):.1%} | {rates[name] / reference:,.1f} |"
        for name, (seconds, values) in found.items()
    ]
    return "\n".join(
        [
            "Made by `python tests/bench/bench_bootstrap.py --write`. Warm times, every method "
            "from the optimum of the fit.",
            f"Machine: {machine()}.",
            "",
            "| method | resamples | seconds | resamples / s | at the optimum (1e-6) "
            "| resamples / s relative to SciPy |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
            f"A coverage study of 200 simulated tables, each with 400 pairs and 400 cluster "
            f"resamples (160,000 refits and 200 Hessians): {study:.0f} s.",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--others", type=int, default=64, help="resamples for the other methods")
    parser.add_argument("--write", action="store_true", help="replace its part of RESULTS.md")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    fit = js.fit(LAW, load(), objective=OBJECTIVE, restarts=256, key=jax.random.key(0))
    rows = fit_rows(fit)
    weight = pairs_weights(np.asarray(rows.weight), None, RESAMPLES, jax.random.key(1))
    some = weight[: options.others]
    found = {
        "jaxscale": ours(fit, weight),
        "SciPy L-BFGS-B, analytic gradient": scipy_lbfgsb(fit, rows, some),
        "optimistix.BFGS, vmapped": optimistix_bfgs(fit, rows, some),
        "optax.lbfgs, vmapped, 50 steps": optax_lbfgs(fit, rows, some),
    }
    for name, (seconds, values) in found.items():
        print(name, f"{len(values) / seconds:,.0f}/s", file=sys.stderr, flush=True)
    text = report(found, study_seconds(fit))
    print(text)
    if options.write:
        write_part("Bootstrap: 4,000 resamples of the 240 Chinchilla rows, LogHuber(1e-3)", text)


if __name__ == "__main__":
    main()
