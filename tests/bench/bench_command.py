"""Cold process to fitted table: `python -m jaxscale fit`, with its estimates, tables and picture.

The command on the 240 Chinchilla rows with its 1,024 restarts: once with an empty compilation
cache, then several times with the cache that the first left behind, of which the median counts.

    python tests/bench/bench_command.py [--repeats 3] [--restarts 1024] [--write]

How to read the result. The seconds are those of a whole process, as a user waits for them, with
warm disk caches. The second table says where they go: imports by package, each with the modules
that it is the first to need left to their own packages, then what the command does itself. Timing
imports and calls costs some time too, so that the parts add up to a little more than the whole.
`--write` replaces this part of tests/bench/RESULTS.md.
"""

import argparse
import collections
import os
import pstats
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import chinchilla_csv, machine, on_cpu, parser_for, publish

TARGET_EMPTY, TARGET_WARM = 15.0, 6.0
IMPORT = re.compile(r"import time:\s*(\d+) \|\s*\d+ \| +(\S+)$")
# Calls of the command, by folder, file and function. What they import is among the imports too.
PHASES = {
    ("_cli", "_common.py", "prepare_jax"): "settings of JAX",
    ("jaxscale", "_runs.py", "read_csv"): "reading the table",
    ("jaxscale", "_fit.py", "fit"): "js.fit",
    ("jaxscale", "_allocate.py", "allocate"): "js.allocate",
    ("plot", "_fit.py", "summary"): "js.plot.summary",
    ("matplotlib", "figure.py", "savefig"): "saving the picture",
    ("jaxscale", "_save.py", "to_json"): "fit.json",
}


class Command:
    """The command in a folder of its own, where it keeps its compiled programs."""

    def __init__(self, folder: Path, restarts: int):
        self.folder = folder
        self.arguments = [
            "-m", "jaxscale", "fit", str(chinchilla_csv()), "--loss", "loss_nats",
            "--drop-top", "5", "--restarts", str(restarts), "--out", str(folder / "out"),
        ]  # fmt: skip
        self.environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(folder / "cache")}

    def run(self, *options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *options, *self.arguments],
            env=self.environment,
            check=True,
            capture_output=True,
            text=True,
        )

    def seconds(self) -> float:
        began = time.perf_counter()
        self.run()
        return time.perf_counter() - began

    def cached_bytes(self) -> int:
        return sum(x.stat().st_size for x in (self.folder / "cache").rglob("*") if x.is_file())


def imports(command: Command, most: int = 10) -> dict[str, float]:
    """Seconds spent in the modules of each package, the largest first, and the rest."""
    spent = collections.Counter[str]()
    for line in command.run("-X", "importtime").stderr.splitlines():
        if found := IMPORT.match(line):
            spent[_package(found[2])] += int(found[1])
    ranked = spent.most_common()
    table = {f"import {name}": 1e-6 * time for name, time in ranked[:most]}
    table["import the rest"] = 1e-6 * sum(time for _, time in ranked[most:])
    return {"all imports": 1e-6 * spent.total(), **table}


def _package(module: str) -> str:
    top = module.split(".")[0]
    if top in sys.stdlib_module_names:
        return "Python's own"
    return {"jaxlib": "jax", "mpl_toolkits": "matplotlib", "_virtualenv": "Python's own"}.get(
        top, top
    )


def phases(command: Command) -> dict[str, float]:
    """Seconds in the calls of the command, by the profiler."""
    stats = command.folder / "stats"
    command.run("-m", "cProfile", "-o", str(stats))
    found: dict[str, float] = {}
    entries = pstats.Stats(str(stats)).stats  # type: ignore[attr-defined]
    for (file, _, name), (_, _, _, cumulative, _) in entries.items():
        if words := PHASES.get((Path(file).parent.name, Path(file).name, name)):
            found[words] = cumulative
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def bare_python() -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return time.perf_counter() - began


def judged(seconds: float, target: float, restarts: int) -> str:
    if not on_cpu():
        return "| |"
    if restarts != 1024:
        return f"| {target:g} | not judged: {restarts:,} restarts |"
    missed = seconds > target
    factor = max(seconds / target, target / seconds)
    return f"| {target:g} | {'MISSED' if missed else 'met'} by a factor {factor:.1f} |"


def report(options: argparse.Namespace) -> str:
    with tempfile.TemporaryDirectory() as name:
        # The first process of all reads Python's modules from disk, and may compile them.
        (spare := Path(name, "spare")).mkdir()
        Command(spare, restarts=16).run()
        command = Command(Path(name), options.restarts)
        first = command.seconds()
        again = statistics.median(command.seconds() for _ in range(options.repeats))
        size = command.cached_bytes()
        parts = {"Python itself": bare_python(), **imports(command), **phases(command)}
    return "\n".join(
        [
            "Made by `python tests/bench/bench_command.py --write`. `python -m jaxscale fit` "
            f"with {options.restarts:,} restarts, a picture and tables: whole processes.",
            f"Machine: {machine()}.",
            "",
            "| compilation cache | seconds | target on 2 CPU cores, s | verdict |",
            "|---|---|---|---|",
            f"| empty | {first:.1f} {judged(first, TARGET_EMPTY, options.restarts)}",
            f"| warm ({size / 1e6:.1f} MB; median of {options.repeats}) | {again:.1f} "
            f"{judged(again, TARGET_WARM, options.restarts)}",
            "",
            "Where the seconds of a warm one go, imports by `-X importtime` and calls by "
            "cProfile (which slows them down):",
            "",
            "| part | seconds |",
            "|---|---|",
            *(f"| {part} | {seconds:.2f} |" for part, seconds in parts.items()),
        ]
    )


def main() -> None:
    parser = parser_for(__doc__)
    parser.add_argument("--repeats", type=int, default=3, help="processes with a warm cache")
    parser.add_argument("--restarts", type=int, default=1024)
    options = parser.parse_args()
    publish("The command: cold process to fitted table", report(options), options)


if __name__ == "__main__":
    main()
