"""Laws of one input on the 92 learning curves of Alabdulmohsin et al. 2022.

    python tests/bench/bench_curves.py [--write] [LAW ...]

How to read the result. Every law is fitted by least squares in logs to the part of each curve that
the authors train on, all curves as one batch, and predicts the rest. The error is theirs: the root
mean square of log predicted over measured loss, averaged over the curves of a domain, with the
median in brackets. Rows that occur twice are used once. `--write` replaces this part of
tests/bench/RESULTS.md.
"""

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import jax
import numpy as np
from common import machine, parser_for, publish
from test_laws_curves import benchmark

import jaxscale as js

# The authors' M1 to M4, and one break; restarts.
LAWS = {
    "power_law": 32,
    "power_law_offset": 32,
    "shifted_power_law": 32,
    "saturating_power_law": 12,
    "bnsl_1": 24,
}
DOMAINS = {"IC": "image classification", "NMT": "translation", "LM": "language", "BB": "BIG-bench"}


def row(name: str) -> str:
    begun = time.perf_counter()
    fit, error = benchmark(js.laws.get(name), LAWS[name])
    seconds = time.perf_counter() - begun
    shares = [fit[curve].restarts.hit_share for curve in error.index]
    by = error.groupby([curve.split("|")[0] for curve in error.index])
    mean, median = by.mean(), by.median()
    cells = [f"{mean[d]:.4f} ({median[d]:.4f})" for d in DOMAINS]
    print(name, *cells, f"{seconds:.0f} s", sep="  ", file=sys.stderr)
    reached = f"{np.mean(np.array(shares) > 0.5):.0%}"
    return f"| `{name}` | {' | '.join(cells)} | {LAWS[name]} | {reached} |"


def report(options: argparse.Namespace) -> str:
    return "\n".join(
        [
            "Made by `python tests/bench/bench_curves.py --write`: root mean square log error of "
            "the extrapolation, mean (median) over the curves of a domain.",
            f"Machine: {machine()}.",
            "",
            f"| law | {' | '.join(DOMAINS.values())} | restarts | curves on which most agree |",
            "|---|---|---|---|---|---|---|",
            *(row(name) for name in options.laws or LAWS),
        ]
    )


def main() -> None:
    jax.config.update("jax_enable_x64", True)
    parser = parser_for(__doc__)
    parser.add_argument("laws", nargs="*", help="only these")
    options = parser.parse_args()
    publish("Learning curves: extrapolation by five laws", report(options), options)


if __name__ == "__main__":
    main()
