"""Which models are trained on how much compute, in which order, and how their rate is chosen."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator

from jaxscale.datasets.tiny_lm_study.model import Shape
from jaxscale.datasets.tiny_lm_study.train import Run

SWEEP_SEED = 1000
SWEEP_FACTOR = 2.0
SWEEP_TRIES = 6


@dataclasses.dataclass(frozen=True)
class Cell:
    """One (N, D) point: a shape trained for a compute budget 6 N D."""

    budget: float
    shape: Shape

    def run(self, lr: float, seed: int) -> Run:
        name = f"c{self.budget:.0e}-{self.shape.name}-s{seed}".replace("+", "")
        return Run(name, self.shape, self.budget, lr, seed)


@dataclasses.dataclass(frozen=True)
class Plan:
    """Cells with their seeds, in the order they are measured."""

    stages: tuple[tuple[tuple[Cell, ...], tuple[int, ...]], ...]
    sweep_limit: float

    def sweep_budget(self, shape: Shape) -> float:
        """6 N D of each run of a shape's sweep: the geometric mean of its budgets, up to a limit.

        The best rate falls slowly as D grows, so it is sought in the middle of the range of D
        that it will be used for.
        """
        budgets = {cell.budget for cell, _ in self.runs() if cell.shape == shape}
        return min(self.sweep_limit, math.exp(sum(map(math.log, budgets)) / len(budgets)))

    def runs(self) -> Iterator[tuple[Cell, int]]:
        for cells, seeds in self.stages:
            for seed in seeds:
                yield from ((cell, seed) for cell in cells)


def _cells(budget: float, *shapes: tuple[int, int]) -> tuple[Cell, ...]:
    return tuple(Cell(budget, Shape(*shape)) for shape in shapes)


# Width and depth of the models on each isoFLOP curve, so that its valley lies inside. Each curve
# but the first and the last has pairs of a wide and a deep model of about the same size.
GRID = {
    budget: _cells(budget, *shapes)
    for budget, shapes in {
        1e10: [(8, 1), (8, 2), (12, 1), (12, 2), (16, 1), (16, 2), (24, 1), (24, 2), (32, 2)],
        3e10: [(8, 1), (8, 2), (12, 1), (12, 2), (16, 2), (24, 1), (24, 2), (32, 2), (48, 2)],
        1e11: [
            (8, 2),
            (12, 2),
            (16, 2),
            (16, 4),
            (24, 2),
            (24, 4),
            (32, 2),
            (32, 4),
            (48, 2),
            (64, 2),
        ],
        3e11: [
            (12, 2),
            (16, 2),
            (24, 2),
            (24, 4),
            (32, 2),
            (32, 4),
            (48, 2),
            (48, 4),
            (64, 2),
            (96, 2),
        ],
        1e12: [
            (16, 2),
            (24, 2),
            (32, 2),
            (32, 4),
            (48, 2),
            (48, 4),
            (64, 2),
            (64, 4),
            (96, 2),
            (128, 2),
        ],
        3e12: [(32, 2), (32, 4), (48, 2), (48, 4), (64, 2), (64, 4), (96, 2), (96, 4), (128, 2)],
        1e13: [(48, 4), (64, 2), (64, 4), (96, 2), (96, 4), (128, 2), (128, 4), (192, 2)],
        3e13: [(96, 4), (128, 4), (96, 2), (192, 2), (192, 4)],
    }.items()
}
_REPEATED = tuple(
    Cell(budget, Shape(*shape))
    for budget, shapes in {
        1e10: [(8, 1), (12, 1), (16, 2), (32, 2)],
        3e10: [(8, 2), (16, 2), (24, 2), (48, 2)],
        1e11: [(12, 2), (24, 2), (32, 2), (64, 2)],
        3e11: [(16, 2), (32, 2), (48, 2), (96, 2)],
        1e12: [(24, 2), (48, 2), (96, 2)],
    }.items()
    for shape in shapes
)
_REPEATED_LARGE = (*_cells(3e12, (48, 2), (96, 2)), *_cells(1e13, (96, 2)))

# Small budgets first, then seeds, then large budgets: a study cut short is still balanced.
FULL = Plan(
    stages=(
        (tuple(cell for budget in (1e10, 3e10, 1e11, 3e11, 1e12) for cell in GRID[budget]), (0,)),
        (_REPEATED, (1, 2)),
        (GRID[3e12], (0,)),
        (GRID[1e13], (0,)),
        (_REPEATED_LARGE, (1, 2)),
        (GRID[3e13], (0,)),
    ),
    sweep_limit=1e12,
)
QUICK = Plan(
    stages=((_cells(2e8, (8, 1)), (0, 1)), (_cells(4e8, (8, 1)), (0,))),
    sweep_limit=1e12,
)


def choose_rate(shape: Shape, budget: float, measure: Callable[[Run], float]) -> float:
    """Sweep the peak learning rate of a shape and return the best of those tried.

    Three rates around 0.5 / (width + 4) are tried, then further ones by factors of two until the
    best is inside the range (or `SWEEP_TRIES` rates were tried).

    Args:
        shape: the model.
        budget: 6 N D of each run of the sweep.
        measure: trains a run and returns its loss; looks up runs that it knows.
    """

    def loss_at(rate: float) -> float:
        name = f"sweep-{shape.name}-lr{rate:.3g}"
        loss = measure(Run(name, shape, budget, rate, SWEEP_SEED))
        return loss if math.isfinite(loss) else math.inf

    middle = 0.5 / (shape.width + 4)
    losses = {
        rate: loss_at(rate) for rate in (middle / SWEEP_FACTOR, middle, middle * SWEEP_FACTOR)
    }
    while len(losses) < SWEEP_TRIES:
        best = min(losses, key=lambda rate: losses[rate])
        if best == min(losses):
            rate = best / SWEEP_FACTOR
        elif best == max(losses):
            rate = best * SWEEP_FACTOR
        else:
            break
        losses[rate] = loss_at(rate)
    return min(losses, key=lambda rate: losses[rate])
