"""The scatter of one new run around the law, as `predict` takes it from a posterior."""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr, ndtri

import jaxscale as js
from bayes._likelihood import (
    Counts,
    Likelihood,
    ObjectiveNoise,
    Score,
    beta_cdf,
    extras,
    strata,
)
from bayes._model import Model, log_size

_NODES = 24  # of the Gauss-Hermite rule


class Spread(eqx.Module):
    """What widens the noise of a run, by draw: all arrays have a leading axis of draws.

    Attributes:
        scale: noise scale at the middle of the runs.
        slope: of its log by the log of the size of a run; unused without `by`.
        effect: variance of the effects of clusters that have not been seen, on log loss; or None.
        by: what the scale depends on, or None; centered at `center`.
    """

    scale: Any
    slope: Any
    effect: Any
    by: str | None = eqx.field(static=True)
    center: float = eqx.field(static=True)

    def scale_at(self, inputs: Mapping[str, Any]) -> Any:
        """Noise scale of a run with these inputs."""
        if self.by is None:
            return self.scale
        return self.scale * jnp.exp(self.slope * (log_size(inputs, self.by) - self.center))

    def effect_at(self, predicted: Any, log: bool) -> Any:
        """Variance that the effects add to the residual."""
        if self.effect is None:
            return jnp.zeros(())
        return self.effect if log else self.effect * predicted**2


class NormalMixture(js.RunNoise):
    """Normal components, with variances in units of scale^2, to which effects add theirs.

    `variances` and `weights` have shape (draws, components).
    """

    variances: Any
    weights: Any
    spread: Spread
    log_loss: bool = eqx.field(static=True)

    @property
    def log(self) -> bool:
        return self.log_loss

    def _widths(self, predicted: Any, inputs: Mapping[str, Any]) -> Any:
        """Standard deviations of the components, (draws, components)."""
        own = self.spread.scale_at(inputs)[:, None] ** 2 * self.variances
        effect = self.spread.effect_at(predicted, self.log)
        return jnp.sqrt(own + jnp.reshape(effect, (-1, 1)))

    def cdf(self, r: Any, predicted: Any, inputs: Mapping[str, Any]) -> Any:
        return (self.weights * ndtr(r[..., None] / self._widths(predicted, inputs))).sum(-1)

    def bracket(self, u: Any, predicted: Any, inputs: Mapping[str, Any]) -> tuple[Any, Any]:
        widths = self._widths(predicted, inputs)
        near, far = ndtri(u) * widths.min(-1), ndtri(u) * widths.max(-1)
        return jnp.minimum(near, far), jnp.maximum(near, far)


class Convolution(js.RunNoise):
    """The noise model of any objective plus normal effects.

    `share` and `factor` are those of outliers, (draws,), or None; `levels` are the quantiles that
    stand for the noise where there are effects, (draws, levels).
    """

    objective: js.Objective
    spread: Spread
    share: Any
    factor: Any
    levels: Any

    @property
    def log(self) -> bool:
        return self.objective.log

    def _scales(self, inputs: Mapping[str, Any]) -> list[tuple[Any, Any]]:
        """Weight and scale of the core, and of the outliers."""
        core = self.spread.scale_at(inputs)
        if self.share is None:
            return [(1.0, core)]
        return [(1 - self.share, core), (self.share, core * (1 + self.factor))]

    def cdf(self, r: Any, predicted: Any, inputs: Mapping[str, Any]) -> Any:
        parts = self._scales(inputs)
        if self.spread.effect is None:
            return sum(share * self.objective.cdf(r, scale) for share, scale in parts)
        # A normal distribution around each of some quantiles of the noise: smooth however sharp
        # the noise is, since every draw has quantiles of its own.
        width = jnp.sqrt(self.spread.effect_at(predicted, self.log))[:, None]

        def below(scale: Any) -> Any:
            nodes = self.objective.ppf(self.levels, scale[:, None])
            return ndtr((r[..., None] - nodes) / width).mean(-1)

        return sum(share * below(scale) for share, scale in parts)

    def bracket(self, u: Any, predicted: Any, inputs: Mapping[str, Any]) -> tuple[Any, Any]:
        scales = [scale for _, scale in self._scales(inputs)]

        def ends(share: Any) -> Any:
            return jnp.stack([self.objective.ppf(share, scale) for scale in scales])

        if self.spread.effect is None:
            return ends(u).min(0), ends(u).max(0)
        # P(X + Y > x + y) is at most P(X > x) + P(Y > y): half of the tail for each.
        width = jnp.sqrt(self.spread.effect_at(predicted, self.log))
        low, high = 0.5 * u, 0.5 * (1 + u)
        return ends(low).min(0) + width * ndtri(low), ends(high).max(0) + width * ndtri(high)


def _hermite() -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of an expectation over a standard normal variable."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    return nodes, weights / weights.sum()


class Shares(js.RunNoise):
    """The share of successes of a new run, approximated by a beta distribution of equal moments."""

    concentration: Any
    effect: Any

    @property
    def log(self) -> bool:
        return True

    def cdf(self, r: Any, predicted: Any, inputs: Mapping[str, Any]) -> Any:
        at = predicted * jnp.exp(-r)
        if self.effect is None:
            return 1 - beta_cdf(predicted, at, self.concentration)
        nodes, weights = _hermite()
        means = predicted[:, None] * jnp.exp(jnp.sqrt(self.effect)[:, None] * nodes)
        return 1 - beta_cdf(means, at[..., None], self.concentration[:, None]) @ weights

    def bracket(self, u: Any, predicted: Any, inputs: Mapping[str, Any]) -> tuple[Any, Any]:
        shape = jnp.broadcast_shapes(jnp.shape(u), jnp.shape(predicted))
        least = jnp.broadcast_to(jnp.log(jnp.minimum(predicted, 1.0)), shape)
        return least, least + 30.0


def scatter(model: Model, values: Mapping[str, np.ndarray], draws: int) -> js.RunNoise | None:
    """The noise of a new run, of a new cluster, over draws of the scalar sites, each (draws,)."""
    widths = [np.asarray(values[f"sd_{name}"]) for name in model.table.centering]
    effect = sum(width**2 for width in widths) if widths else None
    return scatter_of(model.table.likelihood, values, draws, effect, model.scale_by, model.center)


def scatter_of(
    likelihood: Likelihood,
    values: Mapping[str, np.ndarray],
    draws: int,
    effect: Any = None,
    by: str | None = None,
    center: float = 0.0,
) -> js.RunNoise | None:
    """As `scatter`, with the variance of unseen effects, (draws,), and what the scale follows.

    None for a law of probabilities, around which nothing scatters.
    """
    if isinstance(likelihood, Score):
        return None
    effect = None if effect is None else jnp.asarray(effect)
    extra = {name: np.asarray(x) for name, x in extras(likelihood, values).items()}
    if isinstance(likelihood, Counts):
        trials = float(np.median(np.asarray(likelihood.trials)))
        concentration = jnp.broadcast_to(jnp.asarray(likelihood.spread(extra, trials)), (draws,))
        return Shares(concentration, effect)
    slope = jnp.asarray(values.get("scale_slope", np.zeros(draws)))
    spread = Spread(jnp.asarray(values["scale"]), slope, effect, by, center)
    share, factor = values.get("outlier_share"), values.get("outlier_factor")
    variances = likelihood.variances(extra, draws)
    if variances is None:
        assert isinstance(likelihood, ObjectiveNoise)
        levels = jnp.asarray(strata(draws))
        return Convolution(likelihood.objective, spread, _array(share), _array(factor), levels)
    weights = np.full(variances.shape, 1 / variances.shape[1])
    if share is not None and factor is not None:
        wide = variances * (1 + factor[:, None]) ** 2
        variances = np.concatenate([variances, wide], axis=1)
        weights = np.concatenate([(1 - share)[:, None] * weights, share[:, None] * weights], axis=1)
    return NormalMixture(jnp.asarray(variances), jnp.asarray(weights), spread, likelihood.log)


def trials_note(likelihood: Likelihood) -> tuple[str, ...]:
    """For counts: how many trials the bands of a new run are for."""
    if not isinstance(likelihood, Counts):
        return ()
    trials = float(np.median(np.asarray(likelihood.trials)))
    return (f"The bands of a new run are for {trials:g} trials.",)


def _array(values: Any) -> Any:
    return None if values is None else jnp.asarray(values)
