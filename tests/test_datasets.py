"""The shipped table is what it says; loaders tidy the original files."""

import cases
import numpy as np
import pandas as pd

import jaxscale as js
from jaxscale.datasets._load import tidy_chinchilla


def test_shipped_runs_are_consistent():
    frame = js.datasets.tiny_lm()
    assert len(frame) >= 40
    assert frame["run"].is_unique
    np.testing.assert_array_equal(frame.flops, 6 * frame.params * frame.tokens)
    np.testing.assert_array_equal(frame.tokens, frame.steps * frame.batch_tokens)
    np.testing.assert_array_equal(frame.params - frame.params_nonembedding, 256 * frame.width)


def test_shipped_runs_identify_the_law(key):
    runs = js.Runs.from_frame(js.datasets.tiny_lm(), N="params", D="tokens")
    fit = js.fit(js.laws.chinchilla, runs, restarts=256, key=key)
    assert fit.verdict.ok
    assert fit.restarts.hit_share > 0.99
    assert 0 < float(fit.params["E"]) < runs.loss.min()


def test_chinchilla_loader_tidies_the_original():
    raw = cases.data_path("original/svg_extracted_data.csv")
    tidy = tidy_chinchilla(pd.read_csv(raw))
    twin = pd.read_csv(cases.data_path("chinchilla_epoch.csv"))
    assert list(tidy.columns) == ["params", "tokens", "flops", "loss"]
    for ours, theirs in [("params", "params"), ("tokens", "tokens"), ("loss", "loss_nats")]:
        np.testing.assert_allclose(tidy[ours], twin[theirs], rtol=1e-12)
