"""Checkpoints: nothing lost, nothing counted twice, and the numbers of a job never cut off."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest

import jaxscale as js
from jaxscale import _bootstrap, _checkpoint, _multiverse
from jaxscale._checkpoint import Checkpoint, digest_of

# The mechanism.


def numbers(n, made=None):
    """A chunk, noting that it was made."""

    def make():
        if made is not None:
            made.append(n)
        return {"x": np.arange(float(n)), "count": np.asarray(n)}

    return make


@pytest.fixture
def path(tmp_path):
    return tmp_path / "folder" / "job.npz"


@pytest.fixture
def written(path):
    """A file with two chunks."""
    with Checkpoint(path, "digest", "a sum") as kept:
        kept.chunk("0", numbers(3))
        kept.chunk("3-5", numbers(2))
    return path


def test_a_finished_chunk_is_not_made_again(written):
    made = []
    with Checkpoint(written, "digest", "a sum") as kept:
        assert "0" in kept
        assert "5" not in kept
        for name, n in (("0", 3), ("3-5", 2), ("5", 4)):
            part = kept.chunk(name, numbers(n, made))
            np.testing.assert_array_equal(part["x"], np.arange(float(n)))
            assert part["count"] == n
    assert made == [4]
    assert "5" in Checkpoint(written, "digest", "a sum")


def test_without_a_path_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Checkpoint(None, "digest", "a sum") as kept:
        kept.chunk("0", numbers(3))
        assert kept["0"]["count"] == 3
    assert list(tmp_path.iterdir()) == []


def test_another_job_is_refused_in_one_sentence(written):
    with pytest.raises(js.DataError, match=r"belongs to a sum with other .* choose another file$"):
        Checkpoint(written, "other", "a sum")
    with pytest.raises(js.DataError, match="the checkpoint of a sum, not of a product; choose"):
        Checkpoint(written, "digest", "a product")


def test_a_damaged_file_is_refused_in_one_sentence(written):
    whole = written.read_bytes()
    middle = whole.index(np.arange(3.0).tobytes())
    flipped = whole[:middle] + b"\x01" + whole[middle + 1 :]
    cut = [whole[:n] for n in (0, 1, 30, middle, len(whole) // 2, len(whole) - 1)]
    for content in (b"something else", flipped, *cut):
        written.write_bytes(content)
        with pytest.raises(js.DataError, match="not a checkpoint, or it is damaged; choose"):
            Checkpoint(written, "digest", "a sum")


def test_files_of_other_kinds_are_refused(tmp_path):
    np.savez(tmp_path / "other.npz", x=np.ones(3))
    np.savez(tmp_path / "old.npz", digest="digest", covered=np.ones(3))
    np.savez(tmp_path / "pickled.npz", job=np.array([{}], dtype=object))
    np.save(tmp_path / "array.npy", np.ones(3))
    for file in [*tmp_path.iterdir(), tmp_path]:
        with pytest.raises(js.DataError, match="not a checkpoint"):
            Checkpoint(file, "digest", "a sum")


def test_a_write_that_fails_leaves_the_old_file(written, monkeypatch):
    before = written.read_bytes()

    def full(*_):
        raise OSError(28, "no space left")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="no space"), Checkpoint(written, "digest", "a sum") as kept:
        kept.chunk("5", numbers(4))
    monkeypatch.undo()
    assert written.read_bytes() == before
    assert [file.name for file in written.parent.iterdir()] == [written.name]


def test_writes_are_rare_and_the_last_one_always_happens(path, monkeypatch):
    """The first chunk, so that a folder one may not write to is met early; then every ten s."""
    now, at = [100.0], []
    monkeypatch.setattr(_checkpoint.time, "monotonic", lambda: now[0])
    genuine = _checkpoint.write_bytes
    monkeypatch.setattr(_checkpoint, "write_bytes", lambda *a: (at.append(now[0]), genuine(*a)))

    def interrupted():
        with Checkpoint(path, "digest", "a sum") as kept:
            for i in range(25):
                kept.chunk(str(i), numbers(i))
                now[0] += 1.0
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert at == [100.0, 110.0, 120.0, 125.0]
    assert all(str(i) in Checkpoint(path, "digest", "a sum") for i in range(25))


def test_slow_writes_are_rarer(path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(_checkpoint.time, "monotonic", lambda: now[0])

    def slow(*_):
        now[0] += 5.0

    monkeypatch.setattr(_checkpoint, "write_bytes", slow)
    kept = Checkpoint(path, "digest", "a sum")
    for i in range(200):
        kept.chunk(str(i), numbers(1))
        now[0] += 1.0
    assert now[0] == 200 + 2 * 5  # at the start, and after a hundred seconds: 5% each


def test_digests_tell_apart_what_determines_a_result():
    key, long = jax.random.key(0), np.arange(1e4)
    parts = [
        (), (None,), ("a",), ("ab",), ("a", "b"), (1,), (1.0,), (key,), (jax.random.key(1),),
        (jax.random.key(0, impl="rbg"),), (np.arange(3),), (np.arange(3.0),),
        (np.arange(3.0)[:, None],), (long,), (np.where(long == 5e3, -1, long),),
    ]  # fmt: skip
    digests = [digest_of(*part) for part in parts]
    assert len(set(digests)) == len(parts)
    assert digests == [digest_of(*part) for part in parts]
    with jax.enable_x64(False):
        assert digest_of("a") != digest_of("ab")
        assert digest_of("a") not in digests


# Jobs.


def line():
    """Twenty runs of a power law, and its fit."""
    rng = np.random.default_rng(8)
    x = np.geomspace(1e2, 1e6, 20)
    loss = 4.0 * x**-0.15 * np.exp(0.05 * rng.normal(size=20))
    runs = js.Runs.from_arrays(x=x, loss=loss)
    return js.fit(
        js.laws.power_law, runs, objective=js.LogGaussian(), restarts=8, key=jax.random.key(0)
    )


@pytest.fixture(scope="module")
def fitted():
    return line()


def noting(monkeypatch, owner, name, which, stop=None):
    """Note one argument of every call, and press Ctrl-C in the call of that number."""
    calls, genuine = [], getattr(owner, name)

    def call(*arguments):
        calls.append(which(*arguments))
        if len(calls) == stop:
            raise KeyboardInterrupt
        return genuine(*arguments)

    monkeypatch.setattr(owner, name, call)
    return calls


def assert_same_draws(one, other):
    for name in one.params:
        np.testing.assert_array_equal(one[name], other[name])
    np.testing.assert_array_equal(one.value, other.value)
    assert (one.notes, one.failed, one.method) == (other.notes, other.failed, other.method)


def test_a_bootstrap_goes_on_where_it_stopped(fitted, key, path, monkeypatch):
    monkeypatch.setattr(_bootstrap, "_MOST_RESAMPLES", 10)
    asked = {"by": np.arange(20) // 2, "key": key}
    whole = js.bootstrap(fitted, n=35, **asked)
    made = noting(monkeypatch, _bootstrap._Job, "block", lambda job, first, *_: first, stop=3)
    with pytest.raises(KeyboardInterrupt):
        js.bootstrap(fitted, n=35, checkpoint=path, **asked)
    assert_same_draws(js.bootstrap(fitted, n=35, checkpoint=path, **asked), whole)
    assert made == [0, 10, 20, 20, 30]
    assert_same_draws(js.bootstrap(fitted, n=35, checkpoint=path, **asked), whole)
    assert made == [0, 10, 20, 20, 30]


def test_whole_blocks_serve_longer_and_shorter_bootstraps(fitted, key, path, monkeypatch):
    monkeypatch.setattr(_bootstrap, "_MOST_RESAMPLES", 10)
    lengths = (25, 40, 12, 25)
    alone = [js.bootstrap(fitted, n=n, key=key) for n in lengths]
    made = noting(monkeypatch, _bootstrap._Job, "block", lambda job, first, n, tick: (first, n))
    for n, expected in zip(lengths, alone, strict=True):
        assert_same_draws(js.bootstrap(fitted, n=n, key=key, checkpoint=path), expected)
    assert made == [(0, 10), (10, 10), (20, 5), (20, 10), (30, 10), (10, 2)]


def test_what_the_guard_found_is_counted_once(fitted, key, path, monkeypatch):
    monkeypatch.setattr(_bootstrap, "_MOST_RESAMPLES", 10)
    better = _bootstrap._better
    monkeypatch.setattr(_bootstrap, "_better", lambda *refits: (better(*refits)[0], 3))
    js.bootstrap(fitted, n=20, guard=1.0, key=key, checkpoint=path)
    draws = js.bootstrap(fitted, n=30, guard=1.0, key=key, checkpoint=path)
    assert any("In 9 of 30 resamples a cold start" in note for note in draws.notes)


def test_the_checkpoint_of_another_bootstrap_is_refused(fitted, key, path):
    asked = {"n": 5, "key": key, "checkpoint": path}
    js.bootstrap(fitted, **asked)
    huber = dataclasses.replace(fitted, objective=js.LogHuber(1e-3))
    labels = np.arange(20) // 2
    for fit, other in (
        (fitted, {"key": jax.random.key(1)}),
        (fitted, {"kind": "wild"}),
        (fitted, {"by": labels}),
        (fitted, {"guard": 0.5}),
        (huber, {}),
        (dataclasses.replace(fitted, runs=fitted.runs.take(np.arange(20)[::-1])), {}),
        (dataclasses.replace(fitted, free=np.asarray(fitted.free) + 1e-9), {}),
    ):
        with pytest.raises(js.DataError, match="a bootstrap with other"):
            js.bootstrap(fit, **{**asked, **other})
    js.bootstrap(huber, n=5, key=key, checkpoint=path.with_name("huber"))
    sharper = dataclasses.replace(fitted, objective=js.LogHuber(1e-3 * (1 + 1e-9)))
    with pytest.raises(js.DataError, match="a bootstrap with other"):
        js.bootstrap(sharper, n=5, key=key, checkpoint=path.with_name("huber"))


def specifications(fitted, **more):
    """Six specifications of two laws."""
    return js.multiverse(
        fitted.runs,
        law=[js.laws.power_law, js.laws.power_law_offset],
        objective=js.LogGaussian(),
        drop=(0, 1, 2),
        restarts=8,
        bootstrap=12,
        **more,
    )


def test_a_multiverse_goes_on_where_it_stopped(fitted, key, path, monkeypatch):
    monkeypatch.setattr(_multiverse, "_MOST_FITS", 2 * (8 + 12))
    whole = specifications(fitted, key=key).frame()
    made = noting(monkeypatch, _multiverse, "_fitted", lambda batch, *_: len(batch.specs), stop=3)
    with pytest.raises(KeyboardInterrupt):
        specifications(fitted, key=key, checkpoint=path)
    resumed = specifications(fitted, key=key, checkpoint=path).frame()
    pd.testing.assert_frame_equal(resumed, whole, check_exact=True)
    assert made == [2, 1, 2, 2, 1]
    for other in ({"key": jax.random.key(1)}, {"level": 0.8}, {"quantities": "alpha"}):
        with pytest.raises(js.DataError, match="a multiverse with other"):
            specifications(fitted, checkpoint=path, **{"key": key, **other})


def test_chunks_change_round_off_only(fitted, key, monkeypatch):
    """Fits do not see their neighbors; resamples of a specification come from one stream."""
    one = {"drop": 0, "law": js.laws.power_law, "objective": js.LogGaussian(), "restarts": 8}
    whole = specifications(fitted, key=key).frame()
    alone = js.multiverse(fitted.runs, key=key, bootstrap=30, **one).frame()
    monkeypatch.setattr(_multiverse, "_MOST_CELLS", 7 * 20)  # seven resamples at a time
    cut = specifications(fitted, key=key).frame()
    for name in ("runs", "value", "alpha", "hit_share"):
        np.testing.assert_allclose(cut[name], whole[name], rtol=1e-6)
    again = js.multiverse(fitted.runs, key=key, bootstrap=30, **one).frame()
    for name in ("alpha_se", "alpha_low", "alpha_high", "A_se"):
        np.testing.assert_allclose(again[name], alone[name], rtol=1e-6)


def test_a_multiverse_knows_its_laws_by_what_they_give(fitted, key, path):
    """A law whose code was changed under its name, as one does in a notebook."""

    def named(fn):
        declared = {"A": js.positive(0.1, 10.0), "alpha": js.real(0.05, 1.5)}
        return js.law(name="mine", **declared)(fn)

    laws = [
        named(lambda x, *, A, alpha: A * x**-alpha),
        named(lambda x, *, A, alpha: A * (x + 30.0) ** -alpha),
    ]
    asked = {"key": key, "restarts": 4, "checkpoint": path, "quantities": "alpha"}
    js.multiverse(fitted.runs, law=laws[0], **asked)
    with pytest.raises(js.DataError, match="a multiverse with other"):
        js.multiverse(fitted.runs, law=laws[1], **asked)


# kill -9.

_RESAMPLES, _BLOCK = 1_200, 30


def killed_job(path, pause):
    """In a process of its own: a bootstrap that takes its time, until somebody kills it."""
    genuine = _bootstrap._Job.block

    def slowly(*arguments):
        time.sleep(pause)
        return genuine(*arguments)

    _bootstrap._Job.block, _bootstrap._MOST_RESAMPLES, _checkpoint._EVERY = slowly, _BLOCK, 0.0
    js.bootstrap(line(), n=_RESAMPLES, key=jax.random.key(3), checkpoint=path)


def blocks_in(path):
    """How many blocks a checkpoint holds."""
    if not path.exists():
        return 0
    with np.load(path) as held:
        return sum(name.endswith("/beaten") for name in held.files)


def test_a_job_killed_with_sigkill_loses_and_repeats_nothing(fitted, path, tmp_path, monkeypatch):
    monkeypatch.setattr(_bootstrap, "_MOST_RESAMPLES", _BLOCK)
    whole = js.bootstrap(fitted, n=_RESAMPLES, key=jax.random.key(3))
    code = "import sys, conftest, test_checkpoint as t; t.killed_job(t.Path(sys.argv[1]), 0.2)"
    root = Path(js.__file__).parent.parent
    found = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    with (
        open(tmp_path / "said", "w") as said,
        subprocess.Popen(
            [sys.executable, "-c", code, str(path)],
            cwd=Path(__file__).parent,
            env={**os.environ, "PYTHONPATH": found},
            stdout=said,
            stderr=said,
        ) as job,
    ):
        while blocks_in(path) < 3 and job.poll() is None:
            time.sleep(0.01)
        os.kill(job.pid, signal.SIGKILL)
    assert job.returncode == -signal.SIGKILL, (tmp_path / "said").read_text()
    held = blocks_in(path)
    assert 3 <= held < _RESAMPLES // _BLOCK
    made = noting(monkeypatch, _bootstrap._Job, "block", lambda job, first, *_: first)
    resumed = js.bootstrap(fitted, n=_RESAMPLES, key=jax.random.key(3), checkpoint=path)
    assert made == list(range(held * _BLOCK, _RESAMPLES, _BLOCK))
    assert_same_draws(resumed, whole)
