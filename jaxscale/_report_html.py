"""The pieces of a report as HTML: text, tables and pictures, all inside the one file."""

import base64
import html
import io
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pandas as pd

STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 60rem; padding: 1rem 1.25rem 4rem; background: #fff;
  color: #1c1c1c; font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 1rem 0 .25rem; }
h2 { font-size: 1.2rem; margin: 2.25rem 0 .5rem; padding-top: .5rem; border-top: 1px solid #ddd; }
h3 { font-size: 1rem; margin: 1.25rem 0 .25rem; }
p { margin: .5rem 0; overflow-wrap: anywhere; }
nav ul { columns: 14rem; padding-left: 1.2rem; margin: .5rem 0; }
.verdict { border-left: .3rem solid #0072B2; background: #eef5fa; padding: .5rem .75rem; }
.verdict.doubt { border-color: #D55E00; background: #fdf1ea; }
.wide { overflow-x: auto; margin: .75rem 0; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .6rem; text-align: left; vertical-align: top;
  border-bottom: 1px solid #e4e4e4; }
th { border-bottom: 1px solid #888; white-space: nowrap; }
td.n, th.n { text-align: right; white-space: nowrap; }
td em { color: #b04a00; }
figure { margin: .75rem 0; }
figure img { display: block; max-width: 100%; height: auto; }
figcaption, .note { color: #555; font-size: .875rem; }
pre, code { font: .85rem/1.45 ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
pre { overflow-x: auto; background: #f5f5f5; padding: .75rem; }
code { overflow-wrap: anywhere; }
@media print { h2 { break-after: avoid; } figure, tr { break-inside: avoid; } }
"""


def page(title: str, body: str) -> str:
    """A whole document that asks the network for nothing."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def paragraph(text: Any, kind: str = "") -> str:
    """A paragraph of plain text."""
    mark = f' class="{kind}"' if kind else ""
    return f"<p{mark}>{html.escape(str(text))}</p>"


def notes(texts: Iterable[Any]) -> str:
    """Remarks below a table or a picture."""
    return "".join(paragraph(text, "note") for text in dict.fromkeys(map(str, texts)))


def code(text: str) -> str:
    """A block of code or of a command."""
    return f"<pre><code>{html.escape(text)}</code></pre>"


def table(frame: pd.DataFrame, digits: int = 5, most: int = 60) -> str:
    """A table; numbers with so many significant digits, and no more rows than a reader reads."""
    numeric = [frame[column].dtype.kind in "fiu" for column in frame.columns]
    marks = [' class="n"' if each else "" for each in numeric]
    names = (html.escape(str(column)) for column in frame.columns)
    head = "".join(f"<th{mark}>{name}</th>" for name, mark in zip(names, marks, strict=True))
    rows = (
        "".join(
            f"<td{mark}>{html.escape(_cell(value, digits))}</td>"
            for value, mark in zip(row, marks, strict=True)
        )
        for row in frame.head(most).itertuples(index=False)
    )
    body = "".join(f"<tr>{cells}</tr>" for cells in rows)
    more = len(frame) - most
    rest = notes([f"{more:,} more rows are left out."]) if more > 0 else ""
    return (
        f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
        f"</div>{rest}"
    )


def _cell(value: Any, digits: int) -> str:
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, float | np.floating):
        return "" if np.isnan(value) else f"{value:.{digits}g}"
    if isinstance(value, int | np.integer):
        return f"{value:,}" if abs(int(value)) < 1_000_000 else f"{value:.{digits}g}"
    return str(value)


def figure(draw: Callable[[Any], Any], caption: str, size: tuple[float, float] = (7.0, 4.2)) -> str:
    """A picture drawn on one Axes, embedded; its caption is what a screen reader reads."""
    from matplotlib.figure import Figure

    canvas = Figure(figsize=size, layout="constrained")
    draw(canvas.subplots())
    image = io.BytesIO()
    canvas.savefig(image, format="png", dpi=160)
    data = base64.b64encode(image.getvalue()).decode()
    text = html.escape(caption, quote=True)
    return (
        f'<figure><img src="data:image/png;base64,{data}" alt="{text}" '
        f'width="{round(size[0] * 96)}"><figcaption>{text}</figcaption></figure>'
    )
