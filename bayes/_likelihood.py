"""Likelihoods: how one run scatters around the law, with the noise parameters that are inferred."""

import abc
from collections.abc import Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from scipy.stats import chi2

import jaxscale as js

# Normal components by which a heavy-tailed distribution is represented, over all draws.
_COMPONENTS = 16_000
_NODES = 64  # of the quadrature over quantiles
_SMALL = 1e-12


class Likelihood(eqx.Module):
    """Distribution of the loss of a run around the law.

    `has_scale` says whether there is a noise scale; `priors` are those of further parameters.
    """

    has_scale: ClassVar[bool] = True

    @property
    def log(self) -> bool:
        """Whether residuals are of log loss."""
        return True

    def priors(self) -> dict[str, dist.Distribution]:
        """Priors of the parameters beside the scale, by name."""
        return {}

    @abc.abstractmethod
    def log_prob(self, predicted: Any, loss: Any, scale: Any, extra: dict[str, Any]) -> Any:
        """Log density of the loss (not of its residual), so that laws and noises compare."""

    @abc.abstractmethod
    def draw(self, key: jax.Array, predicted: Any, scale: Any, extra: dict[str, Any]) -> Any:
        """One loss for every prediction."""

    @abc.abstractmethod
    def cdf(self, predicted: Any, loss: Any, scale: Any, extra: dict[str, Any]) -> Any:
        """P(a loss <= the given one)."""

    @abc.abstractmethod
    def information(self, predicted: Any, scale: Any, extra: dict[str, Any]) -> Any:
        """Fisher information of one run about the log of its prediction."""

    def variances(self, extra: dict[str, np.ndarray], draws: int) -> np.ndarray | None:
        """Variances, in units of scale^2, of the normal components of the residual, by draw.

        Shape (draws, components); None if the noise is no such mixture.
        """
        return None


class ObjectiveNoise(Likelihood):
    """The noise model of an objective, such as the Huber density of `jaxscale.LogHuber`."""

    objective: js.Objective

    @property
    def log(self) -> bool:
        return self.objective.log

    def log_prob(self, predicted: Any, loss: Any, scale: Any, extra: dict[str, Any]) -> Any:
        density = self.objective.log_prob(self.objective.residual(predicted, loss), scale)
        return density - jnp.log(loss) if self.log else density

    def draw(self, key: jax.Array, predicted: Any, scale: Any, extra: dict[str, Any]) -> Any:
        edge = jnp.finfo(jnp.result_type(float)).eps
        u = jax.random.uniform(key, jnp.shape(predicted), minval=edge, maxval=1 - edge)
        return self._at(predicted, self.objective.ppf(u, scale))

    def _at(self, predicted: Any, residual: Any) -> Any:
        return predicted * jnp.exp(-residual) if self.log else predicted - residual

    def cdf(self, predicted: Any, loss: Any, scale: Any, extra: dict[str, Any]) -> Any:
        return 1 - self.objective.cdf(self.objective.residual(predicted, loss), scale)

    def information(self, predicted: Any, scale: Any, extra: dict[str, Any]) -> Any:
        """By quadrature over the quantiles: a sharp loss says far more than 1 / scale^2."""
        wide = jnp.asarray(scale)[..., None]
        r = self.objective.ppf((jnp.arange(_NODES) + 0.5) / _NODES, wide)
        step = 1e-3 * wide
        ends = [self.objective.log_prob(r + sign * step, wide) for sign in (1, -1)]
        found = (((ends[0] - ends[1]) / (2 * step)) ** 2).mean(-1)
        return found if self.log else found * predicted**2

    def variances(self, extra: dict[str, np.ndarray], draws: int) -> np.ndarray | None:
        if isinstance(self.objective, js.LogGaussian):  # and Gaussian
            return np.ones((draws, 1))
        return None


class StudentT(Likelihood):
    """Student-t noise in log loss, with scale and, unless given, degrees of freedom inferred.

    Prior of the degrees of freedom: Gamma(2, 0.1), from heavy tails to nearly normal.

    Source: Juarez & Steel 2010, Journal of Business & Economic Statistics 28(1), 52-66.
    """

    df: Any = None

    def __check_init__(self) -> None:
        if isinstance(self.df, int | float) and not self.df > 0:
            raise js.JaxscaleError(f"df must be positive, got {self.df}")

    def priors(self) -> dict[str, dist.Distribution]:
        return {"df": dist.Gamma(2.0, 0.1)} if self.df is None else {}

    def _df(self, extra: dict[str, Any]) -> Any:
        return extra["df"] if self.df is None else self.df

    def log_prob(self, predicted: Any, loss: Any, scale: Any, extra: dict[str, Any]) -> Any:
        r = jnp.log(predicted) - jnp.log(loss)
        return jax.scipy.stats.t.logpdf(r, self._df(extra), scale=scale) - jnp.log(loss)

    def draw(self, key: jax.Array, predicted: Any, scale: Any, extra: dict[str, Any]) -> Any:
        # Bailey 1994: t = sqrt(df (u^(-2/df) - 1)) cos(2 pi v), without rejections.
        df, shape = self._df(extra), (2, *jnp.shape(predicted))
        u, v = jax.random.uniform(key, shape, minval=_SMALL, maxval=1.0)
        noise = jnp.sqrt(df * jnp.expm1(-2 / df * jnp.log(u))) * jnp.cos(2 * jnp.pi * v)
        return predicted * jnp.exp(-scale * noise)

    def information(self, predicted: Any, scale: Any, extra: dict[str, Any]) -> Any:
        df = self._df(extra)
        return (df + 1) / (df + 3) / scale**2

    def cdf(self, predicted: Any, loss: Any, scale: Any, extra: dict[str, Any]) -> Any:
        x, df = (jnp.log(loss) - jnp.log(predicted)) / scale, self._df(extra)
        tail = 0.5 * jax.scipy.special.betainc(0.5 * df, 0.5, df / (df + x**2))
        return jnp.where(x < 0, tail, 1 - tail)

    def variances(self, extra: dict[str, np.ndarray], draws: int) -> np.ndarray | None:
        df = np.broadcast_to(np.asarray(self._df(extra), float), (draws,))
        return np.asarray(df[:, None] / chi2.ppf(strata(draws), df[:, None]))


def _inside_unit(share: Any) -> Any:
    """A probability that is neither 0 nor 1, in any precision."""
    edge = jnp.finfo(jnp.result_type(share, float)).eps
    return jnp.clip(share, edge, 1 - edge)


class Counts(Likelihood):
    """A share of successes in a number of trials, such as an accuracy or an error rate."""

    trials: Any
    has_scale: ClassVar[bool] = False

    def __check_init__(self) -> None:
        if isinstance(self.trials, jax.core.Tracer | jax.Array):
            return
        trials = np.asarray(self.trials, float)
        if not (np.isfinite(trials) & (trials >= 1)).all():
            raise js.JaxscaleError("trials must be the number of questions of each run, 1 or more")

    def spread(self, extra: dict[str, Any], trials: Any) -> Any:
        """Concentration nu of the beta distribution that has the share's mean and variance."""
        return trials - 1.0

    def information(self, predicted: Any, scale: Any, extra: dict[str, Any]) -> Any:
        share = jnp.clip(predicted, 0.01, 0.99)
        return share / (1 - share) * (self.spread(extra, self.trials) + 1)

    def cdf(self, predicted: Any, loss: Any, scale: Any, extra: dict[str, Any]) -> Any:
        return beta_cdf(predicted, loss, self.spread(extra, self.trials))


class Binomial(Counts):
    """k of n successes, k ~ Binomial(n, law); the loss is the share k / n.

    Args:
        trials: n, a number or one per run, shape (runs,).
    """

    def log_prob(self, predicted: Any, loss: Any, scale: Any, extra: dict[str, Any]) -> Any:
        share = _inside_unit(predicted)
        return dist.Binomial(self.trials, share).log_prob(jnp.round(loss * self.trials))

    def draw(self, key: jax.Array, predicted: Any, scale: Any, extra: dict[str, Any]) -> Any:
        share = _inside_unit(predicted)
        trials = jnp.asarray(self.trials, int)  # NumPyro draws no counts out of a real number
        return dist.Binomial(trials, share).sample(key) / self.trials


class BetaBinomial(Counts):
    """k of n successes whose probability scatters around the law with an inferred concentration.

    k ~ BetaBinomial(n, c p, c (1 - p)): the variance of k / n is p (1 - p) (1/n + (1 - 1/n) / (c +
    1)), so that runs scatter even with many trials. Prior of c: LogNormal(log 100, 2).

    Args:
        trials: n, a number or one per run, shape (runs,).
    """

    def priors(self) -> dict[str, dist.Distribution]:
        return {"concentration": dist.LogNormal(np.log(100.0), 2.0)}

    def spread(self, extra: dict[str, Any], trials: Any) -> Any:
        share = 1 / (extra["concentration"] + 1)
        return trials / (1 + (trials - 1) * share) - 1

    def _distribution(self, predicted: Any, extra: dict[str, Any]) -> Any:
        share, c = _inside_unit(predicted), extra["concentration"]
        return dist.BetaBinomial(c * share, c * (1 - share), total_count=self.trials)

    def log_prob(self, predicted: Any, loss: Any, scale: Any, extra: dict[str, Any]) -> Any:
        return self._distribution(predicted, extra).log_prob(jnp.round(loss * self.trials))

    def draw(self, key: jax.Array, predicted: Any, scale: Any, extra: dict[str, Any]) -> Any:
        share, c = _inside_unit(predicted), extra["concentration"]
        first, second = jax.random.split(key)
        share = dist.Beta(c * share, c * (1 - share)).sample(first)
        trials = jnp.asarray(self.trials, int)
        return dist.Binomial(trials, share).sample(second) / self.trials


class Score(Likelihood):
    """The law predicts the probability of what was observed, as for `jaxscale.LogScore`."""

    has_scale: ClassVar[bool] = False

    def log_prob(self, predicted: Any, loss: Any, scale: Any, extra: dict[str, Any]) -> Any:
        return jnp.log(predicted)

    def draw(self, key: jax.Array, predicted: Any, scale: Any, extra: dict[str, Any]) -> Any:
        return predicted

    def cdf(self, predicted: Any, loss: Any, scale: Any, extra: dict[str, Any]) -> Any:
        return jnp.full(jnp.shape(predicted), 0.5)

    def information(self, predicted: Any, scale: Any, extra: dict[str, Any]) -> Any:
        return jnp.ones(jnp.shape(predicted))


def extras(likelihood: Likelihood, values: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a likelihood beside its scale."""
    return {name: values[name] for name in likelihood.priors()}


def strata(draws: int) -> np.ndarray:
    """Probabilities, (draws, strata), one in each stratum; together they reach far into the tails.

    Every draw has its own, shifted by a golden ratio each time.
    """
    each = -(-_COMPONENTS // draws)
    shift = np.clip((np.arange(draws) * 0.6180339887498949) % 1, 1e-3, 1 - 1e-3)
    return np.asarray((np.arange(each) + shift[:, None]) / each)


def beta_cdf(share: Any, at: Any, spread: Any) -> Any:
    """P(Y <= at) for a beta variable of mean `share` and concentration `spread`."""
    share, spread = jnp.clip(share, 1e-9, 1 - 1e-9), jnp.maximum(spread, 1e-3)
    return jax.scipy.special.betainc(spread * share, spread * (1 - share), jnp.clip(at, 0.0, 1.0))


def as_likelihood(given: Any, objective: js.Objective, weight: Any) -> Likelihood:
    """A likelihood from what `model` was given: None is the noise model of the fit's objective.

    The weights of the runs of a `jaxscale.Binomial` fit are their trials.
    """
    if isinstance(given, Likelihood):
        return given
    chosen = objective if given is None else given
    if not isinstance(chosen, js.Objective):
        raise js.DataError(
            "likelihood must be an objective, such as LogGaussian(), or bayes.StudentT(), "
            f"bayes.Binomial(trials) or bayes.BetaBinomial(trials), not {given!r}"
        )
    if isinstance(chosen, js.LogStudentT):
        return StudentT(chosen.df)
    if isinstance(chosen, js.LogScore):
        return Score()
    if isinstance(chosen, js.Binomial):
        return Binomial(np.maximum(np.asarray(weight, float), 1.0))
    return ObjectiveNoise(chosen)
