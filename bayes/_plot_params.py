"""Pictures of parameters: against each other, and against their priors."""

from collections.abc import Mapping
from typing import Any

import arviz_base
import numpy as np
import xarray as xr
from arviz_stats.base import array_stats

import jaxscale as js
from bayes._plot_style import (
    BLUE,
    ORANGE,
    SKY,
    checked_names,
    collection,
    count,
    few_ticks,
    line,
    log_axis,
    matplotlib_only,
    panel,
    power_of_ten,
    ticks,
    title,
)
from bayes._posterior import Posterior

_COLUMNS = 4
_MANY_DECADES = 1e6
_DECADE = 10.0  # ratio of a prior's ends from which its axis is logarithmic
_PRIOR_SHOWN = (0.01, 0.99)
_KNOWN = 0.5


def plot_pair(post: Posterior, names: Any = None, **pc_kwargs: Any) -> Any:
    """Draws of every two parameters, with divergent ones as crosses, and densities of each.

    Coefficients, such as A and B, which trade off against their exponents along narrow ridges, have
    logarithmic axes; what is drawn are their logs to base 10.

    Args:
        post: a posterior.
        names: two parameters or more, of the law or of its noise, or what the law derives; default
            the parameters of the law.
        **pc_kwargs: passed to `arviz_plots.plot_pair`, such as ``triangle="both"``.

    Returns:
        An arviz-plots `PlotMatrix`, with visuals ``scatter``, ``dist`` and, if there are any,
        ``divergence``.

    Raises:
        DataError: for anything but a posterior, an unknown name, or fewer than two.

    Example:
        >>> plot_pair(sample(fit, key=key), names=["A", "alpha"])
    """
    import arviz_plots

    values = _values(post, "posterior", names, "plot_pair")
    names = list(values)
    if len(names) < 2:
        raise js.DataError("a pair plot needs two parameters or more in names")
    logged = [name for name in names if _is_coefficient(post, name)]
    shown = {name: np.log10(x) if name in logged else x for name, x in values.items()}
    diverged = np.asarray(post.stats.get("diverging", np.zeros(shown[names[0]].shape, bool)))
    tree = arviz_base.from_dict({"posterior": shown, "sample_stats": {"diverging": diverged}})
    side = 1.2 + 1.5 * len(names)
    options = matplotlib_only(pc_kwargs)
    figure = {"figsize": (side, side), "layout": "constrained"}
    options["figure_kwargs"] = {**figure, **options.get("figure_kwargs", {})}
    cross = {"marker": "x", "color": ORANGE, "alpha": 1.0, "width": 1.4, "size": 30, "zorder": 5}
    pc = arviz_plots.plot_pair(
        tree,
        var_names=names,
        visuals={
            "scatter": {"color": BLUE, "alpha": 0.15, "size": 5, "rasterized": True},
            "divergence": cross,
            "dist": {"color": BLUE},
        },
        **options,
    )
    _pair_axes(pc, names, logged)
    count = int(diverged.sum())
    divergent = f"; {count} divergent draws" if count else ""
    return title(pc, f"{post.law.name}: {_ridge(shown, logged)}{divergent}")


def _values(post: Any, group: str, names: Any, what: str) -> dict[str, np.ndarray]:
    """Draws of the named scalars of a group by name, each (chains, draws).

    Raises:
        DataError: for anything but a posterior, or an unknown name.
    """
    if not isinstance(post, Posterior):
        raise js.DataError(
            f"{what} needs a posterior, such as bayes.sample(fit, key=key), not "
            f"{type(post).__name__}"
        )
    data = post.data[group]
    known = tuple(str(name) for name in data.data_vars if data[name].ndim == 2)
    chosen = post.law.names if names is None else names
    chosen = checked_names(chosen, known, f"the posterior of {post.law.name}")
    return {name: np.asarray(data[name]) for name in chosen}


def _is_coefficient(post: Posterior, name: str) -> bool:
    """Whether a positive parameter changes with the units of an input, as A and B do."""
    param = dict(post.law.params).get(name)
    return param is not None and param.support == "positive" and "*" in param.unit


def _pair_axes(pc: Any, names: list[str], logged: list[str]) -> None:
    """Labels at the left and at the bottom, and ticks of logs that say the number itself."""
    from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator

    grid = np.array(pc.viz["figure"].item().axes[: len(names) ** 2]).reshape(len(names), -1)
    for (i, j), ax in np.ndenumerate(grid):
        for axis, name, draws in ((ax.xaxis, names[j], j <= i), (ax.yaxis, names[i], j < i)):
            if name in logged and draws:
                low, high = 10.0 ** np.array(sorted(axis.get_view_interval()))
                found = ticks(low, high, least=2, most=3)
                axis.set_major_locator(FixedLocator(np.log10(found).tolist()))
                axis.set_major_formatter(FixedFormatter([count(x) for x in found]))
            elif draws:
                axis.set_major_locator(MaxNLocator(3))
        if i == j:
            ax.set_yticks([])
        left, bottom = j == 0 and i > 0, i == len(names) - 1
        ax.tick_params(labelsize="small", labelleft=left, labelbottom=bottom)
        ax.set_xlabel(names[j] if bottom else "")
        ax.set_ylabel(names[i] if left else "")


def _ridge(shown: Mapping[str, np.ndarray], logged: list[str]) -> str:
    """The two that are most strongly correlated, in words."""
    names = list(shown)
    found = np.abs(np.corrcoef([shown[name].ravel() for name in names]) * (1 - np.eye(len(names))))
    i, j = np.unravel_index(np.argmax(found), found.shape)
    first, second = (f"log {n}" if n in logged else n for n in (names[min(i, j)], names[max(i, j)]))
    much = "above 0.99" if found[i, j] > 0.99 else f"{found[i, j]:.2f}"
    return f"{first} and {second} are most correlated (|r| {much})"


def plot_prior_posterior(post: Posterior, names: Any = None, **pc_kwargs: Any) -> Any:
    """Density of each parameter before and after the runs, each scaled to its own peak.

    Positive parameters whose prior spans more than a decade are on a logarithmic axis, and their
    densities are those of the log. A panel's title gives the ratio of the widths of the central
    90%: near zero for what the runs determine, near one for what only the prior knows.

    Args:
        post: a posterior.
        names: parameters of the law or of its noise, or what the law derives; default the
            parameters of the law and of the noise.
        **pc_kwargs: passed to `PlotCollection.wrap`, such as ``col_wrap=3``.

    Returns:
        An arviz-plots `PlotCollection` with one panel per parameter, and visuals ``prior`` and
        ``posterior``.

    Raises:
        DataError: for anything but a posterior, or an unknown name.

    Example:
        >>> plot_prior_posterior(sample(fit, key=key), names=["alpha", "beta"])
    """
    if names is None and isinstance(post, Posterior):
        names = [*post.law.names, *post.noise]
    after = _values(post, "posterior", names, "plot_prior_posterior")
    before = _values(post, "prior", list(after), "plot_prior_posterior")
    logged = [name for name, x in before.items() if _spans(x)]
    names, curves = list(after), {}
    for kind, values in (("prior", before), ("posterior", after)):
        each = {name: _density(x, name in logged) for name, x in values.items()}
        curves[kind] = xr.Dataset({name: (("axis", "point"), xy) for name, xy in each.items()})
    columns = min(_COLUMNS, len(names))
    rows = -(-len(names) // columns)
    pc = collection(
        curves["posterior"],
        (max(4.0, 2.3 * columns), 0.9 + 1.9 * rows),
        pc_kwargs,
        cols=["__variable__"],
        col_wrap=columns,
    )
    pc.map(_filled, "posterior", data=curves["posterior"], color=SKY, label="posterior")
    dashes = {"color": "black", "ls": (0, (4, 2)), "lw": 1.3}
    pc.map(_outline, "prior", data=curves["prior"], label="prior", **dashes)
    ratio = {}
    for name in names:
        ratio[name] = _width(after[name], name in logged) / _width(before[name], name in logged)
        _prior_axis(panel(pc, name), name, before[name], after[name], name in logged)
        panel(pc, name).set_title(f"width {_ratio(ratio[name])} of prior", fontsize="small")
    panel(pc, names[0]).legend(frameon=False, fontsize="x-small", handlelength=1.4)
    return title(pc, f"{post.law.name}: {_learned(ratio)}")


def _spans(prior: np.ndarray) -> bool:
    low, high = np.nanquantile(prior, [0.05, 0.95])
    return bool(np.nanmin(prior) > 0 and high > _DECADE * low)


def _density(values: np.ndarray, logged: bool) -> np.ndarray:
    """Points and density there, scaled to a peak of one, (2, points)."""
    x = np.ravel(values)
    low, high = np.nanquantile(x, [0.002, 0.998])
    x = x[(x >= low) & (x <= high)]
    grid, density, _ = array_stats.kde(np.log(x) if logged else x)
    return np.stack([np.exp(grid) if logged else grid, density / density.max()])


def _width(values: np.ndarray, logged: bool) -> float:
    low, high = np.nanquantile(np.log(values) if logged else values, [0.05, 0.95])
    return float(high - low)


def _ratio(value: float) -> str:
    return f"{value:.0%}" if value >= 0.01 else "below 1%"


def _learned(ratio: Mapping[str, float]) -> str:
    """What the runs say little about, in words."""
    little = [name for name, x in ratio.items() if x > _KNOWN]
    if little:
        return f"the runs say little about {', '.join(little)}"
    worst = max(ratio, key=lambda name: ratio[name])
    share = _ratio(ratio[worst])
    return f"the runs determine all of them; least {worst}, {share} of its prior's width"


def _prior_axis(ax: Any, name: str, prior: np.ndarray, post: np.ndarray, logged: bool) -> None:
    """Limits that hold nearly all of the prior and all of the posterior; no y axis."""
    ends = np.nanquantile(prior, _PRIOR_SHOWN)
    low, high = min(ends[0], post.min()), max(ends[1], post.max())
    ax.set_ylim(0, 1.08)
    few_ticks(ax)
    if logged:
        ax.set_xlim(low, high)
        wide = high > _MANY_DECADES * low
        log_axis(ax, "x", name, power_of_ten if wide else count, most=3)
    else:
        ax.set(xlim=(low, high), xlabel=name)
    ax.set_yticks([])
    ax.spines[["left", "right", "top"]].set_visible(False)


def _filled(da: Any, target: Any, **look: Any) -> Any:
    x, density = np.asarray(da)
    target.plot(x, density, color=BLUE, lw=1.2)
    return target.fill_between(x, density, lw=0, **look)


def _outline(da: Any, target: Any, **look: Any) -> Any:
    x, density = np.asarray(da)
    return line(density, target, x=x, **look)
