"""Published parameters of laws of sparse, quantized and parallel models."""

import math
from collections.abc import Iterator

from jaxscale import laws
from jaxscale.published._entry import READ, REFITTED, Published, entry


def entries() -> Iterator[Published]:
    """All entries of this module."""
    yield entry(
        "krajewski_2024_moe",
        laws.krajewski_moe,
        (0.47, 18.1, 2.1, 30.8, 0.115, 0.147, 0.58),
        source="Krajewski et al. 2024, arXiv 2402.07871",
        table="Table 1",
        units="N of all experts without embeddings, D in tokens, loss in nats per token",
        objective="Huber(0.1) with weight decay 5e-4",
        rows="over 100 models, 129M to 3.7B, expansion rate 64",
        evidence=READ,
        note="The floor of 0.47 is low for text, and the exponents make up for it.",
    )
    yield entry(
        "krajewski_2024_dense",
        laws.chinchilla,
        (0.47, 16.3, 26.7, 0.126, 0.127),
        source="Krajewski et al. 2024, arXiv 2402.07871",
        table="Table 1",
        units="N without embeddings, D in tokens, loss in nats per token",
        objective="Huber(0.1) with weight decay 5e-4",
        rows="dense models beside those of krajewski_2024_moe, whose floor they share",
        evidence=READ,
        note="The floor of 0.47 is low for text, and the exponents make up for it.",
    )
    yield entry(
        "ludziejewski_2025_joint_moe",
        laws.ludziejewski_joint_moe,
        (
            *(1.3637, 35.91, 35.98, 0.1889, 0.1775, 0.0098, -0.0259),
            math.exp(0.2285 / 0.0098),
            math.exp(0.5529 / 0.0259),
            *(2.0732, 290.4521),
        ),
        source="Ludziejewski et al. 2025, arXiv 2502.05172",
        table="Table 3",
        units="N active with embeddings, D in tokens, loss in nats per token",
        objective="LogHuber(1e-2) with weight decay, bad runs weighted down",
        rows="over 280 models, 1 to 32 experts",
        evidence=READ,
        note="Printed digits leave m and n of their Table 4 open in the third digit.",
    )
    yield entry(
        "kumar_2024_ptq",
        laws.kumar_ptq,
        (2.7648, 4299.0, 1.806e4, 0.4965, 0.4965, 0.0598, 0.5068, 0.3439, 0.5907),
        source="Kumar et al. 2024, arXiv 2411.04330",
        table="Table 2",
        units="N without embeddings, D in tokens, loss in nats per token",
        objective="not stated",
        rows="465 runs, 30M to 220M parameters",
        evidence=READ,
        note="The table also has b = 1.1277, a bias that the printed form leaves out.",
    )
    yield entry(
        "sun_2025_fp",
        laws.sun_fp,
        (1.9061, 69.2343, 68973.0621, 0.2368, 0.5162, 11334.5197, 3.1926, 2.9543),
        source="Sun et al. 2025, arXiv 2501.02423",
        table="Table 2",
        units="N as in the paper, D in tokens, loss in nats per token",
        objective="not stated",
        rows="358 runs, 41M to 679M parameters",
        evidence=READ,
    )
    for data, floor, A, alpha, k in (
        ("stack", 0.69124, 0.0113064, 0.189373, 0.393454),
        ("pile", 1.288835, 0.197301, 0.196362, 0.334419),
    ):
        yield entry(
            f"chen_2025_parscale_{data}",
            laws.parscale,
            (floor, (1e9 * A) ** alpha, alpha, k),
            source="Chen et al. 2025, arXiv 2505.10475",
            table="authors' code, parametric_fit.py",
            units="N without embeddings, loss in nats per token",
            objective="LogHuber(1e-3)",
            rows="24 runs: 6 sizes, 1 to 8 streams",
            evidence=REFITTED,
        )
