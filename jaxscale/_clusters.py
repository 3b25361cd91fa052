"""Runs that share something: cluster codes, and how alike the residuals of a cluster are."""

import dataclasses
from typing import Any

import jax
import numpy as np
import scipy

from jaxscale._errors import DataError
from jaxscale._fit import Fit
from jaxscale._outcomes import LogScore
from jaxscale._refit import single_fit
from jaxscale._runs import Runs

# Sizes read off a figure, or counted by two conventions, agree to a fraction of a percent only.
_GAP = 0.01
# Residuals have heavy tails, which the F test takes for dependence a little too often.
_SURE = 1e-3
# Fewer than two runs per cluster are accidental repeats, not a design.
_FEW = 0.5


def cluster_codes(runs: Runs, by: Any = None) -> np.ndarray:
    """Cluster of every run, as codes 0 .. g - 1, shape (runs,).

    Args:
        runs: one table.
        by: None or ``"cluster"`` for the labels that the runs carry; the name of an input, whose
            sorted values start a new cluster wherever they step up by more than 1%; ``"C"`` or
            ``"flop"`` for 6 N D likewise; or labels of any type, one per run.

    Raises:
        DataError: for an unknown name, labels of the wrong length, or fewer than two clusters.

    Example:
        >>> cluster_codes(runs, "N")
    """
    if runs.sets is not None:
        raise DataError("choose one data set of the stack first: runs[name]")
    codes = np.unique(_labels(runs, by), return_inverse=True)[1].ravel()
    real = np.asarray(runs.weight) > 0
    if len(np.unique(codes[real])) < 2:
        raise DataError(
            f"{runs.source}: all runs fall into one cluster ({cluster_name(by)}); clusters are "
            "resampled as wholes, so there must be at least two, and better twenty"
        )
    return codes


def real_codes(runs: Runs, by: Any = None) -> np.ndarray:
    """Codes 0 .. G - 1 without gaps over the runs that count; padding falls into cluster 0."""
    real, codes = np.asarray(runs.weight) > 0, np.zeros(len(runs), int)
    codes[real] = np.unique(cluster_codes(runs, by)[real], return_inverse=True)[1]
    return codes


def cluster_name(by: Any) -> str:
    """How sentences call the clusters."""
    if by is None or (isinstance(by, str) and by == "cluster"):
        return "cluster"
    return by if isinstance(by, str) else "the given labels"


def _labels(runs: Runs, by: Any) -> np.ndarray:
    if by is None or (isinstance(by, str) and by == "cluster" and "cluster" not in runs.inputs):
        if runs.cluster is None:
            raise DataError(
                f"{runs.source}: the runs carry no cluster labels; name a column with "
                "Runs.from_frame(..., cluster='column') or say by='N'"
            )
        return np.asarray(runs.cluster)
    if isinstance(by, str):
        values = _column(runs, by)
        positive = bool((values > 0).all())
        return (
            equal_values(np.log(values)) if positive else np.unique(values, return_inverse=True)[1]
        )
    labels = np.asarray(by)
    if labels.shape != (len(runs),):
        raise DataError(
            f"{runs.source}: {len(runs)} runs need as many cluster labels, got {labels.shape}"
        )
    return labels if labels.dtype.kind in "biufSU" else labels.astype(str)


def _column(runs: Runs, name: str) -> np.ndarray:
    if name in runs.inputs:
        return np.asarray(runs.inputs[name], float)
    if name in ("C", "flop") and {"N", "D"} <= set(runs.inputs):
        return 6.0 * np.asarray(runs.inputs["N"], float) * np.asarray(runs.inputs["D"], float)
    raise DataError(
        f"{runs.source}: there is no input {name!r} to cluster by; "
        f"there are {', '.join(runs.inputs)}"
    )


def equal_values(logs: np.ndarray) -> np.ndarray:
    """Codes of values that agree up to gaps of 1%, in ascending order."""
    order = np.argsort(logs, kind="stable")
    codes = np.empty(len(logs), int)
    codes[order] = np.cumsum(np.diff(logs[order], prepend=logs[order[0]]) > _GAP)
    return codes


@dataclasses.dataclass(frozen=True)
class ICC:
    """Share of the residual variance that runs of one cluster have in common; see `icc`.

    Attributes:
        icc: intraclass correlation; 0 for independent runs, negative if clusters are too alike.
        statistic: F statistic of the one-way analysis of variance.
        p_value: probability of so large an F if the runs are independent.
        clusters, n: number of clusters and of runs.
        size: mean number of runs per cluster.
        by: what the clusters share, for the sentence.
        tested: "F test", which takes residuals as normal, or "permutation test".
    """

    icc: float
    statistic: float
    p_value: float
    clusters: int
    n: int
    size: float
    by: str
    tested: str

    @property
    def ok(self) -> bool:
        """Whether the runs may be treated as independent: no dependence at the 5% level."""
        return self.p_value > 0.05

    @property
    def sentence(self) -> str:
        """The finding, and what to do about it."""
        shared = "cluster" if self.by in ("cluster", "the given labels") else self.by
        numbers = f"(F = {self.statistic:.2f}, p = {self.p_value:.2g}, {self.tested})"
        if self.ok:
            return (
                f"Residuals of runs with the same {shared} are no more alike than chance allows "
                f"{numbers}."
            )
        said = f"by={self.by!r}" if self.by != "the given labels" else "by=labels"
        return (
            f"Runs with the same {shared} share {self.icc:.0%} of their residual variance "
            f"{numbers}: use intervals that resample clusters ({said})."
        )

    def __repr__(self) -> str:
        return (
            f"ICC {self.icc:.3f} over {self.clusters} clusters of {self.size:.1f} runs. "
            f"{self.sentence}"
        )


def icc(fit: Fit, by: Any = None, *, key: jax.Array | None = None, permutations: int = 2000) -> ICC:
    """ICC = (MSB - MSW) / (MSB + (n0 - 1) MSW), n0 = (n - sum n_g^2 / n) / (G - 1).

    One-way random effects on the residuals of a fit: MSB and MSW are the mean squares between and
    within clusters, n0 the effective size of clusters of unequal size.

    Args:
        fit: a fit of one data set, with its runs. Runs of weight zero are left out; others count
            once whatever their weight.
        by: what makes a cluster, see `cluster_codes`.
        key: JAX random key; with it the p-value comes from permuting the residuals, which heavy
            tails do not upset. Without it, from the F distribution.
        permutations: number of permutations.

    Raises:
        DataError: if there are fewer than two clusters, or no cluster with two runs.

    Source: Donner 1986, International Statistical Review 54(1), 67-82, for the estimator.

    Example:
        >>> icc(fit, by="N")
    """
    runs = single_fit(fit)
    real = np.asarray(runs.weight) > 0
    codes = np.unique(cluster_codes(runs, by)[real], return_inverse=True)[1]
    residuals = np.asarray(fit.residuals(), float)[real]
    sizes = np.bincount(codes)
    n, groups = len(codes), len(sizes)
    if n == groups:
        raise DataError(
            f"{runs.source}: every cluster ({cluster_name(by)}) has one run, so nothing can be "
            "said about what runs of a cluster share"
        )
    between, within = _mean_squares(residuals, codes)
    typical = (n - (sizes**2).sum() / n) / (groups - 1)
    statistic = float(between / within)
    if key is None:
        p_value = float(scipy.stats.f.sf(statistic, groups - 1, n - groups))
    else:
        p_value = _permutation_p(residuals, codes, statistic, key, permutations)
    return ICC(
        icc=float((between - within) / (between + (typical - 1) * within)),
        statistic=statistic,
        p_value=p_value,
        clusters=groups,
        n=n,
        size=n / groups,
        by=cluster_name(by),
        tested="F test" if key is None else "permutation test",
    )


def _mean_squares(residuals: np.ndarray, codes: np.ndarray) -> tuple[Any, Any]:
    sizes = np.bincount(codes)
    means = np.bincount(codes, residuals) / sizes
    between = (sizes * (means - residuals.mean()) ** 2).sum() / (len(sizes) - 1)
    within = ((residuals - means[codes]) ** 2).sum() / (len(codes) - len(sizes))
    return between, within


def _permutation_p(
    residuals: np.ndarray, codes: np.ndarray, statistic: float, key: jax.Array, permutations: int
) -> float:
    seed = np.asarray(jax.random.bits(key, (4,), dtype=np.uint32))
    rng = np.random.default_rng(seed)
    shuffled = (
        np.divide(*_mean_squares(rng.permutation(residuals), codes)) for _ in range(permutations)
    )
    return (1 + sum(value >= statistic for value in shuffled)) / (1 + permutations)


def demanded_clusters(fit: Any) -> ICC | None:
    """The clusters that the residuals ask for, or None if they look independent.

    Tried are the labels that the runs carry, and every input of the law with repeated values.
    """
    runs = single_fit(fit)
    if float(fit.value) <= fit.restarts.floor:  # an exact fit has no residuals to speak of
        return None
    if isinstance(fit.objective, LogScore):  # the score of an outcome, which the inputs hold
        return None
    candidates = [*(["cluster"] if runs.cluster is not None else []), *fit.law.inputs]
    found = [icc(fit, by) for by in candidates if _repeats(runs, by)]
    strong = [each for each in found if each.p_value < _SURE and each.icc > 0]
    return max(strong, key=lambda each: each.icc, default=None)


def _repeats(runs: Runs, by: str) -> bool:
    """Whether there are clusters of repeated values, and enough runs in them to speak of."""
    codes = np.unique(_labels(runs, by), return_inverse=True)[1]
    groups = int(codes.max()) + 1
    if not 1 < groups <= _FEW * len(runs):
        return False
    if by not in runs.inputs:
        return True
    values = _column(runs, by)
    if not (values > 0).all():  # then clusters are equal values
        return True
    # Many values in small steps look like one cluster, but are a continuum.
    logs = np.log(values)
    return max(float(np.ptp(logs[codes == code])) for code in range(groups)) <= 3 * _GAP
