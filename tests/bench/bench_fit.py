"""Restarts per second and their hit share, beside SciPy, Optimistix and plain Optax.

The 240 Chinchilla rows, LogHuber(1e-3), float64, the same starts and the same machine in one run.
A restart counts as a hit if its objective ends within 1e-6 of the best one known. Rates of hits per
second are what a user feels; a method that is fast and wrong scores nothing.

    python tests/bench/bench_fit.py [--restarts 10000] [--others 256] [--write]

`--write` replaces this part of tests/bench/RESULTS.md.
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optimistix as optx
import pandas as pd
import scipy.optimize

import jaxscale as js
from jaxscale._evaluate import (
    Rows,
    Smoothing,
    normal_equations,
    residuals,
    value_function,
)
from jaxscale._reference import log_references, reference_rows
from jaxscale._starts import sobol

HERE = Path(__file__).parent
LAW, OBJECTIVE = js.laws.chinchilla, js.LogHuber(1e-3)


class Score(NamedTuple):
    """What one method did."""

    name: str
    restarts: int
    seconds: float
    hits: float

    @property
    def hits_per_second(self) -> float:
        return self.hits * self.restarts / self.seconds


def chinchilla_csv() -> Path:
    root = os.environ.get("JAXSCALE_DATA", HERE.parents[2] / "shared" / "data")
    path = Path(root) / "chinchilla_epoch.csv"
    if not path.exists():
        sys.exit("chinchilla_epoch.csv is not here; set JAXSCALE_DATA")
    return path


def load() -> js.Runs:
    runs = js.Runs.from_frame(
        pd.read_csv(chinchilla_csv()), loss="loss_nats", N="params", D="tokens"
    )
    return js.drop_top(runs, 5)


def best_of(times: int, work: Callable[[], Any]) -> tuple[float, Any]:
    """Median seconds over several warm repetitions, and the last result."""
    work()
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        result = jax.block_until_ready(work())
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds), result


def once(work: Any, starts: np.ndarray) -> tuple[float, Any]:
    """Seconds of one run of a compiled function, without its compilation, and the result."""
    compiled = work.lower(jnp.asarray(starts)).compile()
    began = time.perf_counter()
    result = jax.block_until_ready(compiled(jnp.asarray(starts)))
    return time.perf_counter() - began, result


def hit_share(values: Any, best: float) -> float:
    return float(np.mean(np.asarray(values) <= best * (1 + 1e-6)))


def ours(runs: js.Runs, best: float, **settings: Any) -> Score:
    def work() -> js.Fit:
        return js.fit(LAW, runs, objective=OBJECTIVE, key=jax.random.key(1), **settings)

    seconds, fit = best_of(3, work)
    name = "jaxscale, Hoffmann's grid" if "starts" in settings else "jaxscale, default starts"
    return Score(name, len(fit.restarts), seconds, hit_share(fit.restarts.value, best))


def scipy_minima(rows: Rows, starts: np.ndarray, weights: Any = None) -> tuple[float, np.ndarray]:
    """Seconds and minima of L-BFGS-B from each start, with its own weights if given.

    One process, analytic gradient, scaled to order one, tolerances as tight as they help.
    """
    log_n, log_d = (np.log(np.asarray(x)) for x in rows.inputs)
    log_loss, scale = np.log(np.asarray(rows.loss)) - float(rows.log_loss_ref), 1e3
    weights = np.ones((len(starts), len(log_loss))) if weights is None else weights

    def value_and_gradient(p: np.ndarray, weight: np.ndarray) -> tuple[float, np.ndarray]:
        terms = np.stack([np.full_like(log_n, p[0]), p[1] - p[3] * log_n, p[2] - p[4] * log_d])
        log_predicted = np.logaddexp.reduce(terms)
        shares = np.exp(terms - log_predicted)
        r = log_predicted - log_loss
        psi = weight * np.clip(r, -1e-3, 1e-3)
        value = weight @ np.where(np.abs(r) <= 1e-3, 0.5 * r**2, 1e-3 * (np.abs(r) - 5e-4))
        slopes = [shares[0], shares[1], shares[2], -shares[1] * log_n, -shares[2] * log_d]
        return scale * value, scale * np.array([psi @ s for s in slopes])

    settings: dict[str, Any] = {
        "jac": True,
        "method": "L-BFGS-B",
        "options": {"maxiter": 2000, "maxfun": 20_000, "ftol": 1e-15, "gtol": 1e-10},
    }
    began = time.perf_counter()
    values = [
        scipy.optimize.minimize(value_and_gradient, start, args=(weight,), **settings).fun / scale
        for start, weight in zip(starts, weights, strict=True)
    ]
    return time.perf_counter() - began, np.asarray(values)


def scipy_lbfgsb(rows: Rows, starts: np.ndarray, best: float) -> Score:
    seconds, values = scipy_minima(rows, starts)
    return Score("SciPy L-BFGS-B, analytic gradient", len(starts), seconds, hit_share(values, best))


def plain_value(rows: Rows) -> Callable[[Any], Any]:
    """The objective as anyone would write it, scaled to order one."""

    def value(theta: Any) -> Any:
        return 1e3 * jnp.sum(rows.weight * OBJECTIVE.rho(residuals(LAW, OBJECTIVE, theta, rows)))

    return value


def optimistix_bfgs(rows: Rows, starts: np.ndarray, best: float) -> Score:
    value = plain_value(rows)
    solver = optx.BFGS(rtol=1e-9, atol=1e-9)

    @jax.jit
    def work(starts: Any) -> Any:
        def one(start: Any) -> Any:
            found = optx.minimise(lambda y, _: value(y), solver, start, max_steps=2000, throw=False)
            return value(found.value) / 1e3

        return jax.vmap(one)(starts)

    seconds, values = once(work, starts)
    return Score("optimistix.BFGS, vmapped", len(starts), seconds, hit_share(values, best))


def optax_lbfgs(rows: Rows, starts: np.ndarray, best: float, steps: int = 100) -> Score:
    value, optimizer = plain_value(rows), optax.lbfgs()
    value_and_grad = optax.value_and_grad_from_state(value)

    def step(carry: Any, _: Any) -> Any:
        theta, state = carry
        v, g = value_and_grad(theta, state=state)
        updates, state = optimizer.update(g, state, theta, value=v, grad=g, value_fn=value)
        return (optax.apply_updates(theta, updates), state), None

    @jax.jit
    def work(starts: Any) -> Any:
        def one(start: Any) -> Any:
            (theta, _), _ = jax.lax.scan(step, (start, optimizer.init(start)), length=steps)
            return value(theta) / 1e3

        return jax.vmap(one)(starts)

    seconds, values = best_of(1, lambda: work(jnp.asarray(starts)))
    return Score(
        f"optax.lbfgs, vmapped, {steps} steps", len(starts), seconds, hit_share(values, best)
    )


def roofline(rows: Rows, lanes: int = 1024) -> tuple[float, float]:
    """Nanoseconds per lane and row of one residual pass and one normal-equation pass."""
    theta = jnp.asarray(np.random.default_rng(0).normal(size=(lanes, 5)) * 0.3)
    smooth = Smoothing(1e-3, 1e-3, 0.5)

    def timed(fn: Callable[[Any], Any]) -> float:
        compiled = jax.jit(jax.vmap(fn))
        seconds, _ = best_of(9, lambda: compiled(theta))
        return 1e9 * seconds / lanes / len(rows.loss)

    value = timed(value_function(LAW, OBJECTIVE, rows))
    full = timed(lambda at: normal_equations(LAW, OBJECTIVE, at, smooth, rows))
    return value, full


def command_seconds() -> tuple[float, float]:
    """Cold process to printed table: with an empty compilation cache, then with a warm one."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = [
            sys.executable, "-m", "jaxscale", "fit", str(chinchilla_csv()), "--loss", "loss_nats",
            "--drop-top", "5", "--out", f"{folder}/out",
        ]  # fmt: skip
        environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": f"{folder}/cache"}
        seconds = []
        for _ in range(2):
            began = time.perf_counter()
            subprocess.run(arguments, env=environment, check=True, capture_output=True)
            seconds.append(time.perf_counter() - began)
        return seconds[0], seconds[1]


def machine() -> str:
    lines = (
        Path("/proc/cpuinfo").read_text().splitlines() if os.path.exists("/proc/cpuinfo") else []
    )
    model = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), "")
    return (
        f"{os.cpu_count()} cores, {model or platform.processor()}, {jax.default_backend()}, "
        f"Python {platform.python_version()}, jax {jax.__version__}, optax {optax.__version__}, "
        f"optimistix {optx.__version__}, SciPy {scipy.__version__}, float64"
    )


def report(scores: list[Score], passes: tuple[float, float], command: tuple[float, float]) -> str:
    reference = next(s for s in scores if s.name.startswith("SciPy"))
    rows = [
        f"| {s.name} | {s.restarts:,} | {s.seconds:.2f} | {s.restarts / s.seconds:,.0f} | "
        f"{s.hits:.1%} | {s.hits_per_second:,.1f} | "
        f"{s.hits_per_second / reference.hits_per_second:,.1f} |"
        for s in scores
    ]
    return "\n".join(
        [
            "Made by `python tests/bench/bench_fit.py --write`. Warm times, the same starts.",
            f"Machine: {machine()}.",
            "",
            "| method | restarts | seconds | restarts / s | at the optimum (1e-6) | hits / s "
            "| hits / s relative to SciPy |",
            "|---|---|---|---|---|---|---|",
            *rows,
            "",
            "SciPy runs in one process; a second one on the second core would at best double it.",
            "",
            f"One pass over the data, per restart and row: {passes[0]:.1f} ns for the objective, "
            f"{passes[1]:.1f} ns with gradient and Hessian.",
            "",
            "The whole command, cold process to printed table and files: `jaxscale fit` (1,024 "
            f"restarts, picture, tables), {command[0]:.1f} s with an empty compilation cache, "
            f"{command[1]:.1f} s with a warm one.",
        ]
    )


def write_part(heading: str, text: str) -> None:
    """Replace one part of RESULTS.md, or add it."""
    path = HERE / "RESULTS.md"
    parts = path.read_text().split("\n## ")[1:] if path.exists() else []
    kept = {part.split("\n", 1)[0]: part.split("\n", 1)[1].strip() for part in parts}
    kept[heading] = text.strip()
    body = "\n\n".join(f"## {name}\n\n{content}" for name, content in kept.items())
    path.write_text(f"# Results\n\n{body}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--restarts", type=int, default=10_000)
    parser.add_argument("--others", type=int, default=64, help="restarts for the other methods")
    parser.add_argument("--write", action="store_true", help="replace RESULTS.md")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    command = command_seconds()
    runs = load()
    rows = reference_rows(LAW, runs, log_references(LAW, runs))
    best = float(js.fit(LAW, runs, objective=OBJECTIVE, restarts=256, key=jax.random.key(0)).value)
    starts = sobol(LAW, rows, options.others, jax.random.key(1))
    scores = []
    for score in (
        lambda: ours(runs, best, restarts=options.restarts),
        lambda: ours(runs, best, starts=js.hoffmann_grid()),
        lambda: scipy_lbfgsb(rows, starts, best),
        lambda: optimistix_bfgs(rows, starts, best),
        lambda: optax_lbfgs(rows, starts, best),
    ):
        scores.append(score())
        print(scores[-1], file=sys.stderr, flush=True)
    text = report(scores, roofline(rows), command)
    print(text)
    if options.write:
        write_part("Restarts: the 240 Chinchilla rows, LogHuber(1e-3)", text)


if __name__ == "__main__":
    main()
