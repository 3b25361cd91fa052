"""For every law: restarts that reach the optimum, and parameters that its runs determine.

    python tests/bench/bench_catalogue.py [--restarts 128] [--write] [LAW ...]

How to read the result. Every law is fitted to runs that it generated itself on the realistic design
that the tests use too, with 1% noise (0.01 where the objective has no log; counts have the noise of
counts). A restart is a hit if its objective ends within 1e-6 of the best of all. A parameter is
recovered if it ends near the truth: the worst of them is given in standard errors. It is not
identified if its standard error, of the log of a positive parameter and of an exponent itself, is
above one half: with it stands the parameter that it trades against. `--write` replaces this part of
tests/bench/RESULTS.md.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import catalogue
import jax
import numpy as np
from common import machine, parser_for, publish

import jaxscale as js

ENOUGH = 0.9
NOISE = 0.01
LOOSE = 0.5


def row(name: str, restarts: int) -> tuple[float, str]:
    """Hit share of one law, and its line of the table."""
    law, design = js.laws.get(name), catalogue.DESIGNS[name]
    runs, objective = catalogue.simulate(law, seed=0, noise=NOISE)
    options = {"restarts": restarts, "key": jax.random.key(0), **design.options}
    fit = js.fit(law, runs, objective=objective, **options)
    share = fit.restarts.hit_share
    worst, loose = recovery(fit, design.params)
    cells = (
        f"`{name}`", len(runs), len(law.names), f"{share:.0%}", f"{fit.restarts.steps.mean():.0f}",
        worst, loose, design.reason,
    )  # fmt: skip
    print(*cells, sep="  ", file=sys.stderr)
    return share, f"| {' | '.join(map(str, cells))} |"


def recovery(fit: js.Fit, truth: dict) -> tuple[str, str]:
    """Worst distance from the truth in standard errors, and what is not identified, in words."""
    names = fit.law.names
    target = fit.law.to_reference(truth, fit.log_refs)
    off = [
        float(free) - float(param.to_free(target[name]))
        for free, (name, param) in zip(fit.free, fit.law.params, strict=True)
    ]
    try:
        covariance = js.laplace(fit, draws=2).covariance
    except js.JaxscaleError as error:
        return "", str(error)
    se = np.sqrt(np.diag(covariance))
    correlation = covariance / np.outer(se, se) - np.eye(len(se))
    loose = []
    for i in np.flatnonzero(~(se < LOOSE)):
        j = int(np.argmax(np.abs(correlation[i])))
        loose.append(f"{names[i]} (±{se[i]:.1f}, with {names[j]} {correlation[i, j]:+.3f})")
    tight = se < LOOSE
    worst = np.max(np.abs(np.array(off) / se)[tight]) if tight.any() else np.nan
    return f"{worst:.1f}", ", ".join(loose)


def report(options: argparse.Namespace) -> str:
    names = options.laws or js.laws.names()
    rows = [row(name, options.restarts) for name in names]
    enough = sum(share >= ENOUGH for share, _ in rows)
    return "\n".join(
        [
            "Made by `python tests/bench/bench_catalogue.py --write`. "
            f"{options.restarts} restarts of every law on runs it generated itself, 1% noise.",
            f"Machine: {machine()}.",
            "",
            f"{enough} of {len(rows)} laws have at least {ENOUGH:.0%} of their restarts at the "
            "optimum; the last column says why the others do not, and why parameters are open. Not "
            "identified: standard error above 0.5, with the parameter it trades against and their "
            "correlation. Worst error: of the parameters that are, in standard errors.",
            "",
            "| law | runs | parameters | at the optimum (1e-6) | mean steps | worst error "
            "| not identified | reason |",
            "|---|---|---|---|---|---|---|---|",
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
