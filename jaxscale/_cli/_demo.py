"""jaxscale demo: how an interval becomes too narrow, on the runs that ship with the package."""

from typing import TYPE_CHECKING, Any

from rich.padding import Padding
from rich.text import Text

from jaxscale._cli import _common as common
from jaxscale._cli._common import out as console

if TYPE_CHECKING:
    import pandas as pd

_LEVEL = 0.8  # of the interval that made the story famous


def demo(seed: common.Seed = 0) -> None:
    """The story of the narrow interval, step by step, on the shipped runs; about a minute.

    A fit that stops early gives a confidence interval that no number of runs could justify. It
    happened to the most cited scaling law; notebook 02 tells that case on its own rows.
    """
    import jax

    from jaxscale._audit import audit
    from jaxscale._bootstrap import bootstrap
    from jaxscale._early_stop import early_stop

    key = jax.random.key(seed)
    fitted, _ = common.fit_file(
        None,
        law="chinchilla",
        columns=common.columns(None),
        duplicates="error",
        drop_top=0,
        delta=1e-3,
        restarts=1024,
        seed=seed,
    )
    assert fitted.runs is not None
    _step(1, "A law is fitted")
    _say(
        f"L = E + A/N^alpha + B/D^beta on {fitted.n_runs} small language models. {fitted.restarts}."
        f" The best model size grows as C^a with a = {float(fitted.derived['a']):.3f}. How sure is "
        "that?"
    )

    _step(2, "A common script answers")
    _say(
        "It resamples the runs, starts from round numbers near last year's estimate, and minimizes "
        "the mean Huber loss with SciPy's default tolerances. At the optimum that mean is "
        f"{float(fitted.value) / fitted.n_runs:.1g}, so that almost any point looks converged."
    )
    begin = {name: float(f"{float(value):.2g}") for name, value in fitted.params.items()}
    stopped = early_stop(fitted, key=key, start=begin)
    common.print_table(_short(stopped.frame()), f"{_LEVEL:.0%} intervals of a", digits=3)
    _say(stopped.sentence)

    _step(3, "Would you have noticed?")
    row = stopped.frame().set_index("minimized").loc["mean"]
    claim = (float(row["median"] - row["width"] / 2), float(row["median"] + row["width"] / 2))
    _say(f"Printed in a paper it reads: a in ({claim[0]:.4f}, {claim[1]:.4f}). The audit says:")
    draws = bootstrap(fitted, key=key)
    for sentence in audit(draws, claimed={"a": claim, "level": _LEVEL}).sentences:
        console.print(Padding(Text(sentence, style="bold"), (0, 0, 0, 2)))

    _step(4, "What to report")
    low, high = draws.interval("a", _LEVEL)
    _say(
        f"The {draws.method} of converged fits: a in ({low:.3f}, {high:.3f}) at {_LEVEL:.0%}. "
        "'jaxscale fit' prints it beside every other kind of interval, 'jaxscale audit' holds a "
        "published one against your runs, and js.calibrate measures how often yours hold."
    )


def _step(number: int, title: str) -> None:
    console.print(f"\n{number}. {title}", style="bold")


def _say(text: str) -> None:
    console.print(Padding(Text(text), (0, 0, 1, 3)))


def _short(table: "pd.DataFrame") -> "pd.DataFrame":
    shown: Any = table[["minimized", "iterations", "a", "excess", "sd", "width"]].copy()
    shown["iterations"] = shown["iterations"].astype(object).where(table["iterations"].notna(), "-")
    return shown.rename(columns={"excess": "excess loss", "sd": "sd of a", "width": "width"})
