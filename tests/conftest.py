"""Double precision, two virtual devices, no pictures on a screen, no global random state."""

import atexit
import gc
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=2")
os.environ.setdefault("MPLBACKEND", "Agg")
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    # The workers, commands and notebooks of one run inherit it, and compile nothing twice.
    compiled = tempfile.mkdtemp(prefix="jaxscale-tests-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = compiled
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
    atexit.register(shutil.rmtree, compiled, ignore_errors=True)

import cases
import jax
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import jaxscale as js
from jaxscale._cli import main

jax.config.update("jax_enable_x64", True)
# Most tests run a program once: they compile it fast. Programs so compiled are 2-5 times slower.
_COMPILE_FAST = (
    "--xla_backend_optimization_level=0",
    "--xla_cpu_use_fusion_emitters=false",
    "--xla_cpu_parallel_codegen_split_count=1",
)
gc.set_threshold(20_000, 20, 100)  # tracing makes many objects and little garbage
_TURN = 61  # tests from one day's first study to the next day's


def pytest_configure(config):
    """Studies, and tests chosen by a mark, compile programs as users do; XLA reads this later."""
    if config.getoption("markexpr") == "not slow" and not hasattr(config, "workerinput"):
        os.environ["XLA_FLAGS"] = " ".join(
            [*filter(_known, _COMPILE_FAST), os.environ["XLA_FLAGS"]]
        )


def _known(flag):
    """Whether this XLA has a flag: versions differ, and abort at one that they do not have."""
    probe = [sys.executable, "-c", "import jax; jax.devices()"]
    done = subprocess.run(probe, env={**os.environ, "XLA_FLAGS": flag}, capture_output=True)
    return done.returncode == 0


def _mapped():
    """The pieces of memory that this process maps; 0 where the system does not tell."""
    try:
        return len(Path("/proc/self/maps").read_bytes().splitlines())
    except OSError:
        return 0


def pytest_runtest_setup(item):
    """Studies stop where the time for them is over; those left out say so."""
    end = os.environ.get("JAXSCALE_STUDIES_UNTIL")
    if end and item.get_closest_marker("slow") and time.time() > float(end):
        pytest.skip("the time for studies was over")


def pytest_collection_modifyitems(items):
    """Studies begin with another one every day, so that each has its turn."""
    start = int(os.environ.get("JAXSCALE_STUDIES_FROM", "0")) * _TURN % max(len(items), 1)
    items[:] = items[start:] + items[:start]


@pytest.fixture(autouse=True)
def _forget_compiled_programs():
    """A process may map 65,530 pieces of memory on Linux, and every program takes some.

    So no program outlives its test file, and none its test where there are many already:
    one file may compile more than fits.
    """
    yield
    if _mapped() > 15_000:
        jax.clear_caches()


@pytest.fixture(scope="module", autouse=True)
def _leave_nothing_to_the_next_file():
    yield
    jax.clear_caches()
    plt.close("all")


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Run the command in an empty folder; returns exit code, standard output and error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(gc, "freeze", lambda: None)  # this process does not end with the command

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["jaxscale", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        return stop.value.code or 0, captured.out, captured.err

    return call


@pytest.fixture(scope="session")
def key():
    return jax.random.key(20260714)


@pytest.fixture(scope="session")
def chinchilla_runs():
    """The 240 rows of the Chinchilla replication."""
    frame = pd.read_csv(cases.data_path("chinchilla_epoch.csv"))
    runs = js.Runs.from_frame(frame, loss="loss_nats", N="params", D="tokens")
    return js.drop_top(runs, 5)


@pytest.fixture(scope="session")
def chinchilla_fit(chinchilla_runs, key):
    """The replication's fit, from 10,000 default starts."""
    return js.fit(js.laws.chinchilla, chinchilla_runs, restarts=10_000, key=key)


@pytest.fixture(scope="session")
def simulated():
    """60 noisy runs of a known Chinchilla law, and the law's parameters."""
    rng = np.random.default_rng(3)
    truth = {"E": 1.8, "A": 480.0, "B": 2100.0, "alpha": 0.35, "beta": 0.37}
    N, D = np.exp(rng.uniform(np.log([[1e7], [1e9]]), np.log([[1e10], [1e12]]), (2, 60)))
    loss = np.asarray(js.laws.chinchilla(N, D, **truth)) * np.exp(0.01 * rng.normal(size=60))
    return js.Runs.from_arrays(N=N, D=D, loss=loss), truth


@pytest.fixture(scope="session")
def simulated_fit(simulated, key):
    runs, _ = simulated
    return js.fit(js.laws.chinchilla, runs, restarts=128, key=key)
