"""Is a published parameter set compatible with these runs?"""

import dataclasses
import decimal
from collections.abc import Mapping
from typing import Any, cast

import jax.numpy as jnp
import numpy as np
import pandas as pd
import scipy

from jaxscale import published
from jaxscale._draws import Draws
from jaxscale._errors import DataError, LawError
from jaxscale._fit import Fit
from jaxscale._law import Law
from jaxscale._refit import count_runs, observations, single_fit
from jaxscale._rounding import Rounding, as_printed, predicted_at, rounding_of
from jaxscale.published import Published

_PLAUSIBLE = 0.7  # times the losses; no law is fitted as badly as that


@dataclasses.dataclass(frozen=True)
class PublishedPoint:
    """A published parameter set held against a fit and its draws.

    Attributes:
        name: how it is called.
        params: the point, as printed.
        n_runs: number of runs it is judged by.
        wald, wald_p: ``d' cov^-1 d``, with d the distance to the fit and cov the covariance of the
            draws, both in the logs of positive parameters; and its chi-square p-value. NaN where
            a parameter lies at the end of its support.
        lr, lr_p: twice the loss of log likelihood against the fit, under the objective's noise
            model with its scale at the maximum-likelihood value for each; and its p-value. Weights
            count relative to their mean.
        df: degrees of freedom of both: the number of parameters.
        objective, optimum: the objective at the point and at the fit.
        median_ratio: median of predicted over observed loss; far from 1 if units differ.
        rounding: what the printed digits leave open, or None if no number has any.
        ends: parameters that lie at the end of their support.
    """

    name: str
    params: dict[str, float]
    n_runs: int
    wald: float
    wald_p: float
    lr: float
    lr_p: float
    df: int
    objective: float
    optimum: float
    median_ratio: float
    rounding: Rounding | None
    ends: tuple[str, ...] = ()

    @property
    def excess(self) -> float:
        """By which share the objective at the point lies above that of the fit."""
        return self.objective / self.optimum - 1 if self.optimum else np.inf

    def frame(self) -> pd.DataFrame:
        """One row per test: statistic, degrees of freedom, p-value."""
        return pd.DataFrame(
            {
                "test": ["Wald", "likelihood ratio"],
                "statistic": [self.wald, self.lr],
                "df": self.df,
                "p": [self.wald_p, self.lr_p],
            }
        )

    @property
    def sentences(self) -> tuple[str, ...]:
        """The findings in plain English."""
        tests = {
            "Wald chi-square": (self.wald, self.wald_p),
            "likelihood ratio": (self.lr, self.lr_p),
        }
        known = {name: pair for name, pair in tests.items() if np.isfinite(pair[1])}
        p = max((p for _, p in known.values()), default=np.nan)
        answer = "reject it" if p < 0.001 else "speak against it" if p < 0.05 else "allow it"
        shown = ", ".join(f"{name} {x:.4g} (p {p:.2g})" for name, (x, p) in known.items())
        judged = f"they {answer}: {shown}, {self.df} degrees of freedom"
        if not known:
            judged = "neither test can be made"
        found = [f"{self.name} {self._quality} on these {self.n_runs} runs; {judged}."]
        if not np.isfinite(self.wald):
            found.append(f"There is no Wald test: {self._why_no_wald}.")
        if not _PLAUSIBLE < self.median_ratio < 1 / _PLAUSIBLE:
            off = f"Its predictions are {self.median_ratio:.2g} times the losses"
            found.append(f"{off}: are the inputs counted in its units?")
        return (*found, *([self.rounding.sentence] if self.rounding else []))

    @property
    def _why_no_wald(self) -> str:
        if not self.ends:
            return "the draws have no finite covariance"
        where = ", ".join(f"{name} = {self.params[name]:g}" for name in self.ends)
        return f"{where} lies at the end of its support, where draws are not normal"

    @property
    def _quality(self) -> str:
        if self.excess < -1e-6:
            return "is better than the fit itself, which therefore missed its optimum,"
        if self.excess < 1e-6:
            return "is as good as the optimum"
        if self.excess < 1:
            return f"is {100 * self.excess:.2g}% worse than the optimum"
        return f"has {1 + self.excess:.2g} times the objective of the optimum"


def published_point(draws: Draws, source: str | Published | Mapping[str, Any]) -> PublishedPoint:
    """Hold a published parameter set against draws; see `PublishedPoint`.

    Args:
        draws: draws around a fit with its runs; more of them than the law has parameters, unless
            the point has a parameter at the end of its support.
        source: a name from `published`, one of its entries, or parameters by name as numbers or as
            strings, which keep trailing zeros ("0.340"). The shortest decimal of a number stands
            for what was printed.

    Raises:
        LawError: if it is a parameter set of another law.
        DataError: for a missing, unreadable or impossible parameter, or too few draws.
    """
    fit, law = draws.fit, draws.law
    name, printed = _read(law, source)
    params = {key: float(text) for key, text in printed.items()}
    runs = single_fit(fit)
    weight = np.asarray(runs.weight, float)
    real, n = weight > 0, count_runs(fit)
    ends = tuple(key for key, p in law.params if params[key] in (p.lower, p.upper))
    wald = np.nan if ends else _wald(draws, params)
    at_point, at_fit = _mean_rho(fit, params), _mean_rho(fit, fit.params)
    nll = fit.objective.profile_nll
    lr = float(2 * observations(fit) * (nll(at_point) - nll(at_fit)))
    df = len(law.params)
    return PublishedPoint(
        name=name,
        params=params,
        n_runs=n,
        wald=wald,
        wald_p=float(scipy.stats.chi2.sf(wald, df)),
        lr=lr,
        lr_p=float(scipy.stats.chi2.sf(lr, df)),
        df=df,
        objective=at_point * weight.sum(),
        optimum=at_fit * weight.sum(),
        median_ratio=float(np.median((np.asarray(predicted_at(fit, params)) / runs.loss)[real])),
        rounding=rounding_of(fit, printed),
        ends=ends,
    )


def coordinates(law: Law, params: Mapping[str, Any]) -> np.ndarray:
    """Parameters on the last axis, the positive ones as logs: where draws are closest to normal."""
    columns = [np.asarray(params[name], float) for name in law.names]
    logs = [p.support == "positive" for _, p in law.params]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.stack([np.log(x) if y else x for x, y in zip(columns, logs, strict=True)], -1)


def _read(law: Law, source: Any) -> tuple[str, dict[str, str]]:
    """What the point is called, and its parameters as printed."""
    entry = published.get(source) if isinstance(source, str) else source
    name, values = "The published point", cast(Mapping[str, Any], entry)
    if isinstance(entry, Published):
        name, values = entry.name, entry.params
        if entry.law != law:
            raise LawError(f"{name!r} is a parameter set of {entry.law.name!r}, not {law.name!r}")
    if set(values) != set(law.names):
        raise DataError(
            f"a published point needs {', '.join(law.names)}; it has {', '.join(values) or 'none'}"
        )
    return name, {key: _checked(law, key, values[key]) for key in law.names}


def _checked(law: Law, name: str, printed: Any) -> str:
    """A parameter as text, inside its support or at the end of it."""
    try:
        text = printed.strip() if isinstance(printed, str) else as_printed(float(printed))
        value = float(decimal.Decimal(text))
    except (TypeError, ValueError, OverflowError, decimal.InvalidOperation):
        raise DataError(f"the published {name} = {printed!r} is not a number") from None
    param = dict(law.params)[name]
    if not (np.isfinite(value) and param.lower <= value <= param.upper):
        raise DataError(
            f"the published {name} = {text} is not inside ({param.lower:g}, {param.upper:g})"
        )
    return text


def _wald(draws: Draws, params: Mapping[str, float]) -> float:
    """Squared distance between the point and the fit, in covariances of the draws."""
    law = draws.law
    each = coordinates(law, draws.params)
    if len(each) <= each.shape[1]:
        raise DataError(f"{len(each)} draws are too few for a covariance of {each.shape[1]}")
    center = coordinates(law, draws.fit.params)
    if draws.center != "fit":
        center = np.median(each, axis=0)
    gap = coordinates(law, params) - center
    with np.errstate(invalid="ignore"):
        covariance = np.cov(each.T).reshape(len(gap), len(gap))
    if not np.isfinite(covariance).all():
        return np.nan
    # Standardized first, so that the rank is judged without regard to units.
    scale = np.sqrt(np.diag(covariance))
    scale = np.where(scale > 0, scale, 1.0)
    inverse = np.linalg.pinv(covariance / np.outer(scale, scale), rcond=1e-12, hermitian=True)
    return float((gap / scale) @ inverse @ (gap / scale))


def _mean_rho(fit: Fit, params: Mapping[str, Any]) -> float:
    runs = single_fit(fit)
    real, weight = np.asarray(runs.weight) > 0, np.asarray(runs.weight, float)
    r = fit.objective.residual(predicted_at(fit, params), jnp.asarray(runs.loss))
    return float(np.average(np.asarray(fit.objective.rho(r))[real], weights=weight[real]))
