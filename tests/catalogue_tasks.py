"""Laws of hyper-parameters and downstream tasks: test vectors and realistic experiments."""

import numpy as np
from cases import Design, Vector, grid

import jaxscale as js

STEP = "Li et al. 2025, arXiv 2503.04715"
PORIAN = "Porian et al. 2024, arXiv 2406.19146"
DEEPSEEK = "DeepSeek-AI 2024, arXiv 2401.02954, coefficients second-hand"
OLMO = "Bhagia et al. 2024, arXiv 2412.04403, authors' code"
NEQA = "Zhang et al. 2023, authors' simulation, by hand"


def _deepseek(c, g, value):
    return Vector("", "scaling_rule", {"x": 1e20}, {"c": c, "g": g}, value, DEEPSEEK)


def _rule(entry, x, c, g, value, source):
    return Vector(entry, "scaling_rule", {"x": x}, {"c": c, "g": g}, value, source)


VECTORS = (
    Vector(
        "step_2025_lr",
        "step_lr",
        {"N": 7e9, "D": 1.4e12},
        {"c": 1.79, "a": -0.713, "b": 0.307},
        "9.1656e-4",
        STEP,
    ),
    Vector(
        "step_2025_lr",
        "step_lr",
        {"N": 1e9, "D": 1e11},
        {"c": 1.79, "a": -0.713, "b": 0.307},
        "1.63250e-3",
        STEP,
    ),
    _rule("step_2025_batch", 1.4e12, 0.58, 0.571, "4.99882e6", STEP),
    _rule("step_2025_batch", 1e11, 0.58, 0.571, "1.107715e6", STEP),
    _rule("porian_2024_lr", 1e9, 3.7, -0.36, "2.12913e-3", PORIAN),
    _rule("porian_2024_batch", 1e9, 0.00037, 0.703, "785.60", PORIAN),
    _rule("bhagia_2024_lr", 7e9, 0.0047 * 1.08e8 ** (1 / 3), -1 / 3, "1.17006e-3", OLMO),
    _rule("bhagia_2024_batch", 7e9, 160 * 1.08e8 ** (-2 / 3), 2 / 3, "2581.7", OLMO),
    _deepseek(0.3118, -0.1250, "9.8600e-4"),
    _deepseek(0.2920, 0.3271, "1.017145e6"),
    _deepseek(0.1715, 0.5243, "5.25127e9"),
    _deepseek(5.8316, 0.4757, "1.90453e10"),
    # At x = 0 the second subtask is a coin, so that the first does not matter.
    Vector(
        "",
        "composed_accuracy",
        {"x": 0.0},
        {"a": 0.75, "b": 0.025, "k": 1.0, "m": 0.0},
        "0.5",
        NEQA,
    ),
)

SIZES = grid(N=np.geomspace(5e7, 1e9, 6), D=np.geomspace(4e9, 1e11, 6))
_PC = np.random.default_rng(7).normal(0, [[0.8], [0.25], [0.15]], (3, 120))
_FINE = np.array([0, *(200 * 2.0 ** np.arange(14))])

DESIGNS = {
    "step_lr": Design(SIZES, {"c": 1.79, "a": -0.713, "b": 0.307}),
    "scaling_rule": Design({"x": np.geomspace(4e9, 1e11, 40)}, {"c": 0.58, "g": 0.571}),
    "adamw_timescale": Design(SIZES, {"c": 1.0, "m": 0.527}),
    "optimal_norm_lr": Design(
        grid(B=2.0 ** np.arange(4, 12), D=np.geomspace(1e9, 4e10, 5)),
        {"c": 2**9.8, "a": 0.62, "b": -0.56},
    ),
    "critical_batch_steps": Design(
        {"B": 2.0 ** np.arange(12, 24, 0.25)}, {"S_min": 4e3, "B_crit": 5e5}
    ),
    "critical_batch_examples": Design(
        {"B": 2.0 ** np.arange(12, 24, 0.25)}, {"E_min": 2e9, "B_crit": 5e5}
    ),
    # Step 2 of the ladder on MMLU, without the bound that its top has there.
    "sigmoid_accuracy": Design(
        {"L": np.append(np.linspace(0.55, 1.9, 100), 0.0)},
        {"top": 0.9, "drop": 0.65, "k": 5.0, "L0": 0.8},
        objective=js.Gaussian(),
        noise=0.003,
    ),
    "log_sigmoid_accuracy": Design(
        {"L": np.linspace(0.4, 1.6, 100)},
        {"a": 0.15, "k": 5.0, "L0": 0.8},
        objective=js.Gaussian(),
        noise=0.003,
    ),
    "log_score": Design(
        {"D": np.geomspace(1e8, 1e11, 60)},
        {"A": 0.02, "alpha": 0.35, "beta": 1.8},
        open=("A", "alpha", "beta"),
        reason="the curve bends little over three decades: scale and exponent trade",
    ),
    "pass_rate": Design(
        {"N": np.geomspace(3e7, 3e9, 40)}, {"c": 300.0, "alpha": 0.25}, objective=js.Binomial()
    ),
    "composed_accuracy": Design(
        {"x": np.linspace(-10, 10, 81)},
        {"a": 0.75, "b": 0.02, "k": 1.0, "m": 0.5},
        objective=js.Gaussian(),
        noise=0.01,
    ),
    "u_shaped": Design(
        {"C": np.geomspace(1e18, 1e24, 60)},
        {"y0": 0.45, "q": 0.004, "C0": 3e20},
        objective=js.Gaussian(),
        noise=0.005,
    ),
    "rectified_finetuning": Design(
        {"D": np.repeat(_FINE, 3)}, {"E": 1.2, "drop": 1.5, "D0": 9e3, "beta": 0.6}
    ),
    "vanilla_finetuning": Design(
        {"D": np.repeat(_FINE[1:], 4)},
        {"B": 0.02, "E": 1.1, "alpha": 0.8, "beta": 0.5},
        open=("B", "E", "alpha", "beta"),
        reason="the outer power trades against the others, as its authors' critics note",
    ),
    "skill_accuracy": Design(
        {name: np.tile(x, 2) for name, x in SIZES.items()},
        {"floor": 0.25, "K": 1e-10, "u": 0.5, "v": 0.5},
        objective=js.Gaussian(),
        noise=0.005,
    ),
    "capability_sigmoid": Design(
        {"pc1": _PC[0], "pc2": _PC[1], "pc3": _PC[2]},
        {"floor": 0.1, "top": 0.95, "w1": 5.0, "w2": -2.0, "w3": 3.0, "b": -0.5},
        objective=js.Gaussian(),
        noise=0.005,
    ),
}
