"""Laws of learning rate, batch and weight decay: what to set, given the size of a run.

Most are products of powers, straight in logs, so that a fit needs `LogGaussian` (least squares in
logs, as their authors do). Mind the units: each author counts parameters, FLOPs and batches
differently.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from jaxscale._errors import DataError
from jaxscale._law import law
from jaxscale._param import positive, real
from jaxscale.laws._power import power

_STEP = "Li et al. 2025 (Step Law), arXiv 2503.04715"
_MCCANDLISH = "McCandlish et al. 2018, arXiv 1812.06162"
_BERGSMA = "Bergsma et al. 2025 (Power Lines), arXiv 2505.13738"


@law(
    family="hyperparameter",
    predicts="learning rate",
    source=_STEP,
    evidence="formula and coefficients read in the authors' code",
    inputs={"N": "parameters without embeddings", "D": "training tokens"},
    c=positive(0.3, 3.0, unit="loss * N**(-a) * D**(-b)"),
    a=real(-1.0, 0.3),
    b=real(-0.3, 1.0),
)
def step_lr(N: Any, D: Any, *, c: Any, a: Any, b: Any) -> Any:
    """lr(N, D) = c N^a D^b

    N without embeddings, D in tokens, lr the peak learning rate.
    Its companion for the batch is `scaling_rule` in D.
    Test vector: 1.79 N^-0.713 D^0.307 at (1e9, 1e11) gives 1.63250e-3.
    """
    return c * power(N, a) * power(D, b)


@law(
    family="hyperparameter",
    predicts="hyper-parameter",
    source=f"{_STEP}; Porian et al. 2024, arXiv 2406.19146; DeepSeek-AI 2024, arXiv 2401.02954",
    evidence="formula read in code (Step Law) and papers",
    inputs={"x": "any measure of scale: parameters, tokens, FLOPs, width"},
    c=positive(0.3, 3.0, unit="loss * x**(-g)"),
    g=real(-1.0, 1.0),
)
def scaling_rule(x: Any, *, c: Any, g: Any) -> Any:
    """y(x) = c x^g

    y is a learning rate, batch, weight decay, or an optimal model or data size; x is what it
    scales with. Step Law: batch in tokens by D. Porian: batch and learning rate by N with the head.
    DeepSeek: learning rate and batch by C = M D, M the FLOPs per token without embeddings, which
    is not 6 N. Power Lines: optimal and critical batch by D.
    Test vector: 0.58 D^0.571 tokens at D = 1e11 gives 1.107715e6.
    """
    return c * power(x, g)


@law(
    family="hyperparameter",
    predicts="timescale",
    source=_BERGSMA,
    evidence="formula and exponent read in the paper; the prefactor is not",
    inputs={"N": "parameters", "D": "training tokens"},
    c=positive(0.05, 2.0, unit="loss * N**(-m) * D**m"),
    m=real(-1.0, 1.0),
)
def adamw_timescale(N: Any, D: Any, *, c: Any, m: Any) -> Any:
    """tau(N, D) = c (N / D)^m

    tau = B / (lr weight_decay D) is the share of training that AdamW averages over, at the peak
    learning rate. The paper writes (D / N)^-m with -m = -0.527.
    """
    return c * power(N / D, m)


@law(
    family="hyperparameter",
    predicts="learning rate",
    source="Filatov et al. 2025, arXiv 2510.03871, learning rate of Scion",
    evidence="formula and coefficients read in the paper",
    inputs={"B": "samples per batch", "D": "training tokens"},
    c=positive(0.3, 3.0, unit="loss * B**(-a) * D**(-b)"),
    a=real(-0.3, 1.0),
    b=real(-1.0, 0.3),
)
def optimal_norm_lr(B: Any, D: Any, *, c: Any, a: Any, b: Any) -> Any:
    """lr(B, D) = c B^a D^b

    The paper writes log2 lr = a log2 B + b log2 D + log2 c: c = 2^9.8.
    B in samples of 4,096 tokens; unconstrained Scion without momentum or decay.
    """
    return c * power(B, a) * power(D, b)


@law(
    family="hyperparameter",
    predicts="optimizer steps",
    source=_MCCANDLISH,
    evidence="formula read in the paper; coefficients are fitted to every problem",
    inputs={"B": "batch, in examples or tokens"},
    derived={"E_min": lambda S_min, B_crit: S_min * B_crit},
    S_min=positive(0.1, 1.0, unit="loss"),
    B_crit=positive(0.1, 10.0, unit="B"),
)
def critical_batch_steps(B: Any, *, S_min: Any, B_crit: Any) -> Any:
    """S(B) = S_min (1 + B_crit / B)

    Steps to one target loss, with the learning rate tuned for every batch. The same as
    (S / S_min - 1) (E / E_min - 1) = 1 with E = B S examples and E_min = S_min B_crit.
    """
    return S_min * (1 + B_crit / B)


@law(
    family="hyperparameter",
    predicts="examples",
    source=_MCCANDLISH,
    evidence="formula read in the paper; coefficients are fitted to every problem",
    inputs={"B": "batch, in examples or tokens"},
    E_min=positive(0.1, 1.0, unit="loss"),
    B_crit=positive(0.1, 10.0, unit="B"),
)
def critical_batch_examples(B: Any, *, E_min: Any, B_crit: Any) -> Any:
    """E(B) = E_min (1 + B / B_crit)

    Examples (or tokens) to one target loss. Fitted in logs to E = B S it is the same fit as
    `critical_batch_steps`.
    """
    return E_min * (1 + B / B_crit)


def batch_for_steps(S: Any, *, S_min: Any, B_crit: Any) -> Any:
    """B(S) = B_crit / (S / S_min - 1), the inverse of `critical_batch_steps`; inf for S <= S_min.

    Source: McCandlish et al. 2018, arXiv 1812.06162.
    """
    excess = S / S_min - 1
    return jnp.where(excess > 0, B_crit / jnp.where(excess > 0, excess, 1.0), jnp.inf)


def noise_scale(B_small: Any, B_big: Any, norm2_small: Any, norm2_big: Any) -> Any:
    """B_simple = tr(Sigma) / |G|^2 from squared gradient norms at two batch sizes.

    Since E |G_B|^2 = |G|^2 + tr(Sigma) / B, two batches give both; average the norms over many
    steps first, for the ratio is biased. Source: McCandlish et al. 2018, arXiv 1812.06162.
    """
    signal = (B_big * norm2_big - B_small * norm2_small) / (B_big - B_small)
    return (norm2_small - norm2_big) / (1 / B_small - 1 / B_big) / signal


def timescale(B: Any, lr: Any, weight_decay: Any, D: Any) -> Any:
    """tau = B / (lr weight_decay D), AdamW's averaging time as a share of training.

    B and D in the same unit, lr at its peak. Source: Bergsma et al. 2025, arXiv 2505.13738.
    """
    return B / (lr * weight_decay * D)


def optimal_weight_decay(B: Any, lr: Any, D: Any, tau: Any) -> Any:
    """weight_decay = B / (lr D tau), the one that gives a timescale; valid for B below B_crit.

    B and D in the same unit. Source: Bergsma et al. 2025, arXiv 2505.13738.
    """
    return B / (lr * D * tau)


def layerwise_weight_decay(width: Any, base_width: Any, base: Any) -> Any:
    """weight_decay(d) = weight_decay(d0) sqrt(d / d0) for matrices under muP, where lr ~ 1 / d.

    The top singular value grows as sqrt(lr / weight_decay) d^0.75, which this keeps constant.
    Vector-like parameters: constant lr, no decay. Source: Fan et al. 2025, arXiv 2510.15262.
    """
    return base * jnp.sqrt(jnp.asarray(width) / base_width)


def lr_sensitivity(losses: Any, initial_loss: Any) -> Any:
    """S = mean over learning rates of (min(loss, l0) - l*), l* the lowest loss.

    Args:
        losses: final loss at each rate of a grid even in logs, on the last axis; a run that
            diverged (NaN, infinite or above l0) counts as l0.
        initial_loss: l0, the loss before training.

    Raises:
        DataError: without a learning rate.

    Source: Wortsman et al. 2023, arXiv 2309.14322.
    """
    losses = jnp.asarray(losses, float)
    if losses.shape[-1:] in ((), (0,)):
        raise DataError("lr_sensitivity needs the losses at one learning rate or more")
    l0 = jnp.asarray(initial_loss, float)[..., None]
    capped = jnp.where(jnp.isfinite(losses), jnp.minimum(losses, l0), l0)
    return (capped - capped.min(axis=-1, keepdims=True)).mean(axis=-1)


def near_optimal(loss: Any, cell: Any, tolerance: float = 0.0025) -> np.ndarray:
    """loss <= (1 + tolerance) min of the cell: which runs count as tuned, shape (runs,).

    Args:
        loss: final loss of every run, shape (runs,); NaN never counts.
        cell: label of the (N, D) that a run belongs to, shape (runs,).
        tolerance: relative excess; 0.25% in Step Law and DeepSeek.

    Source: Li et al. 2025, arXiv 2503.04715.
    """
    best = pd.Series(np.asarray(loss)).groupby(np.asarray(cell)).transform("min")
    return np.asarray(loss) <= np.asarray(best) * (1 + tolerance)


def surface_optimum(
    loss: Any, lr: Any, batch: Any, *, tolerance: float = 0.02
) -> tuple[float, float]:
    """argmin of the paraboloid in (log lr, log batch) through the runs near the best of one grid

    A finer estimate of the best learning rate and batch of one (N, D) than its best run.

    Args:
        loss, lr, batch: the runs of one (N, D), shape (runs,); NaN never counts.
        tolerance: runs up to this share above the lowest loss are used, six at least.

    Returns:
        Learning rate and batch.

    Raises:
        DataError: if too few runs are near the best, or the paraboloid has no minimum.
    """
    z, x, y = np.asarray(loss, float), np.log(np.asarray(lr)), np.log(np.asarray(batch))
    near = z <= np.nanmin(z) * (1 + tolerance)
    if near.sum() < 6:
        raise DataError(f"a paraboloid needs 6 runs near the best, there are {near.sum()}")
    x, y, z = x[near], y[near], z[near]
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=1)
    _, *slope, xx, xy, yy = np.linalg.lstsq(terms, z, rcond=None)[0]
    curvature = np.array([[2 * xx, xy], [xy, 2 * yy]])
    if np.linalg.eigvalsh(curvature)[0] <= 0:
        raise DataError("the losses do not rise in every direction: the grid does not bracket them")
    best = np.exp(np.linalg.solve(curvature, -np.array(slope)))
    return float(best[0]), float(best[1])


def grid_regret(loss: Any, lr: Any, batch: Any, at_lr: float, at_batch: float) -> float:
    """loss(nearest grid point) / lowest loss - 1, of a recommendation on one grid of runs.

    Args:
        loss, lr, batch: the runs of one (N, D), shape (runs,).
        at_lr, at_batch: what is recommended; nearest in (log lr, log batch).
    """
    distance = np.log(np.asarray(lr) / at_lr) ** 2 + np.log(np.asarray(batch) / at_batch) ** 2
    losses = np.asarray(loss)
    return float(losses[np.argmin(distance)] / np.nanmin(losses) - 1)


@dataclasses.dataclass(frozen=True)
class Recommendation:
    """Hyper-parameters for runs, with bands that hold for all of them at once.

    Attributes:
        inputs: N and D of the runs.
        values: recommended value by name: lr, batch and, if asked for, weight_decay.
        low, high: joint bands by name, or empty where the sources carry no draws.
        draws: draws by name, shape (..., draws), paired by index.
        level: probability that, for one run, all values lie in their bands; None without bands.
    """

    inputs: dict[str, Any]
    values: dict[str, Any]
    low: dict[str, Any]
    high: dict[str, Any]
    draws: dict[str, Any]
    level: float | None

    def frame(self) -> pd.DataFrame:
        """One row per run: N, D, and every value with its band."""
        columns = dict(self.inputs)
        for name, value in self.values.items():
            columns[name] = value
            if name in self.low:
                columns |= {f"{name}_low": self.low[name], f"{name}_high": self.high[name]}
        return pd.DataFrame({name: np.ravel(np.asarray(x)) for name, x in columns.items()})

    def __repr__(self) -> str:
        return self.frame().to_string(index=False, float_format=lambda x: f"{x:.4g}")


def recommend(
    N: Any, D: Any, *, lr: Any, batch: Any, tau: Any = None, level: float = 0.9
) -> Recommendation:
    """lr(N, D), batch(N, D) and weight_decay = batch / (lr D tau), with joint bands.

    The joint band is the sup-t band in logs: the same number of standard errors for each value,
    just wide enough that a share `level` of the draws has all values of a run inside.

    Args:
        N, D: parameters and tokens, which broadcast.
        lr, batch: a fit, its draws or a published entry of a law in N and D, in either of them, or
            in ``x``, which then stands for D. Draws of the two are paired by index, so that
            bootstraps of the same runs with the same key keep their correlation.
        tau: the same for the timescale of AdamW, if a weight decay is wanted; the batch must then
            be in tokens.
        level: probability content of the bands.

    Raises:
        DataError: if sources have different numbers of draws, or a law has other inputs.

    Source: Li et al. 2025, arXiv 2503.04715; Bergsma et al. 2025, arXiv 2505.13738.
    """
    if not 0 < level < 1:
        raise DataError(f"level must lie between 0 and 1, such as 0.9, got {level!r}")
    N, D = np.broadcast_arrays(np.asarray(N, float), np.asarray(D, float))
    sources = {"lr": lr, "batch": batch} | ({} if tau is None else {"tau": tau})
    counts = {n: len(s.scale) for n, s in sources.items() if hasattr(s, "scale")}
    if len(set(counts.values())) > 1:
        raise DataError(f"the sources have different numbers of draws: {counts}")

    def all_of(params_of: Any, N: Any, D: Any) -> dict[str, Any]:
        found = {name: _value(source, params_of(source), N, D) for name, source in sources.items()}
        if "tau" in found:
            decay = optimal_weight_decay(found["batch"], found["lr"], D, found.pop("tau"))
            found["weight_decay"] = decay
        return {name: np.asarray(x) for name, x in found.items()}

    values = all_of(lambda s: s.fit.params if hasattr(s, "scale") else s.params, N, D)
    inputs = {"N": N, "D": D}
    if not counts:
        return Recommendation(inputs, values, {}, {}, {}, None)
    drawn = all_of(lambda s: s.params, N[..., None], D[..., None])
    shape = (*N.shape, next(iter(counts.values())))
    drawn = {name: np.broadcast_to(x, shape) for name, x in drawn.items()}
    logs = np.stack([np.log(x) for x in drawn.values()])
    center = np.stack([np.log(x) for x in values.values()])[..., None]
    se = np.sqrt(((logs - center) ** 2).mean(axis=-1, keepdims=True))
    size = np.abs(logs - center) / np.where(se > 0, se, 1.0)
    reach = np.quantile(size.max(axis=0), level, axis=-1)
    low, high = (np.exp(center[..., 0] + sign * reach * se[..., 0]) for sign in (-1, 1))
    return Recommendation(
        inputs,
        values,
        dict(zip(values, low, strict=True)),
        dict(zip(values, high, strict=True)),
        drawn,
        level,
    )


def _value(source: Any, params: Any, N: Any, D: Any) -> Any:
    known = {"N": N, "D": D, "x": D}
    unknown = [name for name in source.law.inputs if name not in known]
    if unknown:
        raise DataError(f"law {source.law.name!r} needs {', '.join(unknown)}, not only N and D")
    inputs = [known[name] for name in source.law.inputs]
    return source.law(*inputs, **jax.tree.map(jnp.asarray, params))
