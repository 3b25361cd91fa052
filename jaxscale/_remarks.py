"""What to know about an optimum: limits that bind, choices at their edge, draws that disagree."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from jaxscale._errors import LawError
from jaxscale._setting import Choices
from jaxscale._source import Source

_UNSPENT = 1e-3


def binding(asked: Choices, holds: Any) -> tuple[str, ...]:
    """Names of the limits that bind at each optimum; empty without limits."""
    if not asked.limit_names:
        return ()
    pairs = np.asarray(holds).reshape(-1, 2)
    return tuple(
        " and ".join(name for k, name in enumerate(asked.limit_names, 1) if k in pair)
        for pair in pairs
    )


def limit_notes(asked: Choices, binds: tuple[str, ...], goals: Any, unit: str) -> list[str]:
    """For each limit: how often it binds, and where."""
    where, notes = np.ravel(np.asarray(goals)), []
    for name in asked.limit_names:
        at = [name in bind.split(" and ") for bind in binds]
        if not any(at):
            notes.append(f"The limit {name} binds nowhere here.")
        elif len(at) == 1:
            notes.append(f"The limit {name} binds.")
        else:
            low, high = where[at].min(), where[at].max()
            notes.append(
                f"The limit {name} binds at {sum(at)} of {len(at)}, from {low:.4g} to {high:.4g} "
                f"{unit}."
            )
    return notes


def unspent_notes(asked: Choices, inputs: dict[str, Any], budget: Any) -> list[str]:
    """Where limits leave a part of the budget unspent."""
    if not asked.limit_names:
        return []
    spent = np.ravel(np.asarray(asked.setting.cost(inputs) / budget))
    idle = 1 - spent
    if not (idle > _UNSPENT).any():
        return []
    at = np.ravel(np.asarray(budget))[idle.argmax()]
    return [f"The limits leave {idle.max():.0%} of the budget of {at:.4g} FLOPs unspent."]


def rising_notes(source: Source, asked: Choices, inputs: dict[str, Any]) -> list[str]:
    """Where one more token raises the loss, so that it were better not to spend the budget."""
    if not asked.limit_names:
        return []
    held = {k: v for k, v in inputs.items() if k in (*asked.held, *asked.chosen)}
    setting, params = asked.setting, source.params

    def loss(d: Any, N: Any, held: Any) -> Any:
        return setting.loss(setting.known(N, jnp.exp(d), held), params)

    flat = jax.tree.map(jnp.ravel, (jnp.log(inputs["D"]), inputs["N"], held))
    slopes = np.asarray(jax.vmap(jax.grad(loss))(*flat))
    if not (slopes > 0).any():
        return []
    return [
        "At this size more tokens raise the loss: it would be better not to spend the whole budget."
    ]


def edge_notes(asked: Choices, option: Any) -> list[str]:
    """Where the first or the last of the numbers to choose from is the best."""
    notes = []
    for name in asked.chosen:
        values = [one[name] for one in asked.options]
        best = np.array(values)[np.ravel(np.asarray(option))]
        for end, word in ((min(values), "smallest"), (max(values), "largest")):
            if min(values) < max(values) and (best == end).any():
                notes.append(
                    f"{name} = {end:g}, the {word} to choose from, is the best here: the optimum "
                    "may lie beyond it."
                )
    return notes


def disagreement_notes(asked: Choices, drawn: Any, option: Any, goals: Any) -> list[str]:
    """Where the draws do not agree on what to choose."""
    if not asked.chosen:
        return []
    share = np.ravel((np.asarray(drawn) == np.asarray(option)).mean(axis=0))
    worst = int(share.argmin())
    if share[worst] > 0.95:
        return []
    mine = asked.options[int(np.ravel(np.asarray(option))[worst])]
    said = ", ".join(f"{name} = {value:g}" for name, value in mine.items())
    at = np.ravel(np.asarray(goals))[worst]
    return [f"At {at:.4g} the draws disagree: {said} is the best for {share[worst]:.0%} of them."]


def options_table(
    asked: Choices, goals: Any, goal_name: str, each: Any, value_name: str, drawn: Any
) -> pd.DataFrame | None:
    """One row per goal and combination of what was chosen: N, D, value, and share of draws.

    Args:
        each: the optima of the combinations, arrays of shape (options, *goals).
        drawn: the best combination of every draw, or None.
    """
    if not asked.chosen:
        return None
    goals = np.ravel(np.asarray(goals))
    columns = [np.asarray(x).reshape(len(asked.options), -1) for x in each]
    share = None if drawn is None else np.asarray(drawn).reshape(len(drawn), -1)
    rows = []
    for j, goal in enumerate(goals):
        for i, option in enumerate(asked.options):
            row = {goal_name: goal, **option, "N": columns[0][i, j], "D": columns[1][i, j]}
            row[value_name] = columns[2][i, j]
            row["excess"] = columns[2][i, j] - np.nanmin(columns[2][:, j])
            if share is not None:
                row["share"] = (share[:, j] == i).mean()
            rows.append(row)
    return pd.DataFrame(rows)


def conditional_notes(sizes: Any, goals: Any, unit: str) -> list[str]:
    """Say for how many draws there is no optimum.

    Raises:
        LawError: if that is more than half of them at some goal.
    """
    missing = np.ravel(np.mean(~np.isfinite(np.asarray(sizes)), axis=0))
    worst = float(missing.max())
    at = f"at {np.ravel(np.asarray(goals))[missing.argmax()]:.3g} {unit}"
    if worst > 0.5:
        raise LawError(
            f"{at}, {worst:.0%} of the draws have no compute-optimal size: the runs do not say "
            "that there is one"
        )
    if worst == 0:
        return []
    return [
        f"For {worst:.2%} of the draws there is no compute-optimal size {at}; the bands of N and D "
        "leave them out, so they hold only if there is one."
    ]


def unreached_notes(share: Any, goals: Any) -> list[str]:
    """Say for how many draws no budget is enough."""
    shares = np.ravel(np.asarray(share))
    worst = int(shares.argmax())
    if shares[worst] == 0:
        return []
    return [
        f"For {shares[worst]:.2%} of the draws no budget reaches a loss of "
        f"{np.ravel(np.asarray(goals))[worst]:.6g}; it counts as infinite in the bands."
    ]
