"""Loss of a student that learns from a teacher (Busbridge et al. 2025)."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxscale._law import law
from jaxscale._param import positive
from jaxscale.laws._power import power
from jaxscale.laws.chinchilla import coupled_power

_SOURCE = "Busbridge et al. 2025, arXiv 2502.08606"


@law(
    family="distillation",
    source=f"{_SOURCE}, equation 8",
    evidence="formula and coefficients read in the paper",
    inputs={
        "N": "parameters of the student",
        "D": "distillation tokens",
        "L_T": "loss of the teacher, in nats",
        "L_S": "loss of the same student trained without a teacher, in nats",
    },
    A=positive(0.3, 3.0, unit="N**alpha"),
    B=positive(0.3, 3.0, unit="D**beta"),
    alpha=positive(0.1, 1.0),
    beta=positive(0.1, 1.0),
    gamma=positive(0.3, 1.5),
    c_0=positive(0.5, 4.0),
    w=positive(1.0, 30.0),
    c_1=positive(10.0, 1000.0),
    f_1=positive(0.05, 0.3),
)
def busbridge_distillation(
    N: Any, D: Any, L_T: Any, L_S: Any,
    *, A: Any, B: Any, alpha: Any, beta: Any, gamma: Any, c_0: Any, w: Any, c_1: Any, f_1: Any,
) -> Any:  # fmt: skip
    """L = L_T + L_T^-c_0 (1 + (w / (c_1 f_1)) rho^(1/f_1))^(-c_1 f_1) (A/N^alpha + B/D^beta)^gamma

    with rho = L_T / L_S. The supervised loss L_S is an input, not part of the law: it may be
    measured, or predicted by one's own `coupled_power` (`student_loss` does so). The paper has
    1 / d_1^(1/f_1) for w / (c_1 f_1), see `break_weight`: the published c_1 = 522.6 is so large
    that the bracket is exp(-w rho^(1/f_1)), and only w is determined, not c_1 and d_1.
    Losses are not rescaled: the law is in nats. Test vector: `student_loss` at (1e9, 2e10) with
    L_T = 2.2 and the published numbers gives 2.316953375.
    """
    bend = c_1 * f_1
    steep = jnp.log(w / bend) + (jnp.log(L_T) - jnp.log(L_S)) / f_1
    gap = power(A * power(N, -alpha) + B * power(D, -beta), gamma)
    return L_T + jnp.exp(-c_0 * jnp.log(L_T) - bend * jax.nn.softplus(steep)) * gap


def break_weight(*, c_1: Any, d_1: Any, f_1: Any) -> Any:
    """w = c_1 f_1 / d_1^(1 / f_1)

    The parameter of `busbridge_distillation` from those of the paper. Any shape.

    Source: Busbridge et al. 2025, arXiv 2502.08606, equation 8.
    """
    return c_1 * f_1 * power(d_1, -1 / f_1)


def student_loss(
    N: Any, D: Any, L_T: Any, *, student: Mapping[str, Any], supervised: Mapping[str, Any]
) -> Any:
    """L(N, D, L_T) = busbridge_distillation(N, D, L_T, coupled_power(N, D))

    Loss of a distilled student from two sets of parameters. Inputs broadcast; losses in nats.

    Args:
        N, D: parameters of the student and distillation tokens.
        L_T: loss of the teacher.
        student: parameters of `busbridge_distillation`.
        supervised: parameters of `coupled_power`, for the same students without a teacher.

    Source: Busbridge et al. 2025, arXiv 2502.08606, equation 8.
    """
    return busbridge_distillation(N, D, L_T, coupled_power(N, D, **supervised), **student)


def best_teacher(
    N: Any, D: Any, *, low: float, high: float,
    student: Mapping[str, Any], supervised: Mapping[str, Any], points: int = 4001,
) -> Any:  # fmt: skip
    """argmin over L_T in [low, high] of `student_loss`

    The teacher that teaches a given student best: beyond the capacity gap a stronger teacher makes
    a worse one. A search over ``points`` losses, evenly spaced in the logarithm. N, D broadcast.

    Source: Busbridge et al. 2025, arXiv 2502.08606, section 4.3.
    """
    grid = jnp.exp(jnp.linspace(jnp.log(low), jnp.log(high), points))
    N, D = jnp.broadcast_arrays(jnp.asarray(N, float), jnp.asarray(D, float))
    losses = student_loss(N[..., None], D[..., None], grid, student=student, supervised=supervised)
    return grid[jnp.argmin(losses, axis=-1)]


def distillation_flop(
    *, N_S: Any, D_S: Any, N_T: Any, D_T: Any, logits: bool, pretraining: bool
) -> Any:
    """C = 6 N_S D_S + 2 N_T (logits D_S + 3 pretraining D_T)

    Training cost in FLOPs with 2 N for a forward pass: the student's own passes, the teacher's
    logits on the student's tokens, and the training of the teacher, where they are charged.

    Source: Busbridge et al. 2025, arXiv 2502.08606, equation 9.
    """
    return 6 * N_S * D_S + 2 * N_T * (logits * D_S + 3 * pretraining * D_T)
