"""report(): everything that is known about a fit, in one HTML file that needs no network."""

import dataclasses
import html
import os
import platform
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxscale import _report_html as write
from jaxscale._agree import Agreement
from jaxscale._approach import Approach
from jaxscale._backtest_result import Backtest
from jaxscale._checklist import Checklist, checklist
from jaxscale._draws import Draws, as_draws
from jaxscale._errors import DataError
from jaxscale._fit import Fit
from jaxscale._frontier import Frontier
from jaxscale._intervals import Intervals
from jaxscale._plan import Plan
from jaxscale._refit import single_fit
from jaxscale._regret import Regret
from jaxscale._save import versions, write_text


@dataclasses.dataclass(frozen=True)
class Report:
    """A report as one HTML document, with pictures and style inside.

    Attributes:
        title: its headline.
        html: the document.
    """

    title: str
    html: str

    def save(self, path: str | Path) -> None:
        """Write it completely or not at all."""
        write_text(path, self.html)

    def __repr__(self) -> str:
        return (
            f"Report({self.title!r}, {len(self.html) / 1e6:.1f} MB; save it: .save('report.html'))"
        )

    def _repr_html_(self) -> str:
        text = html.escape(self.html, quote=True)
        return f'<iframe srcdoc="{text}" width="100%" height="800" title="report"></iframe>'


Section = tuple[str, str]  # headline and HTML


def report(
    fit: Fit,
    *results: Any,
    title: str | None = None,
    table: Any = None,
    said: Mapping[str, str] | None = None,
    reproduce: str = "",
) -> Report:
    """One self-contained page: runs, fit, certificate, results in the order given, checklist,
    versions and how to reproduce it.

    Args:
        fit: a fit of one data set, with its runs.
        *results: what was made from it, each a section with its table, picture and notes: draws,
            posteriors, intervals, frontiers, approaches, backtests, comparisons, plans, audits;
            anything that has a ``frame()``, or a text.
        title: headline; by default the law and its runs.
        table: the table that the runs came from, see `checklist`.
        said: answers to the checklist in your words, by item.
        reproduce: the command or code that makes the report again.

    Raises:
        DataError: for a stack, a fit without its runs, or a result that has no table.

    Example:
        >>> report(fit, boot, js.allocate(boot, flop=[1e21, 1e23])).save("report.html")
    """
    runs = single_fit(fit)
    title = title or f"{fit.law.name} fitted to {fit.n_runs} runs from {runs.source}"
    sections = [
        ("Runs", _runs(fit)),
        ("Fit", _fit(fit)),
        *(_result(result) for result in results if not isinstance(result, Checklist)),
    ]
    known = next((each for each in results if isinstance(each, Checklist)), None)
    listed = known or checklist(fit, *results, table=table, **(said or {}))
    sections.append(("Checklist", _checklist(listed)))
    sections.append(("How to reproduce it", _reproduce(fit, reproduce)))
    return Report(title, write.page(title, _body(title, fit, _numbered(sections))))


def _numbered(sections: list[Section]) -> list[tuple[str, str, str]]:
    """Anchor, headline and HTML; headlines that repeat are counted."""
    found: list[tuple[str, str, str]] = []
    seen: dict[str, int] = {}
    for name, content in sections:
        seen[name] = seen.get(name, 0) + 1
        headline = name if seen[name] == 1 else f"{name} ({seen[name]})"
        anchor = re.sub(r"[^a-z0-9]+", "-", headline.lower()).strip("-")
        found.append((anchor, headline, content))
    return found


def _body(title: str, fit: Fit, sections: list[tuple[str, str, str]]) -> str:
    links = "".join(
        f'<li><a href="#{anchor}">{html.escape(name)}</a></li>' for anchor, name, _ in sections
    )
    kind = "verdict" if fit.verdict.ok else "verdict doubt"
    parts = [
        f"<h1>{html.escape(title)}</h1>",
        write.paragraph(fit.law.formula),
        write.paragraph(fit.verdict, kind),
        f'<nav aria-label="Sections"><ul>{links}</ul></nav>',
    ]
    parts += [
        f'<section id="{anchor}"><h2>{html.escape(name)}</h2>{content}</section>'
        for anchor, name, content in sections
    ]
    return "\n".join(parts)


def _runs(fit: Fit) -> str:
    from jaxscale import plot

    runs = single_fit(fit)
    columns = {**{name: runs.inputs[name] for name in fit.law.inputs}, "loss": runs.loss}
    rows = [
        (name, float(np.min(x)), float(np.median(x)), float(np.max(x)))
        for name, x in columns.items()
    ]
    import pandas as pd

    text = write.table(pd.DataFrame(rows, columns=["column", "lowest", "median", "highest"]))
    picture = ""
    if set(fit.law.inputs) == {"N", "D"} or len(fit.law.inputs) == 1:
        picture = write.figure(
            lambda ax: plot.isoflop(fit, ax=ax), "The runs, and the fitted law through them"
        )
    head = f"{fit.n_runs} runs from {runs.source}; SHA-256 of their numbers {fit.digest}."
    return write.paragraph(head) + text + picture


def _fit(fit: Fit) -> str:
    from jaxscale import plot

    what = "log loss" if fit.objective.log else "residuals"
    head = (
        f"{fit.objective}, {float(fit.value):.7g} at the optimum; root mean square of {what} "
        f"{float(fit.rmse):.4g}."
    )
    return (
        write.paragraph(head)
        + write.table(fit.frame(), digits=6)
        + write.figure(
            lambda ax: plot.residuals(fit, ax=ax), "Residuals of every run, in percent of the loss"
        )
        + "<h3>Restarts</h3>"
        + write.paragraph(f"{fit.restarts}.")
        + write.figure(
            lambda ax: plot.restarts(fit, ax=ax), "Where the restarts ended", size=(7.0, 3.2)
        )
    )


def _checklist(listed: Checklist) -> str:
    return f'<div class="wide">{listed._repr_html_()}</div>'


def _reproduce(fit: Fit, how: str) -> str:
    rows = [f"{name} {version}" for name, version in versions().items()]
    machine = platform.uname()
    where = f"{machine.system} {machine.machine}, {os.cpu_count()} processors"
    text = write.paragraph(f"Computed with {', '.join(rows)} on {where}.")
    text += write.paragraph(f"Data: SHA-256 {fit.digest} over inputs, losses and weights.")
    return text + (write.code(how) if how else write.paragraph("The command was not recorded."))


def _result(result: Any) -> Section:
    """The section of one result: by its class, or its table and notes."""
    if isinstance(result, str):
        return "Remark", write.paragraph(result)
    for kind, section in _SECTIONS:
        if isinstance(result, kind):
            return section(result)
    if as_draws_or_none(result) is not None:
        return _posterior(result)
    if not callable(getattr(result, "frame", None)):
        raise DataError(
            f"a report takes results with a table, such as draws or intervals, not "
            f"{type(result).__name__!r}"
        )
    return _plain(result)


def as_draws_or_none(result: Any) -> Draws | None:
    """The draws of a result, or None if it has none."""
    try:
        return as_draws(result)
    except DataError:
        return None


def _plain(result: Any, draw: Callable[[Any], Any] | None = None, caption: str = "") -> Section:
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(result).__name__)
    said = [*getattr(result, "sentences", ()), *getattr(result, "notes", ())]
    sentence = getattr(result, "sentence", None) or getattr(result, "verdict", None)
    text = write.paragraph(sentence) if sentence else ""
    picture = write.figure(draw, caption) if draw else ""
    return words, text + picture + write.table(result.frame()) + write.notes(said)


def _draws(draws: Draws) -> Section:
    from jaxscale import plot

    text = write.table(draws.frame()) + write.notes(draws.remarks)
    if {"N", "D"} == set(draws.law.inputs):
        text += write.figure(
            lambda ax: plot.isoflop(draws, ax=ax), "The law with its 90% band, at constant compute"
        )
    return f"Uncertainty: {draws.method}", text


def _posterior(result: Any) -> Section:
    kind = "verdict" if getattr(result, "ok", True) else "verdict doubt"
    verdict = getattr(result, "verdict", None)
    head = write.paragraph(verdict, kind) if verdict is not None else ""
    draws = as_draws(result)
    assert draws is not None
    name, text = _draws(draws)
    return name.replace("Uncertainty: p", "P"), head + text


def _intervals(found: Intervals) -> Section:
    from jaxscale import plot

    quantities = found.table["quantity"].nunique()
    head = write.paragraph(
        f"{found.level:.0%} intervals by every method; ratio: width relative to "
        f"{found.recommended}."
    )
    picture = write.figure(
        lambda ax: plot.intervals(found, ax=ax),
        "Intervals side by side",
        size=(min(2.2 + 2.2 * min(quantities, 6), 10.0), 3.4),
    )
    text = write.table(found.frame().drop(columns="width")) + write.notes(found.notes)
    return "Intervals, side by side", head + picture + text


def _frontier(line: Frontier) -> Section:
    from jaxscale import plot

    bands = f", with {line.level:.0%} bands" if line.bands and line.level else ""
    picture = ""
    if np.size(line.flop) > 1:
        picture = write.figure(
            lambda ax: plot.frontier(line, ax=ax), f"Compute-optimal sizes{bands}"
        )
    text = write.table(line.frame(), digits=4) + write.notes(line.notes)
    return "Compute-optimal sizes", picture + text


def _approach(found: Approach) -> Section:
    from jaxscale import plot

    picture = ""
    if found.valleys:
        picture = write.figure(
            lambda ax: plot.isoflop_fits(found, ax=ax), "Curves through each budget, and minima"
        )
    head = write.paragraph(f"{found.how}.") + write.table(found.exponents(), digits=4)
    points = write.table(found.points, digits=4) + write.notes(found.notes)
    return f"Frontier by {found.name}", head + picture + points


def _agreement(found: Agreement) -> Section:
    from jaxscale import plot

    text = "".join(write.paragraph(f"{s[:1].upper()}{s[1:]}") for s in found.sentences)
    picture = write.figure(lambda ax: plot.agreement(found, ax=ax), "Frontiers side by side")
    return "Do the approaches agree?", (
        text + picture + write.table(found.frame(), digits=3) + write.notes(found.notes)
    )


def _backtest(found: Backtest) -> Section:
    from jaxscale import plot

    text = "".join(write.paragraph(s) for s in found.sentences)
    picture = write.figure(
        lambda ax: plot.backtest(found, ax=ax),
        "Errors of past extrapolations, and the share of runs inside the bands",
        size=(9.0, 3.8),
    )
    tables = write.table(found.errors(), digits=3)
    covered = found.coverage()
    if len(covered):
        tables += f"<h3>Coverage of {found.level:.0%} bands</h3>" + write.table(covered, digits=3)
    notes = write.notes(note for note in found.notes if note not in found.sentences)
    return "Backtest", text + picture + tables + notes


def _plan(found: Plan) -> Section:
    from jaxscale import plot

    return "The next runs", _plain(found, lambda ax: plot.plan(found, ax=ax), "The next runs")[1]


def _regret(found: Regret) -> Section:
    from jaxscale import plot

    draw = (lambda ax: plot.regret(found, ax=ax), "Loss given away by another size")
    return "Being off the optimum", _plain(found, *draw)[1]


_SECTIONS: tuple[tuple[type, Callable[[Any], Section]], ...] = (
    (Draws, _draws),
    (Intervals, _intervals),
    (Frontier, _frontier),
    (Approach, _approach),
    (Agreement, _agreement),
    (Backtest, _backtest),
    (Plan, _plan),
    (Regret, _regret),
)
