"""Published parameters of the laws: ``published.get(name)``, ``published.table()``.

Only numbers that were read in the paper or in the authors' code are here, and each says what it
was fitted to and what it counts: parameters without their objective, rows and units mean little.
Scales that a paper prints as ``(x_c / x)^alpha`` are turned into ``A = x_c^alpha`` here, in code,
by plain arithmetic: whoever imports jaxscale still chooses JAX's precision, devices and processes.
"""

import dataclasses
import difflib

import pandas as pd

from jaxscale._errors import LawError
from jaxscale.published import curves, data, dense, inference, kaplan_kin, sparse, tasks
from jaxscale.published._entry import Published as Published, text_of

_CATALOGUE: dict[str, Published] = {
    entry.name: entry
    for topic in (dense, kaplan_kin, sparse, data, curves, tasks, inference)
    for entry in topic.entries()
}


def names() -> tuple[str, ...]:
    """Names of all published parameter sets."""
    return tuple(_CATALOGUE)


def get(name: str) -> Published:
    """The parameter set called ``name``.

    Raises:
        LawError: if there is none; the message suggests the closest names.
    """
    if name in _CATALOGUE:
        return _CATALOGUE[name]
    close = difflib.get_close_matches(name, _CATALOGUE, n=3)
    hint = f"did you mean {', '.join(close)}?" if close else "published.table() lists them"
    raise LawError(f"there are no published parameters called {name!r}; {hint}")


def table() -> pd.DataFrame:
    """One row per parameter set: name, law, parameters, and everything known about it."""
    about = [f.name for f in dataclasses.fields(Published)[3:] if f.name != "better"]
    return pd.DataFrame(
        {
            "name": entry.name,
            "law": entry.law.name,
            "parameters": text_of(entry.params),
            **{column: getattr(entry, column) for column in about},
        }
        for entry in _CATALOGUE.values()
    )


def not_converged() -> pd.DataFrame:
    """Published fits that a refit of the same rows beats: both points with their objectives."""
    return pd.DataFrame(
        {
            "name": entry.name,
            "law": entry.law.name,
            "published": text_of(entry.params),
            "objective": entry.value,
            "better": text_of(dict(entry.better)),
            "better_objective": entry.better_value,
            "scored_on": entry.scored_on,
        }
        for entry in _CATALOGUE.values()
        if entry.better
    )
