"""Test vectors and realistic designs: limited and mixed data, distillation, vocabulary, shape."""

import numpy as np
from cases import Design, Vector, grid

import jaxscale as js
from jaxscale.laws import data_constrained, distillation, mixture

MUENNIGHOFF = "Muennighoff et al. 2023, arXiv 2305.16264"
C4 = data_constrained.C4_BASE
REPEATS = {"R_D": 15.387756, "R_N": 5.309743}
STUDENT = {
    "A": 2243.0,
    "B": 24181.0,
    "alpha": 0.321,
    "beta": 0.637,
    "gamma": 0.764,
    "c_0": 2.549,
    "w": float(distillation.break_weight(c_1=522.6, d_1=1.315, f_1=0.09)),
    "c_1": 522.6,
    "f_1": 0.09,
}
VOCABULARY = {
    "E": 5.532785,
    "A_1": 1.831385 * 1e6**0.446606,
    "A_2": 0.195842 * 1e6**0.670737,
    "B": 2.124112 * 1e9**0.446606,
    "alpha": 0.446606,
    "alpha_2": 0.670737,
}
# The authors' 4-term fit of hot runs, rounded: exponents, log coefficients, log floor.
SHAPE = {
    "E": float(np.exp(0.39246)),
    "W": float(np.exp(1.4520)),
    "H": float(np.exp(-0.0781)),
    "A": float(np.exp(7.9700)),
    "B": float(np.exp(10.0594)),
    "omega": 0.24469,
    "eta": 0.38715,
    "alpha": 0.50008,
    "beta": 0.47611,
}

VECTORS = (
    Vector(
        "muennighoff_2023_c4",
        "muennighoff",
        {"N": 6.34e9, "D": 242e9, "epochs": 242 / 25},
        C4 | REPEATS,
        "2.225644088998",
        MUENNIGHOFF,
    ),
    Vector(
        "muennighoff_2023_c4_repeats",
        "muennighoff_repeats",
        {"N": 8.67e9, "D": 178e9, "epochs": 178 / 25},
        REPEATS,
        "2.226963407509",
        MUENNIGHOFF,
    ),
    Vector(
        "kim_2025_n",
        "power_law_offset",
        {"x": 1.4},
        {"E": 3.43, "A": 0.05, "alpha": 1.02},
        "3.465474755",
        "Kim et al. 2025, N in billions",
    ),
    Vector(
        "kim_2025_k",
        "power_law_offset",
        {"x": 5.0},
        {"E": 3.34, "A": 0.25, "alpha": 1.02},
        "3.388416189",
        "Kim et al. 2025",
    ),
    Vector(
        "",
        "busbridge_distillation",
        {"N": 1e9, "D": 2e10, "L_T": 2.2, "L_S": 2.374692248},
        STUDENT,
        "2.316953375",
        "Busbridge et al. 2025, arXiv 2502.08606, Table 6",
    ),
    Vector(
        "tao_2024_vocabulary",
        "tao_vocabulary",
        {"N": 1e9, "N_v": 32768.0 * 2048, "D": 2e10},
        VOCABULARY,
        "-4.880029597",
        "Tao et al. 2024, arXiv 2407.13623",
    ),
    Vector(
        "",
        "gemstones",
        {"width": 1024.0, "depth": 24.0, "N": 1e9, "D": 2e10},
        SHAPE,
        "2.916901279",
        "McLeish et al. 2025, arXiv 2502.06857, rounded",
    ),
)


def _repeated():
    """Sizes at up to 40 epochs of 0.1 to 100 billion unique tokens."""
    cells = grid(
        N=np.geomspace(1e7, 8e9, 7), U=[1e8, 1e9, 1e10, 1e11], epochs=[0.9, 2.0, 5.0, 14.0, 40.0]
    )
    return {"N": cells["N"], "D": cells["U"] * cells["epochs"], "epochs": cells["epochs"]}


def _mixtures(domains, runs, seed=0):
    """Random shares, a fifth of them zero; never all of them."""
    rng = np.random.default_rng(seed)
    raw = rng.dirichlet(np.ones(domains), runs)
    raw[:, 1:][rng.uniform(size=(runs, domains - 1)) < 0.2] = 0.0
    shares = raw / raw.sum(axis=1, keepdims=True)
    return [shares[:, i] for i in range(domains)]


def _shares(name, domains, runs, **others):
    columns = _mixtures(domains, runs)
    return others | {f"{name}_{i + 1}": column for i, column in enumerate(columns)}


def _sized(name, domains, each=12):
    sizes = grid(N=np.geomspace(1e8, 3e9, 4), D=np.geomspace(2e9, 1e11, 4))
    repeated = {key: np.tile(x, each) for key, x in sizes.items()}
    return _shares(name, domains, 16 * each, **repeated)


def _students():
    cells = grid(
        N=np.geomspace(1.4e8, 1.2e10, 5), D=np.geomspace(2e8, 5e11, 6), L_T=np.linspace(1.9, 2.9, 8)
    )
    supervised = js.published.get("busbridge_2025")(N=cells["N"], D=cells["D"])
    return cells | {"L_S": np.asarray(supervised)}


def _shapes():
    cells = grid(
        width=[256.0, 512.0, 1024.0, 2048.0, 3072.0],
        depth=[4.0, 12.0, 28.0, 64.0],
        D=np.geomspace(1e10, 1e11, 5),
    )
    width, depth = cells["width"], cells["depth"]
    return cells | {"N": 12 * depth * width**2 + 50304 * width}


BASE = {"E": 1.7, "A": 400.0, "B": 2000.0, "alpha": 0.34, "beta": 0.36}
_KIM = grid(N=[0.15, 0.3, 0.6, 1.4], K=[1.0, 2.0, 3.0, 5.0, 8.0])
_ACADEMIC = mixture.pure_losses(-2.1391, (-10.0864, 2.7140, 2.7106, 2.6083, 1.5866))
# Between whole numbers of epochs, where the utility jumps.
_POOLS = grid(pool=np.geomspace(3e6, 1e8, 6), epochs=[0.5, 0.9, 1.8, 3.5, 9.5, 24.5])

DESIGNS = {
    "muennighoff": Design(inputs=_repeated(), params={**C4, **REPEATS}),
    "muennighoff_tied": Design(
        inputs=_repeated(), params={k: v for k, v in {**C4, **REPEATS}.items() if k != "beta"}
    ),
    "muennighoff_repeats": Design(inputs=_repeated(), params=REPEATS),
    "chinchilla_tied": Design(
        inputs=grid(N=np.geomspace(5e7, 5e9, 7), D=np.geomspace(1e9, 1e11, 7)),
        params={k: v for k, v in C4.items() if k != "beta"},
    ),
    "ensemble": Design(
        inputs=_KIM,
        params={"E": 3.17, "A": 0.05, "B": 0.25, "alpha": 1.02, "kappa": 1.02},
        noise=0.001,
    ),
    "goyal_utility": Design(
        inputs={"n": _POOLS["pool"] * _POOLS["epochs"], "epochs": _POOLS["epochs"]},
        params={"d": 0.1, "n_0": 4e6, "b": 0.16, "tau": 6.7272727272727275},
        noise=0.002,
    ),
    "data_mixing_5": Design(
        inputs=_shares("r", 5, 40),
        params={"c": float(np.exp(0.9750))}
        | {f"k_{i + 1}": float(k) for i, k in enumerate(_ACADEMIC)},
        objective=js.Huber(0.05),
        noise=0.01,
        open=("k_1",),
        reason="A loss of 5e-6 above the floor on its own domain cannot be told from none.",
    ),
    "implicit_mixing_3": Design(
        inputs=_shares("r", 3, 80),
        params={
            "c": 2.0,
            "k_1_1": 0.1,
            "k_1_2": 1.5,
            "k_1_3": 0.8,
            "k_2_1": 1.2,
            "k_2_2": 0.05,
            "k_2_3": 0.7,
        },
        noise=0.002,
        open=("k_1_1", "k_1_2", "k_1_3", "k_2_1", "k_2_2", "k_2_3"),
        reason="The hidden domains may change places.",
    ),
    "shukor_additive_3": Design(
        inputs=_sized("h", 3),
        params=BASE
        | {"C_1": 2.0, "C_2": 1.0, "C_3": 3.0, "gamma_1": 0.5, "gamma_2": 0.3, "gamma_3": 0.8},
        noise=0.003,
    ),
    "shukor_joint_2": Design(
        inputs=_sized("h", 2),
        params={
            "E": 1.7,
            "alpha": 0.34,
            "beta": 0.36,
            "gamma_A": 0.8,
            "gamma_B": 0.6,
            "C_1": 2.0,
            "C_2": 1.0,
            "gamma_1": 0.5,
            "gamma_2": 0.3,
            "A_1": 3000.0,
            "A_2": 1200.0,
            "B_1": 3e5,
            "B_2": 6e5,
        },
        noise=0.003,
        open=("gamma_A", "gamma_B", "A_1", "A_2", "B_1", "B_2"),
        reason="gamma_A and gamma_B only bend lines between two domains.",
    ),
    "dcpt": Design(
        inputs=grid(
            N=np.geomspace(5e8, 4e9, 3), D=np.geomspace(1e9, 3e10, 5), r=[0.0, 0.1, 0.33, 0.67, 1.0]
        ),
        params={
            "E": 1.2,
            "A": 200.0,
            "B": 1500.0,
            "C": 0.15,
            "alpha": 0.3,
            "beta": 0.35,
            "gamma": 0.6,
            "eta": 0.4,
            "eps": 0.15,
        },
        noise=0.003,
        open=("E", "C", "gamma", "eps", "eta"),
        reason="Five shares hardly tell C / (r + eps)^gamma from the floor.",
    ),
    "busbridge_distillation": Design(
        inputs=_students(),
        params=STUDENT,
        objective=js.LogHuber(1e-4),
        noise=0.0003,
        open=("A", "B", "gamma", "c_1"),
        reason="At c_1 = 522.6 the break is exponential, and only w is left of it. The term in "
        "tokens is a hundredth of the other, so that B and the outer gamma are loose.",
    ),
    "tao_vocabulary": Design(
        inputs=grid(
            N=np.geomspace(3.3e7, 1.13e9, 6),
            N_v=np.geomspace(2e6, 2e8, 8),
            D=np.geomspace(2e8, 5e10, 6),
        ),
        params=VOCABULARY,
        objective=js.Huber(1e-3),
        noise=0.01,
    ),
    "gemstones": Design(
        inputs=_shapes(),
        params=SHAPE,
        noise=0.002,
        open=("E", "W", "H", "A", "omega", "eta", "alpha"),
        reason="N is nearly a function of width and depth: their terms trade places.",
    ),
    "gemstones_shape": Design(
        inputs={k: x for k, x in _shapes().items() if k != "N"},
        params={"E": 1.5, "W": 20.0, "H": 1.5, "B": 2e4, "omega": 0.5, "eta": 0.6, "beta": 0.47},
        noise=0.002,
    ),
}
