"""jaxscale compare and jaxscale backtest: tables that fit, files that are whole, one sentence."""

import sys

import cases
import numpy as np
import pandas as pd
import pytest

import jaxscale as js
from jaxscale._cli import main


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Run the command in an empty folder, 80 columns wide; exit code, output and error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    monkeypatch.setenv("COLUMNS", "80")

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["jaxscale", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        return stop.value.code or 0, captured.out, captured.err

    return call


@pytest.fixture
def curve(tmp_path):
    """A learning curve with a floor."""
    x = np.geomspace(1e2, 1e6, 40)
    rng = np.random.default_rng(0)
    loss = np.asarray(js.laws.power_law_offset(x, E=0.4, A=5.0, alpha=0.3))
    path = tmp_path / "curve.csv"
    pd.DataFrame({"x": x, "loss": loss * np.exp(0.01 * rng.normal(size=40))}).to_csv(
        path, index=False
    )
    return path


LAWS = ("--law", "power_law", "--law", "power_law_offset", "--delta", "0.01", "--restarts", "16")


def test_compare_ranks_the_laws_of_a_curve(run, curve, tmp_path):
    code, out, err = run("compare", curve, *LAWS, "--holdout", "0.2", "--out", "table.csv")
    assert (code, err) == (0, "")
    for part in (
        "2 laws ranked by the error on held-out runs",
        "Largest runs held out",
        "power_law is worse than power_law_offset",
        "power_law_offset fits better than power_law",
        "E lies at a boundary",
    ):
        assert part in " ".join(out.split())
    assert max(map(len, out.splitlines())) <= 80
    table = pd.read_csv(tmp_path / "table.csv")
    assert table["law"].tolist() == ["power_law_offset", "power_law"]
    assert table["delta_AICc"][0] == 0


def test_backtest_writes_its_tables_and_its_picture(run, curve, tmp_path):
    code, out, err = run(
        "backtest", curve, *LAWS, "--method", "hessian", "--resamples", "100", "--out", "result"
    )
    assert (code, err) == (0, "")
    for part in ("Rolling origin over 8 cuts in x", "Runs inside the 90% bands", "hessian"):
        assert part in " ".join(out.split())
    assert max(map(len, out.splitlines())) <= 80
    folder = tmp_path / "result"
    assert {p.name for p in folder.iterdir()} == {
        "predictions.csv", "coverage.csv", "backtest.png",
    }  # fmt: skip
    assert (folder / "backtest.png").read_bytes().startswith(b"\x89PNG")
    rows = pd.read_csv(folder / "predictions.csv")
    np.testing.assert_allclose(np.log(rows.predicted / rows.observed), rows.residual, atol=1e-9)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("compare", "--law", "chinchilla"), "two laws or more"),
        (("compare", *LAWS, "--folds", "some"), "--folds must be one of"),
        (("compare", *LAWS, "--holdout", "2"), "share between 0 and 1"),
        (("backtest", "--method", "magic"), "there is no 'magic'"),
        (("backtest", "--method", "cluster"), "needs --by"),
        (("backtest", "--level", "1.5"), "level must lie between"),
        (("backtest", *LAWS, "--along", "D"), "no input 'D'"),
    ],
)
def test_what_cannot_be_is_one_sentence(run, curve, arguments, said):
    code, out, err = run(arguments[0], curve, *arguments[1:])
    assert code == 2
    assert said in err
    assert len(err.splitlines()) == 1
    assert "Wrote" not in out


@pytest.mark.slow
def test_the_chinchilla_rows(run):
    source = cases.data_path("chinchilla_epoch.csv")
    code, out, err = run(
        "compare", source, "--loss", "loss_nats", "--N", "params", "--D", "tokens",
        "--drop-top", "5", "--restarts", "256",
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert "coupled_power fits better than chinchilla" in " ".join(out.split())
