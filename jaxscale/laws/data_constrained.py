"""Laws of limited unique data: repeated tokens, ensembles, and pools that lose their utility.

Repetition enters as ``epochs``, tokens seen over unique tokens, U = D / epochs: a ratio stays what
it is when tokens are counted in billions.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp

from jaxscale._law import Input, Law, law
from jaxscale._param import positive, real
from jaxscale.laws._power import power
from jaxscale.laws._root import root
from jaxscale.laws.chinchilla import chinchilla, optimal_ratio

_MUENNIGHOFF = "Muennighoff et al. 2023, arXiv 2305.16264"
_INPUTS: dict[str, str | Input] = {
    "N": "parameters",
    "D": "tokens seen, repeats included",
    "epochs": Input(
        "tokens seen per unique token, D / U; below 1 nothing is repeated",
        follows=lambda D, U: D / U,
    ),
}
_EVIDENCE = "formula and coefficients read in the authors' code, re-fitted"

# The authors' base law for C4 (E, A, B and alpha = beta), which their second stage holds fixed.
C4_BASE = {
    "E": math.exp(0.6254804),
    "A": math.exp(6.255414),
    "B": math.exp(7.3049974),
    "alpha": 0.3526596,
    "beta": 0.3526596,
}


def decayed(x: Any, unique: Any, decay: Any) -> Any:
    """x' = u + u R (1 - exp(-(x/u - 1) / R)) for x > u, else x

    What ``x`` units are worth when only ``unique`` of them are new: at most u (1 + R). Value and
    slope are continuous at x = u. Scalars.

    Args:
        x: tokens seen, or parameters.
        unique: unique tokens, or the parameters that they can use; same unit as ``x``.
        decay: R, the number of repeats after which a further one is worth 1/e of a new unit.

    Source: Muennighoff et al. 2023, arXiv 2305.16264, equations 5 and 6.
    """
    repeats = jnp.where(x > unique, x / unique - 1, 0.0)
    return jnp.where(x > unique, unique * (1 - decay * jnp.expm1(-repeats / decay)), x)


def usable_parameters(U: Any, *, A: Any, B: Any, alpha: Any, beta: Any) -> Any:
    """U_N = (alpha A / (beta B))^(1/alpha) U^(beta/alpha)

    The compute-optimal model size for U unique tokens; parameters beyond it count as repeated.
    Any shape. Test vector: 0.051 U for the C4 coefficients (alpha = beta).

    Source: Muennighoff et al. 2023, arXiv 2305.16264, section 3.1.
    """
    return jnp.exp((jnp.log(alpha * A) - jnp.log(beta * B) + beta * jnp.log(U)) / alpha)


def fresh_optimum(C: Any, *, A: Any, B: Any, alpha: Any, beta: Any) -> Any:
    """N* = G (C/6)^(beta/(alpha+beta))

    The best size for C FLOPs and endless new data, as for `chinchilla`. Any shape.

    Source: Hoffmann et al. 2022, arXiv 2203.15556, equation 4.
    """
    return optimal_ratio(A, B, alpha, beta) * power(C / 6, beta / (alpha + beta))


def effective_size(
    N: Any, D: Any, epochs: Any, *, A: Any, B: Any, alpha: Any, beta: Any, R_D: Any, R_N: Any
) -> tuple[Any, Any]:
    """N' and D' with L = E + A / N'^alpha + B / D'^beta; see `decayed`. Scalars.

    Source: Muennighoff et al. 2023, arXiv 2305.16264, equations 5 and 6.
    """
    U = D / jnp.where(epochs > 1, epochs, 1.0)
    U_N = usable_parameters(U, A=A, B=B, alpha=alpha, beta=beta)
    return decayed(N, U_N, R_N), decayed(D, U, R_D)


def _repeated(N: Any, D: Any, epochs: Any, E: Any, **p: Any) -> Any:
    N_eff, D_eff = effective_size(N, D, epochs, **p)
    return chinchilla.fn(N_eff, D_eff, E=E, A=p["A"], B=p["B"], alpha=p["alpha"], beta=p["beta"])


@law(
    family="data constrained",
    source=f"{_MUENNIGHOFF}, equations 5 to 7",
    evidence=_EVIDENCE,
    inputs=_INPUTS,
    E=positive(0.3, 1.0, unit="loss"),
    A=positive(0.3, 1.0, unit="loss * N**alpha"),
    B=positive(0.3, 1.0, unit="loss * D**beta"),
    alpha=positive(0.1, 1.0),
    beta=positive(0.1, 1.0),
    R_D=positive(2.0, 30.0),
    R_N=positive(1.0, 15.0),
)
def muennighoff(
    N: Any, D: Any, epochs: Any,
    *, E: Any, A: Any, B: Any, alpha: Any, beta: Any, R_D: Any, R_N: Any,
) -> Any:  # fmt: skip
    """L(N, D, U) = E + A / N'^alpha + B / D'^beta with N', D' discounted for repetition

    `chinchilla` of effective sizes (`effective_size`): of D tokens, U = D / epochs are unique, and
    the k-th repeat of a token is worth exp(-k / R_D) of a new one; likewise for parameters beyond
    those that U tokens can use. The law never rises with epochs: do not use it where loss does
    (beyond about 40). Test vector: C4 at (6.34e9, 242e9, U = 25e9) gives 2.2256440889984477.
    """
    return _repeated(N, D, epochs, E, A=A, B=B, alpha=alpha, beta=beta, R_D=R_D, R_N=R_N)


@law(
    family="data constrained",
    source=f"{_MUENNIGHOFF}, as fitted by the authors",
    evidence=_EVIDENCE,
    inputs=_INPUTS,
    E=positive(0.3, 1.0, unit="loss"),
    A=positive(0.3, 1.0, unit="loss * N**alpha"),
    B=positive(0.3, 1.0, unit="loss * D**alpha"),
    alpha=positive(0.1, 1.0),
    R_D=positive(2.0, 30.0),
    R_N=positive(1.0, 15.0),
)
def muennighoff_tied(
    N: Any, D: Any, epochs: Any, *, E: Any, A: Any, B: Any, alpha: Any, R_D: Any, R_N: Any
) -> Any:
    """L(N, D, U) = E + A / N'^alpha + B / D'^alpha with N', D' discounted for repetition

    `muennighoff` with one exponent, so that the optimal N grows in proportion to D.
    """
    return _repeated(N, D, epochs, E, A=A, B=B, alpha=alpha, beta=alpha, R_D=R_D, R_N=R_N)


def repeats_of(
    *, E: float, A: float, B: float, alpha: float, beta: float, name: str = "muennighoff_repeats"
) -> Law:
    """L(R_D, R_N) = E + A / N'^alpha + B / D'^beta with the base law held fixed

    The second stage of a fit in two: the base law comes from runs without repetition, and only
    R_D and R_N are fitted to the runs with it. `muennighoff_repeats` holds the authors' C4 base.

    Args:
        E, A, B, alpha, beta: the base law, in the units of the runs.
        name: what to call the law.

    Source: Muennighoff et al. 2023, arXiv 2305.16264, section 3.2.
    """
    base = {"A": A, "B": B, "alpha": alpha, "beta": beta}

    @law(
        name=name,
        family="data constrained",
        source=f"{_MUENNIGHOFF}, second stage",
        evidence=_EVIDENCE,
        inputs=_INPUTS,
        R_D=positive(2.0, 50.0),
        R_N=positive(1.0, 15.0),
    )
    def repeats(N: Any, D: Any, epochs: Any, *, R_D: Any, R_N: Any) -> Any:
        """L(N, D, U) = E + A / N'^alpha + B / D'^beta with E, A, B, alpha and beta held fixed

        N is in parameters and D in tokens, as for the base law. On the authors' 182 runs R_D is
        hardly determined from above: a bootstrap gives 6 to infinity.
        """
        return _repeated(N, D, epochs, E, R_D=R_D, R_N=R_N, **base)

    return repeats


muennighoff_repeats = repeats_of(**C4_BASE)  # type: ignore[arg-type]


@law(
    family="data constrained",
    source=f"{_MUENNIGHOFF}, base law",
    evidence=_EVIDENCE,
    inputs={"N": "parameters", "D": "training tokens"},
    optimum=lambda C, *, A, B, alpha, **_: fresh_optimum(C, A=A, B=B, alpha=alpha, beta=alpha),
    E=positive(0.3, 1.0, unit="loss"),
    A=positive(0.3, 1.0, unit="loss * N**alpha"),
    B=positive(0.3, 1.0, unit="loss * D**alpha"),
    alpha=real(0.1, 1.0),
)
def chinchilla_tied(N: Any, D: Any, *, E: Any, A: Any, B: Any, alpha: Any) -> Any:
    """L(N, D) = E + A / N^alpha + B / D^alpha

    `chinchilla` with one exponent: parameters and tokens grow in proportion along the frontier.
    """
    return chinchilla.fn(N, D, E=E, A=A, B=B, alpha=alpha, beta=alpha)


def repeat_value(epochs: Any, *, R_D: Any) -> Any:
    """dD'/dD = exp(-(epochs - 1) / R_D)

    What one more token is worth relative to a new one when the data are seen for the ``epochs``-th
    time (1 up to the first). Any shape.

    Source: Muennighoff et al. 2023, arXiv 2305.16264, section 3.1.
    """
    return jnp.exp(-jnp.maximum(jnp.asarray(epochs) - 1, 0.0) / R_D)


def optimal_size(
    C: Any, U: Any, *, E: Any = 0.0, A: Any, B: Any, alpha: Any, beta: Any, R_D: Any, R_N: Any
) -> Any:
    """N*(C, U) = argmin over N of L(N, C / (6 N), U)

    The best model for C FLOPs when only U unique tokens exist, under `muennighoff`; D = C / (6 N)
    and epochs = D / U follow. C and U broadcast; the parameters are scalars; `E` plays no part.
    Test vector: C4 at C = 1e22, U = 25e9: N = 7.02e9, D = 2.3734e11, 9.49 epochs.

    Source: Muennighoff et al. 2023, arXiv 2305.16264, section 5.
    """
    p = {"A": A, "B": B, "alpha": alpha, "beta": beta, "R_D": R_D, "R_N": R_N}

    def loss(log_N: Any, log_C: Any, log_U: Any, p: dict[str, Any]) -> Any:
        N, D = jnp.exp(log_N), jnp.exp(log_C - log_N) / 6
        return _repeated(N, D, D / jnp.exp(log_U), 0.0, **p)

    def one(log_C: Any, log_U: Any) -> Any:
        # Fresh tokens are worth most, so that the best size for endless data is near by.
        fresh = fresh_optimum(jnp.exp(log_C), A=A, B=B, alpha=alpha, beta=beta)
        middle = jnp.log(fresh)
        return root(jax.grad(loss), middle - 10.0, middle + 10.0, log_C, log_U, p)

    C, U = jnp.asarray(C, float), jnp.asarray(U, float)
    return jnp.exp(jnp.vectorize(one)(jnp.log(C), jnp.log(U)))


@law(
    family="data constrained",
    source="Kim et al. 2025, Pre-training under infinite compute, arXiv 2509.14786",
    evidence="curves in N and in K read in the paper; their sum is ours and fits both",
    inputs={"N": "parameters of one member", "K": "members of the ensemble"},
    derived={"member_floor": lambda E, B, **_: E + B},
    E=positive(0.3, 1.0, unit="loss"),
    A=positive(0.05, 1.0, unit="loss * N**alpha"),
    B=positive(0.05, 1.0, unit="loss * K**kappa"),
    alpha=real(0.3, 1.5),
    kappa=real(0.3, 1.5),
)
def ensemble(N: Any, K: Any, *, E: Any, A: Any, B: Any, alpha: Any, kappa: Any) -> Any:
    """L(N, K) = E + A / N^alpha + B / K^kappa

    Loss of an ensemble of K models of N parameters on a fixed set of tokens. E is the asymptote of
    asymptotes, the limit in both; `member_floor` = E + B is that of a single model of any size.
    The paper fits each curve alone and extrapolates the limits; one law shares what they share.
    At 200M tokens E = 3.17, A = 0.05 (N in billions) and B = 0.25 give both of its curves.
    """
    return chinchilla.fn(N, K, E=E, A=A, B=B, alpha=alpha, beta=kappa)


MOST_EPOCHS = 64
_GOYAL = "Goyal et al. 2024, arXiv 2404.07177"


def _log_gain(epochs: Any, decay: Any) -> Any:
    """sum over epochs j = 1 .. of decay^j log(n_(j+1) / n_j), n the samples seen by then."""
    j = jnp.arange(1, MOST_EPOCHS, dtype=jnp.result_type(decay))
    seen = jnp.clip(epochs, j, j + 1)
    return jnp.sum(jnp.exp(j * jnp.log(decay)) * jnp.log(seen / j))


@law(
    family="data constrained",
    source=f"{_GOYAL}, equations of the utility and its decay",
    evidence="formula and coefficients read in the authors' code",
    inputs={
        "n": "samples seen, repeats included",
        "epochs": Input("samples seen per sample of the pool", upper=MOST_EPOCHS, closed=True),
    },
    d=positive(0.05, 0.5, unit="loss"),
    n_0=positive(0.1, 1.0, unit="n * loss**(1/b)"),
    b=positive(0.05, 1.0),
    tau=positive(1.0, 10.0),
)
def goyal_utility(n: Any, epochs: Any, *, d: Any, n_0: Any, b: Any, tau: Any) -> Any:
    """y(n) = d + (n_1 / n_0)^-b prod_j (n_j / n_(j-1))^(-b 2^(-(j-1) / tau))

    Error after n samples of a pool seen for ``epochs`` epochs; n_j is what was seen by the end of
    the j-th. The utility b halves every tau epochs. b > 0 here, -b in the paper. n_0 = 1e5 / a:
    the authors' code multiplies samples by a inside the power. It also adds d before the product
    of epochs, so that d shrinks with them; the paper, and this law, add it at the end.
    """
    first = n / jnp.where(epochs > 1, epochs, 1.0)
    slope = jnp.log(first / n_0) + _log_gain(epochs, power(0.5, 1 / tau))
    return d + jnp.exp(-b * slope)


def pooled_utility(n: Any, epochs: Any, *, d: Any, n_0: Any, b: Any, tau: Any) -> Any:
    """b_j = (1/p) sum_i b_i 2^(-(j-1) / (p tau_i)) in place of b 2^(-(j-1) / tau)

    Error of an equal mixture of p pools, predicted from the pools alone: each is repeated p times
    more slowly, so that its half-life, counted in epochs of the mixture, is p tau.

    Args:
        n: samples seen, any shape.
        epochs: samples seen per sample of the mixture, up to `MOST_EPOCHS`; same shape.
        d, n_0: floor and scale, common to the pools.
        b, tau: utility and half-life of each pool, shape (pools,).

    Source: Goyal et al. 2024, arXiv 2404.07177, theorem on mixtures.
    """
    b, tau = jnp.asarray(b, float), jnp.asarray(tau, float)
    decay = power(0.5, 1 / (len(b) * tau))

    def one(n: Any, epochs: Any) -> Any:
        gains = jax.vmap(lambda by: _log_gain(epochs, by))(decay)
        first = jnp.log(n / jnp.where(epochs > 1, epochs, 1.0) / n_0)
        return d + jnp.exp(-jnp.mean(b * (first + gains)))

    return jnp.vectorize(one)(jnp.asarray(n, float), jnp.asarray(epochs, float))
