"""What a decision is made from: a fit, draws around it, or published parameters."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxscale._bands import finite_draws
from jaxscale._draws import Draws, as_draws
from jaxscale._errors import DataError, FitError
from jaxscale._fit import Fit
from jaxscale._law import Law
from jaxscale._traced import is_traced
from jaxscale._verdict import Finding
from jaxscale.published import Published

# Logs of a model of 1e9 parameters and 20 tokens for each, where nothing says what was trained.
_MIDDLE = (float(np.log(1e9)), float(np.log(2e10)))
_MEANINGLESS = ("nonfinite", "not_identified", "term_dead", "at_bound")


@dataclasses.dataclass(frozen=True)
class Source:
    """What a decision is made from.

    Attributes:
        law: the law.
        params: the parameters that stand in the middle.
        fit: the fit, or None for published parameters.
        draws: the draws, or None.
    """

    law: Law
    params: Mapping[str, Any]
    fit: Fit | None
    draws: Draws | None

    @property
    def ranges(self) -> dict[str, tuple[Any, Any]]:
        """Lowest and highest value of every input seen, or empty if it is not known."""
        return {} if self.fit is None else self.fit.ranges

    @property
    def middle(self) -> tuple[float, float]:
        """Log of the geometric middle of the sizes and tokens seen."""
        if not {"N", "D"} <= self.ranges.keys():
            return _MIDDLE
        ends = [np.log(np.asarray(self.ranges[name], float)) for name in ("N", "D")]
        return float(ends[0].mean()), float(ends[1].mean())

    @property
    def one(self) -> dict[str, Any]:
        """The parameters as a single draw, shape (1,)."""
        return {name: jnp.asarray(value, float)[None] for name, value in self.params.items()}

    def with_draws(self, draws: Draws) -> dict[str, Any]:
        """The parameters in the middle and those of all finite draws, shape (1 + draws,).

        One array, because every shape is compiled anew.
        """
        params, _, _ = finite_draws(draws)
        return {name: jnp.concatenate([self.one[name], params[name]]) for name in self.law.names}


def source_of(source: Any, force: bool = False) -> Source:
    """A fit of one data set, draws, a result with draws, or published parameters.

    Raises:
        DataError: for anything else, or a stack of fits.
        FitError: for draws that are in doubt, without `force`.
    """
    if isinstance(source, Published):
        return Source(source.law, source.params, None, None)
    draws = as_draws(source)
    fit = source if draws is None else draws.fit
    if fit.sets is not None:
        raise DataError(f"choose one data set first, such as fit[{fit.sets[0]!r}]")
    if draws is not None and draws.doubt and not force:
        raise FitError(f"{draws.doubt.rstrip('.')}; pass force=True to allocate all the same")
    return Source(fit.law, fit.params, fit, draws)


def refuse_meaningless(
    source: Source, answer: Callable[[Mapping[str, Any]], Any], force: bool
) -> None:
    """Refuse an answer that hangs on a parameter which the runs leave open.

    What does not move the answer, such as a floor without meaning, is no reason to refuse it.
    Draws with a middle of their own (posteriors) carry what is open themselves.

    Args:
        source: what the decision is made from.
        answer: sizes for many sets of parameters, shape (sets, ...).
        force: do not refuse.

    Raises:
        FitError: saying what the verdict on the fit found.
    """
    if force or source.fit is None or is_traced(*source.params.values()):
        return
    if source.draws is not None and source.draws.center != "fit":
        return
    findings = [f for f in source.fit.verdict.findings if f.code in _MEANINGLESS]
    for finding in findings:
        names = finding.names or source.law.names
        if finding.code == "nonfinite" or _moves(source, answer, names):
            raise FitError(_refusal(finding))


def _moves(source: Source, answer: Callable[..., Any], names: tuple[str, ...]) -> bool:
    base = {name: float(value) for name, value in source.params.items()}
    rows = [base, *({**base, name: base[name] * 1.001} for name in names)]
    many = {name: jnp.asarray([row[name] for row in rows]) for name in source.law.names}
    found = np.asarray(answer(many)).reshape(len(rows), -1)
    return not bool((np.abs(found[1:] / found[0] - 1) < 1e-6).all())


def _refusal(finding: Finding) -> str:
    return (
        f"this fit cannot say what is best: {finding.sentence.rstrip('.')}; pass force=True to "
        "go on all the same"
    )
