"""Published parameters of laws of inference-time compute and reinforcement learning."""

from collections.abc import Iterator

from jaxscale import laws
from jaxscale.published._entry import Published, entry

_RYBKIN = {
    "source": "Rybkin et al. 2025, arXiv 2502.04327",
    "evidence": "read in the authors' code",
}
_SUITES = {"gym": "OpenAI Gym", "dmc": "DeepMind Control"}


def entries() -> Iterator[Published]:
    """All entries of this module."""
    yield from _data()
    yield from _hyperparameters()


def _data() -> Iterator[Published]:
    # (a, b, D_min) by rising return: D = D_min + (sigma / b)^-a, in the order of their files.
    table = {
        "gym": (
            (0.757, 0.118, 0.319), (0.824, 0.190, 0.370), (0.783, 0.270, 0.409),
            (0.752, 0.357, 0.470), (0.745, 0.464, 0.528), (0.691, 0.669, 0.565),
            (0.701, 0.910, 0.668), (0.580, 1.591, 0.659), (0.756, 1.628, 0.899),
            (0.700, 2.290, 1.031),
        ),
        "dmc": (
            (0.876, 0.317, 0.216), (0.856, 0.360, 0.302), (0.893, 0.392, 0.390),
            (0.963, 0.420, 0.490), (0.917, 0.480, 0.547), (0.968, 0.505, 0.640),
            (1.002, 0.516, 0.764), (1.147, 0.493, 0.921), (1.133, 0.534, 1.001),
            (1.090, 0.574, 1.100),
        ),
    }  # fmt: skip
    for suite, rows in table.items():
        for level, (a, b, D_min) in enumerate(rows, 1):
            yield entry(
                f"rybkin_2025_{suite}_{level}",
                laws.data_to_return,
                (D_min, b, a),
                table="stored data-Pareto fits",
                units="sigma in updates per environment step; D in environment steps, scaled per "
                "environment as stored",
                objective="mean of squares of D",
                rows=f"{_SUITES[suite]}, return level {level} of 10; the largest sigma left out",
                note="D is in scaled units: use the exponent and ratios, not steps.",
                **_RYBKIN,
            )


def _hyperparameters() -> Iterator[Published]:
    # log10 of the best batch size and learning rate at sigma = 1; slopes are shared per suite.
    slopes = {"gym": (-0.3096, -0.2849), "dmc": (-0.4879, -0.3203)}
    intercepts = {
        "gym": {
            "ant": (2.6189, -3.8229),
            "halfcheetah": (2.6149, -2.7279),
            "humanoid": (2.4958, -3.7200),
            "walker2d": (2.5089, -3.0841),
        },
        "dmc": {
            "cartpole": (2.7225, -3.1084),
            "cheetah": (2.7667, -3.1625),
            "dog_stand": (2.1003, -3.2743),
            "finger": (2.7801, -3.0252),
            "humanoid_stand": (2.6458, -3.3224),
            "quadruped_walk": (2.7295, -3.0482),
            "walker": (2.4696, -2.9897),
        },
    }
    kinds = {"batch": "batch size in samples", "lr": "learning rate"}
    for suite, environments in intercepts.items():
        for environment, logs in environments.items():
            for (kind, counts), log10, slope in zip(
                kinds.items(), logs, slopes[suite], strict=True
            ):
                yield entry(
                    f"rybkin_2025_{kind}_{suite}_{environment}",
                    laws.power_law,
                    (10**log10, -slope),
                    table="stored fits of hyper-parameters, shared slope",
                    units=f"x = sigma, updates per environment step; the loss is the best {counts}",
                    objective="least squares in logs",
                    rows=f"{_SUITES[suite]}, {environment.replace('_', ' ')}",
                    note="Slopes are not identified per environment; they are pooled per suite.",
                    **_RYBKIN,
                )
