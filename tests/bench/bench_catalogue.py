"""Share of restarts that reach the optimum, for every law of the catalogue on its own design.

    python tests/bench/bench_catalogue.py [--restarts 128] [--write] [LAW ...]

How to read the result. Every law is fitted to runs that it generated itself, with noise, on the
realistic design that the tests use too. A restart is a hit if its objective ends within 1e-6 of the
best of all. Parameters are open where such runs do not determine them; the reason is that of the
design. `--write` replaces this part of tests/bench/RESULTS.md.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import catalogue
import jax
from common import machine, parser_for, publish

import jaxscale as js

ENOUGH = 0.9


def row(name: str, restarts: int) -> tuple[float, str]:
    """Hit share of one law, and its line of the table."""
    law, design = js.laws.get(name), catalogue.DESIGNS[name]
    runs, objective = catalogue.simulate(law, seed=0)
    fit = js.fit(law, runs, objective=objective, restarts=restarts, key=jax.random.key(0))
    share = fit.restarts.hit_share
    cells = (
        f"`{name}`", len(runs), len(law.names), f"{share:.0%}", f"{fit.restarts.steps.mean():.0f}",
        ", ".join(design.open), design.reason,
    )  # fmt: skip
    print(*cells, sep="  ", file=sys.stderr)
    return share, f"| {' | '.join(map(str, cells))} |"


def report(options: argparse.Namespace) -> str:
    names = options.laws or js.laws.names()
    rows = [row(name, options.restarts) for name in names]
    enough = sum(share >= ENOUGH for share, _ in rows)
    return "\n".join(
        [
            "Made by `python tests/bench/bench_catalogue.py --write`. "
            f"{options.restarts} restarts of every law on runs it generated itself.",
            f"Machine: {machine()}.",
            "",
            f"{enough} of {len(rows)} laws have at least {ENOUGH:.0%} of their restarts at the "
            "optimum; the last column says why the others, and open parameters, do not.",
            "",
            "| law | runs | parameters | at the optimum (1e-6) | mean steps | open | reason |",
            "|---|---|---|---|---|---|---|",
            *(line for _, line in rows),
        ]
    )


def main() -> None:
    jax.config.update("jax_enable_x64", True)
    parser = parser_for(__doc__)
    parser.add_argument("laws", nargs="*", help="only these")
    parser.add_argument("--restarts", type=int, default=128)
    options = parser.parse_args()
    publish("Catalogue: restarts that reach the optimum", report(options), options)


if __name__ == "__main__":
    main()
