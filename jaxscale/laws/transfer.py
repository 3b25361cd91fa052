"""What training on one data set is worth on another."""

from typing import Any

import jax.numpy as jnp

from jaxscale._law import law
from jaxscale._param import positive, real
from jaxscale.laws._power import power

_HERNANDEZ = "Hernandez et al. 2021, arXiv 2102.01293"


@law(
    family="transfer",
    source=_HERNANDEZ,
    evidence="formula and coefficients read in the paper",
    predicts="effective data transferred, in characters",
    inputs={
        "D_F": "characters of fine-tuning data",
        "N": "parameters without embeddings",
    },
    k=positive(0.3, 3.0, unit="loss / (D_F**alpha * N**beta)"),
    alpha=real(0.05, 0.8),
    beta=real(0.05, 0.8),
)
def transferred_data(D_F: Any, N: Any, *, k: Any, alpha: Any, beta: Any) -> Any:
    """D_T(D_F, N) = k D_F^alpha N^beta

    Characters of fine-tuning data that pre-training replaces: the model reaches the loss that
    D_F + D_T characters would give from scratch. Low-data regime only (D_F below a tenth of what
    the model could use); beyond it the law overstates. Give measured D_T as the loss column.
    Test vector: text to Python at D_F = 1e7, N = 1e9 gives 9.09397e8.
    """
    return k * jnp.exp(alpha * jnp.log(D_F) + beta * jnp.log(N))


def effective_data(D_F: Any, N: Any, **params: Any) -> Any:
    """D_E = D_F + D_T

    Characters that training from scratch would need for the loss of the fine-tuned model. `params`
    are those of `transferred_data`. Shapes broadcast.

    Source: Hernandez et al. 2021, arXiv 2102.01293.
    """
    return D_F + transferred_data.fn(D_F, N, **params)


def data_multiplier(D_F: Any, N: Any, **params: Any) -> Any:
    """(D_F + D_T) / D_F, about k N^beta / D_F^(1 - alpha)

    How many times more the fine-tuning data seem to be, thanks to pre-training. `params` are those
    of `transferred_data`. Shapes broadcast; never below 1.

    Source: Hernandez et al. 2021, arXiv 2102.01293.
    """
    return effective_data(D_F, N, **params) / D_F


def transferred_share(D_F: Any, N: Any, **params: Any) -> Any:
    """D_T / (D_F + D_T)

    Share of the effective data that comes from pre-training; the authors fitted its logit, which
    is log D_T - log D_F. `params` are those of `transferred_data`. Shapes broadcast.

    Source: Hernandez et al. 2021, arXiv 2102.01293.
    """
    moved = transferred_data.fn(D_F, N, **params)
    return moved / (D_F + moved)


@law(
    family="transfer",
    source="Brandfonbrener et al. 2024, arXiv 2411.12925",
    evidence="formula read in the authors' code; coefficients differ for every pair",
    inputs={"L0": "loss of the same models on the first data set"},
    K=positive(0.3, 2.0, unit="loss / L0**kappa"),
    kappa=positive(0.3, 2.0),
    E0=positive(0.1, 0.6, unit="L0"),
    E1=positive(0.1, 0.8, unit="loss"),
)
def loss_to_loss(L0: Any, *, K: Any, kappa: Any, E0: Any, E1: Any) -> Any:
    """L1(L0) = K (L0 - E0)^kappa + E1

    Loss on a second data set, after training or testing there, from the loss of the same models
    on the first, where E0 and E1 are what no model can undo. At or below E0 it is E1. If L0 spans
    little, the four parameters lie on a ridge: compare losses, not parameters.
    Pairs of models are matched in size and tokens. Test vector: K = 1.2, kappa = 0.9, E0 = 1.5,
    E1 = 0.8 at L0 = 2.5 gives 2.0.
    """
    above = L0 > E0
    return jnp.where(above, K * power(jnp.where(above, L0 - E0, 1.0), kappa), 0.0) + E1
