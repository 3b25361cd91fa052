"""save and load: every bit comes back, damage is noticed, nothing is half-written."""

import dataclasses
import json

import cases
import jax.numpy as jnp
import numpy as np
import pytest

import jaxscale as js
from jaxscale._save import write_text


def test_round_trip_is_exact(simulated, simulated_fit, tmp_path):
    path = tmp_path / "deep" / "fit.json"
    js.save(path, simulated_fit)
    loaded = js.load(path, runs=simulated[0])
    for name, value in simulated_fit.params.items():
        assert float(loaded.params[name]) == float(value)
    assert loaded.value == simulated_fit.value
    assert repr(loaded.objective) == repr(simulated_fit.objective)
    assert loaded.verdict == simulated_fit.verdict
    assert loaded.restarts.hit_share == simulated_fit.restarts.hit_share
    assert len(loaded.restarts) == len(simulated_fit.restarts)
    assert repr(loaded) == repr(simulated_fit)
    np.testing.assert_array_equal(loaded.residuals(), simulated_fit.residuals())
    a, b = (js.predict(f, N=7e10, D=1.4e12) for f in (loaded, simulated_fit))
    assert float(a.mean) == float(b.mean)
    assert a.notes == b.notes


def test_the_file_is_plain_json_in_physical_units(simulated_fit, tmp_path):
    js.save(tmp_path / "fit.json", simulated_fit)
    content = json.loads((tmp_path / "fit.json").read_text())
    assert content["params"]["A"] == float(simulated_fit.params["A"])
    assert content["data"]["sha256"] == simulated_fit.digest
    assert content["versions"]["jax"]
    assert content["objective"] == {"name": "LogHuber", "delta": 0.001}


def test_without_its_runs_a_fit_predicts_but_has_no_residuals(simulated_fit, tmp_path):
    js.save(tmp_path / "fit.json", simulated_fit)
    loaded = js.load(tmp_path / "fit.json")
    assert jnp.isfinite(js.allocate(loaded, flop=1e21).N)
    with pytest.raises(js.DataError, match="without its runs"):
        loaded.residuals()


def test_other_runs_are_refused(simulated, simulated_fit, tmp_path):
    js.save(tmp_path / "fit.json", simulated_fit)
    with pytest.raises(js.DataError, match="not the runs that were fitted"):
        js.load(tmp_path / "fit.json", runs=simulated[0].take(np.arange(10)))


def test_a_custom_law_must_be_given(simulated, key, tmp_path):
    @js.law(
        E=js.positive(0.5, 3.0), A=js.positive(0.1, 3, unit="N**gamma"), gamma=js.real(0.05, 1.5)
    )
    def single_power(N, *, E, A, gamma):
        """L(N) = E + A N^-gamma"""
        return E + A * N**-gamma

    fit = js.fit(single_power, simulated[0], restarts=32, key=key)
    js.save(tmp_path / "fit.json", fit)
    with pytest.raises(js.LawError, match="single_power"):
        js.load(tmp_path / "fit.json")
    with pytest.raises(js.LawError, match="holds a fit of 'single_power'"):
        js.load(tmp_path / "fit.json", law=js.laws.chinchilla)
    loaded = js.load(tmp_path / "fit.json", law=single_power)
    assert float(loaded.params["gamma"]) == float(fit.params["gamma"])


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[1]",
        '{"format": "other"}',
        '{"format": "jaxscale-fit-1"}',
        "\x00",
        "[" * 100_000,
        "9" * 5000,
        '{"format": "' + "x" * 5000 + '"}',
    ],
)
def test_files_that_are_no_fit(tmp_path, content):
    path = tmp_path / "fit.json"
    path.write_text(content)
    with pytest.raises(js.JaxscaleError, match=r"fit\.json"):
        js.load(path)
    with pytest.raises(js.JaxscaleError, match="no such file"):
        js.load(tmp_path / "other.json")


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "table.csv"
    write_text(path, "old")
    with pytest.raises(AttributeError):
        write_text(path, None)
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "\ud800")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_stack_is_saved_one_by_one(simulated, key, tmp_path):
    batch = js.fit(js.laws.chinchilla, js.Runs.stack({"a": simulated[0]}), restarts=16, key=key)
    with pytest.raises(js.DataError, match="one by one"):
        js.save(tmp_path / "fit.json", batch)
    js.save(tmp_path / "fit.json", batch["a"])
    assert js.load(tmp_path / "fit.json", runs=simulated[0]).n_runs == 60


@pytest.mark.parametrize(
    "damage",
    [
        lambda c: c["params"].pop("A"),
        lambda c: c["params"].update(A=None),
        lambda c: c["params"].update(A=float("nan")),
        lambda c: c["params"].update(A="many"),
        lambda c: c["data"]["ranges"].pop("N"),
        lambda c: c["data"]["ranges"].update(N=[1.0]),
        lambda c: c.update(value="low"),
        lambda c: c["restarts"]["basins"][0].update(objective="low"),
        lambda c: c["objective"].update(name="Magic"),
        lambda c: c["objective"].update(delta="small"),
        lambda c: c["reference"].update(free=[1.0]),
        lambda c: c["reference"]["log_refs"].pop("N"),
        lambda c: c["restarts"].update(n=10),
        lambda c: (
            c["restarts"].update(n=10**12), c["restarts"]["basins"][0].update(restarts=10**12)
        ),
        lambda c: c["restarts"]["basins"][0].update(kind=None),
        lambda c: c["data"].update(runs=1.5),
        lambda c: c["data"]["ranges"].update(N=[1, 10**400]),
        lambda c: c.update(rmse=True),
        lambda c: c["verdict"].append({"code": "ok"}),
    ],
)  # fmt: skip
def test_damaged_fits_are_refused_even_with_the_right_hash(simulated_fit, tmp_path, damage):
    path = tmp_path / "fit.json"
    js.save(path, simulated_fit)
    cases.rewrite(path, damage)
    with pytest.raises(js.JaxscaleError, match=r"damaged|not a fit") as error:
        js.load(path)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300


def test_an_edited_file_is_refused_by_its_hash(simulated_fit, key, tmp_path):
    path = tmp_path / "fit.json"
    for saved in (simulated_fit, js.bootstrap(simulated_fit, n=20, key=key)):
        js.save(path, saved)
        text = path.read_text()
        assert isinstance(js.load(path), type(saved))
        for old, new in (
            ('"value": ', '"value": 1'),
            ('"alpha": 0.3', '"alpha": 0.4'),
            ("this optimum", "that optimum") if "this optimum" in text else ('"n"', '"m"'),
            ('"hit_share": 1.0', '"hit_share": 0.9'),
        ):
            assert old in text
            path.write_text(text.replace(old, new, 1))
            with pytest.raises(js.JaxscaleError, match="changed after jaxscale wrote it"):
                js.load(path)
        # Spaces and the order of entries are no part of the content.
        content = json.loads(text)
        path.write_text(json.dumps(dict(reversed(content.items()))))
        assert isinstance(js.load(path), type(saved))
        del content["content_sha256"]
        path.write_text(json.dumps(content))
        with pytest.raises(js.JaxscaleError, match="not a fit saved by jaxscale"):
            js.load(path)


def test_draws_come_back_to_the_last_bit(simulated, simulated_fit, key, tmp_path):
    draws = js.bootstrap(simulated_fit, n=20, key=key)
    js.save(tmp_path / "draws.json", draws)
    loaded = js.load(tmp_path / "draws.json", runs=simulated[0])
    assert isinstance(loaded, js.Draws)
    for name in draws.params:
        np.testing.assert_array_equal(loaded.params[name], draws.params[name])
    np.testing.assert_array_equal(loaded.scale, draws.scale)
    np.testing.assert_array_equal(loaded.value, draws.value)
    assert (loaded.method, loaded.notes) == (draws.method, draws.notes)
    assert loaded.fit.value == simulated_fit.value
    assert loaded.interval("alpha") == draws.interval("alpha")


def test_damaged_draws_are_refused(simulated_fit, key, tmp_path):
    path = tmp_path / "draws.json"
    draws = js.bootstrap(simulated_fit, n=20, key=key)
    for damage in (
        lambda c: c["draws"]["params"]["E"].pop(),
        lambda c: c["draws"]["value"].pop(),
        lambda c: c["draws"].update(notes="a note"),
        lambda c: c["draws"].update(failed=-1),
        lambda c: c["draws"].update(method=None),
        lambda c: c["draws"].update(center="mean"),
        lambda c: c["draws"].pop("doubt"),
        lambda c: c.update(draws=[]),
    ):
        js.save(path, draws)
        cases.rewrite(path, damage)
        with pytest.raises(js.JaxscaleError, match="damaged"):
            js.load(path)


def test_doubt_is_saved_and_a_noise_is_not_dropped(simulated_fit, key, tmp_path):
    draws = js.bootstrap(simulated_fit, n=20, key=key)
    path = tmp_path / "draws.json"
    js.save(path, dataclasses.replace(draws, doubt="The chains disagree."))
    assert js.load(path).doubt == "The chains disagree."
    with pytest.raises(js.DataError, match=r'post\.save\("posterior\.nc"\)'):
        js.save(tmp_path / "other.json", dataclasses.replace(draws, noise=draws.run_noise))
    assert not (tmp_path / "other.json").exists()
