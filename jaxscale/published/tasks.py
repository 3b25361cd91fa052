"""Published parameters of laws of hyper-parameters and downstream tasks."""

import itertools
from collections.abc import Iterator

from jaxscale import laws
from jaxscale.published._entry import READ, Published, entry

_LOGS = "least squares in logs"


def entries() -> Iterator[Published]:
    """All entries of this module."""
    return itertools.chain(_step(), _porian(), _olmo_heuristics(), _filatov(), _bhagia_accuracy())


def _step() -> Iterator[Published]:
    about = {
        "source": "Li et al. 2025 (Step Law), arXiv 2503.04715",
        "table": "authors' code",
        "objective": f"{_LOGS} within 0.25% of the lowest loss of each (N, D)",
        "rows": "tuned runs among sweeps of learning rate and batch",
        "evidence": "read in the authors' code; its loss on their grids re-run",
        "note": "The released runs give other exponents, N^-0.766 D^0.197 and D^0.612, but lose "
        "under 0.1% of the loss at these.",
    }
    yield entry(
        "step_2025_lr",
        laws.step_lr,
        (1.79, -0.713, 0.307),
        units="N without embeddings, D in tokens, peak learning rate (final one 1e-5)",
        **about,
    )
    yield entry(
        "step_2025_batch",
        laws.scaling_rule,
        (0.58, 0.571),
        units="x = D in tokens, batch in tokens",
        **about,
    )


def _porian() -> Iterator[Published]:
    # fmt: off
    for name, numbers, what in (
        ("lr", (3.7, -0.36), "peak learning rate of AdamW"),
        ("batch", (0.00037, 0.703), "batch in sequences of 2,048 tokens"),
    ):
        # fmt: on
        yield entry(
            f"porian_2024_{name}",
            laws.scaling_rule,
            numbers,
            source="Porian et al. 2024, arXiv 2406.19146",
            table="tuned hyper-parameters",
            units=f"x = N with the output head, without the embedding; {what}",
            objective=_LOGS,
            rows="interpolated optima of models of 2.5e7 to 1.1e8 parameters",
            evidence=READ,
            note="Predicts learning rates two to three times off those of DeepSeek's rule.",
        )
    for name, saturating in (
        ("few", (2.01, 128.93, 0.106)),
        ("more", (1.78, 97.27, 0.096)),
        ("most", (1.68, 87.16, 0.092)),
    ):
        yield entry(
            f"porian_2024_loss_{name}_budgets",
            laws.power_law_offset,
            saturating,
            source="Porian et al. 2024, arXiv 2406.19146",
            table="saturating fits of the optimal loss",
            units="x = C in FLOPs with the output head, loss in nats per token",
            objective="saturating power law in logs, from a grid of starts",
            rows=f"lowest losses of tuned runs, {name} of the compute budgets",
            evidence="read in the authors' code",
            note="The floor falls as larger budgets are added: it is not determined.",
        )


def _olmo_heuristics() -> Iterator[Published]:
    # fmt: off
    for name, numbers, what in (
        ("lr", (0.0047 * 1.08e8 ** (1 / 3), -1 / 3), "peak learning rate"),
        ("batch", (160 * 1.08e8 ** (-2 / 3), 2 / 3), "batch in sequences"),
    ):
        # fmt: on
        yield entry(
            f"bhagia_2024_{name}",
            laws.scaling_rule,
            numbers,
            source="Bhagia et al. 2024 (OLMo ladder), arXiv 2412.04403",
            table="authors' code",
            units=f"x = N without embeddings; {what}",
            objective="none: a heuristic",
            rows="none",
            evidence="read in the authors' code",
            note="Written there as powers of N / 1.08e8.",
        )


def _filatov() -> Iterator[Published]:
    yield entry(
        "filatov_2025_lr",
        laws.optimal_norm_lr,
        (2**9.8, 0.62, -0.56),
        source="Filatov et al. 2025, arXiv 2510.03871",
        table="fit of the optimal learning rate",
        units="B in samples of 4,096 tokens, D in tokens; learning rate of unconstrained Scion",
        objective="least squares in log2",
        rows="a proxy model of 69M parameters",
        evidence=READ,
        note="Standard errors: 1.6 of log2 c, 0.05 of either exponent.",
    )


def _bhagia_accuracy() -> Iterator[Published]:
    # Top, drop, k, L0: b, -a, k and L0 of the authors.
    table = {
        "mmlu": (1.0, 0.7421, 4.8334, 0.6160),
        "hellaswag": (0.9921, 0.7301, 12.7417, 0.7667),
        "arc_challenge": (1.0, 0.7777, 5.9106, 0.7086),
        "arc_easy": (1.0, 0.6463, 4.1298, 0.7407),
        "piqa": (1.0, 0.4586, 5.0330, 0.9630),
        "csqa": (1.0, 0.8556, 2.2085, 1.1313),
        "socialiqa": (0.9995, 0.5985, 7.1644, 0.8938),
        "openbookqa": (1.0, 0.7906, 4.3097, 1.0813),
    }
    for task, numbers in table.items():
        yield entry(
            f"bhagia_2024_{task}_accuracy",
            laws.sigmoid_accuracy,
            numbers,
            source="Bhagia et al. 2024 (OLMo ladder), arXiv 2412.04403",
            table="step 2",
            units="L in bits per byte of the answer, accuracy as a share",
            objective="sum of squares of accuracy, top at most 1",
            rows="1,401 checkpoints of the 16 ladder models, and the point L = 0 at the maximum",
            evidence="re-fitted on the authors' rows; their predictions agree to 4 digits",
            note="top is at its bound, 1." if numbers[0] == 1 else "",
        )
