"""How results of decisions show their tables."""

from collections.abc import Iterable
from html import escape

import pandas as pd


def text(table: pd.DataFrame, digits: int = 4) -> str:
    """A table in plain text, numbers with so many significant digits."""
    return str(table.to_string(index=False, float_format=lambda x: f"{x:.{digits}g}"))


def html(title: str, table: pd.DataFrame, notes: Iterable[str], digits: int = 4) -> str:
    """A table for notebooks, with a title above and notes below."""
    body = table.to_html(index=False, float_format=lambda x: f"{x:.{digits}g}")
    said = "".join(f"<p>{escape(note)}</p>" for note in notes)
    return f"<b>{escape(title)}</b>{body}{said}"
