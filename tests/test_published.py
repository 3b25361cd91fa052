"""Published parameters: the numbers, what they derive, and what is said about them."""

import math
import re
import subprocess
import sys

import cases
import jax
import numpy as np
import pytest

import jaxscale as js
from jaxscale import laws, published

ENTRIES = [published.get(name) for name in published.names()]
DENSE = [entry for entry in ENTRIES if entry.law.family in ("power", "chinchilla", "kaplan")]


def by_name(entry):
    return entry.name


# Numbers.


@pytest.mark.parametrize("vector", cases.VECTORS, ids=lambda vector: vector.entry)
def test_entry_gives_the_test_vector(vector):
    entry = published.get(vector.entry)
    assert entry.law is laws.get(vector.law)
    assert entry.params == pytest.approx(vector.params, rel=1e-15)
    assert cases.agrees(entry(**vector.inputs), vector.value)


@pytest.mark.parametrize("case", cases.ALLOCATIONS, ids=lambda case: case.entry)
def test_derived_quantities_have_the_printed_digits(case):
    entry = published.get(case.entry)
    N = float(entry.law.optimum(case.C, **entry.params))
    D = case.C / 6 / N
    derived = {name: float(fn(**entry.params)) for name, fn in entry.law.derived}
    computed = {"N": N, "D": D, "ratio": D / N, "loss": entry(N=N, D=D), "a": derived["a"]}
    if case.G is not None:
        computed["G"] = N / (case.C / 6) ** derived["a"]
    missed = {
        name: (float(value), getattr(case, name))
        for name, value in computed.items()
        if not cases.agrees(value, getattr(case, name))
    }
    assert not missed, f"(ours, printed): {missed}"


def test_rounding_hoffmann_moves_the_optimum_by_a_fifth():
    exact, rounded = (published.get(f"hoffmann_2022{s}") for s in ("", "_rounded"))
    N = [float(e.law.optimum(5.76e23, **e.params)) for e in (exact, rounded)]
    assert N[1] / N[0] == pytest.approx(32.19 / 40.36, rel=1e-3)


@pytest.mark.parametrize("case", [c for c in cases.REFITS if c.entry], ids=lambda case: case.name)
def test_entries_are_the_points_that_are_scored_on_real_rows(case):
    assert published.get(case.entry).params == pytest.approx(case.published, rel=1e-11)


@pytest.mark.parametrize("case", cases.LADDER, ids=lambda case: case.task)
def test_ladder_entries(case):
    params = published.get(case.entry).params
    assert params == {name: float(digits) for name, digits in case.params.items()}


def test_tied_exponents_score_what_was_printed():
    runs, entry = cases.load_runs(cases.MISFITTING), published.get("li_2025_misfitting_tied")
    assert entry.params["alpha"] == entry.params["beta"]
    objective = js.LogHuber(1e-3)
    residual = objective.residual(entry(**runs.inputs), runs.loss)
    assert cases.agrees(np.sum(objective.rho(residual)), "5.24371e-3")


def test_best_learning_rates_alone_give_another_exponent():
    """As the note on the (Mis)Fitting entry says: 81 runs of the 261, one per size and tokens."""
    frame = cases.load_frame(cases.MISFITTING.file, {})
    best = frame.loc[frame.groupby(["params", "tokens"])["loss_nats"].idxmin()]
    assert len(best) == 81
    runs = js.Runs.from_frame(best, N="params", D="tokens", loss="loss_nats")
    fit = js.fit(laws.chinchilla, runs, restarts=128, key=jax.random.key(0))
    printed = {"alpha": ".138", "beta": ".670", "E": "1.398"}
    assert all(cases.agrees(fit.params[name], text) for name, text in printed.items()), fit.params
    assert cases.agrees(fit.value, "8.86e-4")


def test_rounding_of_the_replication_costs_as_much_as_its_note_says():
    runs = cases.load_runs(next(c for c in cases.REFITS if c.name == "epoch_l1"))
    objective = js.LogL1()
    totals = [
        float(np.sum(objective.rho(objective.residual(e(**runs.inputs), runs.loss))))
        for e in map(published.get, ("besiroglu_2024_l1", "besiroglu_2024"))
    ]
    assert cases.agrees(totals[0], "1.129")
    assert cases.agrees(totals[1], "1.135")


def test_scales_become_coefficients():
    """(x_c / x)^alpha at x = x_c is 1, whatever the units."""
    for name, scale in (
        ("kaplan_2020_n", 8.8e13),
        ("kaplan_2020_d", 5.4e13),
        ("kaplan_2020_c", 1.6e7),
        ("kaplan_2020_cmin", 3.1e8),
        ("henighan_2020_language_n", 1.47e14),
        ("henighan_2020_language_c", 3.47e8),
        ("henighan_2020_video_vq_c", 2.2e-5),
    ):
        entry = published.get(name)
        reducible = entry(x=scale) - entry.params.get("E", 0.0)
        assert reducible == pytest.approx(1.0, rel=1e-12), name


def test_best_use_of_compute_has_scales_and_shares_that_fit_together():
    """Kaplan's C = 6 N B S, in FLOPs at one PF-day; Henighan's N = 1 at C = C_N."""
    size, batch, steps = (
        published.get(f"kaplan_2020_optimal_{name}") for name in ("size", "batch", "steps")
    )
    exponents = [entry.params["g"] for entry in (size, batch, steps)]
    assert sum(exponents) == pytest.approx(1.0, rel=1e-12)
    # Two digits each.
    assert float(6 * size(1.0) * batch(1.0) * steps(1.0)) == pytest.approx(8.64e19, rel=0.05)
    for name, scale in (("language", 3.3e-13), ("image_vq_32", 9.4e-13), ("math", 2.3e-12)):
        best = published.get(f"henighan_2020_{name}_optimal_size")
        assert float(best(scale)) == pytest.approx(1.0, rel=1e-12)
        # "D ~ N^0.4 in every domain"
        assert 0.35 < 1 / best.params["g"] - 1 < 0.6


def test_both_approaches_to_the_vocabulary_agree():
    size, by_compute, by_size = (
        published.get(f"tao_2024_optimal_{name}")
        for name in ("size_by_compute", "vocabulary_by_compute", "vocabulary_by_size")
    )
    assert float(by_size(33e6)) == pytest.approx(4096 * 768, rel=1e-12)
    C = np.geomspace(1e19, 1e23, 5)
    # Fits of two kinds: by 8% at most.
    np.testing.assert_allclose(by_compute(C), by_size(size(C)), rtol=0.1)


def test_saturating_fits_of_the_best_loss_are_near_the_best_losses():
    config = {"config": "rw_tuned_short_const_standard_val"}
    best = cases.load_frame("porian_isoflop_optima.csv", config)
    fits = [published.get(f"porian_2024_loss_{n}_budgets") for n in ("few", "more", "most")]
    near = [
        np.abs(np.log(np.asarray(fit(x=best["flops"].to_numpy())) / best["loss_opt_nats"])).max()
        for fit in fits
    ]
    assert near[2] < 0.01
    floors = [fit.params["E"] for fit in fits]
    assert floors == sorted(floors, reverse=True)


def test_coupled_and_plain_fits_of_the_same_runs_agree_in_range():
    """Two forms fitted to one sweep give nearly the same loss in its middle."""
    for name in published.names():
        if name.startswith("brandfonbrener") and not name.endswith("_chinchilla"):
            coupled, plain = published.get(name), published.get(f"{name}_chinchilla")
            here = {"N": 3e8, "D": 6e9}
            assert coupled(**here) == pytest.approx(float(plain(**here)), rel=0.01), name


@pytest.mark.parametrize(
    "entry", [e for e in DENSE if set(e.law.inputs) <= {"N", "D", "x"}], ids=by_name
)
def test_loss_is_sensible_and_falls_with_scale(entry):
    x = next((x for unit, x in (("PF-days", 1e-3), ("FLOPs", 1e17)) if unit in entry.units), 1e8)
    small = {"N": 1e8, "D": 2e9, "x": x}
    large = {key: 10 * value for key, value in small.items()}
    at = [float(entry(**{k: p[k] for k in entry.law.inputs})) for p in (small, large)]
    assert 0 < at[1] < at[0] < 10
    assert all(math.isfinite(value) and value >= 0 for value in entry.params.values())


# What is said.


@pytest.mark.parametrize("entry", ENTRIES, ids=by_name)
def test_every_entry_says_what_it_is(entry):
    assert re.fullmatch(r"[a-z]+_20\d\d(_[a-z0-9]+)*", entry.name)
    assert isinstance(entry.law, js.Law)
    assert tuple(entry.params) == entry.law.names
    assert re.search(r"20\d\d.*, arXiv \d{4}\.\d{5}$", entry.source)
    for field in ("table", "units", "objective", "rows", "evidence"):
        assert getattr(entry, field), field
    if entry.law.predicts == "loss":
        assert "loss" in entry.units


@pytest.mark.parametrize("entry", ENTRIES, ids=by_name)
def test_no_entry_is_from_memory(entry):
    doubtful = re.compile(r"memory|recall|unverified|not verified|\bNV\b|not checked", re.I)
    assert not doubtful.search(entry.evidence)
    assert re.search(r"read in|re-fitted|re-scored", entry.evidence)


def test_points_that_are_not_optimal_say_so():
    """Where a clearly better optimum is known on the same rows, the note must say it."""
    for case in cases.REFITS:
        if case.entry and case.excess > 1e-6:
            assert re.match(r"Not (at )?the optimum", published.get(case.entry).note)


# Access.


def test_names_are_unique_and_complete():
    names = published.names()
    assert len(set(names)) == len(names)
    assert set(names) >= {"hoffmann_2022", "besiroglu_2024", "kaplan_2020_nd", "busbridge_2025"}
    assert {e.law.name for e in ENTRIES} >= {
        "power_law",
        "power_law_offset",
        "chinchilla",
        "coupled_power",
        "brandfonbrener",
        "kaplan_nd",
    }


def test_unknown_names_suggest_the_closest():
    with pytest.raises(js.LawError, match=r"called 'besiroglu_204'; did you mean besiroglu_2024"):
        published.get("besiroglu_204")
    with pytest.raises(js.LawError, match=r"published\.table"):
        published.get("zzz")


def test_calling_takes_the_inputs_in_order_or_by_name():
    entry = published.get("besiroglu_2024")
    value = entry(N=1e9, D=2e10)
    assert entry(1e9, 2e10) == value
    assert entry(1e9, D=2e10) == value
    many = entry(N=np.array([1e9, 1e10]), D=2e10)
    assert many.shape == (2,)
    # Compiled for an array and for a number, the same sum may round differently.
    np.testing.assert_allclose(many[0], value, rtol=1e-15)
    for inputs, named in (
        ((1e9,), {}),
        ((), {"N": 1e9, "x": 2e10}),
        ((1e9, 2e10), {"D": 2e10}),
        ((1e9, 2e10, 3.0), {}),
    ):
        with pytest.raises(js.LawError, match="predicts from N, D"):
            entry(*inputs, **named)


def test_entries_cannot_be_changed_by_accident():
    entry = published.get("besiroglu_2024")
    entry.params["A"] = 0.0
    assert published.get("besiroglu_2024").params["A"] == 482.01
    assert len(set(ENTRIES)) == len(ENTRIES)
    with pytest.raises(AttributeError):
        entry.name = "other"


def test_table_has_a_row_per_entry():
    table = published.table()
    assert tuple(table["name"]) == published.names()
    assert list(table.columns) == [
        "name",
        "law",
        "parameters",
        "source",
        "table",
        "units",
        "objective",
        "rows",
        "evidence",
        "note",
        "scored_on",
        "value",
        "better_value",
    ]
    row = table[table["name"] == "besiroglu_2024"].iloc[0]
    assert row["parameters"] == "E=1.8172, A=482.01, B=2085.43, alpha=0.3478, beta=0.3658"


def test_repr_names_law_and_source():
    text = repr(published.get("kaplan_2020_nd"))
    assert "kaplan_nd" in text
    assert "arXiv 2001.08361" in text


def test_importing_leaves_the_choice_of_devices_open():
    """Several processes can still be joined, and double precision asked for, after the import."""
    code = (
        "import jaxscale, jaxscale.bayes\n"
        "from jax._src import xla_bridge\n"
        "assert not xla_bridge.backends_are_initialized()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
