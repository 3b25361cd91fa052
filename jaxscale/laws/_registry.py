"""Look up laws by name. The catalogue is whatever `jaxscale.laws` exports."""

import difflib
import importlib

import pandas as pd

from jaxscale._errors import LawError
from jaxscale._law import Law

# Laws for any count, such as data_mixing_5, by the module that makes them.
_FACTORIES = {
    "bnsl": "jaxscale.laws.learning_curve",
    "data_mixing": "jaxscale.laws.mixture",
    "implicit_mixing": "jaxscale.laws.mixture",
    "shukor_additive": "jaxscale.laws.mixture",
    "shukor_joint": "jaxscale.laws.mixture",
}


def _catalogue() -> dict[str, Law]:
    from jaxscale import laws  # the package imports this module first

    return {law.name: law for law in vars(laws).values() if isinstance(law, Law)}


def names() -> tuple[str, ...]:
    """Names of all laws, in the order of the catalogue."""
    return tuple(_catalogue())


def get(name: str) -> Law:
    """The law called ``name``.

    Raises:
        LawError: if there is none; the message suggests the closest names.
    """
    catalogue = _catalogue()
    if name in catalogue:
        return catalogue[name]
    prefix, _, count = name.rpartition("_")
    if prefix in _FACTORIES and count.isdecimal():
        made: Law = getattr(importlib.import_module(_FACTORIES[prefix]), prefix)(int(count))
        return made
    close = difflib.get_close_matches(name, catalogue, n=3)
    hint = f"did you mean {', '.join(close)}?" if close else "'jaxscale laws' lists them all"
    raise LawError(f"there is no law called {name!r}; {hint}")


def table() -> pd.DataFrame:
    """One row per law: name, family, inputs, what it predicts, parameters, formula, source."""
    return pd.DataFrame(
        {
            "name": law.name,
            "family": law.family,
            "inputs": ", ".join(_described(law, name) for name in law.inputs),
            "predicts": law.predicts,
            "parameters": ", ".join(law.names),
            "formula": law.formula,
            "source": law.source,
            "evidence": law.evidence,
        }
        for law in _catalogue().values()
    )


def _described(law: Law, name: str) -> str:
    counts = law.about(name).counts
    return f"{name} ({counts})" if counts else name
