"""Noise to simulate with: like the residuals of a fit, in three readings of what they are."""

import dataclasses
from typing import Literal

import jax
import numpy as np
import scipy

from jaxscale._clusters import cluster_codes, icc as measured_icc
from jaxscale._errors import DataError
from jaxscale._fit import Fit
from jaxscale._refit import residual_pool, single_fit

Noise = Literal["iid", "student", "clustered"]


@dataclasses.dataclass(frozen=True)
class Simulator:
    """Tables of runs on the design of a fit, with its law as the truth.

    Attributes:
        predicted: the true losses, shape (runs,).
        log: whether noise is added to log loss.
        pool: centered residuals, from which noise is drawn, shape (residuals,).
        scale: scale of each run's noise relative to the pool, shape (runs,).
        df: degrees of freedom of Student noise, which then replaces the pool; or None.
        codes: cluster of each run, or None.
        icc: share of the variance that runs of a cluster have in common.
        sentence: the noise in words.
    """

    predicted: np.ndarray
    log: bool
    pool: np.ndarray
    scale: np.ndarray
    df: float | None
    codes: np.ndarray | None
    icc: float
    sentence: str

    def losses(self, key: jax.Array) -> np.ndarray:
        """One simulated table: losses, shape (runs,)."""
        rng = np.random.default_rng(np.asarray(jax.random.bits(key, (4,), "uint32")))
        runs = len(self.predicted)
        own = rng.choice(self.pool, runs) if self.df is None else rng.standard_t(self.df, runs)
        r = self.scale * own
        if self.codes is not None:
            shared = self.pool.std() * rng.normal(size=self.codes.max() + 1)[self.codes]
            r = np.sqrt(1 - self.icc) * r + np.sqrt(self.icc) * shared
        return self.predicted * np.exp(-r) if self.log else self.predicted - r


def simulator(
    fit: Fit, noise: Noise = "iid", *, by: object = None, icc: float | None = None
) -> Simulator:
    """A simulator for the design and the residuals of a fit.

    - ``"iid"``: residuals drawn with replacement, whichever run they came from.
    - ``"student"``: Student noise whose scale is a power of every positive input, both fitted to
      the residuals by maximum likelihood: runs of some sizes scatter more than others.
    - ``"clustered"``: as iid, but a share `icc` of the variance is common to the runs of a cluster.

    Args:
        fit: a fit of one data set, with its runs.
        noise: how the residuals are read.
        by: clusters, see `cluster_codes`.
        icc: intra-cluster correlation; default the measured one.

    Raises:
        DataError: for an unknown noise, or an `icc` outside 0 to 1.
    """
    runs = single_fit(fit)
    real = np.asarray(runs.weight) > 0
    r = np.asarray(fit.residuals(), float)
    base = Simulator(
        predicted=np.asarray(fit.predicted(), float),
        log=fit.objective.log,
        pool=residual_pool(fit),
        scale=np.ones(len(r)),
        df=None,
        codes=None,
        icc=0.0,
        sentence="residuals drawn independently of each other and of the run",
    )
    if noise == "iid":
        return base
    if noise == "student":
        sizes = [np.asarray(runs.inputs[name], float) for name in fit.law.inputs]
        logs = np.log([x for x in sizes if np.all(x > 0)])
        scale, df = _student(logs - logs[:, real].mean(axis=1, keepdims=True), r, real)
        words = f"Student noise with {df:.1f} degrees of freedom and a scale that follows the size"
        return dataclasses.replace(base, scale=scale, df=df, sentence=words)
    if noise != "clustered":
        raise DataError(f"noise must be 'iid', 'student' or 'clustered', not {noise!r}")
    share = max(measured_icc(fit, by).icc, 0.0) if icc is None else float(icc)
    if not 0 <= share < 1:
        raise DataError(f"an intra-cluster correlation lies between 0 and 1, got {icc}")
    words = f"noise of which {share:.0%} of the variance is common to the runs of a cluster"
    return dataclasses.replace(base, codes=cluster_codes(runs, by), icc=share, sentence=words)


def _student(logs: np.ndarray, r: np.ndarray, real: np.ndarray) -> tuple[np.ndarray, float]:
    """Scale of every run, and degrees of freedom between 2.1 and 100, by maximum likelihood."""

    def scale_of(x: np.ndarray) -> np.ndarray:
        return np.exp(x[1] + x[2:] @ logs)

    def df_of(x: np.ndarray) -> float:
        return float(2.1 + 97.9 / (1 + np.exp(-x[0])))

    def negative_log_likelihood(x: np.ndarray) -> float:
        density = scipy.stats.t.logpdf(r[real], df_of(x), scale=scale_of(x)[real])
        return float(-density.sum())

    start = np.concatenate([[-3.0, np.log(np.median(np.abs(r[real])) + 1e-12)], 0 * logs[:, 0]])
    found = scipy.optimize.minimize(negative_log_likelihood, start, method="Nelder-Mead")
    return scale_of(found.x), df_of(found.x)
