"""architectures(): shapes of transformers near a number of parameters."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from jaxscale import flops
from jaxscale._errors import DataError, LawError
from jaxscale._source import source_of
from jaxscale._tables import html, text


@dataclasses.dataclass(frozen=True)
class Architectures:
    """Shapes near a number of parameters, the closest first.

    Attributes:
        N: the number asked for.
        table: one row per shape.
    """

    N: float
    table: pd.DataFrame

    def frame(self) -> pd.DataFrame:
        """One row per shape: its sizes, parameters, FLOPs by convention, and predicted loss."""
        return self.table

    def __len__(self) -> int:
        return len(self.table)

    def __repr__(self) -> str:
        return text(self.table)

    def _repr_html_(self) -> str:
        return html(f"Architectures near N = {self.N:.4g}", self.table, ())


def architectures(
    N: float,
    *,
    vocab: int,
    n_ctx: int = 2048,
    aspect: tuple[float, float] = (40.0, 160.0),
    head_sizes: Sequence[int] = (64, 128),
    multiple_of: int = 128,
    d_ff: float = 4.0,
    gated: bool = False,
    tied: bool = False,
    count: Literal["all", "nonembedding", "head"] = "all",
    tolerance: float = 0.05,
    most: int = 20,
    source: Any = None,
    D: float | None = None,
    flop: float | None = None,
    fixed: dict[str, float] | None = None,
) -> Architectures:
    """n_layer, d_model, n_head, d_ff with N parameters, up to a tolerance, the closest first

    Loss depends little on the shape over a wide range of aspects (Kaplan et al.), so that any of
    these is near the optimum; what it costs exactly depends on the shape, and is counted.

    Args:
        N: parameters wanted, such as those of `allocate`.
        vocab: size of the vocabulary; round it up to a multiple of 128 beforehand.
        n_ctx: context length, for counted FLOPs.
        aspect: least and largest d_model / n_layer.
        head_sizes: sizes of an attention head to choose from; a shape gets the largest that divides
            its width.
        multiple_of: what d_model and d_ff are multiples of.
        d_ff: width of the feed-forward layer over d_model; 8 / 3 has as many weights if gated.
        gated: whether the feed-forward layer has a third matrix, as in SwiGLU.
        tied: whether the head shares its weights with the embedding.
        count: which parameters the law counts: all, those without embedding and head, or with the
            head only.
        tolerance: largest relative difference from N.
        most: number of shapes at most.
        source: what `allocate` takes, to predict the loss of each shape.
        D: training tokens, for FLOPs and losses; or
        flop: a budget C = 6 N D that each shape spends on tokens of its own.
        fixed: other inputs of the law, as numbers.

    Returns:
        `Architectures`: shapes, parameters, relative ``difference`` from N, and with tokens the
        FLOPs as 6 N D, as Kaplan and as Hoffmann count them, and the loss.

    Raises:
        DataError: for sizes that are not positive, or if no shape is near enough.
        LawError: if the law has inputs that are not given.

    Source: Hoffmann et al. 2022, arXiv 2203.15556, appendix F; Kaplan et al. 2020, arXiv
    2001.08361, section 3.1.

    Example:
        >>> architectures(7e9, vocab=32_000, gated=True, d_ff=8 / 3, source=fit, flop=1e22)
    """
    numbers: dict[str, Any] = {
        "N": N,
        "vocab": vocab,
        "n_ctx": n_ctx,
        "multiple_of": multiple_of,
        "d_ff": d_ff,
    }
    numbers |= {"tolerance": tolerance, "D": D, "flop": flop, "most": most}
    numbers |= {"aspect": min(aspect), "head_sizes": min(head_sizes, default=0)}
    for name, value in numbers.items():
        if value is not None and not (np.isfinite(value) and value > 0):
            raise DataError(f"{name} must be positive, got {value}")
    if D is not None and flop is not None:
        raise DataError("give the tokens D or the budget flop, not both")
    if source is not None and D is None and flop is None:
        raise DataError("a loss needs tokens: give D= or flop=")
    tables = {"all": vocab, "nonembedding": 0, "head": vocab}
    if count not in tables:
        raise DataError(f"count must be one of {', '.join(tables)}, not {count!r}")
    how: dict[str, Any] = {"vocab": tables[count], "tied": tied or count == "head", "gated": gated}
    table = pd.DataFrame(_shapes(N, aspect, head_sizes, multiple_of, d_ff, tolerance, how))
    if not len(table):
        raise DataError(
            f"no shape has {N:.4g} parameters within {tolerance:.1%}: widen tolerance or aspect, "
            "or take a smaller multiple_of"
        )
    order = np.argsort(np.abs(np.log(table["N"].to_numpy(float) / N)), kind="stable")
    table = table.iloc[order[:most]].reset_index(drop=True)
    if D is not None or flop is not None:
        table["D"] = D if D is not None else flop / (6 * table["N"])
        _count_flops(table, vocab, n_ctx, gated)
    if source is not None:
        table["loss"] = _losses(source, table, fixed or {})
    return Architectures(float(N), table)


def _shapes(
    N: float,
    aspect: tuple[float, float],
    head_sizes: Sequence[int],
    multiple_of: int,
    d_ff: float,
    tolerance: float,
    how: dict[str, Any],
) -> list[dict[str, Any]]:
    """All shapes with so many parameters: they rise with depth by the same number per layer."""
    rows, d_model = list[dict[str, Any]](), 0
    while True:
        d_model += multiple_of
        shallow = max(1, int(np.ceil(d_model / max(aspect))))
        sizes = [size for size in head_sizes if d_model % size == 0]
        shape: dict[str, Any] = {
            "d_model": d_model,
            "n_head": d_model // max(sizes, default=d_model),
            "d_key": max(sizes, default=d_model),
            "d_ff": max(1, round(d_ff * d_model / multiple_of)) * multiple_of,
        }
        if flops.parameters(n_layer=shallow, **shape, **how) > N * (1 + tolerance):
            return rows
        if not sizes:
            continue
        none, one = (flops.parameters(n_layer=n, **shape, **how) for n in (0, 1))
        ends = [(N * (1 + sign * tolerance) - none) / (one - none) for sign in (-1, 1)]
        low, high = max(shallow, int(np.ceil(ends[0]))), int(min(ends[1], d_model / min(aspect)))
        for n_layer in range(low, high + 1):
            found = flops.parameters(n_layer=n_layer, **shape, **how)
            near = {"N": found, "difference": found / N - 1, "aspect": d_model / n_layer}
            rows.append({"n_layer": n_layer, **shape, **near})


def _count_flops(table: pd.DataFrame, vocab: int, n_ctx: int, gated: bool) -> None:
    shape = {name: table[name].to_numpy(float) for name in ("n_layer", "d_model", "d_ff", "n_head")}
    shape["d_key"] = table["d_key"].to_numpy(float)
    N, D = (table[name].to_numpy(float) for name in ("N", "D"))
    table["flop_six_nd"] = flops.six_nd(N, D)
    depth_and_width = {name: shape[name] for name in ("n_layer", "d_model")}
    table["flop_kaplan"] = flops.kaplan(D, **depth_and_width, n_ctx=n_ctx)
    table["flop_hoffmann"] = flops.hoffmann(D, **shape, n_ctx=n_ctx, vocab=vocab, gated=gated)


def _losses(source: Any, table: pd.DataFrame, fixed: dict[str, float]) -> np.ndarray:
    given = source_of(source)
    known = {"N": table["N"].to_numpy(float), "D": table["D"].to_numpy(float), **fixed}
    missing = [name for name in given.law.inputs if name not in known]
    if missing:
        raise LawError(f"law {given.law.name!r} is also in {missing[0]}: give it in fixed=")
    return np.asarray(given.law(*(known[name] for name in given.law.inputs), **given.params))
