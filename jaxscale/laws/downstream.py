"""Laws of downstream metrics: accuracy from loss, scores from data, pass rates, fine-tuning."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxscale._errors import DataError
from jaxscale._law import Input, law
from jaxscale._param import interval, positive, real, unit
from jaxscale.laws._power import power

_BHAGIA = "Bhagia et al. 2024 (OLMo ladder), arXiv 2412.04403, step 2"
_LIN = "Lin et al. 2024, arXiv 2402.02314"
_ANY = Input("any number", lower=-np.inf)
_BEND = 1e-4  # where the logarithm of Isik's law bends, so as to stay positive


@law(
    family="downstream",
    predicts="accuracy",
    source=_BHAGIA,
    evidence="formula read in the authors' code; coefficients re-fitted",
    inputs={"L": Input("task loss, such as bits per byte of the answer", closed=True)},
    top=interval(0.0, 1.0, 0.7, 0.999),
    drop=unit(0.3, 0.95),
    k=positive(1.0, 15.0),
    L0=positive(0.4, 1.6),
)
def sigmoid_accuracy(L: Any, *, top: Any, drop: Any, k: Any, L0: Any) -> Any:
    """Acc(L) = top - drop / (1 + exp(-k (L - L0)))

    The authors write a / (1 + exp(-k (L - L0))) + b: top = b, drop = -a. Chance is top - drop.
    Their fit adds one point, L = 0 at the task's maximum, which holds `top`; use `Gaussian`.
    """
    return top - drop * jax.nn.sigmoid(k * (L - L0))


@law(
    family="downstream",
    predicts="accuracy",
    source=_BHAGIA,
    evidence="formula read in the authors' code",
    inputs={"L": Input("task loss, such as bits per byte of the answer", closed=True)},
    a=positive(0.02, 0.5),
    k=positive(1.0, 15.0),
    L0=positive(0.4, 1.6),
)
def log_sigmoid_accuracy(L: Any, *, a: Any, k: Any, L0: Any) -> Any:
    """Acc(L) = 1 + a log(1 - 1 / (1 + exp(-k (L - L0)))) = 1 - a log(1 + exp(k (L - L0)))

    The alternative in the ladder's code (which has the opposite sign of a). It has no floor, so
    that it turns negative at high loss; use `Gaussian`.
    """
    return 1 - a * jax.nn.softplus(k * (L - L0))


@law(
    family="downstream",
    predicts="score",
    source="Isik et al. 2024, arXiv 2402.04177",
    evidence="formula read in the paper; coefficients not",
    inputs={"D": "pre-training tokens"},
    A=positive(10.0, 1e4, unit="D**(-alpha)"),
    alpha=positive(0.1, 1.0),
    beta=positive(0.5, 3.0),
)
def log_score(D: Any, *, A: Any, alpha: Any, beta: Any) -> Any:
    """score(D) = (log(A D^alpha))^beta

    BLEU, ROUGE or COMET after fine-tuning on a fixed set. The logarithm u must be positive: near
    and below zero it becomes (u + sqrt(u^2 + 4e-8)) / 2, which differs by 1e-8 at u = 1.
    If the pre-training mixture does not fit the task, BLEU can fall while the loss improves.
    """
    v = jnp.log(A) + alpha * jnp.log(D)
    root = jnp.sqrt(v * v + 4 * _BEND**2)
    # Two ways to write (v + root) / 2, of which one loses its digits on either side of zero.
    u = jnp.where(v > 0, 0.5 * (v + root), 2 * _BEND**2 / (root - jnp.minimum(v, 0.0)))
    return power(u, beta)


def alignment_score(source: Any, target: Any) -> Any:
    """P_source P_target + 0.7 P_source + 0.8 P_target

    How well pre-training data suit a translation task, from the shares of its two languages in
    them. Any shape.

    Source: Isik et al. 2024, arXiv 2402.04177.
    """
    return source * target + 0.7 * source + 0.8 * target


@law(
    family="downstream",
    predicts="pass rate",
    source="Hu et al. 2023 (PassUntil), arXiv 2310.03262",
    evidence="formula read in the paper",
    inputs={"N": "parameters"},
    c=positive(0.3, 10.0, unit="N**alpha"),
    alpha=real(0.05, 1.0),
)
def pass_rate(N: Any, *, c: Any, alpha: Any) -> Any:
    """PU(N) = exp(-c / N^alpha)

    log(-log PU) is a straight line in log N; a curved one is called emergent, or capped.
    Fit with `Binomial`, the samples drawn as weights: sampling until r passes gives the same
    likelihood as r passes in a fixed number of samples, and a rate of 0 is no obstacle.
    """
    return jnp.exp(-c * power(N, -alpha))


@law(
    family="downstream",
    predicts="accuracy",
    source="Zhang et al. 2023 (NeQA), simulation of a composed task",
    evidence="formula read in the authors' code",
    inputs={"x": _ANY},
    a=interval(0.0, 1.0, 0.3, 0.9),
    b=real(-0.02, 0.02),
    k=positive(0.5, 2.0),
    m=real(-2.0, 2.0),
)
def composed_accuracy(x: Any, *, a: Any, b: Any, k: Any, m: Any) -> Any:
    """Acc(x) = t1 t2 + (1 - t1) (1 - t2), t1 = clip(a + b x), t2 = 1 / (1 + exp(-k (x - m)))

    x is a scale in logs. A task right when both subtasks are right or both wrong: with a linear t1
    the curve can fall, rise, or fall and rise. The slope of t1 leaves no trace where t2 = 1/2.
    Use `Gaussian` or `Binomial`.
    """
    t1 = jnp.clip(a + b * x, 0.0, 1.0)
    t2 = jax.nn.sigmoid(k * (x - m))
    return t1 * t2 + (1 - t1) * (1 - t2)


@law(
    family="downstream",
    predicts="metric",
    source="for the U-shaped trends of Wei et al. 2022, arXiv 2211.02011, which print no formula",
    evidence="a quadratic, no published formula",
    inputs={"C": "training FLOPs, or any scale"},
    y0=real(0.3, 1.5, unit="loss"),
    q=real(-0.2, 0.2, unit="loss"),
    C0=positive(0.03, 30.0, unit="C"),
)
def u_shaped(C: Any, *, y0: Any, q: Any, C0: Any) -> Any:
    """y(C) = y0 + q (log(C / C0))^2

    Turns at C0, from better to worse or back. The formula of a trend, not of a mechanism: it is
    wrong far from its data. Where the metric may reach zero, use `Gaussian`.
    """
    return y0 + q * (jnp.log(C) - jnp.log(C0)) ** 2


@law(
    family="downstream",
    source=f"{_LIN}; the parameters are those of Lin et al. 2025 (SLDBench), arXiv 2507.21184",
    evidence="formula read in the authors' code",
    inputs={"D": Input("fine-tuning examples", closed=True)},
    E=positive(0.3, 1.0, unit="loss"),
    drop=positive(0.1, 1.0, unit="loss"),
    D0=positive(1e2, 1e6),
    beta=positive(0.1, 1.5),
)
def rectified_finetuning(D: Any, *, E: Any, drop: Any, D0: Any, beta: Any) -> Any:
    """L(D) = E + drop / (1 + (D / D0)^beta) = E + B / (D_l + D^beta)

    The paper's D_l = D0^beta and B = drop D0^beta, see `rectified_parameters`. D = 0 is allowed:
    L(0) = E + drop. Below D0 the curve is flat, the phase before the power law. D is a plain count
    (it may be 0, which has no logarithm), searched from 1e2 to 1e6 for D0.
    """
    started = D > 0
    grown = jnp.where(started, power(jnp.where(started, D, 1.0) / D0, beta), 0.0)
    return E + drop / (1 + grown)


@law(
    family="downstream",
    source=f"{_LIN}, the law it is compared with",
    evidence="formula read in the authors' code",
    inputs={"D": "fine-tuning examples"},
    B=positive(0.5, 5.0, unit="loss**(-1/alpha) * D**(-beta)"),
    E=positive(0.1, 1.0, unit="loss**(1/alpha)"),
    alpha=positive(0.3, 2.0),
    beta=positive(0.1, 1.0),
)
def vanilla_finetuning(D: Any, *, B: Any, E: Any, alpha: Any, beta: Any) -> Any:
    """L(D) = (1 / (B D^beta) + E)^alpha

    Infinite at D = 0. With alpha = 1 it is `rectified_finetuning` without its flat phase, D_l = 0
    and B = 1 / (this B).
    """
    return power(power(D, -beta) / B + E, alpha)


def rectified_parameters(*, E: Any, drop: Any, D0: Any, beta: Any) -> dict[str, dict[str, Any]]:
    """D_l = D0^beta, B = drop D_l; A = E + drop, b = -log D_l: one curve in published parameters.

    Returns:
        By name: ``"paper"`` (B, D_l, beta, E: L = B / (D_l + D^beta) + E), ``"code"`` (A, E, beta,
        b: (A - E) / (1 + exp(beta log D + b)) + E) and ``"sldbench"`` (theta0..theta3:
        theta2 + theta0 / (D^theta1 + theta3)).

    Source: Lin et al. 2024, arXiv 2402.02314, paper and code; Lin et al. 2025, arXiv 2507.21184.
    """
    D_l = power(D0, beta)
    return {
        "paper": {"B": drop * D_l, "D_l": D_l, "beta": beta, "E": E},
        "code": {"A": E + drop, "E": E, "beta": beta, "b": -beta * jnp.log(D0)},
        "sldbench": {"theta0": drop * D_l, "theta1": beta, "theta2": E, "theta3": D_l},
    }


def rectified_from_paper(*, B: Any, D_l: Any, beta: Any, E: Any) -> dict[str, Any]:
    """D0 = D_l^(1 / beta), drop = B / D_l: parameters of `rectified_finetuning`.

    Source: Lin et al. 2024, arXiv 2402.02314. SLDBench's theta0, theta3, theta1, theta2 in order.
    """
    return {"E": E, "drop": B / D_l, "D0": power(D_l, 1 / beta), "beta": beta}


def rectified_from_code(*, A: Any, E: Any, beta: Any, b: Any) -> dict[str, Any]:
    """D0 = exp(-b / beta), drop = A - E: parameters of `rectified_finetuning`.

    Source: the code of Lin et al. 2024, arXiv 2402.02314.
    """
    return {"E": E, "drop": A - E, "D0": jnp.exp(-b / beta), "beta": beta}


@law(
    family="downstream",
    predicts="accuracy",
    source="Maia Polo et al. 2024 (Sloth), mean of the beta model",
    evidence="formula read in the authors' code",
    inputs={"N": "parameters", "D": "training tokens"},
    floor=interval(0.0, 1.0, 0.05, 0.4),
    K=positive(0.1, 3.0, unit="N**(-u) * D**(-v)"),
    u=real(0.1, 1.0),
    v=real(0.1, 1.0),
)
def skill_accuracy(N: Any, D: Any, *, floor: Any, K: Any, u: Any, v: Any) -> Any:
    """Acc(N, D) = floor + (1 - floor) sigmoid(b + u log N + v log D), K = exp(b)

    One benchmark and one family; `floor` is the rate of guessing. With the number of questions as
    weights `Binomial` fits it; between questions of unequal difficulty scores scatter more.
    """
    odds = jnp.log(K) + u * jnp.log(N) + v * jnp.log(D)
    return floor + (1 - floor) * jax.nn.sigmoid(odds)


@law(
    family="downstream",
    predicts="accuracy",
    source="Ruan et al. 2024, arXiv 2405.10938",
    evidence="formula read in the authors' code",
    inputs={"pc1": _ANY, "pc2": _ANY, "pc3": _ANY},
    floor=interval(0.0, 0.5, 0.02, 0.3),
    top=interval(0.5, 1.0, 0.8, 0.999),
    w1=real(-2.0, 2.0),
    w2=real(-2.0, 2.0),
    w3=real(-2.0, 2.0),
    b=real(-1.0, 1.0),
)
def capability_sigmoid(
    pc1: Any, pc2: Any, pc3: Any, *, floor: Any, top: Any, w1: Any, w2: Any, w3: Any, b: Any
) -> Any:
    """y(PC) = floor + (top - floor) sigmoid(w1 PC1 + w2 PC2 + w3 PC3 + b)

    A metric from three principal components of benchmark scores, see `jaxscale.capabilities`.
    Use `Gaussian` or `Huber`. Floor and top are open where no model is near them.
    """
    return floor + (top - floor) * jax.nn.sigmoid(w1 * pc1 + w2 * pc2 + w3 * pc3 + b)


def pass_until(passes: Any, samples: Any) -> Any:
    """PU = r / K, the pass rate of K samples drawn until r passed (maximum likelihood).

    Source: Hu et al. 2023, arXiv 2310.03262.
    """
    return jnp.asarray(passes, float) / jnp.asarray(samples, float)


def decision_accuracy(predicted: Any, observed: Any, *, ties: float | None = None) -> float:
    """mean over pairs of 1[sign(yhat_A - yhat_B) = sign(y_A - y_B)]

    Args:
        predicted, observed: one number per choice (such as a data recipe), shape (choices,).
        ties: what a pair counts that is tied in either of the two, such as 0.5 for a coin; None
            takes the formula at its word, sign(0) = 0: 1 if tied in both, 0 if in one.

    Raises:
        DataError: for fewer than two choices, unequal lengths or numbers that are not finite.

    Source: Magnusson et al. 2025 (DataDecide), arXiv 2504.11393.
    """
    a, b = np.asarray(predicted, float), np.asarray(observed, float)
    if a.ndim != 1 or a.shape != b.shape or len(a) < 2:
        raise DataError(f"give two or more choices of each, not {a.shape} and {b.shape}")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise DataError("predictions and observations must be finite")
    i, j = np.triu_indices(len(a), 1)
    left, right = np.sign(a[i] - a[j]), np.sign(b[i] - b[j])
    right_order = (left == right).astype(float)
    if ties is not None:
        right_order[(left == 0) | (right == 0)] = ties
    return float(right_order.mean())


def choice_metrics(log_p: Any, correct: Any) -> dict[str, Any]:
    """log p(correct) -> p(correct) -> p(correct) / sum_i p(choice_i) -> Brier score, accuracy

    The chain along which predictability is lost: every step brings in the mass on wrong choices.

    Args:
        log_p: log probability of every choice, shape (samples, choices).
        correct: index of the right choice, shape (samples,).

    Returns:
        Arrays of shape (samples,): log_p_vocab, p_vocab, p_choices, brier, accuracy.

    Source: Schaeffer et al. 2024, arXiv 2406.04391.
    """
    log_p = jnp.asarray(log_p, float)
    right = jax.nn.one_hot(jnp.asarray(correct), log_p.shape[-1])
    of_right = (log_p * right).sum(axis=-1)
    share = jax.nn.softmax(log_p, axis=-1)
    return {
        "log_p_vocab": of_right,
        "p_vocab": jnp.exp(of_right),
        "p_choices": (share * right).sum(axis=-1),
        "brier": ((share - right) ** 2).sum(axis=-1),
        "accuracy": (jnp.argmax(log_p, axis=-1) == jnp.asarray(correct)).astype(float),
    }
