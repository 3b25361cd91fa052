"""The program that measured the shipped table: its model, its counts, its plan, its restarts."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest

from jaxscale.datasets.tiny_lm_study import corpus, plan
from jaxscale.datasets.tiny_lm_study.model import POSITION_SCALE, VOCAB, Shape, Transformer, loss_of
from jaxscale.datasets.tiny_lm_study.table import COLUMNS, Table
from jaxscale.datasets.tiny_lm_study.train import Run, learning_rate, measure

ROOT = Path(__file__).parents[1]
SHAPE = Shape(8, 2)


# The model.


@pytest.fixture(scope="module")
def model():
    """A model whose every weight matters: those that start at zero or one are drawn, too."""
    drawn = Transformer(SHAPE, jax.random.key(1))
    leaves, treedef = jax.tree.flatten(drawn)
    rng = np.random.default_rng(2)
    return treedef.unflatten(
        [leaf + 0.1 * rng.normal(size=leaf.shape).astype(np.float32) for leaf in leaves]
    )


@pytest.fixture(scope="module")
def windows():
    return np.random.default_rng(3).integers(0, VOCAB, (2, corpus.CONTEXT + 1), dtype=np.uint8)


def plain_loss(model, windows):
    """The model written out in float64, one window, head and position at a time."""
    weights = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), model)

    def norm(x, gain):
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * gain

    losses = []
    for window in windows:
        x = weights.embedding[window[:-1]] * np.sqrt(SHAPE.width)
        for block in weights.blocks:
            normed, mixed = norm(x, block.norm_attention), []
            for head, matrix in enumerate(np.split(block.qkv, SHAPE.heads, axis=1)):
                q, k, v = np.split(normed @ matrix, 3, axis=1)
                seen = []
                for here in range(len(x)):
                    past = np.arange(here + 1)
                    score = k[past] @ q[here] / np.sqrt(SHAPE.width // SHAPE.heads)
                    score = score + POSITION_SCALE * block.position[head, here - past]
                    share = np.exp(score - score.max())
                    seen.append(share / share.sum() @ v[past])
                mixed.append(np.stack(seen))
            x = x + np.concatenate(mixed, axis=1) @ block.out
            x = x + np.maximum(norm(x, block.norm_mlp) @ block.up, 0) ** 2 @ block.down
        logits = norm(x, weights.norm) @ weights.embedding.T
        chosen = logits[np.arange(len(x)), window[1:]]
        losses.append(np.log(np.exp(logits).sum(1)) - chosen)
    return np.mean(losses)


def test_the_model_is_the_one_described(model, windows):
    assert float(loss_of(model, windows)) == pytest.approx(plain_loss(model, windows), rel=1e-5)


def test_no_byte_sees_the_future(model, windows):
    inputs = windows[:1, :-1].astype(np.int32)
    changed = inputs.copy()
    changed[0, 40] ^= 1
    before, after = model(jnp.asarray(inputs)), model(jnp.asarray(changed))
    np.testing.assert_array_equal(before[0, :40], after[0, :40])
    assert not np.allclose(before[0, 40:], after[0, 40:])


@pytest.mark.parametrize("shape", [Shape(8, 1), Shape(24, 4), Shape(96, 2)], ids=lambda s: s.name)
def test_parameters_are_counted(shape):
    leaves = jax.tree.leaves(eqx.filter_eval_shape(Transformer, shape, jax.random.key(0)))
    assert shape.params == sum(leaf.size for leaf in leaves)
    assert {leaf.dtype for leaf in leaves} == {np.dtype(np.float32)}
    assert shape.params - shape.params_nonembedding == VOCAB * shape.width


def products(jaxpr):
    """Multiplications and additions in all matrix products of a program."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            summed = np.prod([equation.invars[0].aval.shape[axis] for axis in contracted])
            total += 2 * int(summed) * equation.outvars[0].aval.size
        for value in equation.params.values():
            if inner := getattr(value, "jaxpr", None):
                total += products(inner)
    return total


@pytest.mark.parametrize("shape", [Shape(8, 1), Shape(24, 4), Shape(96, 2)], ids=lambda s: s.name)
def test_flop_are_counted(shape, windows):
    def gradient(model):
        return eqx.filter_grad(loss_of)(model, windows)

    program = jax.make_jaxpr(gradient)(Transformer(shape, jax.random.key(0)))
    tokens = windows[:, 1:].size
    # Counted as a look-up, computed as a product with one-hot vectors, forward and backward.
    look_up = 2 * 2 * VOCAB * shape.width * tokens
    assert products(program.jaxpr) - look_up == shape.flop_per_token * tokens


def test_the_learning_rate_warms_up_and_decays():
    steps, peak = 1000, 0.03
    reference = optax.warmup_cosine_decay_schedule(0.0, peak, 50, steps)
    ours = learning_rate(jnp.arange(steps), jnp.float32(peak), jnp.float32(steps))
    np.testing.assert_allclose(ours, reference(jnp.arange(steps)), rtol=1e-4, atol=1e-8)


# The corpus.


def test_windows_predict_each_byte_once():
    text = bytes(range(256)) * 3
    cut = corpus.cut_windows([text[:500], text[501:]])
    joined = text[:500] + b"\0" + text[501:]
    assert cut[:, 1:].tobytes() == joined[1 : 1 + cut[:, 1:].size]
    assert cut[:, :-1].tobytes() == joined[: cut[:, :-1].size]
    assert len(joined) - cut[:, 1:].size <= corpus.CONTEXT


def test_the_split_is_by_file_and_moves_no_other_file():
    names = [f"python/{i}.py" for i in range(20_000)]
    held_out = [corpus.is_held_out(name) for name in names]
    assert np.mean(held_out) == pytest.approx(1 / corpus.HELD_OUT_EVERY, abs=4 * 0.0014)


def test_the_corpus_is_recorded(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    for number in range(400):
        (tmp_path / "a" / f"{number}.py").write_text(f"x = {number}\n" * 60)
    monkeypatch.setattr(corpus.sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    first = corpus.load_corpus(())
    assert first.record["train_files"] + first.record["held_out_files"] == 400
    assert first.record["train_bytes"] + first.record["held_out_bytes"] == sum(
        path.stat().st_size for path in tmp_path.rglob("*.py")
    )
    # A copy of a file is no new text: nothing changes, and none can cross the split.
    for number in range(100):
        (tmp_path / "a" / f"z{number}.py").write_text(f"x = {number}\n" * 60)
    assert corpus.load_corpus(()).record == first.record
    (tmp_path / "a" / "300.py").write_text("y = 300\n")
    changed = corpus.load_corpus(())
    assert changed.record["corpus_sha256"] != first.record["corpus_sha256"]
    assert changed.record["split_sha256"] == first.record["split_sha256"]


# The plan.


def test_the_sweep_finds_the_valley_and_stops():
    tried = []

    def loss(run):
        tried.append(run.lr)
        return (np.log(run.lr) - np.log(0.9)) ** 2

    middle = 0.5 / (SHAPE.width + 4)
    best = plan.choose_rate(SHAPE, 1e9, loss)
    assert best == pytest.approx(16 * middle)
    assert sorted(tried) == pytest.approx([middle * 2.0**k for k in range(-1, 5)][: len(tried)])
    tried.clear()
    assert plan.choose_rate(SHAPE, 1e9, lambda run: loss(run) if run.lr < middle else np.nan) == (
        middle / 2
    )


def test_no_run_sees_a_byte_twice():
    few = corpus.Corpus(np.zeros((100, corpus.CONTEXT + 1), np.uint8), np.zeros((64, 65)), {})
    with pytest.raises(ValueError, match="no byte is seen twice"):
        measure(Run("long", SHAPE, 1e10, 0.01, 0), few)


# The table.


def row(run, **values):
    return {**dict.fromkeys(COLUMNS, 0), "run": run, "loss": "2.5", **values}


def test_a_table_grows_by_whole_runs(tmp_path, monkeypatch):
    path = tmp_path / "runs.csv"
    table = Table(path)
    table.append([row("a", steps=1, loss="3.1"), row("a", steps=2, loss="2.9")])
    before = path.read_bytes()

    def no_disk(descriptor):
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", no_disk)
        with pytest.raises(OSError):
            table.append([row("b")])
    assert path.read_bytes() == before
    again = Table(path)
    assert again.final_loss("a") == 2.9
    assert again.final_loss("b") is None
    again.append([row("b")])
    assert list(pd.read_csv(path)["run"]) == ["a", "a", "b"]


# The program.


def start(out):
    command = [sys.executable, "-m", "jaxscale.datasets.tiny_lm_study", "--quick", "--out", out]
    return subprocess.Popen(
        command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """The study in miniature, run in one go; its folder and what it printed."""
    out = tmp_path_factory.mktemp("quick")
    process = start(out)
    printed, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    return out, printed


def test_quick_measures_the_schema(quick):
    out, _ = quick
    frame, sweep = pd.read_csv(out / "tiny_lm.csv"), pd.read_csv(out / "tiny_lm_sweep.csv")
    assert tuple(frame.columns) == tuple(sweep.columns) == COLUMNS
    final = frame[~frame["checkpoint"]]
    assert list(final["run"]) == [
        f"c{cell.budget:.0e}-{cell.shape.name}-s{seed}".replace("+", "")
        for cell, seed in plan.QUICK.runs()
    ]
    # A model that only knows how frequent each byte is has a loss of about 3.3.
    assert final["loss"].max() < 3.2
    assert (frame.groupby("run")["loss"].last() == frame.groupby("run")["loss"].min()).all()
    best = sweep.loc[sweep.groupby(["width", "depth"])["loss"].idxmin()]
    chosen = final.groupby(["width", "depth"])["lr"].unique()
    assert [[rate] for rate in best["lr"]] == [list(rates) for rates in chosen]


def test_a_second_call_measures_nothing(quick):
    out, _ = quick
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    process = start(out)
    printed, error = process.communicate(timeout=300)
    assert (process.returncode, printed) == (0, ""), error
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


@pytest.mark.slow
def test_a_killed_study_goes_on(quick, tmp_path):
    whole, printed = quick
    process = start(tmp_path)
    assert process.stdout is not None
    lines = printed.splitlines()
    middle = len(lines) // 2
    for _ in range(middle):
        process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    survived = sum(
        pd.read_csv(path)["run"].nunique() for path in tmp_path.glob("*.csv") if path.exists()
    )
    assert survived >= middle
    resumed = start(tmp_path)
    rest, error = resumed.communicate(timeout=300)
    assert resumed.returncode == 0, error
    assert len(rest.splitlines()) == len(lines) - survived
    for name in ("tiny_lm.csv", "tiny_lm_sweep.csv"):
        one, two = pd.read_csv(whole / name), pd.read_csv(tmp_path / name)
        pd.testing.assert_frame_equal(one.drop(columns="minutes"), two.drop(columns="minutes"))
    assert (tmp_path / "tiny_lm.json").read_bytes() == (whole / "tiny_lm.json").read_bytes()


def test_two_corpora_do_not_mix(quick, tmp_path):
    whole, _ = quick
    record = (whole / "tiny_lm.json").read_text()
    begin = record.index('"corpus_sha256": "') + len('"corpus_sha256": "')
    (tmp_path / "tiny_lm.json").write_text(record[:begin] + "0" * 64 + record[begin + 64 :])
    process = start(tmp_path)
    _, error = process.communicate(timeout=300)
    assert process.returncode != 0
    assert "records another corpus" in error
    assert not (tmp_path / "tiny_lm.csv").exists()
