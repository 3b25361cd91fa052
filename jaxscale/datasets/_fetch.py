"""Public tables of training runs. Most carry no license, so they are downloaded, not shipped."""

from collections.abc import Sequence
from typing import Literal, get_args

import pandas as pd

from jaxscale._errors import DataError
from jaxscale.datasets._public import (
    CHINCHILLA,
    CLARK_ROUTED,
    MISFITTING,
    OPENCLIP,
    STEP_LAW_DENSE,
    STEP_LAW_MOE,
)
from jaxscale.datasets._source import Source, local_file

Which = Literal["all", "best"]
Rows = Literal["keep", "drop"]

_BROAD = (
    "imagenet_robustness", "vtab", "vtab+", "imagenet1k", "flickr30k", "mscoco_captions",
)  # fmt: skip


def fetch_chinchilla(*, drop_top: int = 0) -> pd.DataFrame:
    """245 training runs of Hoffmann et al. 2022, read off their Figure 4 by Besiroglu et al. 2024.

    ``params`` (N), ``tokens`` (D), ``flops`` (C) and ``loss``. The figure shows N and C; D is
    derived as C / (6 N), so errors of reading N and D off it are not independent.

    Args:
        drop_top: how many of the highest losses to leave out; Besiroglu et al. leave out 5, short
            runs at the edge of the figure. Their published point is the fit of least absolute
            error (`LogL1`), not of Huber 1e-3; with all 245 rows Huber's beta is 0.453, not 0.367.

    Raises:
        DataError: if it cannot be had; the message says what to do.

    Source: arXiv 2404.10102, its repository's data/svg_extracted_data.csv.

    Example:
        >>> runs = Runs.from_frame(datasets.fetch_chinchilla(drop_top=5), N="params", D="tokens")
    """
    raw = pd.read_csv(local_file(CHINCHILLA))
    if isinstance(drop_top, bool) or not isinstance(drop_top, int) or not 0 <= drop_top < len(raw):
        raise DataError(f"drop_top={drop_top!r}: give a number from 0 to {len(raw) - 1}")
    table = raw.rename(columns={"Model Size": "params", "Training FLOP": "flops"})
    table["tokens"] = table["flops"] / (6 * table["params"])
    kept = table["loss"].sort_values(kind="stable").index[: len(table) - drop_top]
    return CHINCHILLA.frame(table.loc[kept.sort_values()])


def fetch_clark_routed(
    *,
    checkpoints: Literal["last", "all"] = "last",
    subset: Literal["all", "published"] = "all",
) -> pd.DataFrame:
    """Routed (mixture of experts) and dense language models of Clark et al. 2022.

    One row per run at its last step; columns and names are the authors'. Their law takes N =
    ``dense_parameter_count``, E = ``num_experts`` and ``loss_validation``;
    ``total_parameter_count`` counts every expert.

    Args:
        checkpoints: ``"last"``, 223 rows, near step 249,000; ``"all"``, the whole curves, 5,799
            rows, which are not independent of each other.
        subset: ``"published"`` keeps what the published fits use: every second layer routed, one
            expert per token, seed 42; 5 dense, 53 S-Base, 54 RL-R and 51 Hash runs. A law holds
            for one router and the dense runs, so fit each ``router_type`` by itself. There is no
            dense run of 130M.

    Raises:
        DataError: if it cannot be had; the message says what to do.

    Source: arXiv 2202.01169, its repository's data/curves.csv.gz.

    Example:
        >>> table = datasets.fetch_clark_routed(subset="published")
        >>> runs = Runs.from_frame(
        ...     table[table.router_type.isin(["Dense", "RL-R"])],
        ...     loss="loss_validation", N="dense_parameter_count", E="num_experts",
        ... )
    """
    _check("checkpoints", checkpoints, ("last", "all"))
    _check("subset", subset, ("all", "published"))
    table = pd.read_csv(local_file(CLARK_ROUTED))
    if checkpoints == "last":
        table = table.loc[table.groupby("hyper_id", sort=False)["step"].idxmax()]
    if subset == "published":
        every_second = table["routing_frequency"] == 0.5
        table = table[every_second & (table["k"] == 1) & (table["seed"] == 42)]
    return CLARK_ROUTED.frame(table)


def fetch_step_law_dense(*, diverged: Rows = "keep", runs: Which = "all") -> pd.DataFrame:
    """1,911 dense models over a grid of learning rate and batch in 17 cells of (N, D).

    N is ``params_nonembedding``, D ``tokens``; a batch is given in sequences and in tokens. The
    authors judge runs by ``smooth_loss``. The cell of 1.07B parameters and 56.9B tokens has 47
    points, the others about 118.

    Args:
        diverged: ``"drop"`` leaves out the 181 runs whose smoothed loss ended above 4. Kept, they
            dominate any fit by least squares; dropped, the edge of stability is lost.
        runs: ``"best"`` keeps the run of least smoothed loss of each (N, D), 17 rows. It is known
            to a step of the grid only, a factor of 1.4 in the learning rate: exponents of the best
            rate depend on how it is chosen. The published lr ~ N^-0.713 D^0.307 does not follow
            from the released rows by the authors' recipe, all runs within 0.25% of the best, which
            gives D^0.197.

    Raises:
        DataError: if it cannot be had; the message says what to do.

    Source: arXiv 2503.04715, its repository's data/dense_lr_bs_loss.csv.

    Example:
        >>> table = datasets.fetch_step_law_dense(diverged="drop")
    """
    _check("diverged", diverged, get_args(Rows))
    _check("runs", runs, get_args(Which))
    table = _step_law(STEP_LAW_DENSE).rename(
        columns={"N": "params_nonembedding", "h": "d_model", "ffnh": "d_ff", "numh": "n_heads",
                 "numl": "n_layers"}
    )  # fmt: skip
    if diverged == "drop":
        table = table[table["smooth_loss"] <= 4]
    if runs == "best":
        table = _best(table, ["params_nonembedding", "tokens"], "smooth_loss")
    return STEP_LAW_DENSE.frame(table)


def fetch_step_law_moe(*, runs: Which = "all") -> pd.DataFrame:
    """708 mixtures of experts of 2.15B parameters: a grid of learning rate and batch in 16 cells.

    The cells are 4 sparsities (``moe_config``) times 4 numbers of ``tokens``; ``params_total``
    differs by 0.3%, so a law in N must use ``params_active``. No run diverged.

    Args:
        runs: ``"best"`` keeps the run of least smoothed loss of each cell.

    Raises:
        DataError: if it cannot be had; the message says what to do.

    Source: arXiv 2503.04715, its repository's data/moe_lr_bs_loss.csv.

    Example:
        >>> best = datasets.fetch_step_law_moe(runs="best")
    """
    _check("runs", runs, get_args(Which))
    table = _step_law(STEP_LAW_MOE).rename(
        columns={"moe_name": "moe_config", "N": "params_total", "Na": "params_active",
                 "nume": "experts_total", "topk": "experts_active"}
    )  # fmt: skip
    if runs == "best":
        table = _best(table, ["moe_config", "tokens"], "smooth_loss")
    return STEP_LAW_MOE.frame(table)


def fetch_openclip(*, downstream: str | Sequence[str] = _BROAD) -> pd.DataFrame:
    """32 CLIP models, 29 on LAION and 3 on CLIP-WIT, evaluated without training on each task.

    One row per model and task. Shares are accuracies: the published laws are of the error
    1 - ``acc1`` (or 1 - ``image_retrieval_recall@5``) against ``gmacs_total``. They are drawn
    through the best model of each fifth of log compute, not through all rows, and LAION and
    CLIP-WIT each have their own. The authors' error of text retrieval repeats that of image
    retrieval; both columns here are as measured.

    Args:
        downstream: tasks to keep, one or several; default the six broad ones (192 rows), ``"all"``
            for all 41 (1,312 rows), most of which are parts of ``vtab`` and ``vtab+``.

    Raises:
        DataError: if it cannot be had, or for a task that is not there.

    Source: arXiv 2212.07143, its repository's zeroshot_results.csv.

    Example:
        >>> table = datasets.fetch_openclip(downstream="imagenet1k")
    """
    table = pd.read_csv(local_file(OPENCLIP)).rename(columns={"gmacs": "gmacs_per_sample"})
    tasks = table["downstream_dataset"].unique().tolist()
    wanted = tasks if downstream == "all" else downstream
    wanted = [wanted] if isinstance(wanted, str) else list(wanted)
    for task in wanted:
        _check("downstream", task, ("all", *tasks))
    return OPENCLIP.frame(table[table["downstream_dataset"].isin(wanted)])


def fetch_misfitting(*, learning_rates: Which = "all", duplicates: Rows = "keep") -> pd.DataFrame:
    """261 runs of 11 sizes (12M to 1B) at three or four peak learning rates each, loss on C4.

    ``params`` counts the embeddings, which are most of the smallest models, and
    ``params_nonembedding`` does not; ``flops`` is 6 ``params`` ``tokens``.

    Args:
        learning_rates: ``"best"`` keeps the rate of least loss of each (N, D), 81 rows. The
            published fit takes all rows; the choice moves alpha from 0.20 to 0.14.
        duplicates: ``"drop"`` leaves out eight rows that repeat another in every column here
            (seven of them differ in a logged count of epochs). The published fit has them all, and
            ``Runs`` refuses them unless told ``duplicates="keep"``.

    Raises:
        DataError: if it cannot be had; the message says what to do.

    Source: arXiv 2502.18969, its repository's data/scaling_results_last_ckpt_only.csv.

    Example:
        >>> table = datasets.fetch_misfitting(learning_rates="best")
    """
    _check("learning_rates", learning_rates, get_args(Which))
    _check("duplicates", duplicates, get_args(Rows))
    raw = pd.read_csv(local_file(MISFITTING))
    table = raw.drop(columns="loss").rename(
        columns={"N": "params", "N_no_emb": "params_nonembedding", "D": "tokens",
                 "C4 Eval Loss": "loss"}
    )  # fmt: skip
    table["flops"] = 6.0 * table["params"] * table["tokens"]  # beyond 64-bit integers
    if duplicates == "drop":
        table = table.drop_duplicates(list(MISFITTING.units))
    if learning_rates == "best":
        table = _best(table, ["params", "tokens"], "loss")
    return MISFITTING.frame(table)


def _step_law(source: Source) -> pd.DataFrame:
    """Columns that both tables of the Step Law name alike."""
    table = pd.read_csv(local_file(source)).rename(
        columns={"D": "tokens", "bs": "batch_seqs", "ti": "steps", "smooth loss": "smooth_loss"}
    )
    return table.assign(batch_tokens=table["batch_seqs"] * 2048)


def _best(table: pd.DataFrame, cell: list[str], loss: str) -> pd.DataFrame:
    """The row of least loss of each cell, in the order of the file."""
    return table.loc[table.groupby(cell)[loss].idxmin().sort_values()]


def _check(option: str, value: object, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise DataError(f"{option}={value!r}: choose one of {', '.join(map(repr, allowed))}")
