"""The shipped table of runs is what it says, and so is its page."""

import importlib.metadata
import importlib.resources
import platform

import cases
import numpy as np
import pytest

import jaxscale as js
from jaxscale.datasets.tiny_lm_study.corpus import load_corpus
from jaxscale.datasets.tiny_lm_study.model import VOCAB, Shape
from jaxscale.datasets.tiny_lm_study.plan import FULL, choose_rate
from jaxscale.datasets.tiny_lm_study.table import COLUMNS

CELL = ["budget", "width", "depth"]


@pytest.fixture(scope="module")
def shipped():
    return js.datasets.load_tiny_lm()


def test_shipped_runs_have_the_columns_they_promise(shipped):
    everything, sweep = js.datasets.load_tiny_lm(checkpoints=True), js.datasets.load_tiny_lm_sweep()
    for frame in (shipped, everything, sweep):
        assert tuple(frame.columns) == COLUMNS
        assert not frame.isna().any().any()
        assert set(frame.attrs) == {"source", "license", "citation", "units", "corpus"}
        assert set(frame.attrs["units"]) <= set(COLUMNS)
    assert shipped["run"].is_unique
    assert not shipped["checkpoint"].any()
    assert set(everything["run"]) == set(shipped["run"])
    assert everything["checkpoint"].sum() == 3 * len(shipped)


def test_shipped_runs_are_consistent():
    for frame in (js.datasets.load_tiny_lm(checkpoints=True), js.datasets.load_tiny_lm_sweep()):
        np.testing.assert_array_equal(frame.tokens, frame.steps * frame.batch)
        for row in frame.itertuples():
            shape = Shape(row.width, row.depth)
            assert row.heads == shape.heads
            assert row.params == shape.params
            assert row.params - row.params_nonembedding == VOCAB * row.width
            assert row.flop == shape.flop_per_token * row.tokens
        assert (frame["loss"] < np.log(VOCAB)).all()
        assert (frame["minutes"] > 0).all()


def test_shipped_runs_are_a_design(shipped):
    cells = shipped.groupby(CELL)["seed"].nunique()
    assert len(cells) >= 60
    assert (cells >= 3).sum() >= 12
    per_budget = shipped.groupby("budget")["params"].nunique()
    assert (per_budget >= 5).sum() >= 5
    assert per_budget.index.max() / per_budget.index.min() >= 1e3
    assert shipped["width"].nunique() >= 5
    assert shipped["depth"].nunique() >= 3
    np.testing.assert_allclose(6 * shipped.params * shipped.tokens, shipped.budget, rtol=0.01)
    planned = [cell.run(0.0, seed).name for cell, seed in FULL.runs()]
    assert list(shipped["run"]) == planned


def test_the_learning_rate_of_each_shape_is_the_best_of_its_sweep(shipped):
    sweep = js.datasets.load_tiny_lm_sweep().set_index("run")
    looked_up = []

    def look_up(run):
        row = sweep.loc[run.name]
        assert (row.width, row.depth, row.seed) == (run.shape.width, run.shape.depth, run.seed)
        assert row.lr == pytest.approx(run.lr, rel=1e-5)
        assert 6 * row.params * row.tokens == pytest.approx(run.budget, rel=0.01)
        looked_up.append(run.name)
        return row.loss

    for (width, depth), rates in shipped.groupby(["width", "depth"])["lr"]:
        shape = Shape(width, depth)
        best = choose_rate(shape, FULL.sweep_budget(shape), look_up)
        np.testing.assert_allclose(rates, best, rtol=1e-5)
        tried = sweep[(sweep["width"] == width) & (sweep["depth"] == depth)]
        assert tried["lr"].min() < rates.iloc[0] < tried["lr"].max()
    assert sorted(looked_up) == sorted(sweep.index)


def test_checkpoints_come_before_the_end(shipped):
    rows = js.datasets.load_tiny_lm(checkpoints=True)
    for _, run in rows.groupby("run"):
        assert run["steps"].is_monotonic_increasing
        assert list(run["checkpoint"]) == [True, True, True, False]
        np.testing.assert_allclose(
            run["steps"] / run["steps"].max(), [1 / 8, 1 / 4, 1 / 2, 1], atol=0.01
        )


def test_the_corpus_is_recorded(shipped):
    corpus = shipped.attrs["corpus"]
    for name in ("corpus_sha256", "split_sha256"):
        assert len(bytes.fromhex(corpus[name])) == 32
    # No run saw a byte twice.
    assert shipped["tokens"].max() < corpus["train_bytes"]
    assert 0.02 < corpus["held_out_files"] / corpus["train_files"] < 0.06


def test_the_recorded_corpus_is_the_installed_one(shipped):
    record = dict(shipped.attrs["corpus"])
    versions = dict(record["versions"])
    here = {"python": platform.python_version()}
    for name in versions.keys() - {"python"}:
        here[name] = importlib.metadata.version(name)
    if here != versions:
        other = sorted(name for name in versions if versions[name] != here[name])
        pytest.skip(f"other versions than the corpus was read from: {', '.join(other)}")
    del record["machine"]
    assert load_corpus().record == record


@pytest.fixture(scope="module")
def fits(shipped, key):
    """Laws fitted to the shipped runs."""
    runs = js.Runs.from_frame(shipped, N="params", D="tokens")
    laws = [js.laws.chinchilla, js.laws.coupled_power]
    return {law.name: js.fit(law, runs, restarts=256, key=key) for law in laws}


def residuals(fit, frame):
    predicted = fit.law(N=frame["params"].to_numpy(), D=frame["tokens"].to_numpy(), **fit.params)
    return np.log(frame["loss"].to_numpy()) - np.log(np.asarray(predicted))


def test_shipped_runs_identify_the_law(shipped, fits):
    fit = fits["chinchilla"]
    assert fit.verdict.ok
    assert fit.restarts.hit_share > 0.99
    assert 0 < float(fit.params["E"]) < shipped["loss"].min()


@pytest.fixture(scope="module")
def page():
    """The page of the table, its lines joined."""
    folder = importlib.resources.files("jaxscale.datasets")
    return " ".join((folder / "tiny_lm.md").read_text(encoding="utf-8").split())


def test_the_page_says_how_the_table_was_measured(shipped, page):
    corpus, cells = shipped.attrs["corpus"], shipped.groupby(CELL)["seed"].nunique()
    sweep = js.datasets.load_tiny_lm_sweep()
    quoted = [
        f"{len(shipped)} runs in {len(cells)} cells",
        f"{(cells >= 3).sum()} cells were measured with three seeds",
        f"{corpus['train_files']:,} files with {corpus['train_bytes'] / 1e6:.1f} MB for training",
        f"{corpus['held_out_files']} files with {corpus['held_out_bytes'] / 1e6:.1f} MB held out",
        f"({corpus['held_out_bytes_scored']:,} bytes)",
        f"runs take {shipped['steps'].min()} to {shipped['steps'].max():,} steps",
        f"Its {len(sweep)} runs are `tiny_lm_sweep.csv`",
        f"{shipped['minutes'].sum() + sweep['minutes'].sum():.0f} CPU minutes of training",
        f"{sweep['minutes'].sum():.0f} of them for the sweep",
        f"JAX {corpus['machine']['jax']}",
        corpus["corpus_sha256"],
        corpus["split_sha256"],
        *(f"{name} {version}" for name, version in corpus["versions"].items() if name != "python"),
        *(f"`{column}`" for column in COLUMNS),
    ]
    assert [text for text in quoted if text not in page] == []
    ratio = shipped["flop"] / (6 * shipped["params"] * shipped["tokens"])
    assert f"factor of {ratio.min():.2f} (width 192) to {ratio.max():.2f} (width 16" in page


def test_the_page_says_what_a_fit_finds(shipped, fits, page):
    """Seed noise and residuals as printed; the noise is far below what the law leaves."""
    log_loss = np.log(shipped["loss"])
    cell = [shipped[name] for name in CELL]
    deviations = log_loss - log_loss.groupby(cell).transform("mean")
    freedom = len(shipped) - shipped.groupby(CELL).ngroups
    noise = 100 * np.sqrt((deviations**2).sum() / freedom)
    assert f"seeds of a cell | {noise:.2f}% |" in page
    for name, fit in fits.items():
        rms = 100 * np.sqrt(np.mean(residuals(fit, shipped) ** 2))
        assert f"| `{name}` | {len(fit.params)} | {rms:.2f}% |" in page
        assert rms > noise
    fit = fits["chinchilla"]
    printed = {"E": "0.709", "A": "20.1", "B": "16.4", "alpha": "0.359", "beta": "0.234"}
    for name, text in printed.items():
        assert cases.agrees(fit.params[name], text)
    assert ", ".join(f"{name} {text}" for name, text in printed.items()) in page
