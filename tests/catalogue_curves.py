"""Test vectors and realistic designs for learning curves and schedules."""

import numpy as np
from cases import Design, Vector

from jaxscale.laws import schedule

ALABDULMOHSIN = "Alabdulmohsin, Neyshabur & Zhai 2022, arXiv 2209.06640, computed here"
CABALLERO = "Caballero et al. 2022, arXiv 2210.14891, computed here"

VECTORS = (
    Vector(
        "",
        "saturating_power_law",
        {"x": 1e4},
        {"E": 0.1, "span": 0.9, "A": 2.0, "alpha": 0.3, "gamma": 0.5},
        "0.21201807940763",
        f"{ALABDULMOHSIN} by bisection",
    ),
    Vector(
        "",
        "bnsl_1",
        {"x": 100.0},
        {"a": 0.1, "b": 2.0, "c0": 0.3, "c1": 0.5, "d1": 50.0, "f1": 0.2},
        "0.4541429509",
        CABALLERO,
    ),
)


def _areas():
    """Seven schedules like those of Luo et al. 2025, looked at 12 times each."""
    peak, end, warm = 3e-4, 3e-5, 1000
    made = (
        schedule.constant(20_000, peak, warmup=warm),
        schedule.cosine(20_000, peak, end=end, warmup=warm),
        schedule.cosine(10_000, peak, end=end, warmup=warm),
        schedule.wsd(20_000, peak, end=end, cooldown=4_000, warmup=warm),
        schedule.wsd(20_000, peak, end=end, cooldown=4_000, shape="linear", warmup=warm),
        schedule.wsd(10_000, peak, end=end, cooldown=2_000, shape="1-sqrt", warmup=warm),
        schedule.stepped(16_000, (peak, 3 * end), at=(8_000,), warmup=warm),
    )
    pairs = [schedule.annealing_areas(rates, warmup=warm) for rates in made]
    picks = [np.linspace(1500, len(rates) - 1, 12).astype(int) for rates in made]
    return {
        name: np.concatenate(
            [np.asarray(pair[i])[pick] for pair, pick in zip(pairs, picks, strict=True)]
        )
        for i, name in enumerate(("S1", "S2"))
    }


DESIGNS = {
    # Errors of image classifiers by examples seen, as in Alabdulmohsin et al. 2022.
    "shifted_power_law": Design(
        {"x": np.geomspace(1e6, 1e10, 60)}, {"A": 200.0, "alpha": 0.4, "g": 3e-9}
    ),
    "saturating_power_law": Design(
        {"x": np.geomspace(1e5, 1e11, 80)},
        {"E": 0.2, "span": 0.79, "A": 2000.0, "alpha": 0.45, "gamma": 0.7},
        noise=0.003,
    ),
    # Cross-entropy of four-digit addition, Caballero et al. 2022.
    "bnsl_1": Design(
        {"x": np.geomspace(100, 10_000, 60)},
        {"a": 0.1, "b": 2.3, "c0": 0.06, "c1": 2.0, "d1": 600.0, "f1": 0.15},
        reason="one restart in six loses the break: it moves beyond the last run, where nothing "
        "pulls it back, or bends the wrong way",
    ),
    "bnsl_2": Design(
        {"x": np.geomspace(10, 1e6, 120)},
        {
            "a": 0.1,
            "b": 3.0,
            "c0": 0.05,
            "c1": 1.0,
            "d1": 300.0,
            "f1": 0.2,
            "c2": -0.8,
            "d2": 20_000.0,
            "f2": 0.3,
        },
        noise=0.003,
        reason="four restarts in ten make two breaks of the first one, at 300 and at 3,400, and "
        "miss the second: another optimum",
    ),
    "annealing": Design(_areas(), {"L0": 2.6, "A": 0.6, "alpha": 0.45, "C": 0.4}, noise=0.002),
}
