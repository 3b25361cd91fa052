"""Laws of the shares of domains in the training data, and the mixture that suits best."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxscale._errors import LawError
from jaxscale._law import Input, Law, law
from jaxscale._param import Param, positive, real
from jaxscale.laws._power import power

_YE = "Ye et al. 2024, arXiv 2403.16952"
_SHUKOR = "Shukor et al. 2025, arXiv 2507.09404"
_SHARE = Input("share of the domain in the training data", upper=1, closed=True)


def _numbered(prefix: str, count: int) -> tuple[str, ...]:
    return tuple(f"{prefix}_{i + 1}" for i in range(count))


def _check(domains: int) -> None:
    if domains < 2:
        raise LawError(f"a mixture needs at least 2 domains, got {domains}")


def _signed(fn: Callable[..., Any], inputs: tuple[str, ...], params: tuple[str, ...]) -> Any:
    """The function ``fn(inputs, params)`` of two dictionaries, with these names as arguments."""

    def flat(*values: Any, **given: Any) -> Any:
        return fn(dict(zip(inputs, values, strict=True)), given)

    kinds = inspect.Parameter
    flat.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [kinds(name, kinds.POSITIONAL_OR_KEYWORD) for name in inputs]
        + [kinds(name, kinds.KEYWORD_ONLY) for name in params]
    )
    flat.__doc__ = fn.__doc__
    flat.__name__ = fn.__name__
    return flat


def _many(names: tuple[str, ...], param: Param) -> dict[str, Any]:
    return dict.fromkeys(names, param)


# Data mixing laws.


def mixing_loss(r: Any, *, c: Any, k: Any) -> Any:
    """L(r) = c + prod_j k_j^(r_j)

    `data_mixing` with arrays: r and k have shape (domains,), and only the ratios of r count.

    Source: Ye et al. 2024, arXiv 2403.16952, equation 1, in the gauge of `data_mixing`.
    """
    r = jnp.asarray(r)
    return c + jnp.exp(jnp.sum(r * jnp.log(k)) / jnp.sum(r))


@functools.cache
def data_mixing(domains: int) -> Law:
    """L(r) = c + prod_j k_j^(r_j) over ``domains`` shares r_1 .. r_M

    The paper writes c + k exp(sum_j t_j r_j). As the shares add up to one, a constant may move
    from t to log k: only k_j = k exp(t_j) is determined, the loss above the floor c after training
    on domain j alone (`pure_losses` converts). Shares are divided by their sum.

    Raises:
        LawError: for fewer than two domains.

    Source: Ye et al. 2024, arXiv 2403.16952, equation 1.
    """
    _check(domains)
    shares, scales = _numbered("r", domains), _numbered("k", domains)

    def mixing(x: dict[str, Any], p: dict[str, Any]) -> Any:
        """L(r) = c + prod_j k_j^(r_j)"""
        return mixing_loss(
            jnp.stack([x[name] for name in shares]),
            c=p["c"],
            k=jnp.stack([p[name] for name in scales]),
        )

    made = law(
        name=f"data_mixing_{domains}",
        family="mixture",
        source=f"{_YE}, equation 1",
        evidence="formula and coefficients read in the authors' code, re-fitted",
        inputs=dict.fromkeys(shares, _SHARE),
        c=positive(0.3, 1.0, unit="loss"),
        **_many(scales, positive(0.05, 1.0, unit="loss")),
    )
    return made(_signed(mixing, shares, ("c", *scales)))


def pure_losses(log_k: Any, t: Any) -> Any:
    """k_j = exp(log_k + t_j)

    What `data_mixing` fits, from the coefficients as printed: t has shape (domains,).

    Source: Ye et al. 2024, arXiv 2403.16952.
    """
    return jnp.exp(log_k + jnp.asarray(t, float))


def overall_mixing_loss(r: Any, *, s: Any, c: Any, k: Any) -> Any:
    """L(r) = sum_i s_i (c_i + prod_j k_ij^(r_j))

    Loss on validation data that is itself a mixture of domains i with shares s, given or learned.

    Args:
        r: training shares, shape (domains,).
        s, c: share and floor of each validation domain, shape (validation,).
        k: loss above the floor after training on j alone, shape (validation, domains).

    Source: Ye et al. 2024, arXiv 2403.16952, section 3.3.
    """
    k = jnp.asarray(k, float)
    each = jax.vmap(lambda floor, scales: mixing_loss(r, c=floor, k=scales))(jnp.asarray(c), k)
    return jnp.sum(jnp.asarray(s) * each)


@functools.cache
def implicit_mixing(domains: int, hidden: int = 2) -> Law:
    """L(r) = c + sum_i prod_j k_ij^(r_j) over ``hidden`` validation domains that nobody labeled

    `overall_mixing_loss` with shares s_i unknown: only c = sum_i s_i c_i and the products s_i k_ij
    are determined, which are what is fitted. The hidden domains may change places.

    Raises:
        LawError: for fewer than two domains or fewer than one hidden domain.

    Source: Ye et al. 2024, arXiv 2403.16952, section 3.3, in a gauge of its own.
    """
    _check(domains)
    if hidden < 1:
        raise LawError(f"an implicit mixture needs at least 1 hidden domain, got {hidden}")
    shares = _numbered("r", domains)
    scales = [_numbered(f"k_{i + 1}", domains) for i in range(hidden)]
    flat = tuple(name for row in scales for name in row)

    def mixing(x: dict[str, Any], p: dict[str, Any]) -> Any:
        """L(r) = c + sum_i prod_j k_ij^(r_j)"""
        r = jnp.stack([x[name] for name in shares])
        terms = [mixing_loss(r, c=0.0, k=jnp.stack([p[n] for n in row])) for row in scales]
        return p["c"] + sum(terms)

    made = law(
        name=f"implicit_mixing_{domains}" + ("" if hidden == 2 else f"_{hidden}"),
        family="mixture",
        source=f"{_YE}, section 3.3",
        evidence="formula read in the authors' code",
        inputs=dict.fromkeys(shares, _SHARE),
        c=positive(0.3, 1.0, unit="loss"),
        **_many(flat, positive(0.05, 1.0, unit="loss")),
    )
    return made(_signed(mixing, shares, ("c", *flat)))


# Laws of size, tokens and mixture.


def _utility(h: Any, C: Any, gamma: Any) -> Any:
    """sum_i C_i h_i^gamma_i; a domain without data adds nothing."""
    some = h > 0
    return jnp.sum(jnp.where(some, C * power(jnp.where(some, h, 1.0), gamma), 0.0))


def mixture_term(h: Any, *, C: Any, gamma: Any) -> Any:
    """1 / sum_i C_i h_i^gamma_i

    What the mixture adds to the loss of `shukor_additive`. Arrays of shape (domains,).

    Source: Shukor et al. 2025, arXiv 2507.09404, equation 4.
    """
    return 1 / _utility(jnp.asarray(h, float), jnp.asarray(C, float), jnp.asarray(gamma, float))


_SIZES: dict[str, str | Input] = {"N": "parameters", "D": "training tokens"}


@functools.cache
def shukor_additive(domains: int) -> Law:
    """L(N, D, h) = E + 1 / sum_i C_i h_i^gamma_i + A / N^alpha + B / D^beta

    The best mixture does not depend on N and D. E and the mixture term trade places as the gammas
    approach 0. At h_i = 0 the slope by h_i is infinite for gamma_i < 1 and reported as 0.

    Raises:
        LawError: for fewer than two domains.

    Source: Shukor et al. 2025, arXiv 2507.09404, equation 2.4.
    """
    _check(domains)
    shares, C, gamma = (_numbered(x, domains) for x in ("h", "C", "gamma"))
    inputs = ("N", "D", *shares)

    def additive(x: dict[str, Any], p: dict[str, Any]) -> Any:
        """L(N, D, h) = E + 1 / sum_i C_i h_i^gamma_i + A / N^alpha + B / D^beta"""
        h, scale, exponent = _stacked(x, shares), _stacked(p, C), _stacked(p, gamma)
        rest = p["A"] * power(x["N"], -p["alpha"]) + p["B"] * power(x["D"], -p["beta"])
        return p["E"] + 1 / _utility(h, scale, exponent) + rest

    made = law(
        name=f"shukor_additive_{domains}",
        family="mixture",
        source=f"{_SHUKOR}, equation 2.4",
        evidence="formula read in the paper",
        inputs={**_SIZES, **dict.fromkeys(shares, _SHARE)},
        **_base("loss * N**alpha", "loss * D**beta"),
        **_many(C, positive(0.5, 5.0, unit="1/loss")),
        **_many(gamma, positive(0.1, 1.0)),
    )
    return made(_signed(additive, inputs, ("E", "A", "B", "alpha", "beta", *C, *gamma)))


@functools.cache
def shukor_joint(domains: int) -> Law:
    """L(N, D, h) = E + 1 / sum_i C_i h_i^gamma_i + A_h / N^alpha + B_h / D^beta

    A_h = (sum_i A_i h_i)^gamma_A and B_h = (sum_i B_i h_i)^gamma_B, so that the best mixture
    changes with scale. gamma_A = gamma_B = 1, A_i = A and B_i = B is `shukor_additive`.

    Raises:
        LawError: for fewer than two domains.

    Source: Shukor et al. 2025, arXiv 2507.09404, equation 2.5.
    """
    _check(domains)
    shares, C, gamma, A, B = (_numbered(x, domains) for x in ("h", "C", "gamma", "A", "B"))
    inputs = ("N", "D", *shares)
    names = ("E", "alpha", "beta", "gamma_A", "gamma_B", *C, *gamma, *A, *B)

    def joint(x: dict[str, Any], p: dict[str, Any]) -> Any:
        """L(N, D, h) = E + 1 / sum_i C_i h_i^gamma_i + A_h / N^alpha + B_h / D^beta"""
        h = _stacked(x, shares)
        A_h = power(jnp.sum(_stacked(p, A) * h), p["gamma_A"])
        B_h = power(jnp.sum(_stacked(p, B) * h), p["gamma_B"])
        rest = A_h * power(x["N"], -p["alpha"]) + B_h * power(x["D"], -p["beta"])
        return p["E"] + 1 / _utility(h, _stacked(p, C), _stacked(p, gamma)) + rest

    base = _base("", "")
    made = law(
        name=f"shukor_joint_{domains}",
        family="mixture",
        source=f"{_SHUKOR}, equation 2.5",
        evidence="formula read in the paper",
        inputs={**_SIZES, **dict.fromkeys(shares, _SHARE)},
        **{name: base[name] for name in ("E", "alpha", "beta")},
        gamma_A=positive(0.3, 1.5),
        gamma_B=positive(0.3, 1.5),
        **_many(C, positive(0.5, 5.0, unit="1/loss")),
        **_many(gamma, positive(0.1, 1.0)),
        **_many(A, positive(0.1, 1.0, unit="(loss * N**alpha)**(1/gamma_A)")),
        **_many(B, positive(0.1, 1.0, unit="(loss * D**beta)**(1/gamma_B)")),
    )
    return made(_signed(joint, inputs, names))


def _stacked(values: dict[str, Any], names: tuple[str, ...]) -> Any:
    return jnp.stack([values[name] for name in names])


def _base(A: str, B: str) -> dict[str, Any]:
    return {
        "E": positive(0.3, 1.0, unit="loss"),
        "A": positive(0.3, 1.0, unit=A),
        "B": positive(0.3, 1.0, unit=B),
        "alpha": real(0.1, 1.0),
        "beta": real(0.1, 1.0),
    }


@law(
    family="mixture",
    source="Que et al. 2024, arXiv 2406.01375",
    evidence="formula seen second-hand in two notes that agree; no coefficients",
    inputs={
        **_SIZES,
        "r": Input("share of the domain whose loss is predicted", upper=1, closed=True),
    },
    E=positive(0.3, 1.0, unit="loss"),
    A=positive(0.1, 1.0, unit="loss * N**alpha"),
    B=positive(0.1, 1.0, unit="loss * D**beta"),
    C=positive(0.05, 0.5, unit="loss"),
    alpha=real(0.1, 1.0),
    beta=real(0.1, 1.0),
    gamma=positive(0.2, 1.5),
    eta=positive(0.1, 1.0),
    eps=positive(0.05, 0.5),
)
def dcpt(
    N: Any, D: Any, r: Any,
    *, E: Any, A: Any, B: Any, C: Any, alpha: Any, beta: Any, gamma: Any, eta: Any, eps: Any,
) -> Any:  # fmt: skip
    """L(N, D, r) = E + A / N^alpha + B r^eta / D^beta + C / (r + eps)^gamma

    Continued pre-training on a mixture of a domain and general data; r is the share of whichever
    of the two the loss is measured on. eps > 0 keeps the loss finite without any such data.
    """
    some = r > 0
    share = jnp.where(some, power(jnp.where(some, r, 1.0), eta), 0.0)
    sizes = A * power(N, -alpha) + B * share * power(D, -beta)
    return E + sizes + C * power(r + eps, -gamma)


# The best mixture.


def best_mixture(
    loss: Callable[[Any], Any], domains: int, *, start: Any = None, steps: int = 2000
) -> Any:
    """h <- h exp(-rate grad L(h)) / Z, the shares of least loss by mirror descent

    Shares stay positive and add up to one without projection. A step that would raise the loss is
    not taken and halves the rate; one that lowers it raises the rate. For a convex loss, such as
    `overall_mixing_loss`, the result is the global optimum; otherwise try several starts.

    Args:
        loss: function of shares of shape (domains,), scalar and differentiable inside the simplex.
        domains: number of domains.
        start: first shares, all positive; default equal ones.
        steps: number of steps.

    Returns:
        Shares, shape (domains,).

    Raises:
        LawError: if the start is not a point inside the simplex.

    Source: Shukor et al. 2025, arXiv 2507.09404, section 2; Nemirovski and Yudin 1983.

    Example:
        >>> best_mixture(lambda r: overall_mixing_loss(r, s=s, c=c, k=k), 5)
    """
    h = jnp.full(domains, 1 / domains) if start is None else jnp.asarray(start, float)
    if h.shape != (domains,) or not bool(jnp.all(h > 0)) or abs(float(h.sum()) - 1) > 1e-6:
        raise LawError(f"a start needs {domains} positive shares that add up to 1, got {h}")
    slope = jax.value_and_grad(loss)

    def step(_: int, state: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
        log_h, rate, value = state
        _, gradient = slope(jnp.exp(log_h))
        moved = jax.nn.log_softmax(log_h - rate * (gradient - jnp.min(gradient)))
        lower = loss(jnp.exp(moved))
        better = lower <= value
        kept = jnp.where(better, moved, log_h)
        return kept, rate * jnp.where(better, 1.5, 0.5), jnp.where(better, lower, value)

    @jax.jit
    def descend(h: Any) -> Any:
        value, gradient = slope(h)
        rate = 1 / (jnp.ptp(gradient) + 1e-12)
        return jnp.exp(jax.lax.fori_loop(0, steps, step, (jnp.log(h), rate, value))[0])

    return descend(h)


data_mixing_5 = data_mixing(5)
implicit_mixing_3 = implicit_mixing(3)
shukor_additive_3 = shukor_additive(3)
shukor_joint_2 = shukor_joint(2)
