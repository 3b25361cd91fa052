"""Test vectors and realistic designs for inference-time compute, reinforcement and theory."""

import numpy as np
from cases import Design, Vector, grid

import jaxscale as js

SABER = "Microsoft 2026 (SABER), arXiv 2601.22636"
RYBKIN = "Rybkin et al. 2025, arXiv 2502.04327, authors' csv"
SHAPES = {"alpha": 0.3, "beta": 2.0}


def _rybkin(name, x, log10, exponent, value):
    return Vector(
        f"rybkin_2025_{name}", "power_law", {"x": x}, {"A": 10**log10, "alpha": exponent},
        value, RYBKIN,
    )  # fmt: skip


VECTORS = (
    *(
        Vector("", "beta_coverage", {"k": float(k)}, SHAPES, value, f"{SABER}, computed apart")
        for k, value in (
            (1, "0.1304348"), (10, "0.4414919"), (100, "0.7083708"), (1000, "0.8531923"),
        )
    ),
    # By hand: C(3, 1) B(2, 3) / B(1, 1) = 3 * 1 / 12; half the problems unsolvable.
    Vector(
        "",
        "beta_binomial",
        {"successes": 1.0, "failures": 2.0},
        {"alpha": 1.0, "beta": 1.0},
        "0.25",
        "exact",
    ),
    Vector(
        "",
        "spike_beta_binomial",
        {"successes": 0.0, "failures": 3.0},
        {"alpha": 1.0, "beta": 1.0, "share": 0.5},
        "0.625",
        "exact",
    ),
    Vector(
        "",
        "spike_beta_coverage",
        {"k": 10.0},
        SHAPES | {"share": 0.5},
        "0.22074594",
        "half of the above",
    ),
    Vector("", "coverage_power", {"k": 16.0}, {"a": 2.0, "b": 0.5}, "0.6065306597", "exp(-1/2)"),
    Vector("", "coverage_saturating", {"k": 3.0}, {"ceiling": 0.8, "p": 0.5}, "0.7", "exact"),
    # 10^2.6189 is 415.8; the authors' csv prints it as a whole number, cut.
    _rybkin("batch_gym_ant", 16.0, 2.6189, 0.3096, "176"),
    _rybkin("lr_gym_ant", 1.0, -3.8229, 0.2849, "1.50e-4"),
    _rybkin("lr_gym_ant", 16.0, -3.8229, 0.2849, "6.82e-5"),
    Vector(
        "rybkin_2025_gym_5",
        "data_to_return",
        {"sigma": 0.464},
        {"D_min": 0.528, "b": 0.464, "a": 0.745},
        "1.528",
        "D_min + 1 at sigma = b",
    ),
    Vector(
        "", "quanta", {"N": 16.0, "D": 64.0}, {"E": 1.0, "A": 1.0, "B": 2.0, "alpha": 0.5},
        "1.75", "1 + 16^-1/2 + 2 * 64^-1/3",
    ),
)  # fmt: skip


def _counts(problems, n, share, alpha, beta, seed):
    """Successes of n attempts on each problem; a share of the problems is never solved."""
    rng = np.random.default_rng(seed)
    p = rng.beta(alpha, beta, problems) * (rng.uniform(size=problems) >= share)
    k = rng.binomial(n, p).astype(float)
    return {"successes": k, "failures": n - k}


CURVE = {"k": np.unique(np.round(np.geomspace(1, 1e4, 40)))}

DESIGNS = {
    # Llama 3 8B on the digitized curves of Brown et al. 2024.
    "coverage_power": Design(CURVE, {"a": 2.078, "b": 0.441}, objective=js.Gaussian(), noise=0.005),
    "coverage_saturating": Design(
        {"k": np.arange(1.0, 65.0)},
        {"ceiling": 0.56, "p": 0.12},
        objective=js.Gaussian(),
        noise=0.01,
    ),
    "beta_coverage": Design(CURVE, {"alpha": 0.4, "beta": 2.0}, objective=js.Binomial()),
    "spike_beta_coverage": Design(
        CURVE, {"alpha": 0.6, "beta": 3.0, "share": 0.2}, objective=js.Binomial()
    ),
    # 159 prompts as in HarmBench; 400 problems for the spike, which fewer leave open.
    "beta_binomial": Design(
        _counts(159, 100, 0.0, 0.3, 2.0, seed=5),
        {"alpha": 0.3, "beta": 2.0},
        objective=js.LogScore(),
    ),
    "spike_beta_binomial": Design(
        _counts(400, 1000, 0.3, 0.8, 3.0, seed=6),
        {"alpha": 0.8, "beta": 3.0, "share": 0.3},
        objective=js.LogScore(),
    ),
    "data_to_return": Design(
        {"sigma": np.repeat(2.0 ** np.arange(-2, 5), 5)},
        {"D_min": 0.528, "b": 0.464, "a": 0.745},
        objective=js.Gaussian(),
        noise=0.02,
    ),
    "quanta": Design(
        grid(N=np.geomspace(5e7, 5e9, 8), D=np.geomspace(1e9, 1e11, 8)),
        {"E": 1.7, "A": 400.0, "B": 150.0, "alpha": 0.34},
        noise=0.003,
    ),
}
