"""Laws that tell a wide model from a deep one (McLeish et al. 2025, Gemstones)."""

from typing import Any

from jaxscale._law import Input, law
from jaxscale._param import positive
from jaxscale.laws._power import power

_SOURCE = "McLeish et al. 2025 (Gemstones), arXiv 2502.06857"
_EVIDENCE = "formula and coefficients read in the authors' code, re-fitted"
_SHAPE: dict[str, str | Input] = {
    "width": "size of the residual stream",
    "depth": "number of layers",
}


@law(
    family="shape",
    source=_SOURCE,
    evidence=_EVIDENCE,
    inputs={**_SHAPE, "D": "training tokens"},
    E=positive(0.3, 1.0, unit="loss"),
    W=positive(0.1, 1.0, unit="loss * width**omega"),
    H=positive(0.1, 1.0, unit="loss * depth**eta"),
    B=positive(0.1, 1.0, unit="loss * D**beta"),
    omega=positive(0.1, 1.0),
    eta=positive(0.1, 1.0),
    beta=positive(0.1, 1.0),
)
def gemstones_shape(
    width: Any, depth: Any, D: Any,
    *, E: Any, W: Any, H: Any, B: Any, omega: Any, eta: Any, beta: Any,
) -> Any:  # fmt: skip
    """L = E + W / width^omega + H / depth^eta + B / D^beta

    Model size by its shape alone. On the authors' long runs E goes to zero: the terms in width and
    depth explain the whole loss, and the floor is not determined.
    """
    shape = W * power(width, -omega) + H * power(depth, -eta)
    return E + shape + B * power(D, -beta)


@law(
    family="shape",
    source=_SOURCE,
    evidence=_EVIDENCE,
    inputs={**_SHAPE, "N": "parameters with embeddings", "D": "training tokens"},
    E=positive(0.3, 1.0, unit="loss"),
    W=positive(0.1, 1.0, unit="loss * width**omega"),
    H=positive(0.1, 1.0, unit="loss * depth**eta"),
    A=positive(0.1, 1.0, unit="loss * N**alpha"),
    B=positive(0.1, 1.0, unit="loss * D**beta"),
    omega=positive(0.1, 1.0),
    eta=positive(0.1, 1.0),
    alpha=positive(0.1, 1.0),
    beta=positive(0.1, 1.0),
)
def gemstones(
    width: Any, depth: Any, N: Any, D: Any,
    *, E: Any, W: Any, H: Any, A: Any, B: Any, omega: Any, eta: Any, alpha: Any, beta: Any,
) -> Any:  # fmt: skip
    """L = E + W / width^omega + H / depth^eta + A / N^alpha + B / D^beta

    `chinchilla` with terms of width and depth. N is nearly a function of the two, so the terms
    trade against each other along a flat ridge: compare losses, not parameters.
    Test vector: the 4-term hot fit at (1024, 24, 1e9, 2e10) gives 2.916901279.
    """
    shape = W * power(width, -omega) + H * power(depth, -eta)
    return E + shape + A * power(N, -alpha) + B * power(D, -beta)
