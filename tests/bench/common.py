"""What the benchmarks share: the problem, the competitors, targets, timing and RESULTS.md.

Everywhere: float64, the 240 rows of the Chinchilla replication, LogHuber(1e-3). A lane is one start
of one problem. It is a hit if its objective ends within 1e-6 of the best that any method found for
its problem: a method that is fast and wrong scores nothing.
"""

import argparse
import contextlib
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optimistix as optx
import pandas as pd
import scipy
from scipy_lbfgsb import SCALE, minima

import jaxscale as js
from jaxscale._evaluate import Rows, Smoothing, normal_equations, residuals, value_function
from jaxscale._reference import log_references, reference_rows

HERE = Path(__file__).parent
LAW, OBJECTIVE = js.laws.chinchilla, js.LogHuber(1e-3)
ROWS = 240
HIT = 1e-6
LINE_SEARCH = 20  # steps at most, Optax's default
SLOW = 30.0
# Processes of SciPy: more threads would get in each other's way, and an accelerator is taken.
ALONE = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "JAX_PLATFORMS": "cpu",
}
# Lanes of one pass that the roofline is looked for at.
CPU_BLOCKS, GPU_BLOCKS = (64, 256, 1024), (16_384, 65_536, 262_144)


class Found(NamedTuple):
    """What one method did: warm seconds, and minima of shape (problems, starts of each)."""

    method: str
    seconds: float
    values: np.ndarray


class Target(NamedTuple):
    """What was promised: seconds on two CPU cores and on one H100-class GPU, for so many lanes."""

    work: str
    lanes: int
    cpu: float
    gpu: float
    hits: float = 0.0

    @property
    def seconds(self) -> float:
        return self.cpu if on_cpu() else self.gpu


TARGETS = {
    "restarts": Target("10,000 restarts from default starts", 10_000, 2.5, 0.02, hits=0.99),
    "grid": Target("Hoffmann's 4,500-start grid", 4_500, 1.5, 0.02),
    "sets": Target("1,000 data sets x 64 restarts, js.fit of a stack", 64_000, 20.0, 0.5),
    "bootstrap": Target("4,000-resample bootstrap", 4_000, 0.5, 0.02),
}


# --- the problem --------------------------------------------------------------------------------


def chinchilla_csv() -> Path:
    root = os.environ.get("JAXSCALE_DATA") or HERE / "../../../shared/data"
    path = Path(root) / "chinchilla_epoch.csv"
    if not path.exists():
        sys.exit("chinchilla_epoch.csv is not here; set JAXSCALE_DATA")
    return path


def load() -> js.Runs:
    """The 240 rows: all but the five highest losses."""
    runs = js.Runs.from_frame(
        pd.read_csv(chinchilla_csv()), loss="loss_nats", N="params", D="tokens"
    )
    return js.drop_top(runs, 5)


def rows_of(runs: js.Runs) -> Rows:
    """Runs in reference units, as every method gets them."""
    return reference_rows(LAW, runs, log_references(LAW, runs))


# --- timing -------------------------------------------------------------------------------------


def seconds_of(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    result = jax.block_until_ready(work())
    return time.perf_counter() - began, result


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Median seconds of warm repetitions and the last result.

    Three repetitions for work of seconds, nine for less; one for work of more than 30 s.
    """
    work()
    first, result = seconds_of(work)
    if first > SLOW:
        return first, result
    again = [seconds_of(work) for _ in range(2 if first > 1 else 8)]
    return statistics.median([first, *(seconds for seconds, _ in again)]), again[-1][1]


def on_cpu() -> bool:
    return jax.default_backend() == "cpu"


def cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


# --- the competitors ----------------------------------------------------------------------------


def _columns(rows: Rows, fn: Callable[[Any, bool], Any]) -> Any:
    """Apply `fn(column, own)` to every column; `own` says that each lane has its own."""
    return Rows(
        tuple(fn(x, jnp.ndim(x) > 1) for x in rows.inputs),
        fn(rows.loss, jnp.ndim(rows.loss) > 1),
        fn(rows.weight, jnp.ndim(rows.weight) > 1),
        fn(rows.log_loss_ref, jnp.ndim(rows.log_loss_ref) > 0),
    )


def plain_value(rows: Rows) -> Callable[[Any], Any]:
    """The objective as anyone would write it, scaled to order one."""

    def value(theta: Any) -> Any:
        return SCALE * jnp.sum(rows.weight * OBJECTIVE.rho(residuals(LAW, OBJECTIVE, theta, rows)))

    return value


def vmapped(
    method: str, minimize: Callable[[Any, Any], Any], rows: Rows, starts: np.ndarray
) -> Found:
    """Minima by `minimize(value, start)` under `vmap`, compiled beforehand."""

    def one(start: Any, rows: Rows) -> Any:
        value = plain_value(rows)
        return value(minimize(value, start)) / SCALE

    axes = _columns(rows, lambda _, own: 0 if own else None)
    begin = jnp.asarray(starts)
    work = jax.jit(jax.vmap(one, in_axes=(0, axes))).lower(begin, rows).compile()
    seconds, values = timed(lambda: work(begin, rows))
    return Found(method, seconds, np.asarray(values))


def optimistix_bfgs(rows: Rows, starts: np.ndarray, steps: int) -> Found:
    """A lane that stalls holds up all others, so the cap on steps is as low as the hits allow."""
    solver = optx.BFGS(rtol=1e-9, atol=1e-9)

    def minimize(value: Callable[[Any], Any], start: Any) -> Any:
        return optx.minimise(
            lambda y, _: value(y), solver, start, max_steps=steps, throw=False
        ).value

    name = f"optimistix.BFGS, vmapped, {steps} steps at most"
    return vmapped(name, minimize, rows, starts)


def optax_lbfgs(rows: Rows, starts: np.ndarray, steps: int) -> Found:
    optimizer = optax.lbfgs()

    def minimize(value: Callable[[Any], Any], start: Any) -> Any:
        value_and_grad = optax.value_and_grad_from_state(value)

        def step(carry: Any, _: Any) -> Any:
            theta, state = carry
            v, g = value_and_grad(theta, state=state)
            updates, state = optimizer.update(g, state, theta, value=v, grad=g, value_fn=value)
            return (optax.apply_updates(theta, updates), state), None

        (theta, _), _ = jax.lax.scan(step, (start, optimizer.init(start)), length=steps)
        return theta

    with _ending_line_search():
        return vmapped(f"optax.lbfgs, vmapped, {steps} steps", minimize, rows, starts)


@contextlib.contextmanager
def _ending_line_search() -> Iterator[None]:
    """Let Optax's line search end after 20 steps, as it means to.

    It stops when `done`, or when `failed`, which is "20 steps and not done". A compiler may work
    out `done` twice with different round-off, and then neither holds, for ever.
    """
    while_loop = jax.lax.while_loop

    def bounded(cond: Any, body: Any, state: Any) -> Any:
        if not hasattr(state, "interval_found"):
            return while_loop(cond, body, state)
        return while_loop(lambda at: cond(at) & (at.count < LINE_SEARCH), body, state)

    with mock.patch.object(jax.lax, "while_loop", bounded):
        yield


def scipy_lbfgsb(rows: Rows, starts: np.ndarray) -> Found:
    """Analytic gradient, scaled to order one, tolerances as tight as they help, on every core."""
    held = jax.tree.map(np.asarray, rows)

    def lane(i: int) -> tuple[np.ndarray, ...]:
        one = _columns(held, lambda x, own: x[i] if own else x)
        return (*map(np.log, one.inputs), np.log(one.loss), one.weight, one.log_loss_ref)

    parts = [range(k, len(starts), cores()) for k in range(min(cores(), len(starts)))]
    lanes = [[lane(i) for i in part] for part in parts]
    begin = [starts[part.start :: part.step] for part in parts]
    values = np.empty(len(starts))
    with _processes() as pool:

        def work() -> None:
            for part, found in zip(parts, pool.map(minima, lanes, begin), strict=True):
                values[part.start :: part.step] = found

        seconds, _ = timed(work)
    return Found(f"SciPy L-BFGS-B, analytic gradient, {cores()} processes", seconds, values)


@contextlib.contextmanager
def _processes() -> Iterator[ProcessPoolExecutor]:
    with (
        mock.patch.dict(os.environ, ALONE),
        ProcessPoolExecutor(cores(), mp_context=get_context("spawn")) as pool,
    ):
        yield pool


def competitors(
    rows: Rows,
    starts: np.ndarray,
    *,
    by_scipy: int,
    steps: tuple[int, int],
    problems: int | None = None,
) -> list[Found]:
    """All three on the same starts; SciPy, which is slow, on the first `by_scipy` of them.

    Args:
        rows: any column may have a leading axis of lanes.
        starts: unconstrained vectors, shape (lanes, p).
        by_scipy: starts for SciPy.
        steps: most steps of BFGS, and steps of L-BFGS, which runs them all: those with the most
            hits per second, or nearly all hits.
        problems: how many problems the lanes belong to, in order and in equal parts; default one.
    """
    few = _columns(rows, lambda x, own: x[:by_scipy] if own else x)
    each = len(starts) // (problems or 1)
    found = []
    for work in (
        lambda: scipy_lbfgsb(few, starts[:by_scipy]),
        lambda: optimistix_bfgs(rows, starts, steps[0]),
        lambda: optax_lbfgs(rows, starts, steps[1]),
    ):
        one = work()
        found.append(one._replace(values=one.values.reshape(-1, min(each, len(one.values)))))
        say(one)
    return found


# --- scores and tables --------------------------------------------------------------------------


def say(found: Found) -> None:
    rate = found.values.size / found.seconds
    print(f"{found.method}: {found.values.size:,} in {found.seconds:.3f} s, {rate:,.0f} / s",
          file=sys.stderr, flush=True)  # fmt: skip


def best_known(found: Iterable[Found], best: np.ndarray) -> np.ndarray:
    """The lowest objective of every problem, over all methods and a first guess of shape (n,)."""
    best = np.array(best, float)
    for each in found:
        few = len(each.values)
        best[:few] = np.minimum(best[:few], np.nanmin(each.values, axis=1))
    return best


def hit_share(found: Found, best: np.ndarray) -> float:
    return float(np.mean(found.values <= best[: len(found.values), None] * (1 + HIT)))


def method_table(found: list[Found], best: np.ndarray, noun: str) -> str:
    """One row per method, the first jaxscale; the last column is its lead in hits per second."""
    hits = [hit_share(each, best) * each.values.size / each.seconds for each in found]
    lines = [
        f"| method | {noun} | seconds | {noun} / s | at the optimum ({HIT:.0e}) | hits / s "
        "| hits / s of jaxscale relative to it |".replace("1e-06", "1e-6"),
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {each.method} | {each.values.size:,} | {significant(each.seconds)} | "
        f"{each.values.size / each.seconds:,.0f} | {hit_share(each, best):.1%} | {rate:,.1f} | "
        f"{hits[0] / rate if rate else np.inf:,.1f} |"
        for each, rate in zip(found, hits, strict=True)
    ]
    return "\n".join(lines)


def significant(seconds: float) -> str:
    return f"{seconds:.2f}" if seconds >= 1 else f"{seconds:.2g}"


def verdict(target: Target, found: Found, hits: float) -> str:
    if found.values.size != target.lanes:
        return f"not judged: {found.values.size:,} of {target.lanes:,}"
    if hits < target.hits:
        return f"MISSED: {target.hits:.0%} of them were to reach the optimum"
    if found.seconds > target.seconds:
        return f"MISSED by a factor {found.seconds / target.seconds:.1f}"
    return f"met, by a factor {target.seconds / found.seconds:.1f}"


class Passes(NamedTuple):
    """Nanoseconds per lane and row of one pass, on all cores or the accelerator, at their best."""

    value: float
    normal: float

    def seconds(self, lanes: int, rows: int, steps: float) -> float:
        """A pass of normal equations in every step, and one of residuals for the final value."""
        return 1e-9 * lanes * rows * (steps * self.normal + self.value)

    @property
    def sentence(self) -> str:
        return (
            f"One pass over the data, per lane and row, on {used()}: {self.value:.3g} ns for the "
            f"objective, {self.normal:.3g} ns with gradient and Hessian. The ideal time is one of "
            "the latter in every step that was taken and one of the former at the end."
        )


def used() -> str:
    return f"{cores()} cores" if on_cpu() else "the accelerator"


def target_table(rows: Iterable[tuple[Target, Found, np.ndarray, float]], passes: Passes) -> str:
    """Targets of this backend: work, what jaxscale did, best objectives, mean steps per lane."""
    where = "2 CPU cores" if on_cpu() else "one H100-class GPU"
    lines = [
        f"| work | seconds | at the optimum | target on {where}, s | verdict | mean steps "
        "| ideal seconds | share of the roofline reached |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for target, found, best, steps in rows:
        hits = hit_share(found, best)
        ideal = passes.seconds(found.values.size, ROWS, steps)
        lines.append(
            f"| {target.work} | {significant(found.seconds)} | {hits:.1%} | {target.seconds:g} | "
            f"{verdict(target, found, hits)} | {steps:.1f} | {significant(ideal)} | "
            f"{ideal / found.seconds:.0%} |"
        )
    return "\n".join(lines)


# --- the roofline -------------------------------------------------------------------------------


def passes_of(rows: Rows, count: int = 16) -> Passes:
    """The best of several block sizes, each core working on blocks of its own."""
    smooth = Smoothing(1e-3, 1e-3, 0.5)

    def value(theta: Any, rows: Rows) -> Any:
        return value_function(LAW, OBJECTIVE, rows)(theta)

    def normal(theta: Any, rows: Rows) -> Any:
        seen = normal_equations(LAW, OBJECTIVE, theta, smooth, rows)
        return sum(jax.tree.leaves(seen))  # every part is used, so that none is left out

    blocks = CPU_BLOCKS if on_cpu() else GPU_BLOCKS
    return Passes(*(min(_pass(fn, rows, n, count) for n in blocks) for fn in (value, normal)))


def _pass(fn: Callable[[Any, Rows], Any], rows: Rows, lanes: int, count: int) -> float:
    workers = cores() if on_cpu() else 1
    theta = jnp.asarray(np.random.default_rng(0).normal(size=(lanes, len(LAW.params))) * 0.3)

    @jax.jit
    def repeated(theta: Any, rows: Rows) -> Any:
        def step(_: Any, at: Any) -> Any:  # each pass depends on the last, or it would run once
            return at + 1e-30 * jax.vmap(fn, in_axes=(0, None))(at, rows)[:, None]

        return jax.lax.fori_loop(0, count, step, theta)

    with ThreadPoolExecutor(workers) as pool:

        def work() -> list[Any]:
            return list(
                pool.map(lambda _: jax.block_until_ready(repeated(theta, rows)), range(workers))
            )

        seconds, _ = timed(work)
    return 1e9 * seconds / (workers * lanes * count * len(rows.loss))


# --- RESULTS.md ---------------------------------------------------------------------------------


def machine() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    model = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), "")
    device = "cpu" if on_cpu() else jax.devices()[0].device_kind
    return (
        f"{cores()} cores, {model or platform.processor()}, {device}, "
        f"Python {platform.python_version()}, jax {jax.__version__}, optax {optax.__version__}, "
        f"optimistix {optx.__version__}, SciPy {scipy.__version__}, float64"
    )


def parser_for(doc: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="replace this part of the results")
    parser.add_argument(
        "--results", type=Path, default=HERE / "RESULTS.md", help="file of the results"
    )
    return parser


def publish(heading: str, text: str, options: argparse.Namespace) -> None:
    """Print one part of the results and, if asked, write it."""
    print(text)
    if options.write:
        write_part(heading, text, options.results)


def write_part(heading: str, text: str, path: Path = HERE / "RESULTS.md") -> None:
    """Replace one part of the results, or add it. Those of an accelerator stand beside a CPU's."""
    heading = heading if on_cpu() else f"{heading}, on one GPU"
    parts = path.read_text().split("\n## ")[1:] if path.exists() else []
    kept = {part.split("\n", 1)[0]: part.split("\n", 1)[1].strip() for part in parts}
    kept[heading] = text.strip()
    body = "\n\n".join(f"## {name}\n\n{content}" for name, content in kept.items())
    path.write_text(f"# Results\n\n{body}\n")
