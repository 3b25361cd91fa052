"""correction_path(): how exponents move as a protocol is corrected, one step after another."""

import dataclasses
import html
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import pandas as pd

from jaxscale._agree import agree
from jaxscale._approach import Approach
from jaxscale._draws import tails
from jaxscale._errors import DataError
from jaxscale._isoflop import isoflop
from jaxscale._runs import Runs


@dataclasses.dataclass(frozen=True)
class CorrectionPath:
    """Exponents along a sequence of corrections; see `correction_path`.

    Attributes:
        approaches: the estimate of every step, by name, in order.
        level: probability content of the intervals.
    """

    approaches: dict[str, Approach]
    level: float

    def frame(self) -> pd.DataFrame:
        """One row per step: step, a with its interval, its change from the step before likewise.

        Also b, the range of tokens per parameter at the optima, and the number of budgets used.
        """
        rows: list[dict[str, Any]] = []
        before: Approach | None = None
        for name, now in self.approaches.items():
            exponent = now.exponents(self.level).iloc[0]
            used = now.points[now.points["used"]]
            change = None if before is None else _change(before, now, self.level)
            rows.append(
                {
                    "step": name,
                    "a": now.a,
                    "a_low": exponent.get("low", np.nan),
                    "a_high": exponent.get("high", np.nan),
                    "change": np.nan if change is None else change[0],
                    "change_low": np.nan if change is None else change[1],
                    "change_high": np.nan if change is None else change[2],
                    "b": now.b,
                    "tokens_per_parameter_low": used["tokens_per_parameter"].min(),
                    "tokens_per_parameter_high": used["tokens_per_parameter"].max(),
                    "budgets": len(used),
                }
            )
            before = now
        return pd.DataFrame(rows)

    def __repr__(self) -> str:
        table = self.frame().to_string(index=False, float_format=lambda x: f"{x:.4g}")
        return f"Exponents step by step ({self.level:.0%} intervals)\n{table}"

    def _repr_html_(self) -> str:
        table = self.frame().to_html(index=False, float_format=lambda x: f"{x:.4g}")
        return f"<b>{html.escape('Exponents step by step')}</b> ({self.level:.0%}){table}"


def correction_path(
    steps: Mapping[str, Runs | Approach],
    *,
    key: jax.Array | None = None,
    approach: Callable[..., Approach] = isoflop,
    level: float = 0.95,
    **options: Any,
) -> CorrectionPath:
    """a_1, a_2 - a_1, a_3 - a_2, ...: what every correction of a protocol does to the exponent.

    Kaplan et al. found a = 0.73 and Hoffmann et al. 0.50; Porian et al. went from one to the other
    by four corrections. Any sequence of tables will do: other ways to count parameters, other
    learning rates, other data.

    Args:
        steps: runs, or approaches that are made already, by the name of the step, in order.
        key: JAX random key, for steps that are runs.
        approach: how runs become exponents: `isoflop`, `envelope`, or a function of your own that
            takes runs and ``key``.
        level: probability content of the intervals.
        **options: passed to `approach`.

    Raises:
        DataError: for no steps, or runs without a key.

    Source: Porian et al. 2024, arXiv 2406.19146.

    Example:
        >>> correction_path({"Kaplan": first, "with the head": second}, key=key, method="akima")
    """
    tails(level)
    if not steps:
        raise DataError("give at least one step, such as {'Kaplan': runs}")
    made = {}
    for name, step in steps.items():
        if isinstance(step, Approach):
            made[name] = step
        elif key is None:
            raise DataError(f"step {name!r} is a table of runs: give key= to estimate its exponent")
        else:
            made[name] = approach(step, key=key, **options)
    return CorrectionPath(made, level)


def _change(before: Approach, now: Approach, level: float) -> tuple[float, float, float] | None:
    """Difference of the exponents with its interval, from common resamples where there are any."""
    if not (before.draws and now.draws):
        return now.a - before.a, np.nan, np.nan
    row = agree(now, before, level=level).table.iloc[0]
    return float(row["estimate"]), float(row["low"]), float(row["high"])
