"""In a notebook a result is HTML: whatever a user named appears as text, never as markup."""

import dataclasses
import importlib
import inspect
import pkgutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import bayes
import jaxscale as js

EVIL = "<script>alert(1)</script>"
VERDICT = js.Verdict((js.Finding("not_identified", EVIL),))
TABLE = pd.DataFrame({"quantity": [EVIL, "b"], EVIL: [1.0, 2.0]})


@dataclasses.dataclass(frozen=True)
class Stand:
    """What a result's HTML asks of it, with a hostile name in every text.

    It stands in for objects that take minutes to make; their own methods are called on it.
    """

    fields: SimpleNamespace

    def __getattr__(self, name):
        return getattr(self.fields, name)

    def __len__(self):
        return 2


def stand(**fields):
    return Stand(SimpleNamespace(frame=lambda *_: TABLE, table=TABLE, **fields))


@pytest.fixture(scope="module")
def fit(simulated_fit):
    """A fit whose law, runs and verdict all have hostile names."""
    law = dataclasses.replace(simulated_fit.law, name=EVIL, formula=EVIL)
    runs = dataclasses.replace(simulated_fit.runs, source=EVIL)
    return dataclasses.replace(simulated_fit, law=law, runs=runs, verdict=VERDICT)


@pytest.fixture(scope="module")
def draws(fit):
    params = {name: np.full(2, float(x)) for name, x in fit.params.items()}
    return js.Draws(fit, EVIL, params, np.ones(2), notes=(f"note {EVIL}",), doubt=f"doubt {EVIL}")


def _laplace(fit, draws):
    return stand(fit=fit, draws=draws, sloppy=(EVIL,))


def _audit(fit, draws):
    claims = js.audit(draws, claimed={"alpha": (0.3, 0.4), "level": 0.9}).claims
    claims = claims.assign(quantity=EVIL)
    return js.Audit(draws, 0.9, claims, None, None)


def _multiverse(fit, draws):
    choices = dict.fromkeys(("objective", "drop", "selection"), "same")
    table = pd.DataFrame(
        {"law": ["a", "b"], **choices, EVIL: [0.4, 0.5], "hit_share": 1.0, "converged": True}
    )
    return js.Multiverse(table, (EVIL,))


def _early_stop(fit, draws):
    table = pd.DataFrame({"minimized": [EVIL, "converged"], "width": [0.1, 0.2]})
    return js.EarlyStop(table, {}, 2)


def _said(**fields):
    """Stands in for results that say their sentences and notes below a table."""
    return lambda fit, draws: stand(sentences=(EVIL,), notes=(EVIL,), **fields)


QUESTIONS = pd.DataFrame({"question": [EVIL], "answer": [EVIL]})
DECISIONS = {
    js.AREGrid: _said(law=EVIL, pivot=lambda: TABLE),
    js.Agreement: _said(),
    js.Approach: _said(name=EVIL, how=EVIL, exponents=lambda: TABLE),
    js.Architectures: _said(N=1e9),
    js.Backtest: _said(head=EVIL, errors=lambda: TABLE),
    js.Borrowing: _said(law=EVIL, summary=lambda: TABLE),
    js.Budget: _said(),
    js.Checklist: lambda fit, draws: Stand(SimpleNamespace(_head=EVIL, frame=lambda: QUESTIONS)),
    js.Comparison: _said(head=EVIL),
    js.CorrectionPath: _said(level=0.9),
    js.Crossing: _said(),
    js.Decisions: _said(),
    js.Frontier: _said(),
    js.Pareto: _said(),
    js.Plan: _said(runs=TABLE, uncertainty=TABLE),
    js.Price: _said(),
    js.Recipes: _said(law=SimpleNamespace(name=EVIL)),
    js.Regret: _said(),
    js.Report: lambda fit, draws: stand(html=EVIL),
    js.Serving: _said(),
}
MAKERS = DECISIONS | {
    js.Fit: lambda fit, draws: fit,
    js.Draws: lambda fit, draws: draws,
    js.Laplace: _laplace,
    js.Intervals: lambda fit, draws: js.Intervals(fit, 0.9, TABLE, EVIL, (EVIL,)),
    js.Influence: lambda fit, draws: stand(sentences=(EVIL,)),
    js.Audit: _audit,
    js.Multiverse: _multiverse,
    js.EarlyStop: _early_stop,
    bayes.Posterior: lambda fit, draws: stand(law=fit.law, method=EVIL, verdict=VERDICT),
    bayes.Hierarchy: lambda fit, draws: stand(_head=EVIL, verdict=VERDICT),
    bayes.Comparison: lambda fit, draws: stand(method="loo", sentences=(EVIL,)),
    bayes.Check: lambda fit, draws: stand(law=EVIL, sentences=(EVIL,)),
    bayes.SBC: lambda fit, draws: stand(law=EVIL, sentences=(EVIL,)),
}


def _classes():
    """Every class of both packages that has HTML of its own."""
    for package in (js, bayes):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if module.name.endswith("__main__"):
                continue
            for _, kind in inspect.getmembers(
                importlib.import_module(module.name), inspect.isclass
            ):
                if "_repr_html_" in vars(kind) and kind.__module__.split(".")[0] in (
                    "jaxscale", "bayes",
                ):  # fmt: skip
                    yield kind


def test_every_class_with_html_is_tested_here():
    assert set(_classes()) == set(MAKERS)


@pytest.mark.parametrize("kind", MAKERS, ids=lambda kind: kind.__name__)
def test_html_escapes_what_users_named(kind, fit, draws):
    html = kind._repr_html_(MAKERS[kind](fit, draws))
    assert "<table" in html or kind in {js.Crossing, js.Report}  # sentences, or a page
    assert "<script" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html


def test_html_of_a_batch_escapes_the_names_of_its_sets(simulated, key):
    stack = js.Runs.stack({EVIL: simulated[0]})
    html = js.fit(js.laws.chinchilla, stack, restarts=16, key=key)._repr_html_()
    assert "<script" not in html
    assert "&lt;script&gt;" in html
