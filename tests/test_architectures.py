"""architectures(), price(), time_compute_pareto(): published shapes and closed forms."""

import dataclasses

import cases
import numpy as np
import pandas as pd
import pytest

import jaxscale as js
from jaxscale import flops, laws, published
from jaxscale._draws import Draws
from jaxscale.laws import hyperparameter, kaplan

BESIROGLU = published.get("besiroglu_2024")

# Architectures.

LLAMA_7B = {"n_layer": 32, "d_model": 4096, "d_ff": 11008, "n_head": 32, "d_key": 128}


def test_parameters_of_models_that_exist():
    """Llama 7B to the last parameter; GPT-3 and a small model of Hoffmann to printed digits."""
    assert flops.parameters(**LLAMA_7B, vocab=32_000, gated=True) == 6_738_415_616
    gpt3 = {"n_layer": 96, "d_model": 12_288, "d_ff": 4 * 12_288, "n_head": 96, "d_key": 128}
    assert cases.agrees(flops.parameters(**gpt3, vocab=50_257, tied=True) / 1e9, "175")
    # Table A9 of Hoffmann et al., who also have d_model^2 weights per layer for relative positions.
    small = {"n_layer": 8, "d_model": 512, "d_ff": 2048, "n_head": 8, "d_key": 64}
    found = flops.parameters(**small, vocab=32_000, tied=True) + 8 * 512**2
    assert cases.agrees(found / 1e6, "44")


def test_gated_layers_cost_half_as_much_again():
    shape = {**LLAMA_7B, "vocab": 32_000, "n_ctx": 2048}
    more = flops.hoffmann(1, **shape, gated=True) - flops.hoffmann(1, **shape)
    assert more == 3 * 32 * 2 * 4096 * 11008
    per_token = flops.hoffmann(1, **shape, gated=True)
    N = flops.parameters(**LLAMA_7B, vocab=32_000, gated=True)
    assert per_token / (6 * N) == pytest.approx(1.0, abs=0.15)  # attention scores on top


def test_llama_is_among_the_shapes_of_its_size():
    found = js.architectures(6.74e9, vocab=32_000, gated=True, d_ff=8 / 3, tolerance=0.01, most=99)
    table = found.frame()
    row = table[(table["d_model"] == 4096) & (table["n_layer"] == 32)]
    assert len(row) == 1
    assert row["d_ff"].iloc[0] == 10_880  # the multiple of 128 next to 8/3 of the width
    assert row["n_head"].iloc[0] == 32


@pytest.mark.parametrize("count", ["all", "nonembedding", "head"])
@pytest.mark.parametrize(("gated", "tied"), [(False, True), (True, False)])
def test_all_shapes_and_only_those(count, gated, tied):
    """Against a search of every depth and width."""
    N, vocab, how = 1e9, 50_304, {"tolerance": 0.02, "aspect": (40, 160), "most": 10_000}
    found = js.architectures(N, vocab=vocab, gated=gated, tied=tied, count=count, **how).frame()
    expected = set()
    for d_model in range(128, 12_801, 128):
        for n_layer in range(1, 320):
            shape = {"n_layer": n_layer, "d_model": d_model, "d_ff": 4 * d_model}
            total = n_layer * (4 * d_model**2 + (3 if gated else 2) * 4 * d_model**2)
            total += (2 * n_layer + 1) * d_model
            if count == "all":
                total += (1 if tied else 2) * vocab * d_model
            elif count == "head":
                total += vocab * d_model
            if abs(total / N - 1) <= 0.02 and 40 <= d_model / n_layer <= 160:
                expected.add((n_layer, d_model, shape["d_ff"], total))
    columns = ["n_layer", "d_model", "d_ff", "N"]
    assert set(found[columns].itertuples(index=False, name=None)) == expected
    assert expected
    assert (found["n_head"] * found["d_key"] == found["d_model"]).all()
    assert set(found["d_key"]) == {128}
    closeness = np.log(found["N"] / N).abs().to_numpy()
    assert (np.diff(closeness) >= 0).all()


def test_heads_and_multiples():
    found = js.architectures(3e8, vocab=32_000, multiple_of=64, head_sizes=(64, 96)).frame()
    assert (found["d_model"] % 64 == 0).all()
    assert (found["d_ff"] % 64 == 0).all()
    assert set(found["d_key"]) <= {64, 96}
    wide = found[found["d_model"] % 96 == 0]
    assert (wide["d_key"] == 96).all()


def test_counted_flops_and_losses(simulated_fit):
    found = js.architectures(
        1e9, vocab=32_000, n_ctx=4096, source=simulated_fit, flop=1e21, most=5
    ).frame()
    for row in found.itertuples():
        shape = {k: getattr(row, k) for k in ("n_layer", "d_model", "d_ff", "n_head", "d_key")}
        assert pytest.approx(1e21 / (6 * row.N)) == row.D
        assert row.flop_six_nd == pytest.approx(1e21)
        full = flops.hoffmann(row.D, **shape, n_ctx=4096, vocab=32_000)
        assert row.flop_hoffmann == pytest.approx(full)
        narrow = flops.kaplan(row.D, n_layer=row.n_layer, d_model=row.d_model, n_ctx=4096)
        assert row.flop_kaplan == pytest.approx(narrow)
        loss = float(simulated_fit.law(row.N, row.D, **simulated_fit.params))
        assert row.loss == pytest.approx(loss)
    fixed = js.architectures(1e9, vocab=32_000, D=2e10, most=1).frame()
    assert fixed["D"].tolist() == [2e10]
    assert "loss" not in fixed


def test_other_inputs_of_the_law():
    entry = published.get("muennighoff_2023_c4")
    how = {"vocab": 32_000, "D": 1e11, "most": 1}
    found = js.architectures(1e9, source=entry, fixed={"epochs": 4.0}, **how).frame()
    assert found["loss"][0] == pytest.approx(float(entry(N=found["N"][0], D=1e11, epochs=4.0)))
    with pytest.raises(js.LawError, match="also in epochs"):
        js.architectures(1e9, source=entry, **how)


@pytest.mark.parametrize(
    ("said", "how"),
    [
        ("N must be positive", {"N": 0.0}),
        ("vocab must be positive", {"vocab": -1}),
        ("no shape has", {"tolerance": 1e-9}),
        ("not both", {"D": 1e9, "flop": 1e21}),
        ("a loss needs tokens", {"source": BESIROGLU}),
        ("count must be one of", {"count": "some"}),
    ],
)
def test_architectures_that_make_no_sense(said, how):
    with pytest.raises(js.DataError, match=said):
        js.architectures(**{"N": 1e9, "vocab": 32_000, **how})


# Prices.


def test_price_by_hand():
    found = js.price(
        [1e24, 2e24], device_flops=1e15, utilization=0.4, price_per_hour=2.5, devices=8
    )
    hours = 1e24 / 4e14 / 3600
    np.testing.assert_allclose(found.device_hours, [hours, 2 * hours])
    np.testing.assert_allclose(found.days, [hours / 192, 2 * hours / 192])
    np.testing.assert_allclose(found.money, [2.5 * hours, 5 * hours])
    assert list(found.frame().columns) == ["flop", "device_hours", "days", "money"]
    free = js.price(1e24, device_flops=1e15, utilization=1.0)
    assert free.money is None
    assert "money" not in free.frame()
    assert "Price" in free._repr_html_()
    for bad in ({"utilization": 1.5}, {"utilization": 0.0}, {"device_flops": -1.0}):
        with pytest.raises(js.DataError, match=r"(utilization|device_flops) (is|must)"):
            js.price(1e24, **{"device_flops": 1e15, "utilization": 0.5, **bad})


# Batches.


def test_the_hyperbola_and_its_middle():
    found = js.time_compute_pareto(7e9, 1.4e11, critical_batch=4e6)
    S, E = found.steps / (1.4e11 / 4e6), found.tokens / 1.4e11
    np.testing.assert_allclose((S - 1) * (E - 1), 1.0, rtol=1e-12)
    np.testing.assert_allclose(found.flop, 6 * 7e9 * found.tokens)
    at = js.time_compute_pareto(7e9, 1.4e11, critical_batch=4e6, batch=4e6)
    assert float(at.tokens[0, 0]) == 2 * 1.4e11
    assert float(at.steps[0, 0]) == 2 * 1.4e11 / 4e6
    assert found.efficient.all()


def test_it_agrees_with_the_laws_of_the_catalogue():
    law = hyperparameter
    batch = np.geomspace(1e5, 1e8, 7)
    found = js.time_compute_pareto(1e9, 1e11, critical_batch=2e6, batch=batch)
    minimum = {"S_min": 1e11 / 2e6, "B_crit": 2e6}
    np.testing.assert_allclose(found.steps[0], laws.critical_batch_steps(batch, **minimum))
    np.testing.assert_allclose(law.batch_for_steps(found.steps[0], **minimum), batch, rtol=1e-9)
    np.testing.assert_allclose(kaplan.minimum_steps(found.steps[0], batch, 2e6), 1e11 / 2e6)
    least = kaplan.minimum_compute(found.flop[0], batch, 2e6)
    np.testing.assert_allclose(least, 6 * 1e9 * 1e11)


def test_kaplan_says_where_the_critical_batch_is():
    entry = published.get("kaplan_2020_critical_batch")
    found = js.time_compute_pareto(1e9, 1e11, critical_batch=entry, loss=3.0)
    assert cases.agrees(found.critical_batch[0, 0], "1122569.711")
    with pytest.raises(js.DataError, match="give loss="):
        js.time_compute_pareto(1e9, 1e11, critical_batch=entry)
    with pytest.raises(js.LawError, match=r"depends on N, D or L; .parscale. is in P"):
        js.time_compute_pareto(1e9, 1e11, critical_batch=published.get("chen_2025_parscale_pile"))


def test_time_against_compute_over_models_of_one_loss():
    """Small models take more tokens, but shorter steps: the front is what brute force leaves."""
    sizes = np.geomspace(2e9, 3e10, 9)
    rest = 2.1 - BESIROGLU.params["E"] - BESIROGLU.params["A"] * sizes ** -BESIROGLU.params["alpha"]
    D = (BESIROGLU.params["B"] / rest) ** (1 / BESIROGLU.params["beta"])
    found = js.time_compute_pareto(
        sizes, D, critical_batch=4e6, step_seconds=lambda N, B: 1 + N * B / 1e16
    )
    assert found.unit == "seconds"
    times, costs = found.time.ravel(), found.flop.ravel()
    beaten = [
        bool(((times <= t) & (costs <= c) & ((times < t) | (costs < c))).any())
        for t, c in zip(times, costs, strict=True)
    ]
    np.testing.assert_array_equal(found.efficient.ravel(), ~np.array(beaten))
    assert 0 < found.efficient.sum() < found.efficient.size
    row = found.within(float(np.median(times)))
    assert row["flop"] == costs[times <= np.median(times)].min()
    with pytest.raises(js.DataError, match="nothing is done within"):
        found.within(float(times.min()) / 2)


def test_bands_from_draws_of_the_critical_batch(key):
    """Steps to a loss at several batches: fitted, and the band holds the truth that made them."""
    rng = np.random.default_rng(0)
    B = np.geomspace(1e5, 1e8, 24)
    truth = {"S_min": 5e4, "B_crit": 2e6}
    steps = np.asarray(laws.critical_batch_steps(B, **truth)) * np.exp(0.02 * rng.normal(size=24))
    fit = js.fit(
        laws.critical_batch_steps,
        js.Runs.from_arrays(B=B, loss=steps),
        objective=js.LogGaussian(),
        restarts=32,
        key=key,
    )
    draws = js.laplace(fit, draws=2000).draws
    found = js.time_compute_pareto(1e9, 1e11, critical_batch=draws, batch=[1e6, 1e7], level=0.8)
    critical = np.asarray(draws.params["B_crit"])
    for i, batch in enumerate((1e6, 1e7)):
        tokens = 1e11 * (1 + batch / critical)
        for name, each in (("tokens", tokens), ("steps", tokens / batch)):
            band = [end[0, i] for end in found.bands[name]]
            np.testing.assert_allclose(band, np.quantile(each, [0.1, 0.9]), rtol=1e-12)
    middle = float(fit.params["B_crit"])
    assert float(found.critical_batch[0, 0]) == pytest.approx(middle)
    assert {"steps_low", "flop_high"} <= set(found.frame().columns)
    own = Draws(fit, "own", {k: v[:5] for k, v in draws.params.items()}, draws.scale[:5],
                center="median")  # fmt: skip
    median = js.time_compute_pareto(1e9, 1e11, critical_batch=own).critical_batch[0, 0]
    assert float(median) == pytest.approx(np.median(critical[:5]))


def test_the_band_of_steps_holds_as_often_as_it_says(key):
    """60 data sets of a known law: the 80% bands hold in 37 to 58, which chance leaves in 1e-3."""
    B, truth = np.geomspace(1e5, 1e8, 24), {"S_min": 5e4, "B_crit": 2e6}
    mean = np.asarray(laws.critical_batch_steps(B, **truth))
    rng = np.random.default_rng(7)
    sets = {
        str(i): js.Runs.from_arrays(B=B, loss=mean * np.exp(0.02 * rng.normal(size=24)))
        for i in range(60)
    }
    fits = js.fit(
        laws.critical_batch_steps, js.Runs.stack(sets), objective=js.LogGaussian(), restarts=32,
        key=key,
    )  # fmt: skip
    held = 0
    for fit in fits:
        draws = js.laplace(fit, draws=500)
        found = js.time_compute_pareto(1e9, 1e11, critical_batch=draws, batch=2e6, level=0.8)
        low, high = found.bands["steps"]
        held += bool(low[0, 0] < 1e11 * 2 / 2e6 < high[0, 0])
    assert 37 <= held <= 58, held


def test_batches_that_make_no_sense():
    for name, how in (
        ("N", {"N": 0.0}),
        ("D", {"D": np.nan}),
        ("critical_batch", {"critical_batch": -1.0}),
        ("batch", {"batch": [0.0]}),
        ("step_seconds", {"step_seconds": -1.0}),
    ):
        about = {"N": 1e9, "D": 1e10, "critical_batch": 1e6, **how}
        with pytest.raises(js.DataError, match=f"{name} must be positive"):
            js.time_compute_pareto(**about)


def test_texts():
    found = js.time_compute_pareto(7e9, 1.4e11, critical_batch=4e6, batch=[1e6])
    assert "Time against compute" in found._repr_html_()
    assert isinstance(found.frame(), pd.DataFrame)
    shapes = js.architectures(1e9, vocab=32_000)
    assert "Architectures near N = 1e+09" in shapes._repr_html_()
    assert len(shapes) == len(shapes.frame())
    assert dataclasses.is_dataclass(shapes)
