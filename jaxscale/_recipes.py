"""compare_recipes(): two recipes or data sets held against each other, with common resamples."""

import dataclasses
import functools
import html
import itertools
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from jaxscale._bootstrap import draws_of, finite_refits, webb_weights, wild_losses
from jaxscale._crossing import Crossing, crossing
from jaxscale._draws import Draws, tails
from jaxscale._errors import DataError, FitError
from jaxscale._fit import Fit, fit as fit_law
from jaxscale._law import Law
from jaxscale._objective import Objective
from jaxscale._path import bisect, log_middle, losses, losses_at, make_path
from jaxscale._progress import progress
from jaxscale._refit import Refits, refit_sets, single_fit
from jaxscale._runs import Runs
from jaxscale._sizes import design_codes

Kind = Literal["pairs", "wild"]
# Share of the design points that recipes must have in common to count as matched.
_MATCHED = 0.5
_REACH = np.log(1e6)  # how far a compute multiplier is sought either way


@dataclasses.dataclass(frozen=True)
class Recipes:
    """Fits of one law to several recipes, and what they say about the differences.

    Attributes:
        draws: resamples of each recipe's fit, by name. Draw i of all recipes belongs together.
        matched: whether the recipes share a design, whose points were resampled together.
        common: design points that all recipes have, and `designs`, those of each.
        designs: number of design points by recipe.
        level: probability content of the intervals.
        notes: what to know before using the numbers.
    """

    draws: Mapping[str, Draws]
    matched: bool
    common: int
    designs: Mapping[str, int]
    level: float = 0.9
    notes: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The recipes."""
        return tuple(self.draws)

    @property
    def law(self) -> Law:
        """The law that was fitted to each."""
        return next(iter(self.draws.values())).law

    @property
    def fits(self) -> dict[str, Fit]:
        """The fit of each recipe, by name."""
        return {name: each.fit for name, each in self.draws.items()}

    def difference(self, **inputs: float) -> pd.DataFrame:
        """Difference of the laws' losses at one point, for every pair of recipes.

        Args:
            **inputs: a number for every input of the law.

        Returns:
            One row per pair: first, second, their losses, difference (first minus second), its
            interval, and p_first, the share of the resamples in which the first has lower loss.

        Example:
            >>> recipes.difference(N=70e9, D=1.4e12)
        """
        missing = set(self.law.inputs) ^ set(inputs)
        if missing:
            raise DataError(
                f"law {self.law.name!r} needs the inputs {', '.join(self.law.inputs)}; got "
                f"{', '.join(inputs) or 'none'}"
            )
        at = [jnp.asarray(float(inputs[name])) for name in self.law.inputs]
        points = {n: float(self.law(*at, **each.fit.params)) for n, each in self.draws.items()}
        values = {n: np.asarray(self.law(*at, **each.params)) for n, each in self.draws.items()}
        rows = []
        for one, other in itertools.combinations(self.names, 2):
            gap = values[one] - values[other]
            low, high = np.quantile(gap, tails(self.level))
            rows.append(
                {
                    "first": one,
                    "second": other,
                    "loss_first": points[one],
                    "loss_second": points[other],
                    "difference": points[one] - points[other],
                    "low": low,
                    "high": high,
                    "p_first": float((gap < 0).mean()),
                }
            )
        return pd.DataFrame(rows)

    def multiplier(self, scale: Any, *, path: Any = None, **fixed: float) -> pd.DataFrame:
        """m = x / x', where the second recipe reaches at x' the loss that the first has at x.

        The compute multiplier of the second recipe, if the scale is compute: above 1 it needs less
        than the first for an equal loss.

        Args:
            scale: x, one number or several.
            path: how the inputs follow from the scale, see `crossing`.
            **fixed: inputs to hold, along an input.

        Returns:
            One row per pair and scale: first, second, the scale, loss, multiplier, and its
            interval. 0 where the second recipe never gets there within a million times the scale.

        Example:
            >>> recipes.multiplier([1e20, 1e23])
        """
        scales = np.atleast_1d(np.asarray(scale, float))
        if not (np.isfinite(scales) & (scales > 0)).all():
            raise DataError(f"a scale is a positive number, got {scale}")
        way = make_path((self.law,), path, fixed)
        rows = []
        for one, other in itertools.combinations(self.names, 2):
            pair = (self.draws[one], self.draws[other])
            for x in scales:
                loss, point = _multiplier(pair, way, float(x), of_fits=True)
                _, draws = _multiplier(pair, way, float(x), of_fits=False)
                low, high = np.quantile(draws, tails(self.level), method="inverted_cdf")
                rows.append(
                    {
                        "first": one,
                        "second": other,
                        way.scale: float(x),
                        "loss": float(loss[0]),
                        "multiplier": float(point[0]),
                        "low": low,
                        "high": high,
                    }
                )
        return pd.DataFrame(rows)

    def crossing(self, first: str, second: str, **options: Any) -> Crossing:
        """Where the curves of two recipes cross; arguments as for `jaxscale.crossing`."""
        for name in (first, second):
            if name not in self.draws:
                raise DataError(f"there is no recipe {name!r}; there are {', '.join(self.names)}")
        options = {"level": self.level, "names": (first, second), **options}
        return crossing(self.draws[first], self.draws[second], **options)

    @functools.cached_property
    def table(self) -> pd.DataFrame:
        """Differences at the largest run of the recipes."""
        ranges = [each.fit.ranges for each in self.draws.values()]
        return self.difference(
            **{name: max(float(r[name][1]) for r in ranges) for name in self.law.inputs}
        )

    def frame(self) -> pd.DataFrame:
        """One row per pair of recipes: the difference at the largest inputs seen."""
        return self.table

    @property
    def sentences(self) -> tuple[str, ...]:
        """How the resamples were made, and the notes."""
        if self.matched:
            first = f"The recipes share {self.common} design points, which were resampled together."
        else:
            first = "The recipes do not share a design: each was resampled by itself."
        return (first, *self.notes)

    def __repr__(self) -> str:
        table = self.table.to_string(index=False, float_format=lambda x: f"{x:.5g}")
        head = f"{self.law.name}: {len(self.names)} recipes at the largest inputs seen"
        return "\n".join([head, table, *self.sentences])

    def _repr_html_(self) -> str:
        table = self.table.to_html(index=False, float_format=lambda x: f"{x:.5g}")
        said = "<br>".join(html.escape(text) for text in self.sentences)
        name = html.escape(self.law.name)
        return f"<b>{name}</b>: recipes at the largest inputs seen{table}<p>{said}</p>"


def compare_recipes(
    runs: Mapping[str, Runs],
    law: Law,
    *,
    key: jax.Array,
    objective: Objective | None = None,
    n: int = 1000,
    kind: Kind = "pairs",
    matched: bool | None = None,
    level: float = 0.9,
    restarts: int = 512,
    show_progress: bool | None = None,
) -> Recipes:
    """L_1 - L_2 at any scale, with intervals from resamples that the recipes have in common.

    Recipes that were run on one design are resampled together: a resample takes the same design
    points of every recipe, as often, so that what the choice of runs does to all of them cancels in
    the difference. A recipe that lacks a point goes without it. Recipes of different designs are
    resampled independently.

    Args:
        runs: one table per recipe or data set, by name, all with the inputs of the law.
        law: fitted to each.
        key: JAX random key.
        objective: what to minimize; default ``LogHuber(1e-3)``.
        n: number of resamples.
        kind: ``"pairs"`` draws design points with replacement. ``"wild"`` keeps them all and
            multiplies the residuals of a point by one of Webb's random weights, the same for all
            recipes: for designs of few runs.
        matched: whether the recipes share a design; None finds out: at least half of all design
            points, inputs that agree to 1%, belong to all recipes.
        level: probability content of the intervals.
        restarts: random starts of the fits.
        show_progress: bar on standard error after two seconds; None shows it on a terminal.

    Raises:
        DataError: for fewer than two recipes, or a kind that does not exist.
        IdentificationError: if the runs of a recipe cannot determine the law.
        FitError: if more than half of the resamples fail.

    Example:
        >>> compare_recipes({"c4": one, "rw": other}, laws.chinchilla, key=key).multiplier(1e23)
    """
    tails(level)
    if not isinstance(runs, Mapping) or len(runs) < 2:
        raise DataError("give at least two recipes by name: compare_recipes({'a': ..., 'b': ...})")
    if kind not in ("pairs", "wild"):
        raise DataError(f"kind must be 'pairs' or 'wild', not {kind!r}")
    if n < 2:
        raise DataError(f"at least 2 resamples are needed, got {n}")
    fit_key, draw_key = jax.random.split(key)
    stack = fit_law(
        law,
        Runs.stack(runs),
        objective=objective,
        restarts=restarts,
        key=fit_key,
        show_progress=show_progress,
    )
    fits = {name: stack[name] for name in runs}
    codes = design_codes({name: single_fit(fit) for name, fit in fits.items()}, law.inputs)
    shared = functools.reduce(np.intersect1d, codes.values())
    every = functools.reduce(np.union1d, codes.values())
    if matched is None:
        matched = len(shared) >= _MATCHED * len(every)
    found = {}
    with progress("resampling recipes", n * len(fits), show_progress) as tick:
        for i, (name, fit) in enumerate(fits.items()):
            mine = draw_key if matched else jax.random.fold_in(draw_key, i)
            points = every if matched else np.unique(codes[name])
            found[name] = _resampled(fit, kind, codes[name], points, n, mine, tick)
    return _recipes(fits, found, kind, matched, shared, codes, level)


def _resampled(
    fit: Fit,
    kind: Kind,
    codes: np.ndarray,
    points: np.ndarray,
    n: int,
    key: jax.Array,
    tick: Callable[[int], None],
) -> Refits:
    """Refits to resamples of the design points, of which a recipe may lack some."""
    place = np.searchsorted(points, codes)
    if kind == "pairs":
        drawn = np.asarray(jax.random.randint(key, (n, len(points)), 0, len(points)))
        offset = len(points) * np.arange(n)[:, None]
        flat = np.bincount((drawn + offset).ravel(), minlength=n * len(points))
        times = flat.reshape(n, len(points)).astype(float)[:, place]
        return refit_sets(fit, weight=times * np.asarray(single_fit(fit).weight), tick=tick)
    factors = webb_weights(len(points), np.arange(len(points)), n, key)[:, place]
    return refit_sets(fit, loss=wild_losses(fit, factors), tick=tick)


def _recipes(
    fits: Mapping[str, Fit],
    found: Mapping[str, Refits],
    kind: Kind,
    matched: bool,
    shared: np.ndarray,
    codes: Mapping[str, np.ndarray],
    level: float,
) -> Recipes:
    good = np.all([finite_refits(fits[name], refits) for name, refits in found.items()], axis=0)
    if good.sum() <= len(good) / 2:
        raise FitError(
            f"{(~good).sum():,} of {len(good):,} resamples have no finite optimum for every "
            "recipe: these runs cannot carry them; try kind='wild'"
        )
    words = f"{kind} bootstrap of common design points" if matched else f"{kind} bootstrap"
    draws = {name: draws_of(fits[name], words, refits, good) for name, refits in found.items()}
    notes = [f"{name}: {text}" for name, each in draws.items() for text in each.notes]
    notes += [f"{name}: {fit.verdict}" for name, fit in fits.items() if not fit.verdict.ok]
    return Recipes(
        draws=draws,
        matched=matched,
        common=len(shared),
        designs={name: len(np.unique(mine)) for name, mine in codes.items()},
        level=level,
        notes=tuple(notes),
    )


def _multiplier(
    pair: tuple[Draws, Draws], path: Any, x: float, *, of_fits: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Loss of the first recipe at x, and x over the scale at which the second has it."""
    params = [
        {name: jnp.asarray(value, float)[None] for name, value in each.fit.params.items()}
        if of_fits
        else {name: jnp.asarray(value) for name, value in each.params.items()}
        for each in pair
    ]
    middle = [log_middle(each.fit) for each in pair]
    law = pair[0].law
    log_x = np.log(x)
    target = np.asarray(losses(law, path, middle[0], jnp.asarray([log_x]), params[0]))[:, 0]

    def reached(at: np.ndarray) -> np.ndarray:
        loss = np.asarray(losses_at(law, path, middle[1], jnp.asarray(at), params[1]))
        return np.asarray(loss <= target)

    low, high = np.full(len(target), log_x - _REACH), np.full(len(target), log_x + _REACH)
    never, always = ~reached(high), reached(low)
    found = np.exp(log_x - bisect(reached, low, high))
    return target, np.where(never, 0.0, np.where(always, np.inf, found))
