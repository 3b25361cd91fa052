"""What there is: every data set by name."""

import difflib
from collections.abc import Callable

import pandas as pd

from jaxscale._errors import DataError
from jaxscale.datasets import _fetch
from jaxscale.datasets._public import PUBLIC
from jaxscale.datasets._source import Source
from jaxscale.datasets._tiny_lm import load_tiny_lm

_LOADERS: dict[str, Callable[..., pd.DataFrame]] = {
    "tiny_lm": load_tiny_lm,
    **{source.name: getattr(_fetch, f"fetch_{source.name}") for source in PUBLIC},
}


def names() -> tuple[str, ...]:
    """Names of all data sets."""
    return tuple(_LOADERS)


def get(name: str) -> Callable[..., pd.DataFrame]:
    """The function that loads the data set called ``name``; its docstring tells what to beware of.

    Raises:
        DataError: if there is none; the message suggests the closest names.

    Example:
        >>> table = datasets.get("chinchilla")(drop_top=5)
    """
    if name in _LOADERS:
        return _LOADERS[name]
    close = difflib.get_close_matches(name, _LOADERS, n=3)
    hint = f"did you mean {', '.join(close)}?" if close else f"there are {', '.join(_LOADERS)}"
    raise DataError(f"there is no data set called {name!r}; {hint}")


def table() -> pd.DataFrame:
    """One row per data set: name, rows, columns, source, citation, license, shipped or fetched."""
    return pd.DataFrame([_shipped(), *map(_fetched, PUBLIC)])


def _shipped() -> dict[str, object]:
    frame = load_tiny_lm()
    return {
        "name": "tiny_lm",
        "rows": len(frame),
        "columns": ", ".join(frame.columns),
        "source": frame.attrs["source"],
        "citation": frame.attrs["citation"],
        "license": frame.attrs["license"],
        "where": "shipped",
    }


def _fetched(source: Source) -> dict[str, object]:
    return {
        "name": source.name,
        "rows": source.rows,
        "columns": ", ".join(source.units),
        "source": source.repository,
        "citation": source.citation,
        "license": source.license,
        "where": "fetched",
    }
