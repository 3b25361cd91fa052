"""Look up laws by name. The catalogue is whatever `jaxscale.laws` exports."""

import difflib

import pandas as pd

from jaxscale._errors import LawError
from jaxscale._law import Law


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
    close = difflib.get_close_matches(name, catalogue, n=3) or list(catalogue)
    raise LawError(f"there is no law called {name!r}; did you mean {', '.join(close)}?")


def table() -> pd.DataFrame:
    """One row per law: name, family, inputs, parameters, formula, source, evidence."""
    return pd.DataFrame(
        {
            "name": law.name,
            "family": law.family,
            "inputs": ", ".join(law.inputs),
            "parameters": ", ".join(law.names),
            "formula": law.formula,
            "source": law.source,
            "evidence": law.evidence,
        }
        for law in _catalogue().values()
    )
