"""How the cost of `js.fit` grows: with rows, restarts, parameters and devices; and where it goes.

Every point is a process of its own, so that its peak memory is its own: it fits once to compile,
and then again for the clock. LogHuber(1e-3), float64, runs simulated with 1% log noise on N and D
drawn log-uniformly, except for restarts and the profile, which are on the 240 Chinchilla rows.

    python tests/bench/bench_scale.py [--only rows restarts ...] [--rows 240 ...] [--write]

How to read the result. The unit of work is one restart taking one step over one row; its
nanoseconds should not grow along a table. They fall from the smallest sizes on, as fixed costs
spread, and differ between laws by the work that a law is. `growth` is the exponent of the cost
between a size and the one before: 1 is linear. Peak memory is that of the whole process, imports
and compiler included. `--write` replaces this part of tests/bench/RESULTS.md.
"""

import argparse
import cProfile
import inspect
import itertools
import json
import math
import os
import pstats
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from common import (
    LAW,
    OBJECTIVE,
    SLOW,
    load,
    machine,
    parser_for,
    publish,
    seconds_of,
    significant,
    timed,
)

import jaxscale as js

MOST_MEMORY = 4.0  # GiB, for a million restarts
WARM_RESTARTS = 20_000
Point = dict[str, Any]


# --- problems -----------------------------------------------------------------------------------


def power_terms(count: int) -> js.Law:
    """L = E + sum_i A_i x_i^-alpha_i, a law with 1 + 2 count parameters."""
    inputs = [f"x{i}" for i in range(count)]

    def fn(*values: Any, E: Any, **params: Any) -> Any:
        terms = (
            params[f"A{i}"] * jax.numpy.exp(-params[f"alpha{i}"] * jax.numpy.log(x))
            for i, x in enumerate(values)
        )
        return E + sum(terms)

    names = ["E", *itertools.chain(*((f"A{i}", f"alpha{i}") for i in range(count)))]
    # `js.law` reads inputs and parameters off the signature.
    fn.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(x, inspect.Parameter.POSITIONAL_OR_KEYWORD) for x in inputs]
        + [inspect.Parameter(x, inspect.Parameter.KEYWORD_ONLY) for x in names]
    )
    params: dict[str, Any] = {"E": js.positive(0.3, 1.0, unit="loss")}
    for i in range(count):
        params[f"A{i}"] = js.positive(0.3, 1.0, unit=f"loss * x{i}**alpha{i}")
        params[f"alpha{i}"] = js.real(0.1, 1.0)
    return js.law(name=f"power_terms_{count}", **params)(fn)


def simulated(law: js.Law, rows: int) -> js.Runs:
    """Log-uniform inputs over three decades, every term alive, 1% log noise."""
    rng = np.random.default_rng(0)
    inputs: dict[str, Any] = {name: 10 ** rng.uniform(7, 10, rows) for name in law.inputs}
    reference = {name: np.log(x).mean() for name, x in inputs.items()}
    middle = {name: 0.35 if "alpha" in name or "beta" in name else 0.5 for name in law.names}
    truth = law.to_physical(middle, {**reference, "loss": 0.0})
    loss = np.asarray(law(*inputs.values(), **truth)) * np.exp(0.01 * rng.normal(size=rows))
    return js.Runs.from_arrays(loss=loss, duplicates="keep", **inputs)


# --- one point, in a process of its own ---------------------------------------------------------


def measure(point: Point) -> Point:
    """Seconds, total steps and peak memory of one fit."""
    jax.config.update("jax_enable_x64", True)
    law = power_terms((point["parameters"] - 1) // 2) if "parameters" in point else LAW
    runs = simulated(law, point["rows"]) if "rows" in point else load()
    settings: dict[str, Any] = {}
    if point.get("devices"):
        devices = np.array(jax.devices()[: point["devices"]])
        settings["mesh"] = jax.sharding.Mesh(devices, ("restarts",))

    def work(restarts: int) -> js.Fit:
        return js.fit(
            law,
            runs,
            objective=OBJECTIVE,
            restarts=restarts,
            key=jax.random.key(0),
            show_progress=False,
            **settings,
        )

    seconds, fit = timed_at(work, point["restarts"])
    return {
        **point,
        "seconds": seconds,
        "steps": int(np.sum(fit.restarts.steps)),
        "rows": len(runs),
        "hits": fit.restarts.hit_share,
        "memory": peak_gib(),
        "device_memory": device_gib(),
    }


def timed_at(work: Callable[[int], js.Fit], restarts: int) -> tuple[float, js.Fit]:
    """Median warm seconds; a long fit runs once, after a shorter one has compiled its program."""
    if restarts > 2 * WARM_RESTARTS:
        first, _ = seconds_of(lambda: work(WARM_RESTARTS))
        if first * restarts / WARM_RESTARTS > SLOW:
            return seconds_of(lambda: work(restarts))
    return timed(lambda: work(restarts))


def peak_gib() -> float:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def device_gib() -> float | None:
    """Peak memory of the accelerator, where it keeps count."""
    stats = jax.devices()[0].memory_stats() or {}
    return stats["peak_bytes_in_use"] / 2**30 if "peak_bytes_in_use" in stats else None


def apart(point: Point) -> Point:
    """`measure` in a fresh process."""
    environment = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    if "devices" in point:
        more = "--xla_force_host_platform_device_count=8"
        environment["XLA_FLAGS"] = f"{environment.get('XLA_FLAGS', '')} {more}".strip()
        environment["JAX_PLATFORMS"] = "cpu"
    arguments = [sys.executable, __file__, "--point", json.dumps(point)]
    done = subprocess.run(arguments, env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"the process for {point} failed")
    found: Point = json.loads(done.stdout.splitlines()[-1])
    print(found, file=sys.stderr, flush=True)
    return found


# --- tables -------------------------------------------------------------------------------------


def nanoseconds(found: Point) -> float:
    """Per restart, row and step."""
    return float(1e9 * found["seconds"] / (found["steps"] * found["rows"]))


def table(points: list[Point], name: str) -> str:
    lines = [
        f"| {name} | seconds | mean steps | ns per restart x row x step | growth "
        "| at the optimum | peak memory, GiB |",
        "|---|---|---|---|---|---|---|",
    ]
    for before, each in zip([None, *points], points, strict=False):
        lines.append(
            f"| {f'{each[name]:,}' if each[name] else 'none'} | {significant(each['seconds'])} | "
            f"{each['steps'] / each['restarts']:.1f} | {nanoseconds(each):.3g} | "
            f"{growth(before, each)} | {each['hits']:.1%} | {memory(each)} |"
        )
    return "\n".join(lines)


def growth(before: Point | None, found: Point) -> str:
    """Exponent of the seconds in the work (restarts x rows x steps)."""
    if before is None:
        return ""
    ratio = found["steps"] * found["rows"] / (before["steps"] * before["rows"])
    if 0.5 < ratio < 2:  # of laws and devices, which do about the same work
        return ""
    return f"{math.log(found['seconds'] / before['seconds']) / math.log(ratio):.2f}"


def memory(found: Point) -> str:
    device = found["device_memory"]
    return f"{found['memory']:.2f}" + (f" + {device:.2f} on the device" if device else "")


def by_rows(options: argparse.Namespace) -> str:
    points = [apart({"rows": n, "restarts": options.few}) for n in options.rows]
    return f"Rows, {options.few} restarts:\n\n{table(points, 'rows')}"


def by_restarts(options: argparse.Namespace) -> str:
    points = [apart({"restarts": n}) for n in options.restarts]
    return f"Restarts, on the 240 rows:\n\n{table(points, 'restarts')}\n\n{memory_verdict(points)}"


def memory_verdict(points: list[Point]) -> str:
    last = points[-1]
    if last["restarts"] != 1_000_000:
        return f"Memory is not judged: {last['restarts']:,} restarts, not 1,000,000."
    used = last["memory"]
    words = "met" if used < MOST_MEMORY else f"MISSED by a factor {used / MOST_MEMORY:.1f}"
    return f"Target for 1,000,000 restarts: less than {MOST_MEMORY:g} GiB: {used:.2f}, {words}."


def by_parameters(options: argparse.Namespace) -> str:
    counts = [p for p in range(3, 12, 2) if p <= options.parameters]
    points = [
        apart({"parameters": p, "rows": 240, "restarts": options.restarts_elsewhere})
        for p in counts
    ]
    words = "Parameters, as sums of power terms in (p - 1) / 2 inputs: 240 simulated rows"
    return f"{words}, {options.restarts_elsewhere:,} restarts:\n\n{table(points, 'parameters')}"


def by_devices(options: argparse.Namespace) -> str:
    if "mesh" not in inspect.signature(js.fit).parameters:
        return "Devices: `js.fit` takes no mesh here."
    points = [
        apart({"devices": n, "restarts": options.restarts_elsewhere}) for n in (0, 1, 2, 4, 8)
    ]
    words = (
        "Devices, as a mesh over some of 8 virtual ones on the same cores; `none` has no mesh: the "
        f"240 rows, {options.restarts_elsewhere:,} restarts"
    )
    return f"{words}:\n\n{table(points, 'devices')}"


# --- profile ------------------------------------------------------------------------------------


def profile(options: argparse.Namespace) -> str:
    """Where the seconds of one warm fit go: what `js.fit` calls itself, and the rest."""
    jax.config.update("jax_enable_x64", True)
    runs, key = load(), jax.random.key(0)

    def work() -> js.Fit:
        return js.fit(
            LAW,
            runs,
            objective=OBJECTIVE,
            restarts=options.restarts_elsewhere,
            key=key,
            show_progress=False,
        )

    work()
    profiler = cProfile.Profile()
    profiler.runcall(work)
    entries = pstats.Stats(profiler).stats  # type: ignore[attr-defined]
    root = next(x for x in entries if x[2] == "fit" and Path(x[0]).name == "_fit.py")
    total = entries[root][3]
    parts = [(name, seconds) for name, seconds in called_by(entries, root) if seconds > 1e-4]
    lines = [
        f"| `{name}` | {1e3 * seconds:.1f} | {seconds / total:.1%} |" for name, seconds in parts
    ]
    return "\n".join(
        [
            f"Where the {1e3 * total:.0f} ms of a fit of {options.restarts_elsewhere:,} restarts "
            "go, by cProfile: what `js.fit` calls.",
            "",
            "| called | ms | share |",
            "|---|---|---|",
            *lines,
        ]
    )


def called_by(entries: dict[Any, Any], caller: Any) -> list[tuple[str, float]]:
    """Names and cumulative seconds of what a function calls, the longest first.

    A comprehension or a generator is no part of anybody's vocabulary: its calls stand for it.
    """
    found: list[tuple[str, float]] = []
    for function, (_, _, _, _, callers) in entries.items():
        if caller not in callers or function == caller:
            continue
        if function[2] in ("<listcomp>", "<genexpr>", "<dictcomp>"):
            found += called_by(entries, function)
        else:
            place = Path(function[0]).stem
            name = function[2] if place in ("~", "") else f"{place}.{function[2]}"
            found.append((name, callers[caller][3]))
    return sorted(found, key=lambda each: -each[1])


SECTIONS: dict[str, Callable[[argparse.Namespace], str]] = {
    "rows": by_rows,
    "restarts": by_restarts,
    "parameters": by_parameters,
    "devices": by_devices,
    "profile": profile,  # last: from here on this process uses the accelerator itself
}


def main() -> None:
    parser = parser_for(__doc__)
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS), default=list(SECTIONS))
    parser.add_argument(
        "--rows", type=int, nargs="+", default=[240, 2_400, 24_000, 240_000, 1_000_000]
    )
    parser.add_argument("--few", type=int, default=64, help="restarts in the table of rows")
    parser.add_argument(
        "--restarts", type=int, nargs="+", default=[1_000, 10_000, 100_000, 1_000_000]
    )
    parser.add_argument("--parameters", type=int, default=11, help="at most so many")
    parser.add_argument(
        "--restarts-elsewhere", type=int, default=10_000, help="parameters, devices, profile"
    )
    parser.add_argument("--point", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.point:
        print(json.dumps(measure(options.point)))
        return
    chosen = [section for name, section in SECTIONS.items() if name in options.only]
    text = "\n\n".join(section(options) for section in chosen)
    made = "Made by `python tests/bench/bench_scale.py --write`. Warm times of `js.fit`."
    publish("Scale", f"{made}\nMachine: {machine()}.\n\n{text}", options)


if __name__ == "__main__":
    main()
