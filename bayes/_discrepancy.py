"""Test quantities of scaling laws: what residuals must not show if the model is true.

Residuals are of the law, without random effects, in units of how far a run scatters, and what the
law can absorb by moving its parameters is taken out of them: ``e = (I - J J^+) r / s``, with the
slopes J of log predictions. To first order they do not depend on the draw of the law's parameters,
so that the posterior predictive p-values are neither conservative nor blind to what is fitted.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxscale as js
from bayes._likelihood import Counts, extras
from bayes._model import Model, Table, constrained, log_size, scalar_sites, terms
from bayes._target import replicate

_TOP = 0.1
_LEAST_GROUP = 5  # runs of one isoFLOP curve
_ISOFLOP_WIDTH = 0.1  # of log C within a curve
_ABSORBED = 1e-6


class Residuals(NamedTuple):
    """Residuals beyond the law, observed and of replicated runs, and what they belong to.

    Attributes:
        observed, replicated: standardized and projected, (draws, runs) each.
        width: how far a run scatters in log loss, at the middle of the posterior, (runs,).
        outside: the projection ``I - J J^+`` itself, (runs, runs).
        predicted: the law at the middle of the posterior, (runs,).
        inputs: inputs of the law, each (runs,).
        codes: clusters of the runs, by what makes them.
        row: number of each run in its table.
    """

    observed: np.ndarray
    replicated: np.ndarray
    width: np.ndarray
    outside: np.ndarray
    predicted: np.ndarray
    inputs: dict[str, np.ndarray]
    codes: dict[str, np.ndarray]
    row: np.ndarray


class Quantity(NamedTuple):
    """A test quantity.

    Attributes:
        name: what it looks at.
        of: value of residuals, (draws, runs) -> (draws,).
        sides: 2 if small values are as suspicious as large ones.
        sentence: of the observed value.
    """

    name: str
    of: Callable[[np.ndarray], np.ndarray]
    sides: int
    sentence: Callable[[float], str]


def residuals(model: Model, u: Mapping[str, np.ndarray], key: jax.Array) -> Residuals:
    """Residuals at draws of the unconstrained coordinates, each (draws, ...); see `Residuals`.

    Replicated runs stand at the same inputs and in the same clusters, whose effects are drawn anew.
    """
    real = np.asarray(model.table.weight) > 0
    draws = {name: jnp.asarray(x) for name, x in u.items()}
    middle = jax.tree.map(lambda x: x.mean(0), draws)
    slopes, predicted, width = (
        np.asarray(x)[real] for x in _at_middle(model.law, model.table, middle)
    )
    keys = jax.random.split(key, len(draws["main"]))
    each = _standardized(model.law, model.table, draws, keys)
    outside = _outside(slopes / width[:, None])
    observed, replicated = (np.asarray(x)[:, real] @ outside for x in each)
    inputs = {name: np.asarray(x)[real] for name, x in model.table.inputs.items()}
    codes = {name: code[real] for name, code in _codes(model).items()}
    runs = model.fit.runs
    row = (np.arange(len(real)) + 1 if runs is None else np.asarray(runs.row))[real]
    return Residuals(observed, replicated, width, outside, predicted, inputs, codes, row)


def _outside(slopes: np.ndarray) -> np.ndarray:
    """Projection onto what the law cannot absorb."""
    unit = slopes / np.maximum(np.linalg.norm(slopes, axis=0), 1e-300)
    left, size, _ = np.linalg.svd(unit, full_matrices=False)
    basis = left[:, size > 1e-7 * size.max()]
    return np.eye(len(slopes)) - basis @ basis.T


@jax.jit(static_argnames="law")
def _at_middle(law: js.Law, table: Table, u: dict[str, Any]) -> tuple[Any, Any, Any]:
    """Slopes of log predictions (runs, p), predictions and widths (runs,)."""
    own = {f"free_{name}" for name in law.names} | set(law.names)
    which = jnp.array([i for i, site in enumerate(scalar_sites(table)) if site in own])

    def log_law(block: Any) -> Any:
        values = constrained(table, {**u, "main": u["main"].at[which].set(block)})
        return jnp.log(_of_law(law, table, values)[0])

    base, width = _of_law(law, table, constrained(table, u))
    return jax.jacfwd(log_law)(u["main"][which]), base, width


def _of_law(law: js.Law, table: Table, values: Mapping[str, Any]) -> tuple[Any, Any]:
    """Predictions without random effects, and how far runs scatter around them in log loss."""
    found = terms(law, table, values)
    shift = sum(found.effects[name][table.codes[name]] for name in found.effects)
    base = found.predicted / jnp.exp(shift)
    extra = extras(table.likelihood, values)
    variance = 1 / table.likelihood.information(base, found.scale, extra)
    effects = sum(values[f"sd_{name}"] ** 2 for name in table.codes)
    return base, jnp.sqrt(variance + effects) * jnp.ones_like(base)


@jax.jit(static_argnames="law")
def _standardized(law: js.Law, table: Table, u: dict[str, Any], keys: Any) -> tuple[Any, Any]:
    """Residuals over their width, observed and replicated, (draws, runs) each."""

    def one(at: dict[str, Any], key: Any) -> tuple[Any, Any]:
        values = constrained(table, at)
        base, width = _of_law(law, table, values)
        key, *each = jax.random.split(key, 1 + len(table.codes))
        drawn = {
            name: values[f"sd_{name}"] * jax.random.normal(k, table.centering[name].shape)
            for k, name in zip(each, table.codes, strict=True)
        }
        shift = sum(drawn[name][table.codes[name]] for name in drawn)
        scale = terms(law, table, values).scale
        again = replicate(table, values, base * jnp.exp(shift), scale, key)
        return _residual(table, base, table.loss) / width, _residual(table, base, again) / width

    return jax.vmap(one)(u, keys)


def _residual(table: Table, predicted: Any, loss: Any) -> Any:
    """How far a loss lies above the law, relative to it."""
    if isinstance(table.likelihood, Counts) or not table.likelihood.log:
        return loss / predicted - 1
    return jnp.log(loss) - jnp.log(predicted)


def _codes(model: Model) -> dict[str, np.ndarray]:
    """Clusters to look for dependence in: those of the runs, or runs of one size."""
    runs = model.fit.runs
    if runs is None:
        return {}
    by = "cluster" if runs.cluster is not None else ("N" if "N" in runs.inputs else None)
    by = model.law.inputs[0] if by is None else by
    found = {}
    for name in dict.fromkeys((by, "C" if {"N", "D"} <= set(model.law.inputs) else by)):
        try:
            found[name] = js.cluster_codes(runs, name)
        except js.DataError:  # one cluster only
            continue
    return found


def quantities(found: Residuals) -> list[Quantity]:
    """The test quantities that apply to these runs and this law."""
    name = "C" if {"N", "D"} <= set(found.inputs) else next(iter(found.inputs))
    size = np.asarray(log_size(found.inputs, name)) / np.log(10)
    return [
        *_linear(found, name, size),
        *_isoflop(found),
        _largest(found),
        *_dependence(found, name, size),
    ]


def _linear(found: Residuals, name: str, size: np.ndarray) -> list[Quantity]:
    """How residuals go with something, beyond what the law's own slopes explain of it."""
    n, top = len(size), max(1, round(_TOP * len(size)))
    largest = np.isin(np.arange(n), np.argsort(size, kind="stable")[n - top :]).astype(float)
    made = []
    for label, shape in (
        ("largest runs", largest),
        (f"trend in {name}", size),
        (f"curvature in {name}", (size - size.mean()) ** 2),
    ):
        direction = shape / found.width
        beyond = found.outside @ direction
        if beyond @ beyond <= _ABSORBED * (direction @ direction):
            continue  # the law itself fits it
        if label == "largest runs":
            made.append(Quantity(label, _Coefficient(beyond), 2, _above(top, name)))
        else:
            made.append(Quantity(label, _Correlation(beyond), 2, _bent(label)))
    return made


@dataclasses.dataclass(frozen=True, eq=False)
class _Coefficient:
    """Regression coefficient: a difference of log losses."""

    along: np.ndarray

    def __call__(self, e: np.ndarray) -> np.ndarray:
        return np.asarray(e @ self.along / (self.along @ self.along))


@dataclasses.dataclass(frozen=True, eq=False)
class _Correlation:
    """Correlation of what is left of the residuals with what is left of a direction."""

    along: np.ndarray

    def __call__(self, e: np.ndarray) -> np.ndarray:
        return np.asarray(e @ self.along / np.linalg.norm(self.along) / np.linalg.norm(e, axis=-1))


def _above(top: int, name: str) -> Callable[[float], str]:
    return lambda x: (
        f"the {top} runs with the largest {name} lie {abs(x):.2%} {'above' if x > 0 else 'below'} "
        "the law that the others support"
    )


def _bent(label: str) -> Callable[[float], str]:
    what, name = label.split(" in ")
    down, up, where = {
        "trend": ("fall", "rise", "with"),
        "curvature": ("bend down", "bend up", "at both ends of"),
    }[what]
    return lambda x: (
        f"residuals {up if x > 0 else down} {where} {name} in a way that the law cannot follow "
        f"(correlation {x:.2f})"
    )


def _isoflop(found: Residuals) -> list[Quantity]:
    """Where loss is least along curves of one C: log N of the parabola's minimum, to the law's."""
    if "C" not in found.codes:
        return []
    log_n, log_c = np.log(found.inputs["N"]), np.asarray(log_size(found.inputs, "C"))
    curve, groups = np.log(found.predicted), []
    for code in np.unique(found.codes["C"]):
        rows = np.flatnonzero(found.codes["C"] == code)
        narrow = np.ptp(log_c[rows]) < _ISOFLOP_WIDTH
        if len(rows) < _LEAST_GROUP or len(np.unique(log_n[rows])) < 4 or not narrow:
            continue
        x = log_n[rows] - log_n[rows].mean()
        fitted = np.linalg.pinv(np.stack([np.ones_like(x), x, x**2], axis=1))
        here = _lowest(curve[rows] @ fitted.T, x)
        if x.min() < here < x.max():
            groups.append((rows, fitted, x, here))
    if not groups:
        return []

    def shift(e: np.ndarray) -> np.ndarray:
        loss = curve + e * found.width
        each = [_lowest(loss[..., rows] @ fitted.T, x) - at for rows, fitted, x, at in groups]
        return np.asarray(np.mean(each, axis=0))

    def sentence(x: float) -> str:
        side = "larger" if x > 0 else "smaller"
        return (
            f"along {len(groups)} isoFLOP curves, loss is least at an N that is "
            f"{np.expm1(abs(x)):.0%} {side} than the law says"
        )

    return [Quantity("isoFLOP minima", shift, 2, sentence)]


def _lowest(coefficients: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Where a parabola is least between the ends of x; coefficients (..., 3)."""
    _, b, c = np.moveaxis(coefficients, -1, 0)
    ends = np.array([x.min(), x.max()])
    inside = np.clip(-b / np.where(c > 0, 2 * c, 1.0), *ends)
    at_low = b * ends[0] + c * ends[0] ** 2 <= b * ends[1] + c * ends[1] ** 2
    return np.where(c > 0, inside, np.where(at_low, *ends))


def _largest(found: Residuals) -> Quantity:
    row = int(found.row[np.abs(found.observed).mean(0).argmax()])
    return Quantity(
        "largest residual",
        lambda e: np.abs(e).max(-1),
        1,
        lambda x: f"the run of row {row} lies {x:.1f} noise scales off the law",
    )


def _dependence(found: Residuals, name: str, size: np.ndarray) -> list[Quantity]:
    order = np.argsort(size, kind="stable")

    def neighbors(e: np.ndarray) -> np.ndarray:
        e = e[..., order]
        return np.asarray((e[..., 1:] * e[..., :-1]).mean(-1) / (e**2).mean(-1))

    made = [
        Quantity(
            "neighbors",
            neighbors,
            1,
            lambda x: f"residuals of runs next to each other in {name} are correlated by {x:.2f}",
        )
    ]
    for by, codes in found.codes.items():
        same = (codes[:, None] == codes) & ~np.eye(len(codes), dtype=bool)
        if 0 < same.sum() < same.size - len(codes):
            made.append(_within(by, same))
    return made


def _within(by: str, same: np.ndarray) -> Quantity:
    def correlation(e: np.ndarray) -> np.ndarray:
        return np.asarray(((e @ same) * e).sum(-1) / same.sum() / (e**2).mean(-1))

    what = "cluster" if by == "cluster" else by
    return Quantity(
        f"same {what}",
        correlation,
        1,
        lambda x: f"residuals of runs that share {what} are correlated by {x:.2f}",
    )
