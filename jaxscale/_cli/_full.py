"""What ``jaxscale fit --full`` adds: every kind of interval, the posterior, and three lines."""

from typing import TYPE_CHECKING, Any

import numpy as np

from jaxscale._cli import _common as common
from jaxscale._cli._common import out as console
from jaxscale._errors import JaxscaleError

if TYPE_CHECKING:
    import pandas as pd

    from jaxscale._draws import Draws
    from jaxscale._fit import Fit
    from jaxscale._intervals import Intervals

_BEYOND = 100  # times the largest run: the budget that the summary is about
_MOST = 3  # quantities in the table on the screen
_DRAWS = 3000  # per chain


def side_by_side(draws: "Draws", clusters: Any, level: float, seed: int) -> "Intervals":
    """Intervals by every method: curvature, profile, the bootstrap at hand, and the posterior."""
    import jax

    from jaxscale import bayes
    from jaxscale._intervals import intervals

    fitted = draws.fit
    key = jax.random.key(seed + 2)
    posterior = bayes.sample(
        fitted, likelihood=bayes.StudentT(), key=key, draws=_DRAWS, target_accept=common.ACCEPT
    )
    return intervals(
        fitted,
        [*_quantities(fitted), *fitted.law.names],
        key=key,
        level=level,
        methods=["hessian", "HC1", "profile", *(["cluster"] if clusters is not None else [])],
        by=clusters,
        draws=[draws, posterior],
    )


def report(found: "Intervals", draws: "Draws", level: float) -> None:
    """The intervals on the screen, and what they come to in three lines."""
    table = found.frame()
    names = list(dict.fromkeys(table["quantity"]))[:_MOST]
    shown = table[table["quantity"].isin(names)].drop(columns="width").copy()
    shown["ratio"] = _relative(shown, draws.method)
    title = f"{level:.0%} intervals side by side; ratio: width relative to the bootstrap's"
    common.print_table(shown, title, digits=4)
    common.print_notes(tuple(note for note in found.notes if note not in draws.notes))
    console.print("\nIn three lines", style="bold")
    for i, line in enumerate(_lines(found, draws, level), 1):
        console.print(f"{i}. {line}")
    console.print()


def pictures(found: "Intervals") -> dict[str, bytes]:
    """Files about the intervals, by name."""
    import io

    from matplotlib.figure import Figure

    from jaxscale import plot

    figure = Figure(figsize=(13.0, 3.6), layout="constrained")
    plot.intervals(found, ax=figure.subplots())
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=150)
    return {
        "intervals.csv": found.frame().to_csv(index=False).encode(),
        "intervals.png": image.getvalue(),
    }


def _quantities(fitted: "Fit") -> list[Any]:
    """The exponent a, and the best size for a hundred times the compute of the largest run."""
    from jaxscale._quantity import optimal_N

    derived = [name for name, _ in fitted.law.derived if name == "a"]
    if set(fitted.law.inputs) != {"N", "D"}:
        return derived
    return [*derived, optimal_N(_budget(fitted))]


def _budget(fitted: "Fit") -> float:
    assert fitted.runs is not None
    largest = float(np.max(6 * fitted.runs.inputs["N"] * fitted.runs.inputs["D"]))
    return float(f"{_BEYOND * largest:.1e}")


def _relative(shown: "pd.DataFrame", method: str) -> "pd.Series":
    """Widths relative to those of the draws."""
    width = (shown["high"] - shown["low"]).set_axis(shown["quantity"])
    reference = width[(shown["method"] == method).to_numpy()]
    return (width / reference.reindex(width.index)).set_axis(shown.index)


def _lines(found: "Intervals", draws: "Draws", level: float) -> list[str]:
    fitted = draws.fit
    first = f"{fitted.restarts.hit_share:.1%} of {len(fitted.restarts):,} restarts agree"
    return [
        f"{first}; {_worth(found, draws, level)}.",
        _frontier(draws, level),
        _narrowest(found, draws),
    ]


def _worth(found: "Intervals", draws: "Draws", level: float) -> str:
    quantity = str(found.frame()["quantity"].iloc[0])
    low, high = found[quantity, draws.method]
    middle = float(draws.frame(level).set_index("quantity")["estimate"].get(quantity, np.nan))
    verdict = "" if draws.fit.verdict.ok else "; the fit is in doubt, see the verdict"
    return f"{quantity} = {middle:.3g} ({low:.3g} to {high:.3g}){verdict}"


def _frontier(draws: "Draws", level: float) -> str:
    from jaxscale._allocate import allocate

    if set(draws.law.inputs) != {"N", "D"}:
        return "The law is not one in N and D, so there is no compute-optimal size."
    budget = _budget(draws.fit)
    try:
        best = allocate(draws, flop=budget, level=level)
    except JaxscaleError as error:
        return f"No compute-optimal size: {error}"
    low, high = (float(end) for end in best.bands["N"])
    return (
        f"{_BEYOND} times the compute of the largest run, {budget:.2g} FLOPs, would best go to "
        f"N = {float(best.N):.3g} ({low:.3g} to {high:.3g}) on {float(best.D):.3g} tokens."
    )


def _narrowest(found: "Intervals", draws: "Draws") -> str:
    table = found.frame()
    quantity = table["quantity"].iloc[0]
    rows = table[table["quantity"] == quantity].set_index("method")
    ratio = ((rows["high"] - rows["low"]) / (rows["high"] - rows["low"])[draws.method]).dropna()
    name, least = str(ratio.idxmin()), float(ratio.min())
    if least > 0.9:
        return f"Every method gives {quantity} about the same interval; report the {draws.method}."
    return (
        f"The {name} interval of {quantity} is {least:.2f} times as wide as that of the "
        f"{draws.method}: it trusts a noise model that these runs need not follow. Report the "
        f"{draws.method}."
    )
