"""chain(): predict through two fitted laws, such as accuracy from loss from N and D."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from jaxscale._bands import mixture_quantiles
from jaxscale._draws import as_draws, tails
from jaxscale._errors import LawError
from jaxscale._fit import Fit
from jaxscale._law import Law
from jaxscale._predict import checked_inputs, extrapolation_notes
from jaxscale._run_noise import RunNoise

_GOLDEN = 0.6180339887498949
_BISECTIONS = 60


@dataclasses.dataclass(frozen=True)
class Chain:
    """A prediction through two laws.

    Attributes:
        inputs: the inputs asked for, broadcast against each other.
        link: name of the second law's input that the first law predicts.
        via: what the first law predicts.
        mean: what the second law predicts from it.
        law_low, law_high: band of both laws together, or None without draws.
        run_low, run_high: band of a new run, or None if the second step carries no draws.
        level: probability content of each band, or None.
        notes: what to know before using the numbers.
    """

    inputs: dict[str, Any]
    link: str
    via: Any
    mean: Any
    law_low: Any = None
    law_high: Any = None
    run_low: Any = None
    run_high: Any = None
    level: float | None = None
    notes: tuple[str, ...] = ()

    def frame(self) -> pd.DataFrame:
        """One row per prediction: inputs, the first step, the second, and the bands that exist."""
        columns = {**self.inputs, self.link: self.via, "predicted": self.mean}
        names = ("law_low", "law_high", "run_low", "run_high")
        columns |= {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return pd.DataFrame({name: np.ravel(np.asarray(x)) for name, x in columns.items()})

    def __repr__(self) -> str:
        table = self.frame().to_string(index=False, float_format=lambda x: f"{x:.6g}")
        return "\n".join([table, *self.notes])


class _Step(NamedTuple):
    """One step for every draw: its law, parameters of shape (draws,), and noise if it has any."""

    law: Law
    params: dict[str, Any]
    noise: RunNoise | None


def chain(
    first: Any,
    second: Any,
    *,
    link: str | None = None,
    level: float = 0.9,
    first_noise: bool = True,
    **inputs: Any,
) -> Chain:
    """y = second(first(inputs)), with the uncertainty of both steps.

    The band of the law holds quantiles over draws of both laws, paired by index: draws made from
    the same runs with the same key keep their correlation, others are independent. The band of a
    run adds the scatter of the second step and, unless `first_noise` is off, that of the first: a
    run off its predicted loss moves along the second law. There is nothing random in it.

    Args:
        first, second: a fit of one data set, its `Draws`, or a result that has ``draws``. If the
            numbers of draws differ, the first ones are paired.
        link: the input of the second law that the first predicts; by default the one that is not
            among `inputs`.
        level: probability content of each band.
        first_noise: whether a new run scatters around the first law as well.
        **inputs: a number or array for every other input of both laws, in the units of the data.

    Raises:
        LawError: if an input is missing or unknown, the link is unclear, or fewer than half of
            the draws give a finite number.
        DataError: if an input is outside the range of its law, or for a level outside 0 to 1.

    Source: Bhagia et al. 2024, arXiv 2412.04403 (the two steps; their bands hold one step only).

    Example:
        >>> chain(loss_draws, accuracy_draws, N=7e9, D=4e12).frame()
    """
    tails(level)
    draws = as_draws(first), as_draws(second)
    one, two = (s if d is None else d.fit for s, d in zip((first, second), draws, strict=True))
    link = _link(one.law, two.law, link, inputs)
    arrays = dict(zip(inputs, jnp.broadcast_arrays(*map(_number, inputs.values())), strict=True))
    to_first = checked_inputs(one, {name: arrays[name] for name in one.law.inputs})
    others = {name: arrays[name] for name in two.law.inputs if name != link}
    via = one.law(*to_first.values(), **one.params)
    to_second = checked_inputs(two, {**others, link: via})
    mean = two.law(*to_second.values(), **two.params)
    notes = (*extrapolation_notes(one, to_first), *extrapolation_notes(two, to_second))
    count = min((len(d) for d in draws if d is not None), default=0)
    if not count:
        return Chain(arrays, link, via, mean, notes=notes)
    steps, lost = _paired(one, two, draws, count)
    if steps[0].noise is None and first_noise:
        lost += ("The first step has no draws: its own scatter is not in the bands.",)
    if not first_noise:
        steps = (steps[0]._replace(noise=None), steps[1])
    points = tuple(jnp.ravel(arrays[name]) for name in arrays)
    names, ends = tuple(arrays), np.array(tails(level))
    (law_one, p_one, n_one), (law_two, p_two, n_two) = steps
    found = _bands(law_one, law_two, link, names, (p_one, p_two), (n_one, n_two), points, ends)
    low_high, run, median, usable = (np.asarray(x) for x in found)
    if usable.min(initial=1.0) <= 0.5:
        raise LawError(f"only {usable.min():.0%} of the draws give a finite number at these inputs")

    def shaped(values: Any) -> Any:
        return jnp.reshape(values, mean.shape)

    center = any(d is not None and d.center != "fit" for d in draws)
    remarks = [r for d in draws if d is not None for r in d.remarks]
    has_run = n_two is not None
    return Chain(
        inputs=arrays,
        link=link,
        via=via,
        mean=shaped(median) if center else mean,
        law_low=shaped(low_high[:, 0]),
        law_high=shaped(low_high[:, 1]),
        run_low=shaped(run[:, 0]) if has_run else None,
        run_high=shaped(run[:, 1]) if has_run else None,
        level=level,
        notes=(*notes, *lost, *remarks),
    )


def _number(value: Any) -> Any:
    return jnp.asarray(value, float)


def _link(one: Law, two: Law, link: str | None, inputs: dict[str, Any]) -> str:
    """Name of the linking input; refuses inputs that are missing or unknown."""
    open_ = [name for name in two.inputs if name not in inputs]
    if link is None:
        if len(open_) != 1:
            raise LawError(
                f"name the input of {two.name!r} that {one.name!r} predicts, such as "
                f"link={two.inputs[0]!r}"
            )
        link = open_[0]
    wanted = dict.fromkeys((*one.inputs, *(name for name in two.inputs if name != link)))
    if link not in two.inputs or set(inputs) != set(wanted):
        raise LawError(
            f"the chain needs the inputs {', '.join(wanted)} and predicts {link}; "
            f"got {', '.join(inputs) or 'none'}"
        )
    return link


def _paired(
    one: Fit, two: Fit, draws: tuple[Any, Any], count: int
) -> tuple[tuple[_Step, _Step], tuple[str, ...]]:
    """Both steps with the same draws, without those that are not finite in either."""
    steps = []
    for fit, made in zip((one, two), draws, strict=True):
        if made is None:
            params = {k: np.full(count, float(v)) for k, v in fit.params.items()}
            steps.append(_Step(fit.law, params, None))
            continue
        params = {k: np.asarray(v)[:count] for k, v in made.params.items()}
        noise = jax.tree.map(lambda x: np.asarray(x)[:count] if np.ndim(x) else x, made.run_noise)
        steps.append(_Step(fit.law, params, noise))
    leaves = [x for x in jax.tree.leaves([s[1:] for s in steps]) if np.ndim(x)]
    finite = np.all([np.isfinite(x).reshape(count, -1).all(axis=1) for x in leaves], axis=0)
    lost = count - int(finite.sum())
    if 2 * lost > count:
        raise LawError(f"{lost:,} of {count:,} pairs of draws are not finite; make them anew")
    kept = [
        s._replace(
            params={k: v[finite] for k, v in s.params.items()},
            noise=jax.tree.map(lambda x: x[finite] if np.ndim(x) else x, s.noise),
        )
        for s in steps
    ]
    note = (f"{lost:,} of {count:,} pairs of draws are not finite and were left out.",)
    return (kept[0], kept[1]), note if lost else ()


@jax.jit(static_argnames=("law_one", "law_two", "link", "names"))
def _bands(
    law_one: Law,
    law_two: Law,
    link: str,
    names: tuple[str, ...],
    params: Any,
    noises: Any,
    points: Any,
    ends: Any,
) -> Any:
    count = len(next(iter(params[0].values())))
    # Golden-ratio steps: as even as quantiles, and in no relation to the order of the draws.
    u = (0.5 + _GOLDEN * jnp.arange(count)) % 1.0

    def at(point: tuple[Any, ...]) -> Any:
        given = dict(zip(names, point, strict=True))
        start = [given[name] for name in law_one.inputs]
        via = jax.vmap(lambda p: law_one.fn(*start, **p))(params[0])

        def outcome(via: Any) -> Any:
            def one(x: Any, p: Any) -> Any:
                return law_two.fn(*(x if k == link else given[k] for k in law_two.inputs), **p)

            return jax.vmap(one)(via, params[1])

        predicted = outcome(via)
        usable = jnp.isfinite(predicted)
        predicted = jnp.where(usable, predicted, jnp.nan)
        low, middle, high = jnp.nanquantile(predicted, jnp.array([ends[0], 0.5, ends[1]]))
        run = jnp.full(2, jnp.nan)
        first, second = noises
        if second is not None:
            if first is not None:
                r = _residuals(first, u, via, dict(zip(law_one.inputs, start, strict=True)))
                predicted = outcome(via * jnp.exp(-r) if first.log else via - r)
            good = jnp.isfinite(predicted) & ((predicted > 0) | (not second.log))
            predicted = jnp.where(good, predicted, jnp.nan)
            typical = {k: jnp.nanmedian(via) if k == link else given[k] for k in law_two.inputs}
            run = mixture_quantiles(second, predicted, typical, ends, good)
            run = jnp.exp(run) if second.log else run
        return jnp.stack([low, high]), run, middle, usable.mean()

    return jax.lax.map(at, points)


def _residuals(noise: RunNoise, u: Any, predicted: Any, inputs: dict[str, Any]) -> Any:
    """The residual of one run for every draw, at probability u of that draw's noise."""
    low, high = (jnp.broadcast_to(x, u.shape) for x in noise.bracket(u, predicted, inputs))

    def halve(_: Any, ends: tuple[Any, Any]) -> tuple[Any, Any]:
        middle = 0.5 * (ends[0] + ends[1])
        below = noise.cdf(middle, predicted, inputs) < u
        return jnp.where(below, middle, ends[0]), jnp.where(below, ends[1], middle)

    low, high = jax.lax.fori_loop(0, _BISECTIONS, halve, (low, high))
    return 0.5 * (low + high)
