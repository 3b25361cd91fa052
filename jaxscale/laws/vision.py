"""Error against compute for vision and language models: best runs per bin, and bounded laws."""

from typing import Any

import numpy as np

from jaxscale._errors import LawError
from jaxscale._law import law
from jaxscale._param import positive, real
from jaxscale.laws._power import power

_NEZHURINA = "Nezhurina et al. 2025, arXiv 2506.04598"
_COMPUTE = "total compute, such as GFLOPs"


@law(
    family="vision",
    source=_NEZHURINA,
    evidence="formula read in the authors' code; no coefficients published here",
    inputs={"C": _COMPUTE},
    A=positive(0.3, 3.0, unit="loss * C**alpha"),
    shift=positive(0.003, 1.0, unit="C"),
    alpha=real(0.1, 1.0),
)
def nezhurina(C: Any, *, A: Any, shift: Any, alpha: Any) -> Any:
    """L(C) = A / (C + shift)^alpha

    A power law that bends to A / shift^alpha, the error of guessing, as compute goes to zero.
    shift = 0 is `power_law`. The authors call it saturation.
    """
    return A * power(C + shift, -alpha)


@law(
    family="vision",
    source=f"{_NEZHURINA}, Figure 1",
    evidence="formula read in the authors' code; no coefficients published here",
    inputs={"C": _COMPUTE},
    E=positive(0.05, 0.8, unit="loss"),
    A=positive(0.1, 1.5, unit="loss * C**alpha"),
    shift=positive(0.003, 1.0, unit="C"),
    alpha=real(0.1, 1.0),
)
def nezhurina_floor(C: Any, *, E: Any, A: Any, shift: Any, alpha: Any) -> Any:
    """L(C) = E + A / (C + shift)^alpha

    `nezhurina` with a floor: it saturates at both ends. shift = 0 is `power_law_offset`.
    """
    return E + A * power(C + shift, -alpha)


def best_per_bin(
    compute: Any, error: Any, *, bins: int = 5, margin: float = 0.1
) -> tuple[np.ndarray, np.ndarray]:
    """C_b = 10^(center of bin b), L_b = lowest error in bin b

    The runs a compute frontier is fitted to: equal bins of log10 compute, the best run of each,
    placed at the bin's center whatever its own compute. Bins without runs are left out.

    Args:
        compute: compute of every run, shape (runs,), positive.
        error: error of every run, shape (runs,).
        bins: how many bins.
        margin: how far, in log10, the last bin reaches beyond the largest compute.

    Returns:
        Compute and error, shape (bins with runs,) each.

    Raises:
        LawError: if a compute is not positive or the shapes differ.

    Source: Cherti et al. 2022, arXiv 2212.07143, authors' notebook.
    """
    x, y = np.asarray(compute, float), np.asarray(error, float)
    if x.ndim != 1 or x.shape != y.shape or x.size == 0 or not (x > 0).all():
        raise LawError(
            f"bins need one positive compute and one error per run; got shapes {x.shape} and "
            f"{y.shape}, smallest compute {x.min() if x.size else float('nan'):g}"
        )
    edges = np.linspace(np.log10(x).min(), np.log10(x).max() + margin, bins + 1)
    place = np.digitize(np.log10(x), edges) - 1
    used = np.unique(place)
    centers = 0.5 * (edges[:-1] + edges[1:])
    return 10.0 ** centers[used], np.array([y[place == b].min() for b in used])
