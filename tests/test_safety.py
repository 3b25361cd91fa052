"""A file is written whole or not at all, and nothing that is read is run as code."""

import ast
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import bayes
from jaxscale._save import write_bytes

ROOT = Path(__file__).parents[1]

# Writing.


@pytest.mark.parametrize("name", ["fsync", "replace", "fdopen", "chmod"])
@pytest.mark.parametrize("kind", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, name, kind):
    path = tmp_path / "fit.json"
    write_bytes(path, b"old")

    def fail(*_, **__):
        raise kind

    with monkeypatch.context() as patch:
        patch.setattr(os, name, fail)
        with pytest.raises(type(kind)) as error:
            write_bytes(path, b"new")
    if isinstance(kind, OSError):
        assert error.value.filename == str(path)
        assert error.value.errno == 28
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_kill_during_a_write_leaves_the_old_file(tmp_path, moment):
    """As `kill -9` at the worst moment: all is written, but not under its name."""
    path = tmp_path / "fit.json"
    path.write_text("old")
    program = (
        "import os, signal\n"
        "from jaxscale._save import write_text\n"
        f"os.{moment} = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"write_text({str(path)!r}, 'new' * 10000)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=300, check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_text() == "old"


def test_a_posterior_that_cannot_be_written_leaves_no_file(tmp_path):
    def fail(path, **_):
        Path(path).write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    stand = SimpleNamespace(data=SimpleNamespace(to_netcdf=fail))
    with pytest.raises(OSError, match="No space left"):
        bayes.Posterior.save(stand, tmp_path / "posterior.nc")
    assert list(tmp_path.iterdir()) == []


# Code.

FORBIDDEN_MODULES = {
    "pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "code",
    "runpy",
}  # fmt: skip
FORBIDDEN_CALLS = {
    "eval", "exec", "__import__", "read_pickle", "to_pickle", "query", "system", "popen",
}  # fmt: skip
SOURCES = sorted(
    path for package in ("jaxscale", "bayes") for path in (ROOT / package).rglob("*.py")
)


def _name(function):
    return getattr(function, "id", getattr(function, "attr", ""))


def _faults(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or "", *(alias.name for alias in node.names)]
        else:
            modules = []
        yield from (m for m in modules if m.split(".")[0] in FORBIDDEN_MODULES)
        if isinstance(node, ast.Call):
            name = _name(node.func)
            code = isinstance(node.func, ast.Name) and name == "compile"  # not re.compile
            if name in FORBIDDEN_CALLS or code:
                yield f"{name}()"
            told = {keyword.arg: keyword.value for keyword in node.keywords}
            safe = isinstance(told.get("allow_pickle"), ast.Constant) and (
                told["allow_pickle"].value is False
            )
            of_numpy = isinstance(node.func, ast.Attribute) and _name(node.func.value) == "np"
            if (name == "load" and of_numpy) or "allow_pickle" in told:
                yield from [] if safe else ["np.load without allow_pickle=False"]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_runs_what_a_file_says(path):
    assert list(_faults(ast.parse(path.read_text()))) == []


def test_the_search_for_such_code_finds_it():
    for code in (
        "import pickle", "from pickle import loads", "import numpy as np\nnp.load('x')",
        "eval('1')", "frame.query('x')", "compile(text, '', 'exec')", "import joblib.memory",
        "np.load('x', allow_pickle=True)",
    ):  # fmt: skip
        assert list(_faults(ast.parse(code))), code
    assert not list(_faults(ast.parse("np.load('x', allow_pickle=False)")))
