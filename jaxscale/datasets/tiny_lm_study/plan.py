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


def _cells(shapes: dict[float, str]) -> dict[float, tuple[Cell, ...]]:
    """Cells by budget; a shape is written as width x depth."""
    return {
        budget: tuple(Cell(budget, Shape(*map(int, word.split("x")))) for word in words.split())
        for budget, words in shapes.items()
    }


# The models on each isoFLOP curve, on both sides of its valley. From 1e11 on there are wide and
# deep models of about the same size.
_GRID = _cells(
    {
        1e10: "8x1 8x2 12x1 12x2 16x1 16x2 24x1 24x2 32x2",
        3e10: "8x1 8x2 12x1 12x2 16x2 24x1 24x2 32x2 48x2",
        1e11: "8x2 12x2 16x2 16x4 24x2 24x4 32x2 32x4 48x2 64x2",
        3e11: "12x2 16x2 24x2 24x4 32x2 32x4 48x2 48x4 64x2 96x2",
        1e12: "16x2 24x2 32x2 32x4 48x2 48x4 64x2 64x4 96x2 128x2",
        3e12: "32x2 32x4 48x2 48x4 64x2 64x4 96x2 96x4 128x2",
        1e13: "48x4 64x2 64x4 96x2 96x4 128x2 128x4 192x2",
    }
)
# Measured again with other seeds.
_REPEATED = _cells(
    {
        1e10: "8x1 12x1 16x2 32x2",
        3e10: "8x2 16x2 24x2 48x2",
        1e11: "12x2 24x2 32x2 64x2",
        3e11: "16x2 32x2 48x2 96x2",
        1e12: "24x2 48x2 96x2",
        3e12: "48x2 96x2",
        1e13: "96x2",
    }
)
_QUICK = _cells({2e8: "8x1", 4e8: "8x1"})


def _up_to(limit: float, cells: dict[float, tuple[Cell, ...]]) -> tuple[Cell, ...]:
    return tuple(cell for budget in cells if budget <= limit for cell in cells[budget])


def _above(limit: float, cells: dict[float, tuple[Cell, ...]]) -> tuple[Cell, ...]:
    return tuple(cell for budget in cells if budget > limit for cell in cells[budget])


# Small budgets first, then seeds, then large budgets: a study cut short is still balanced.
FULL = Plan(
    stages=(
        (_up_to(1e12, _GRID), (0,)),
        (_up_to(1e12, _REPEATED), (1, 2)),
        (_above(1e12, _GRID), (0,)),
        (_above(1e12, _REPEATED), (1, 2)),
    ),
    sweep_limit=1e12,
)
QUICK = Plan(stages=((_QUICK[2e8], (0, 1)), (_QUICK[4e8], (0,))), sweep_limit=1e12)


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
