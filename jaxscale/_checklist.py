"""checklist(): what a reader must know to refit a law, filled in from the objects at hand."""

import dataclasses
import html
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import scipy

from jaxscale._clusters import cluster_codes
from jaxscale._draws import Draws
from jaxscale._errors import DataError
from jaxscale._fit import Fit
from jaxscale._refit import single_fit

# Section and question of every item, in the order in which a paper tells them.
QUESTIONS: Mapping[str, tuple[str, str]] = {
    "form": ("Law", "Which formula was fitted?"),
    "inputs": ("Law", "In which variables, over which range?"),
    "parameters": ("Law", "Which numbers were estimated, and which were held?"),
    "principle": ("Law", "What argues for this form, beyond its fit?"),
    "interaction": ("Law", "Do the variables act independently of each other?"),
    "omitted": ("Law", "What else varies between the runs but is not in the law?"),
    "models": ("Runs", "How many runs, of how many model sizes?"),
    "tokens": ("Runs", "How much data did each see, and which?"),
    "repetition": ("Runs", "Was any data seen more than once?"),
    "counting": ("Runs", "How are parameters, tokens and FLOPs counted?"),
    "hyperparameters": ("Runs", "How were learning rate, schedule and batch set, at every scale?"),
    "architecture": ("Runs", "How do width, depth and the rest change with scale?"),
    "training_code": ("Runs", "Where is the code that trained them?"),
    "stage": ("Losses", "Final losses or checkpoints on the way, before or after the decay?"),
    "smoothing": ("Losses", "Are the losses raw, smoothed or averaged?"),
    "metric": ("Losses", "Which loss, on which data, of which split?"),
    "seeds": ("Losses", "Were runs repeated with other seeds, and how far apart do they lie?"),
    "objective": ("Fit", "What was minimized?"),
    "algorithm": ("Fit", "By which algorithm, with which settings?"),
    "starts": ("Fit", "From how many starts, and how many agree?"),
    "dropped": ("Fit", "Which runs were left out, and why?"),
    "weights": ("Fit", "One law for all runs, all counted alike?"),
    "validation": ("Fit", "Was it held against runs that it had not seen?"),
    "intervals": ("Fit", "How uncertain are the numbers, and by which method?"),
    "fitting_code": ("Fit", "Where is the code that fitted them?"),
}
_MOST_NAMED = 8
_TELLING = 0.01  # p-value from which on residuals are said to go with a column


@dataclasses.dataclass(frozen=True)
class Checklist:
    """Answers to the questions that a published fit should answer.

    Attributes:
        answers: what is known, by item, in the order of `QUESTIONS`; empty where it is a gap.
    """

    answers: dict[str, str]

    @property
    def gaps(self) -> tuple[str, ...]:
        """Items without an answer."""
        return tuple(name for name, answer in self.answers.items() if not answer)

    def frame(self) -> pd.DataFrame:
        """One row per item: section, item, question, answer."""
        rows = [(*QUESTIONS[name], name, answer) for name, answer in self.answers.items()]
        table = pd.DataFrame(rows, columns=["section", "question", "item", "answer"])
        return table[["section", "item", "question", "answer"]]

    def markdown(self) -> str:
        """The list as Markdown, a ticked box where there is an answer."""
        lines = [f"{self._head}", ""]
        for section, items in self.frame().groupby("section", sort=False):
            lines += [f"### {section}", ""]
            for item in items.itertuples():
                box, said = ("x", item.answer) if item.answer else (" ", "*not stated*")
                lines.append(f"- [{box}] {item.question} {_in_markdown(said)}")
            lines.append("")
        return "\n".join(lines)

    @property
    def _head(self) -> str:
        known = len(self.answers) - len(self.gaps)
        open_ = f" Open: {', '.join(self.gaps)}." if self.gaps else ""
        return f"{known} of {len(self.answers)} questions are answered.{open_}"

    def __repr__(self) -> str:
        return self.markdown()

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(row.question)}</td>"
            f"<td>{html.escape(row.answer) or '<em>not stated</em>'}</td></tr>"
            for row in self.frame().itertuples()
        )
        return f"<p>{html.escape(self._head)}</p><table>{rows}</table>"


def checklist(fit: Fit, *results: Any, table: Any = None, **said: str) -> Checklist:
    """The questions that a reader needs answered to refit a law, and the answers at hand.

    What follows from the fit and the results is filled in; what nobody told is named as a gap. The
    questions are ours, after the survey below, which found most of 50 papers to leave some open.

    Args:
        fit: a fit of one data set, with its runs.
        *results: what was made from it: `Draws`, a posterior, `Intervals`, a calibration, a
            comparison, a backtest.
        table: the table that the runs came from; tells which columns vary outside the law, and
            how many rows were left out.
        **said: answers in your words, by item, such as ``training_code="github.com/..."``. They
            replace what would be filled in.

    Raises:
        DataError: for an unknown item, or a fit without its runs.

    Source: Li et al. 2025, arXiv 2502.18969 ((Mis)Fitting), whose checklist this follows in spirit.

    Example:
        >>> print(checklist(fit, boot, metric="nats per token, C4 validation").markdown())
    """
    single_fit(fit)
    unknown = sorted(said.keys() - QUESTIONS.keys())
    if unknown:
        raise DataError(
            f"the checklist has no item {unknown[0]!r}; its items are {', '.join(QUESTIONS)}"
        )
    known = {
        **_about_law(fit),
        **_about_runs(fit),
        **_about_fit(fit),
        **_about_results(results),
    }
    if table is not None:
        known |= _about_table(fit, table)
    known |= {name: answer.strip() for name, answer in said.items()}
    return Checklist({name: known.get(name, "") for name in QUESTIONS})


def _about_law(fit: Fit) -> dict[str, str]:
    law = fit.law
    counts = {name: law.about(name).counts for name in law.inputs}
    ranges = [f"{name} from {_range(fit, name)}" for name in law.inputs]
    return {
        "form": f"{law.name}: {law.formula}" + (f" ({law.source})" if law.source else ""),
        "inputs": "; ".join(ranges),
        "parameters": f"{', '.join(law.names)}; none was held",
        "interaction": _interaction(fit),
        "counting": "; ".join(f"{name}: {text}" for name, text in counts.items())
        if all(counts.values())
        else "",
    }


def _range(fit: Fit, name: str) -> str:
    low, high = map(float, fit.ranges[name])
    return f"{low:.4g} to {high:.4g}"


def _interaction(fit: Fit) -> str:
    """Whether the law is a sum of functions of one input each: by its mixed derivatives."""
    law = fit.law
    if len(law.inputs) < 2:
        return "there is one variable only"
    runs = single_fit(fit)
    at = {name: float(np.median(runs.inputs[name])) for name in law.inputs}
    if min(at.values()) <= 0:
        return ""

    def loss(logs: Any) -> Any:
        return law.fn(*jnp.exp(logs), **fit.params)

    logs = jnp.log(jnp.asarray([at[name] for name in law.inputs]))
    mixed, size = np.asarray(jax.hessian(loss)(logs)), abs(float(loss(logs)))
    names = [
        f"{law.inputs[i]} with {law.inputs[j]}"
        for i in range(len(law.inputs))
        for j in range(i)
        if abs(mixed[i, j]) > 1e-5 * size
    ]
    return f"they interact: {', '.join(names)}" if names else "yes: their terms add"


def _about_runs(fit: Fit) -> dict[str, str]:
    runs, found = single_fit(fit), {}
    n = fit.n_runs
    if "N" in runs.inputs:
        sizes = len(np.unique(cluster_codes(runs, "N")))
        found["models"] = f"{n} runs of {sizes} sizes, N from {_range(fit, 'N')}"
    else:
        found["models"] = f"{n} runs"
    if "D" in runs.inputs and "N" in runs.inputs:
        ratio = np.asarray(runs.inputs["D"]) / np.asarray(runs.inputs["N"])
        found["tokens"] = (
            f"D from {_range(fit, 'D')}, {ratio.min():.3g} to {ratio.max():.3g} tokens per "
            "parameter"
        )
    repeats = {"U", "epochs"} & set(fit.law.inputs)
    if repeats:
        found["repetition"] = f"yes; the law takes {', '.join(sorted(repeats))}"
    found["seeds"] = _seeds(fit)
    return found


def _seeds(fit: Fit) -> str:
    """How often runs stand at the very same inputs, and how far their losses lie apart."""
    runs = single_fit(fit)
    columns = np.stack([np.asarray(runs.inputs[name], float) for name in fit.law.inputs], axis=1)
    _, point, count = np.unique(columns, axis=0, return_inverse=True, return_counts=True)
    repeated = np.flatnonzero(count > 1)
    if not len(repeated):
        return "no run has the same inputs as another, so the noise between seeds is unknown"
    values = np.log(runs.loss) if fit.objective.log else np.asarray(runs.loss, float)
    frame = pd.DataFrame({"point": np.ravel(point), "value": values})
    within = frame.groupby("point")["value"].var(ddof=1)[repeated]
    spread = float(np.sqrt(np.average(within, weights=count[repeated] - 1)))
    what = "log loss" if fit.objective.log else "the loss"
    return (
        f"{len(repeated)} of {len(count)} settings were run more than once, {count.max()} times "
        f"at most; standard deviation of {what} between them: {spread:.2g}"
    )


def _about_fit(fit: Fit) -> dict[str, str]:
    runs, restarts = single_fit(fit), fit.restarts
    weight = np.asarray(runs.weight, float)
    alike = np.ptp(weight[weight > 0]) == 0
    left_out = sorted(set(range(1, int(np.max(runs.row)) + 1)) - set(np.asarray(runs.row).tolist()))
    dropped = "none, as far as the numbers of the rows tell"
    if left_out:
        dropped = f"rows {_some(left_out)} of {runs.source}"
    return {
        "objective": f"the sum over runs of {fit.objective}, {float(fit.value):.7g} at the optimum",
        "algorithm": (
            "jaxscale.fit in reference units: every start runs to its own convergence test, and "
            "the best is refined by Newton steps"
        ),
        "starts": f"{restarts}",
        "dropped": dropped,
        "weights": "one law, all runs counted alike" if alike else "one law, runs weighted",
        "fitting_code": "jaxscale, with the versions named beside the fit",
    }


def _some(rows: list[int]) -> str:
    shown = ", ".join(map(str, rows[:_MOST_NAMED]))
    return shown + (f" and {len(rows) - _MOST_NAMED} more" if len(rows) > _MOST_NAMED else "")


def _about_results(results: tuple[Any, ...]) -> dict[str, str]:
    """What results say about intervals and validation, by the names of their classes."""
    intervals = [text for r in results for text in [_interval_words(r)] if text]
    checks = [_VALIDATION[type(r).__name__] for r in results if type(r).__name__ in _VALIDATION]
    return {"intervals": "; ".join(intervals), "validation": "; ".join(checks)}


# By name, since an answer does not need the class, and posteriors live in a package to the right.
_VALIDATION = {
    "Backtest": "yes: the largest budgets were held out and predicted from the smaller ones",
    "Comparison": "yes: laws were compared on runs held out",
    "Check": "posterior checks against the runs themselves",
}


def _interval_words(result: Any) -> str:
    if isinstance(result, Draws):
        return f"{result.method}, {len(result):,} draws"
    words: dict[str, Callable[[], str]] = {
        "Intervals": lambda: (
            f"{result.level:.0%} intervals by {', '.join(dict.fromkeys(result.table['method']))}"
        ),
        "Posterior": lambda: f"posterior by {result.method}",
        "Laplace": lambda: f"{result.draws.method}",
        "Calibration": lambda: "coverage measured by simulation on this design",
        "Multiverse": lambda: f"spread over {len(result):,} specifications",
    }
    name = type(result).__name__
    return words[name]() if name in words else ""


def _about_table(fit: Fit, table: Any) -> dict[str, str]:
    import narwhals as nw

    frame = nw.from_native(table, eager_only=True)
    n, total = fit.n_runs, len(frame)
    found = {"dropped": f"none of {total} rows"}
    if n < total:
        rows = set(np.asarray(single_fit(fit).row).tolist())
        left_out = [i for i in range(1, total + 1) if i not in rows]
        found["dropped"] = f"{total - n} of {total} rows: {_some(left_out)}"
    found["omitted"] = _omitted(fit, frame)
    return found


def _omitted(fit: Fit, frame: Any) -> str:
    """Columns that vary, are not in the law, and whether the residuals go with them."""
    runs = single_fit(fit)
    used = [np.asarray(x, float) for x in (*runs.inputs.values(), runs.loss)]
    if {"N", "D"} <= set(runs.inputs):
        used.append(used[list(runs.inputs).index("N")] * used[list(runs.inputs).index("D")])
    at = np.asarray(runs.row) - 1
    if at.max() >= len(frame):
        raise DataError("table= must be the table that the runs came from, with all its rows")
    residuals = np.asarray(fit.residuals(), float)
    names, told = [], []
    for name in frame.columns:
        values = pd.Series(frame[name].to_list()).iloc[at]
        codes = (
            values.to_numpy(float) if frame[name].dtype.is_numeric() else pd.factorize(values)[0]
        )
        if len(np.unique(codes[~np.isnan(codes)])) < 2 or _proportional(codes, used):
            continue
        if frame[name].dtype.is_numeric():
            rank = scipy.stats.spearmanr(codes, residuals, nan_policy="omit")
            if rank.pvalue < _TELLING:
                told.append(f"{name} (rank correlation {rank.statistic:.2f})")
        elif len(np.unique(codes)) == len(codes):
            continue  # a name for every run is no variable
        names.append(str(name))
    if not names:
        return "no other column of the table varies"
    text = f"{', '.join(names[:_MOST_NAMED])} vary" + (" and others" if len(names) > 8 else "")
    return f"{text}; residuals go with {', '.join(told)}" if told else text


def _proportional(values: np.ndarray, columns: list[np.ndarray]) -> bool:
    """Whether a column is one of those in use, in whatever unit."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = [values / column for column in columns]
    return any(np.isfinite(r).all() and np.ptp(r) <= 0.02 * abs(np.mean(r)) for r in ratios)


def _in_markdown(text: str) -> str:
    """Text that Markdown shows as it is; underscores in names are left alone."""
    if text == "*not stated*":
        return text
    for mark in ("\\", "*", "`", "<", ">", "|"):
        text = text.replace(mark, "\\" + mark)
    return text
