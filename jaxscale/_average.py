"""One law out of several: draws of all models in proportion to their weights."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxscale._draws import Draws, as_draws
from jaxscale._errors import DataError, LawError
from jaxscale._fit import Fit
from jaxscale._law import Law
from jaxscale._param import real
from jaxscale._refit import inflation
from jaxscale._run_noise import RunNoise
from jaxscale._verdict import Finding, Verdict

_MEMBER = "model"  # the parameter that says which law a draw belongs to
_FAR = 50.0  # log residual beyond which no loss lies
_COPIES = 4000  # of a fit without draws: weights are kept to a few parts in ten thousand
_UNIT = 1e-6  # to which weights must have a sum of one


@functools.lru_cache(maxsize=64)
def composite(names: tuple[str, ...], laws: tuple[Law, ...]) -> Law:
    """L(inputs) = law_k(inputs; parameters of k), where k is the parameter ``model``.

    Parameters are called ``NAME_parameter``, and mean nothing in draws of another model. What all
    laws derive from their parameters, the average derives, too; it has a closed-form optimum if
    all laws have one.

    Args:
        names: of the models.
        laws: in the same inputs, in any order.

    Raises:
        LawError: for laws of different inputs.
    """
    inputs = laws[0].inputs
    for name, law in zip(names, laws, strict=True):
        if set(law.inputs) != set(inputs):
            raise LawError(
                f"only laws of the same inputs can be averaged: {names[0]} is in "
                f"{', '.join(inputs)}, and {name} in {', '.join(law.inputs)}"
            )

    def fn(*values: Any, **params: Any) -> Any:
        at = dict(zip(inputs, values, strict=True))
        each = [
            law.fn(*(at[one] for one in law.inputs), **own_params(name, law, params))
            for name, law in zip(names, laws, strict=True)
        ]
        return _chosen(params[_MEMBER], each)

    def of_all(parts: tuple[Any, ...]) -> Any:
        def selected(*args: Any, **params: Any) -> Any:
            each = [
                part(*args, **own_params(name, law, params))
                for part, name, law in zip(parts, names, laws, strict=True)
            ]
            return _chosen(params[_MEMBER], each)

        return selected

    optima = tuple(law.optimum for law in laws)
    shared = [name for name, _ in laws[0].derived if all(name in dict(x.derived) for x in laws)]
    return Law(
        name="average",
        fn=fn,
        params=(
            *(
                (f"{name}_{own}", dataclasses.replace(param, unit=""))
                for name, law in zip(names, laws, strict=True)
                for own, param in law.params
            ),
            (_MEMBER, real(-1.0, float(len(names)))),
        ),
        inputs=inputs,
        formula=" or ".join(names),
        optimum=of_all(optima) if all(optima) else None,
        derived=tuple(
            (name, of_all(tuple(dict(law.derived)[name] for law in laws))) for name in shared
        ),
    )


def own_params(name: str, law: Law, params: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of one member among those of the average."""
    return {own: params[f"{name}_{own}"] for own in law.names}


def _chosen(member: Any, each: list[Any]) -> Any:
    found = each[0]
    for k, value in enumerate(each[1:], 1):
        found = jnp.where(member == k, value, found)
    return found


class EitherNoise(RunNoise):
    """The noise of the member that each draw belongs to; `member` has shape (draws,)."""

    members: tuple[RunNoise, ...]
    member: Any

    @property
    def log(self) -> bool:
        return self.members[0].log

    def cdf(self, r: Any, predicted: Any, inputs: dict[str, Any]) -> Any:
        return _chosen(self.member, [each.cdf(r, predicted, inputs) for each in self.members])

    def bracket(self, u: Any, predicted: Any, inputs: dict[str, Any]) -> tuple[Any, Any]:
        ends = [each.bracket(u, predicted, inputs) for each in self.members]
        low, high = zip(*ends, strict=True)
        return _chosen(self.member, list(low)), _chosen(self.member, list(high))


class LogOfRaw(RunNoise):
    """Noise of the loss itself, as one of log loss: loss = predicted - raw = predicted e^-r."""

    raw: RunNoise

    @property
    def log(self) -> bool:
        return True

    def cdf(self, r: Any, predicted: Any, inputs: dict[str, Any]) -> Any:
        return self.raw.cdf(-predicted * jnp.expm1(-r), predicted, inputs)

    def bracket(self, u: Any, predicted: Any, inputs: dict[str, Any]) -> tuple[Any, Any]:
        low, high = self.raw.bracket(u, predicted, inputs)
        return _as_log(low, predicted), _as_log(high, predicted)


def _as_log(raw: Any, predicted: Any) -> Any:
    share = raw / predicted
    return jnp.where(share < 1, -jnp.log1p(-jnp.minimum(share, 1 - jnp.exp(-_FAR))), _FAR)


def counts(weights: np.ndarray, available: np.ndarray) -> np.ndarray:
    """Draws to take from each member: in proportion to the weights, and as many as there are."""
    used = weights > 0
    total = int(np.min(np.floor(available[used] / weights[used] + 1e-9)))
    exact = weights * total
    found = np.floor(exact + 1e-9).astype(int)
    # The largest remainders get what rounding down has left over.
    order = np.argsort(-(exact - found), kind="stable")
    found[order[: total - found.sum()]] += 1
    return np.minimum(found, available)


def average(sources: Mapping[str, Any], weights: Mapping[str, float]) -> Draws:
    """p(y) = sum_k w_k p_k(y) as draws: evenly spaced ones of each model, in proportion to w_k.

    `predict` and `allocate` take the result. Their bands of the law hold the scatter of each law's
    draws and the choice among the laws; of fits without draws the choice alone.

    Args:
        sources: a fit, its draws or a posterior of every model, by name. Where all are fits, the
            middle of a prediction is the weighted mean, else the median of the draws.
        weights: by name, with sum one.

    Raises:
        LawError: for laws of different inputs.
        DataError: for weights that do not fit.

    Example:
        >>> predict(average({"a": one, "b": other}, {"a": 0.7, "b": 0.3}), N=1e11, D=1e13)
    """
    _refuse_weights(sources, weights)
    made = {name: as_draws(source) for name, source in sources.items()}
    draws = {name: _copies(sources[name]) if x is None else x for name, x in made.items()}
    share = np.array([weights[name] for name in draws])
    taken = counts(share, np.array([len(each) for each in draws.values()]))
    kept = {name: int(n) for name, n in zip(draws, taken, strict=True) if n}
    names, members = tuple(kept), [draws[name] for name in kept]
    law = composite(names, tuple(each.law for each in members))
    member = np.repeat(np.arange(len(names)), list(kept.values()))
    which = [_evenly(len(each), kept[name]) for name, each in zip(names, members, strict=True)]
    params = {
        f"{name}_{own}": _spread(each.params[own], which[k], member == k)
        for k, (name, each) in enumerate(zip(names, members, strict=True))
        for own in each.law.names
    }
    scale = np.concatenate([each.scale[at] for each, at in zip(members, which, strict=True)])
    notes = [f"{name}: {text}" for name in names for text in draws[name].notes]
    doubts = [f"{name}: {draws[name].doubt}" for name in names if draws[name].doubt]
    top = names[int(np.argmax(list(kept.values())))]
    return Draws(
        fit=_fit(law, names, {name: draws[name].fit for name in names}, top),
        method=f"average of {', '.join(f'{name} ({weights[name]:.0%})' for name in names)}",
        params={**params, _MEMBER: member.astype(float)},
        scale=scale,
        center="mean" if all(x is None for x in made.values()) else "median",
        notes=tuple(notes),
        noise=_noise([each.run_noise for each in members], which, member),
        doubt=" ".join(doubts),
    )


def _refuse_weights(sources: Mapping[str, Any], weights: Mapping[str, float]) -> None:
    if not sources or set(weights) != set(sources):
        raise DataError(
            f"each model needs a weight: there are {', '.join(sources) or 'none'}, and weights of "
            f"{', '.join(weights) or 'none'}"
        )
    values = np.array([weights[name] for name in sources], float)
    if not (values >= 0).all() or abs(values.sum() - 1) > _UNIT:
        raise DataError(f"weights are 0 or more and have a sum of one, got {dict(weights)}")


def _copies(fit: Fit) -> Draws:
    """A fit without draws, as draws that are all the same."""
    return Draws(
        fit=fit,
        method="fit",
        params={name: np.full(_COPIES, float(value)) for name, value in fit.params.items()},
        scale=np.full(_COPIES, fit.noise_scale() * inflation(fit)),
        notes=("Its own uncertainty is not in the band: give its draws to add it.",),
    )


def _evenly(available: int, wanted: int) -> np.ndarray:
    return ((np.arange(wanted) + 0.5) * available / wanted).astype(int)


def _spread(values: Any, which: np.ndarray, own: np.ndarray) -> np.ndarray:
    """A member's values at its own draws, and their median at those of others."""
    values = np.asarray(values)
    found = np.repeat(np.nanmedian(values, axis=0, keepdims=True), len(own), axis=0)
    found[own] = values[which]
    return found


def _noise(members: list[RunNoise], which: list[np.ndarray], member: np.ndarray) -> EitherNoise:
    if len({each.log for each in members}) > 1:
        members = [each if each.log else LogOfRaw(each) for each in members]
    spread = [
        jax.tree.map(lambda x, k=k: _spread(x, which[k], member == k) if np.ndim(x) else x, each)
        for k, each in enumerate(members)
    ]
    return EitherNoise(tuple(spread), member)


def _fit(
    law: Law,
    names: tuple[str, ...],
    fits: Mapping[str, Fit],
    top: str,
) -> Fit:
    """What draws of the average belong to: the parameters of all fits, at the heaviest model."""
    middle = {
        f"{name}_{own}": float(value) for name in names for own, value in fits[name].params.items()
    }
    middle[_MEMBER] = float(names.index(top))
    best = fits[top]
    findings = [
        dataclasses.replace(each, sentence=f"{name}: {each.sentence}")
        for name in names
        for each in fits[name].verdict.findings
        if each.code != "converged"
    ]
    fine = Finding("converged", f"Nothing speaks against the fits of {', '.join(names)}.")
    return dataclasses.replace(
        best,
        law=law,
        params=middle,
        value=np.nan,
        verdict=Verdict(tuple(findings) or (fine,)),
        free=np.array([float(param.to_free(middle[name])) for name, param in law.params]),
        log_refs={},
    )
