"""Learning curves in one input: shifted, saturating and broken power laws."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from jaxscale._errors import LawError
from jaxscale._law import Input, Law, law
from jaxscale._param import Param, positive, real
from jaxscale.laws._power import power
from jaxscale.laws._root import root

_SCALE = {"x": "any measure of scale: examples, tokens, parameters, FLOPs"}
_ALABDULMOHSIN = "Alabdulmohsin, Neyshabur & Zhai 2022, arXiv 2209.06640"
_CABALLERO = "Caballero et al. 2022, arXiv 2210.14891"


@law(
    family="learning curve",
    source=f"{_ALABDULMOHSIN}, estimator M3",
    evidence="formula read in the authors' code",
    inputs=_SCALE,
    derived={"floor": lambda A, alpha, g, **_: A * power(g, alpha)},
    A=positive(0.3, 1.0, unit="loss * x**alpha"),
    alpha=positive(0.1, 1.5),
    g=positive(0.01, 1.0, unit="1 / x"),
)
def shifted_power_law(x: Any, *, A: Any, alpha: Any, g: Any) -> Any:
    """L(x) = A (1 / x + g)^alpha

    A power law up to about x = 1 / g that then levels off at A g^alpha. With g = 0 it is
    `power_law`. The exponent is positive, as in the authors' code; some texts print -alpha.
    """
    return A * power(1 / x + g, alpha)


def _saturation(z: Any, log_term: Any, gamma: Any) -> Any:
    """log(y / (1 - y)^gamma) minus its target, at y = sigmoid(z); increasing in z."""
    return gamma * jax.nn.softplus(z) - jax.nn.softplus(-z) - log_term


@law(
    family="learning curve",
    source=f"{_ALABDULMOHSIN}, estimator M4",
    evidence="formula read in the authors' code",
    inputs=_SCALE,
    derived={"random_guess": lambda E, span, **_: E + span},
    E=positive(0.1, 1.0, unit="loss"),
    span=positive(0.5, 5.0, unit="loss"),
    A=positive(0.1, 1.0, unit="loss**(1 - gamma) * x**alpha"),
    alpha=positive(0.1, 1.2),
    gamma=positive(0.1, 2.0),
)
def saturating_power_law(x: Any, *, E: Any, span: Any, A: Any, alpha: Any, gamma: Any) -> Any:
    """(L - E) / (E + span - L)^gamma = A / x^alpha, solved for L

    L falls from E + span, the loss of random guessing, to E; in between it is a power law with a
    floor. As gamma goes to zero it becomes ``min(E + A / x^alpha, E + span)``: `power_law_offset`.
    In the authors' letters E = eps_inf, E + span = eps_0, A = beta, alpha = -c, gamma = alpha.
    Test vector: E = 0.1, span = 0.9, A = 2, alpha = 0.3, gamma = 0.5 at 1e4, 0.21201807940763.
    """
    # With y = (L - E) / span in (0, 1) and z = logit(y), one increasing equation for z remains.
    log_term = jnp.log(A) - alpha * jnp.log(x) + (gamma - 1) * jnp.log(span)
    low = jnp.minimum(log_term, 0.0) - jnp.abs(gamma - 1)
    high = (jnp.maximum(log_term, 0.0) + 1.0) / gamma
    return E + span * jax.nn.sigmoid(root(_saturation, low, high, log_term, gamma))


def _slope(segment: int) -> Any:
    """Slope of log(y - a) against log x, beyond the first ``segment`` breaks."""

    def slope(**params: Any) -> Any:
        return -sum((params[f"c{i}"] for i in range(segment + 1)), start=0.0)

    return slope


@functools.cache
def bnsl(breaks: int) -> Law:
    """y(x) = a + b x^-c0 prod_i (1 + (x / d_i)^(1 / f_i))^(-c_i f_i): broken neural scaling law.

    Args:
        breaks: number of breaks, at least 1. Without any it is `power_law_offset`.

    Returns:
        The law ``bnsl_1``, ``bnsl_2``, ... with 3 + 3 ``breaks`` parameters: the asymptote a, the
        scale b and first slope c0; and for each break its place d_i (in the unit of x), its
        sharpness f_i (small is sharp) and the change of slope c_i. The derived ``slope_i`` are the
        slopes of log(y - a) in log x: -c0, then -(c0 + c1), and so on.

    Breaks may change places, d_1 with d_2 and so on, without changing the law. With few runs near
    a break, f and c trade against each other; a break beyond the data cannot be seen.
    Test vector: a = 0.1, b = 2, c0 = 0.3, c1 = 0.5, d1 = 50, f1 = 0.2 at x = 100, 0.4541429509.

    Raises:
        LawError: if there is no break.

    Source: Caballero et al. 2022, arXiv 2210.14891.
    """
    if breaks < 1:
        raise LawError(f"bnsl needs at least one break, got {breaks}; or fit power_law_offset")

    def fn(x: Any, *, a: Any, b: Any, c0: Any, **rest: Any) -> Any:
        log_x = jnp.log(x)
        log_y = jnp.log(b) - c0 * log_x
        for i in range(1, breaks + 1):
            c, d, f = (rest[f"{letter}{i}"] for letter in "cdf")
            # The power of 1 + exp(z) that is no inf where z is large.
            log_y -= c * f * jax.nn.softplus((log_x - jnp.log(d)) / f)
        return a + jnp.exp(log_y)

    params: dict[str, Param] = {
        "a": positive(0.1, 1.0, unit="loss"),
        "b": positive(0.1, 1.0, unit="loss * x**c0"),
        "c0": real(0.0, 0.4),
    }
    for i in range(1, breaks + 1):
        # Starts in order, so that no two restarts differ by the names of the breaks alone.
        early, late = 6.0 ** (2 * (i - 1) / breaks - 1), 6.0 ** (2 * i / breaks - 1)
        params[f"c{i}"] = real(-0.5, 1.0)
        params[f"d{i}"] = positive(early, late, unit="x")
        params[f"f{i}"] = positive(0.1, 1.0)
    product = " ".join(f"(1 + (x/d{i})^(1/f{i}))^(-c{i} f{i})" for i in range(1, breaks + 1))
    return Law(
        name=f"bnsl_{breaks}",
        fn=fn,
        params=tuple(params.items()),
        inputs=("x",),
        family="learning curve",
        formula=f"y(x) = a + b x^-c0 {product}",
        source=_CABALLERO,
        evidence="formula read in the authors' code",
        derived=tuple((f"slope_{i}", _slope(i)) for i in range(breaks + 1)),
        domain=(("x", Input(_SCALE["x"])),),
    )


bnsl_1 = bnsl(1)
bnsl_2 = bnsl(2)
