"""The command: its main path on real rows, and one sentence with exit code 2 for bad input."""

import json
import os
import re
import signal
import subprocess
import sys

import cases
import numpy as np
import pandas as pd
import pytest
import xarray

import jaxscale as js


@pytest.fixture
def table(tmp_path, simulated):
    """The simulated runs as a CSV file, for tests that break it."""
    frame = simulated[0].frame()[["N", "D", "loss"]]
    path = tmp_path / "runs.csv"
    frame.to_csv(path, index=False)
    return path, frame


def test_main_path_on_the_chinchilla_rows(run, tmp_path):
    source = cases.data_path("chinchilla_epoch.csv")
    code, out, err = run(
        "fit", source, "--law", "chinchilla", "--loss", "loss_nats", "--N", "params",
        "--D", "tokens", "--drop-top", "5", "--out", "result",
    )  # fmt: skip
    assert (code, err) == (0, "")
    for part in ("1.81722", "477.826", "restarts reach this optimum", "Verdict", "1e+23"):
        assert part in out
    folder = tmp_path / "result"
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "fit.json", "fit.png", "parameters.csv", "restarts.csv", "runs.csv", "frontier.csv",
    }  # fmt: skip
    content = json.loads((folder / "fit.json").read_text())
    assert content["value"] <= 1.0182740e-3 * (1 + 1e-6)
    assert content["data"]["runs"] == 240
    runs = pd.read_csv(folder / "runs.csv")
    assert runs["row"].min() == 6  # the file's first five rows were dropped
    np.testing.assert_allclose(np.log(runs.predicted / runs.loss), runs.residual, atol=1e-12)
    assert (folder / "fit.png").read_bytes().startswith(b"\x89PNG")

    code, out, _ = run("predict", "result/fit.json", "--N", "1B,70e9", "--D", "1.4T")
    assert code == 0
    assert "1.97337" in out
    assert "4.33 times the largest N" in out
    code, out, _ = run(
        "allocate", "result/fit.json", "--flop", "1e21,5.76e23", "--out", "frontier.csv"
    )
    assert code == 0
    frontier = pd.read_csv(tmp_path / "frontier.csv")
    assert frontier["N"][1] == pytest.approx(7.319e10, rel=1e-3)
    assert f"{frontier['N'][0]:.6g}" in out


def test_a_law_in_one_input(run, tmp_path):
    x = np.geomspace(10, 1e5, 20)
    loss = np.asarray(js.laws.power_law(x, A=3.0, alpha=0.2))
    pd.DataFrame({"images": x, "error": loss}).to_csv(tmp_path / "curve.csv", index=False)
    code, out, _ = run(
        "fit", "curve.csv", "--law", "power_law", "--x", "images", "--loss", "error",
        "--restarts", "16",
    )  # fmt: skip
    assert code == 0
    assert "0.2" in out
    assert "Compute-optimal" not in out
    code, out, _ = run("predict", "jaxscale-fit/fit.json", "--x", "1000")
    assert code == 0
    assert f"{3.0 * 1000**-0.2:.6g}" in out


def test_other_inputs_have_columns_by_name(run, tmp_path):
    S1, S2 = (x.ravel() for x in np.meshgrid(np.geomspace(0.1, 5, 8), [0.0, 0.05, 0.1, 0.2]))
    law, truth = js.laws.annealing, {"L0": 2.6, "A": 0.5, "alpha": 0.5, "C": 0.4}
    frame = pd.DataFrame({"area": S1, "S2": S2, "loss": np.asarray(law(S1, S2, **truth))})
    frame.to_csv("runs.csv", index=False)
    common = ("fit", "runs.csv", "--law", "annealing", "--restarts", "64", "--out", "result")
    code, _, err = run(*common, "--input", "S1=area")
    assert (code, err) == (0, "")
    found = json.loads((tmp_path / "result" / "fit.json").read_text())["params"]
    assert found["alpha"] == pytest.approx(truth["alpha"], rel=1e-5)
    code, out, _ = run("predict", "result/fit.json", "--input", "S1=4", "--input", "S2=0.1,0")
    assert code == 0
    for S2 in (0.1, 0.0):
        assert f"{float(law(4.0, S2, **truth)):.5g}" in out
    for option, said in (
        ("S1", "write NAME=VALUE"),
        ("Q=area", "--input Q: law 'annealing' has no input Q"),
        ("S1=nothing", "there is no column 'nothing' for S1"),
    ):
        code, out, err = run(*common, "--input", option)
        assert (code, out) == (2, "")
        assert said in err
        assert err.count("\n") == 1


def test_laws_shows_one_law_with_its_published_parameters(run):
    code, out, _ = run("laws", "chinchilla")
    assert code == 0
    for part in ("A / N^alpha", "input N", "parameter alpha", "besiroglu_2024", "2203.15556"):
        assert part in out
    code, _, err = run("laws", "chinchila")
    assert code == 2
    assert "did you mean chinchilla" in err


def test_laws_lists_the_catalogue(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = run("laws")
    assert code == 0
    for name in js.laws.names():
        assert name in out
    # Every law says what its inputs count, and what is known of it.
    for label in ("inputs", "parameters", "source", "evidence"):
        lines = re.findall(rf"^[^a-z]*{label}  ", out, re.MULTILINE)
        assert len(lines) == len(js.laws.names()), label
    for part in ("N: parameters with embeddings", "C: FLOPs, 6 N D", "B: tokens per batch"):
        assert part in out
    made = out[out.index("made to order") :]
    assert all(call in made for call in js.laws.made_to_order())
    assert max(map(len, out.splitlines())) <= 80
    assert out.startswith("power\n")


def break_with(column, value):
    def edit(frame):
        frame = frame.astype(object)
        frame.loc[2, column] = value
        return frame

    return edit


BROKEN = {
    "nan": (break_with("loss", "nan"), ["row 3", "'loss'", "no value"]),
    "empty cell": (break_with("D", ""), ["row 3", "'D'", "no value"]),
    "infinite": (break_with("N", "inf"), ["row 3", "'N'", "inf"]),
    "zero": (break_with("N", 0), ["row 3", "0 as N", "greater than zero"]),
    "negative": (break_with("loss", -1.0), ["row 3", "-1 as loss", "greater than zero"]),
    "text": (break_with("D", "2e10 tok"), ["row 3", "'D'", "not a number"]),
    "missing column": (lambda f: f.drop(columns="D"), ["'D'", "N, loss"]),
    "few rows": (lambda f: f.iloc[:4], ["4 runs", "5 parameters"]),
    "constant D": (lambda f: f.assign(D=2e10), ["D is 2e+10 in every run", "B and beta"]),
    "a ray": (lambda f: f.assign(D=20 * f.N), ["D = 20 N in every run", "alpha"]),
    "duplicates": (lambda f: pd.concat([f, f.iloc[[4]]]), ["row 61 repeats row 5", "drop"]),
    "no rows": (lambda f: f.iloc[:0], ["no rows"]),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_bad_tables(run, table, tmp_path, kind):
    path, frame = table
    edit, said = BROKEN[kind]
    edit(frame).to_csv(path, index=False)
    code, out, err = run("fit", "runs.csv", "--restarts", "16")
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1
    for part in ["runs.csv", *said]:
        assert part in err
    assert list(tmp_path.iterdir()) == [path]  # nothing was written


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "not a CSV"),
        (b"hello\nworld\n", "the columns are: hello"),
    ],
)
def test_files_that_are_no_table(run, tmp_path, content, said):
    (tmp_path / "runs.csv").write_bytes(content)
    code, _, err = run("fit", "runs.csv")
    assert code == 2
    assert "runs.csv" in err
    assert said in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["fit", "nowhere.csv"], "nowhere.csv: there is no such file"),
        (["fit", "runs.csv", "--law", "chinchila"], "chinchilla"),
        (["fit", "runs.csv", "--x", "N"], "no input x"),
        (["fit", "."], ".: is a folder; name a CSV file"),
        (["fit", "runs.csv", "--delta", "-1"], "delta"),
        (["fit", "runs.csv", "--delta", "nan"], "delta"),
        (["fit", "runs.csv", "--seed", "-1"], "--seed -1: give a whole number from 0"),
        (["fit", "runs.csv", "--restarts", "9" * 20], "from 1 to 100,000,000"),
        (["fit", "runs.csv", "--bootstrap", "9" * 20], "from 2 to 100,000,000"),
        (["fit", "runs.csv", "--out", "/dev/null/x"], "/dev/null/x: cannot be written"),
        (["laws", "nothing at all"], "'jaxscale laws' lists them"),
        (["fit", "runs.csv", "--drop-top", "60"], "60 highest losses"),
        (["fit", "runs.csv", "--restarts", "0"], "restarts"),
        (["fit", "runs.csv", "--duplicates", "maybe"], "duplicates"),
        (["fit", "runs.csv", "--out", "runs.csv"], "not a folder"),
        (["predict", "runs.csv", "--N", "1"], "not a fit"),
        (["predict", "nowhere.json", "--N", "1"], "no such file"),
        (["predict", ".", "--N", "1"], ".: this is a folder"),
        (["predict", "nowhere.json", "--N", "nan"], "'nan' is not a number"),
        (["predict", "nowhere.json", "--N", "1e999"], "'1e999' is not a number"),
        (["predict", "nowhere.json", "--N", "1", "--level", "2"], "between 0 and 1"),
        (["allocate", "runs.csv", "--flop", "1e20", "--out", "."], "is a folder"),
        (["allocate", "nowhere.json", "--flop", "a lot"], "not a number"),
    ],
)
def test_bad_requests(run, table, arguments, said):
    code, out, err = run(*arguments)
    assert code == 2
    assert out == ""
    assert said in err
    assert err.count("\n") == 1


def test_predict_names_missing_inputs(run, simulated_fit, tmp_path):
    js.save(tmp_path / "fit.json", simulated_fit)
    code, _, err = run("predict", "fit.json", "--N", "1e9")
    assert code == 2
    assert "N, D" in err


def test_ctrl_c_ends_without_a_traceback(run, table, tmp_path, monkeypatch):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell in the background ignores it

    def interrupted(*_, **__):
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("jaxscale._fit.fit", interrupted)
    assert run("fit", "runs.csv") == (130, "", "jaxscale: interrupted\n")
    assert list(tmp_path.iterdir()) == [table[0]]
    monkeypatch.setattr("jaxscale._cli.app", interrupted)
    assert run("fit", "runs.csv") == (130, "", "jaxscale: interrupted\n")


def test_too_little_memory_is_said(run, table, monkeypatch):
    def full(*_, **__):
        raise MemoryError

    monkeypatch.setattr("jaxscale._fit.fit", full)
    code, out, err = run("fit", "runs.csv")
    assert (code, out) == (2, "")
    assert "fewer restarts" in err
    assert err.count("\n") == 1


def test_a_message_is_one_line_whatever_a_column_is_called(run, tmp_path):
    (tmp_path / "runs.csv").write_text('"N\nm",\x1b[31mD,loss\n1,2,3\n', newline="")
    code, out, err = run("fit", "runs.csv")
    assert (code, out) == (2, "")
    assert "the columns are: N\\nm, \\x1b[31mD, loss" in err
    assert err.count("\n") == 1
    code, _, err = run("fit", "\udcff.csv")  # a name that is no text
    assert (code, err) == (2, "jaxscale: \\udcff.csv: there is no such file\n")


@pytest.mark.parametrize("encoding", ["ascii", pytest.param("latin-1", marks=pytest.mark.slow)])
def test_a_terminal_that_lacks_letters(tmp_path, encoding):
    path = tmp_path / "caf\u00e9\u2028.csv"
    x = np.geomspace(1, 100, 12)
    pd.DataFrame({"x": x, "loss": 3 * x**-0.3}).to_csv(path, index=False)
    done = subprocess.run(
        [sys.executable, "-m", "jaxscale", "fit", path, "--law", "power_law", "--restarts", "16"],
        env={**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"},
        cwd=tmp_path, capture_output=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"12 runs from" in done.stdout


def test_entry_points():
    """As a shell starts it: version, help, and an error without a traceback."""
    command = [sys.executable, "-m", "jaxscale"]
    version = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
    assert version.stdout.strip() == js.__version__
    failed = subprocess.run([*command, "fit", "nowhere.csv"], capture_output=True, text=True)
    assert failed.returncode == 2
    assert failed.stderr == "jaxscale: nowhere.csv: there is no such file\n"


def test_a_second_fit_leaves_no_file_of_the_first(run, table, tmp_path):
    assert run("fit", "runs.csv", "--restarts", "32", "--out", "[b]fit")[0] == 0
    assert (tmp_path / "[b]fit" / "frontier.csv").exists()
    code, out, _ = run(
        "fit", "runs.csv", "--law", "power_law", "--x", "N", "--restarts", "32", "--out", "[b]fit"
    )
    assert code == 0
    assert "[b]fit" in out
    assert not (tmp_path / "[b]fit" / "frontier.csv").exists()


def test_bootstrap_gives_intervals_and_bands(run, table, tmp_path):
    path, _ = table
    code, out, err = run("fit", path, "--bootstrap", "200", "--level", "0.8", "--restarts", "64")
    assert (code, err) == (0, "")
    for part in ("80% intervals: pairs bootstrap, 200", "80% bands", "loss of a run"):
        assert part in out
    folder = tmp_path / "jaxscale-fit"
    draws = js.load(folder / "draws.json")
    assert isinstance(draws, js.Draws)
    parameters = pd.read_csv(folder / "parameters.csv").set_index("quantity")
    assert tuple(parameters.loc["alpha", ["low", "high"]]) == pytest.approx(
        draws.interval("alpha", 0.8)
    )
    frontier = pd.read_csv(folder / "frontier.csv")
    assert np.all((frontier["N_low"] < frontier["N"]) & (frontier["N"] < frontier["N_high"]))

    code, out, _ = run("predict", "jaxscale-fit/draws.json", "--N", "1B", "--D", "1T")
    assert code == 0
    assert "run_high" in out
    code, out, _ = run("allocate", "jaxscale-fit/draws.json", "--flop", "1e22", "--level", "0.5")
    assert code == 0
    assert "50% bands" in out

    run("fit", path, "--restarts", "64")  # without draws: those of the earlier fit must go
    assert not (folder / "draws.json").exists()
    assert (folder / "frontier.csv").exists()


def test_intervals_side_by_side(run, table, tmp_path):
    path, _ = table
    code, out, err = run(
        "intervals", path, "--quantity", "alpha", "--flop", "1e22", "--method", "hessian,pairs",
        "--resamples", "200", "--restarts", "64", "--out", "here",
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert "N*(C=1e+22)" in out
    written = pd.read_csv(tmp_path / "here" / "intervals.csv")
    assert list(written["quantity"].unique()) == ["alpha", "N*(C=1e+22)", "D*(C=1e+22)"]
    assert (tmp_path / "here" / "intervals.png").read_bytes().startswith(b"\x89PNG")


def test_clusters_by_a_column_of_their_own(run, table, tmp_path):
    """Any column makes clusters; the inputs do by their own name or by their column's."""
    path, frame = table
    frame.assign(family=np.arange(len(frame)) % 12).to_csv(path, index=False)
    arguments = ("--bootstrap", "100", "--restarts", "64")
    code, out, err = run("fit", path, *arguments, "--by", "family")
    assert (code, err) == (0, "")
    assert "cluster pairs bootstrap by family" in " ".join(out.split())
    code, _, err = run("fit", path, *arguments, "--by", "nothing")
    assert code == 2
    assert "no column 'nothing' for cluster" in err


def test_audit_on_the_chinchilla_rows(run):
    source = cases.data_path("chinchilla_epoch.csv")
    code, out, err = run(
        "audit", source, "--loss", "loss_nats", "--N", "params", "--D", "tokens",
        "--drop-top", "5", "--claim", "a=0.454:0.455", "--claim-level", "0.8",
        "--published", "hoffmann_2022",
    )  # fmt: skip
    assert (code, err) == (0, "")
    text = " ".join(out.split())
    assert "times narrower than these 240 runs support" in text
    assert "likelihood ratio 83.24" in text


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("fit", "--by", "N"), "clusters are for the bootstrap"),
        (("fit", "--bootstrap", "-1"), "give a whole number from 2"),
        (("fit", "--bootstrap", "100", "--level", "95"), "level must lie between 0 and 1"),
        (("intervals", "--quantity", "gamma"), "no quantity 'gamma'"),
        (("intervals", "--method", "magic"), "methods are"),
        (("intervals", "--flop", "many"), "is not a number"),
        (("audit",), "audit needs --claim"),
        (("audit", "--claim", "a=0.4"), "write NAME=LOW:HIGH"),
        (("audit", "--claim", "a=0.5:0.4"), "the lower end comes first"),
        (("audit", "--claim", "a=nan:0.4"), "'nan' is not a number"),
        (("audit", "--claim", "a=0.4:0.5", "--resamples", "0"), "whole number from 2"),
        (("intervals", "--flop", "-1"), "the budget must be positive FLOPs, got -1"),
        (("intervals", "--resamples", "-1"), "whole number from 2"),
        (("audit", "--published", "nobody"), "nobody"),
        (("audit", "--published", "A=x,B=1"), "is not a number"),
    ],
)
def test_uncertainty_requests_that_cannot_be_answered(run, table, arguments, sentence, tmp_path):
    command, *rest = arguments
    before = set(tmp_path.iterdir())
    code, _, err = run(command, table[0], *rest, "--restarts", "64")
    assert code == 2
    assert sentence in err
    assert len(err.strip().splitlines()) == 1
    assert set(tmp_path.iterdir()) == before


def test_posterior_main_path(run, table, tmp_path):
    path, frame = table
    code, out, err = run(
        "posterior", path, "--likelihood", "gaussian", "--draws", "300", "--warmup", "300",
        "--flop", "1e22", "--out", "result",
    )  # fmt: skip
    assert (code, err) == (0, "")
    for part in ("Posterior, 90% intervals", "R-hat", "0 divergent", "1e+22", "Wrote result"):
        assert part in out
    names = {path.name for path in (tmp_path / "result").iterdir()}
    assert names == {
        "posterior.nc", "fit.json", "parameters.csv", "frontier.csv", "frontier.png", "pair.png",
        "predictive.png", "prior_posterior.png",
    }  # fmt: skip
    with xarray.open_datatree(tmp_path / "result" / "posterior.nc") as data:
        assert data["posterior"]["alpha"].shape == (4, 300)
        assert data["log_likelihood"]["loss"].shape == (4, 300, len(frame))
    low, high = pd.read_csv(tmp_path / "result" / "parameters.csv").set_index("quantity").loc[
        "alpha", ["low", "high"]
    ]  # fmt: skip
    assert low < 0.36 < high or low < 0.35 < high


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--likelihood", "cauchy"], "--likelihood must be student"),
        (["--level", "90"], "level must lie between 0 and 1"),
        (["--scale-by", "width"], "scale_by must be an input"),
        (["--draws", "1"], "at least 2 chains"),
        (["--draws", "-1"], "whole number from 1"),
        (["--chains", "9" * 12], "whole number from 1 to 10,000"),
        (["--by", "model"], "no column 'model'"),
        (["--flop", "much"], "is not a number"),
    ],
)
def test_posterior_bad_requests(run, table, arguments, message, tmp_path):
    code, _, err = run("posterior", table[0], "--restarts", "16", *arguments, "--out", "result")
    assert code == 2
    assert message in err
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "result").exists()
