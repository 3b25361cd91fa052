"""Likelihood-ratio tests: is a law that contains another one worth its further parameters?"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy

from jaxscale._criteria import incomparable
from jaxscale._errors import DataError, FitError, JaxscaleError, LawError
from jaxscale._fit import Fit, fit as fit_law
from jaxscale._identify import elasticities
from jaxscale._law import Law, physical_params
from jaxscale._objective import LogGaussian
from jaxscale._reference import log_references, reference_rows
from jaxscale._refit import count_runs, fit_rows, observations, refit_sets, single_fit
from jaxscale._runs import Runs
from jaxscale._simulate import simulator
from jaxscale._starts import sobol

# Losses of the smaller law that the larger one must reproduce, to so much of their size.
_TARGETS = 3
_EXACT = 1e-6
_MOST_RUNS = 64
_RESTARTS = 128
_JITTER = 0.3
# Share of the loss below which a term is as good as absent.
_GONE = 1e-3
_COLD_STARTS = 8


@dataclasses.dataclass(frozen=True)
class Nesting:
    """Where in the larger law the smaller one lies.

    Attributes:
        boundary: parameters of the larger law at the end of their support there, such as a floor
            of zero.
        undefined: parameters that have no effect there, such as the exponent of a term of zero.
    """

    boundary: tuple[str, ...] = ()
    undefined: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class LikelihoodRatio:
    """Test of a law against a larger one that contains it; see `likelihood_ratio`.

    Attributes:
        small, large: what the laws are called.
        statistic: twice the log likelihood ratio, at least 0.
        df: further parameters of the larger law.
        p_value: probability of so large a statistic if the smaller law is true; NaN if its
            distribution is not known.
        distribution: what the p-value rests on, in words.
        nesting: where in the larger law the smaller one lies, or None if that was only declared.
    """

    small: str
    large: str
    statistic: float
    df: int
    p_value: float
    distribution: str
    nesting: Nesting | None = None

    def sentence(self, level: float = 0.95) -> str:
        """What the test says at a level of confidence."""
        numbers = f"2 log ratio {self.statistic:.3g} for {self.df} more parameters"
        if np.isnan(self.p_value):
            return f"{self.small} lies in {self.large} ({numbers}): {self.distribution}."
        said = f"({numbers}, p = {self.p_value:.2g}, {self.distribution})"
        if self.p_value < 1 - level:
            return f"{self.large} fits better than {self.small}, which it contains {said}."
        return (
            f"The runs do not ask for {self.large} beyond {self.small}, which it contains {said}."
        )


def likelihood_ratio(
    small: Fit,
    large: Fit,
    *,
    names: tuple[str, str] | None = None,
    nesting: Nesting | None = None,
    sims: int = 0,
    key: jax.Array | None = None,
) -> LikelihoodRatio:
    """LR = 2 (log L_large - log L_small), compared to what it is if the smaller law is true.

    Inside the parameters of the larger law that is chi-square with the number of its further
    parameters as degrees of freedom. The statistic is first multiplied by
    ``(n - p - 1 + df / 2) / n``, Bartlett's correction, exact to second order for least squares,
    where the scale of the noise is estimated. If the smaller law lies where one parameter of the
    larger one is at the end of its support, such as ``E = 0``, that one counts in half of the
    cases only: the p-value is the mean of those for df - 1 and for df. If several do, the p-value
    for df is given, which is then too large. Where other parameters lose their meaning there, no
    chi-square holds, and only simulation gives a p-value.

    Args:
        small, large: fits of the same runs with the same objective.
        names: what to call the laws; default their names.
        nesting: where the smaller law lies in the larger one; default what `find_nesting` finds.
        sims: number of tables to simulate from the smaller law, with its residuals drawn anew, and
            to fit by both; 0 for the chi-square. It takes the noise as it is, not as the
            objective has it.
        key: JAX random key of the simulation.

    Raises:
        DataError: for fits that do not compare, or a simulation without a key.
        LawError: if the larger law does not contain the smaller one.

    Source: Wilks 1938; Bartlett 1937; Self & Liang 1987, doi 10.1080/01621459.1987.10478472
    (boundary); Davies 1987, doi 10.1093/biomet/74.1.33 (parameters without meaning).

    Example:
        >>> likelihood_ratio(tied, free).p_value
    """
    names = (small.law.name, large.law.name) if names is None else names
    reason = incomparable(dict(zip(("the smaller", "the larger"), (small, large), strict=True)))
    if reason:
        raise DataError(reason)
    if len(small.law.params) >= len(large.law.params):
        raise LawError(f"{names[1]} has no more parameters than {names[0]}: neither is larger")
    nesting = find_nesting(small, large) if nesting is None else nesting
    if nesting is None:
        raise LawError(f"{names[1]} does not contain {names[0]}: it cannot give its losses exactly")
    statistic = _statistic(small, large, float(small.value), float(large.value))
    df = len(large.law.params) - len(small.law.params)
    if sims:
        if key is None:
            raise DataError("a simulation needs a key: likelihood_ratio(..., sims=500, key=key)")
        simulated = simulate_ratio(small, large, sims, key)
        p_value = float((1 + (simulated >= statistic).sum()) / (1 + sims))
        words = f"{sims} tables simulated from {names[0]}"
    else:
        p_value, words = _chi_square(small, large, float(statistic), df, nesting)
    return LikelihoodRatio(*names, float(statistic), df, p_value, words, nesting)


def _statistic(small: Fit, large: Fit, value_small: Any, value_large: Any) -> np.ndarray:
    total = float(np.asarray(single_fit(small).weight).sum())
    nll = [
        np.asarray(small.objective.profile_nll(np.asarray(v) / total))
        for v in (value_small, value_large)
    ]
    return np.maximum(2 * observations(small) * (nll[0] - nll[1]), 0.0)


def _chi_square(
    small: Fit, large: Fit, statistic: float, df: int, nesting: Nesting
) -> tuple[float, str]:
    n, p = observations(small), len(large.law.params)
    corrected = statistic
    if not small.objective.known:
        corrected *= max(n - p - 1 + df / 2, 1.0) / n
    if nesting.undefined:
        gone = ", ".join(nesting.undefined)
        return np.nan, f"{gone} means nothing there, so that only sims= gives a p-value"
    if not nesting.boundary:
        return float(scipy.stats.chi2.sf(corrected, df)), f"chi-square with {df} df"
    ends = ", ".join(nesting.boundary)
    if len(nesting.boundary) > 1:
        p_value = float(scipy.stats.chi2.sf(corrected, df))
        return p_value, f"chi-square with {df} df, too large a p because {ends} lie at a boundary"
    below = float(scipy.stats.chi2.sf(corrected, df - 1)) if df > 1 else float(corrected <= 0)
    p_value = 0.5 * below + 0.5 * float(scipy.stats.chi2.sf(corrected, df))
    return p_value, f"half chi-square with {df - 1} df, half with {df}: {ends} lies at a boundary"


def simulate_ratio(small: Fit, large: Fit, sims: int, key: jax.Array) -> np.ndarray:
    """Statistics of tables simulated from the smaller law, shape (sims,).

    Residuals of the smaller fit are drawn with replacement. The larger law starts at its own
    optimum and at a few random points for each table.
    """
    source, (noise_key, start_key) = simulator(small), jax.random.split(key)
    loss = np.stack([source.losses(k) for k in jax.random.split(noise_key, sims)])
    values = []
    for fit in (small, large):
        points = sobol(fit.law, fit_rows(fit), _COLD_STARTS, start_key)
        starts = np.concatenate([np.asarray(fit.free)[None], points])
        starts = np.broadcast_to(starts, (sims, *starts.shape))
        values.append(refit_sets(fit, loss=loss, starts=starts, cold=True).value)
    if not np.isfinite(values).all():
        raise FitError("some simulated tables have no finite optimum; give fits of more runs")
    return _statistic(small, large, *values)


def find_nesting(small: Fit, large: Fit) -> Nesting | None:
    """Where in the larger law the smaller one lies, or None if it does not.

    Asked by numbers: the larger law is fitted to losses without noise of the smaller one, at its
    fit and at parameters near it, on the inputs of the runs. If it gives them all, to a millionth,
    the smaller law is a special case of it; the terms that vanish there say on which boundary.

    Args:
        small, large: fits of one data set each, with their runs.
    """
    if set(small.law.inputs) != set(large.law.inputs):
        return None
    if len(small.law.params) >= len(large.law.params):
        return None
    if count_runs(small) <= len(large.law.params):
        return None
    return _nesting(_Key(small), _Key(large))


class _Key:
    """A fit, as a key of a cache: equal if the law and the data are."""

    def __init__(self, fit: Fit):
        self.fit = fit
        self.identity = (fit.law, fit.digest or single_fit(fit).digest())

    def __hash__(self) -> int:
        return hash(self.identity)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self.identity == other.identity


@functools.lru_cache(maxsize=64)
def _nesting(small: _Key, large: _Key) -> Nesting | None:
    tables = _targets(small.fit)
    law = large.fit.law
    try:
        found = fit_law(
            law,
            Runs.stack(tables),
            objective=LogGaussian(),
            restarts=_RESTARTS,
            key=jax.random.key(0),
            show_progress=False,
        )
    except JaxscaleError:
        return None
    if not (np.asarray(found.rmse) < _EXACT).all():
        return None
    return _where(law, [found[name] for name in tables])


def _targets(small: Fit) -> dict[str, Runs]:
    """The inputs of some runs with losses of the smaller law, at parameters around its fit."""
    runs = single_fit(small)
    real = np.flatnonzero(np.asarray(runs.weight) > 0)
    some = real[np.unique(np.linspace(0, len(real) - 1, _MOST_RUNS).round().astype(int))]
    inputs = {name: np.asarray(x, float)[some] for name, x in runs.inputs.items()}
    rng = np.random.default_rng(0)
    tables: dict[str, Runs] = {}
    for i in range(_TARGETS):
        move = 0.0 if i == 0 else _JITTER * rng.normal(size=len(small.law.params))
        params = _physical(small, np.asarray(small.free) + move)
        columns = (inputs[name] for name in small.law.inputs)
        loss = np.asarray(small.law(*columns, **params))
        if np.isfinite(loss).all() and (loss > 0).all():
            tables[str(i)] = Runs.from_arrays(loss=loss, duplicates="keep", **inputs)
    return tables


def _physical(fit: Fit, theta: np.ndarray) -> dict[str, Any]:
    return dict(physical_params(fit.law, jnp.asarray(theta), fit.log_refs))


def _where(law: Law, found: list[Fit]) -> Nesting:
    """Parameters at a boundary, and without effect, in all of the fits."""
    gone = np.ones(len(law.params), bool)
    for each in found:
        runs = single_fit(each)
        rows = reference_rows(law, runs, log_references(law, runs))
        gone &= ~np.any(np.abs(elasticities(law, each.free, rows)) > _GONE, axis=0)
    lost = [(name, p) for (name, p), x in zip(law.params, gone, strict=True) if x]
    return Nesting(
        boundary=tuple(name for name, p in lost if p.support != "real"),
        undefined=tuple(name for name, p in lost if p.support == "real"),
    )


def all_ratios(
    fits: Mapping[str, Fit], nested: Mapping[str, str] | str | None
) -> tuple[LikelihoodRatio, ...]:
    """Tests of all pairs of fits of which one is nested in the other.

    Args:
        fits: of the same runs with the same objective, by name.
        nested: the larger law of each smaller one, by name; ``"detect"`` to find them; None for
            no test.
    """
    if nested is None:
        return ()
    if isinstance(nested, str) and nested != "detect":
        raise DataError(f"nested must be 'detect', None or names, got {nested!r}")
    tests = []
    for small, large in _pairs(fits, nested):
        found = find_nesting(fits[small], fits[large])
        if found is None:
            if nested == "detect":
                continue
            raise LawError(
                f"{large} does not contain {small}: it cannot give the losses of {small} exactly"
            )
        tests.append(
            likelihood_ratio(fits[small], fits[large], names=(small, large), nesting=found)
        )
    return tuple(tests)


def _pairs(fits: Mapping[str, Fit], nested: Mapping[str, str] | str) -> list[tuple[str, str]]:
    if isinstance(nested, str):
        return [
            (a, b) for a in fits for b in fits if len(fits[a].law.params) < len(fits[b].law.params)
        ]
    for name in (*nested.keys(), *nested.values()):
        if name not in fits:
            raise DataError(f"nested= names {name!r}; there are {', '.join(fits)}")
    return list(nested.items())
