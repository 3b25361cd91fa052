"""Clusters are found where they are, and a shared residual is told from chance."""

import jax
import numpy as np
import pytest
from scipy.stats import f_oneway

import jaxscale as js
from jaxscale._clusters import cluster_codes, demanded_clusters, icc


@js.law(a=js.real(-1.0, 2.0), b=js.real(-1.0, 1.0))
def log_line(x, *, a, b):
    """log L = a + b log x."""
    return jax.numpy.exp(a + b * jax.numpy.log(x))


def grouped_runs(share, groups=30, size=5, seed=0):
    """Runs of which a cluster shares `share` of the residual variance."""
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(groups), size)
    noise = np.sqrt(share) * rng.normal(size=groups)[codes]
    noise += np.sqrt(1 - share) * rng.normal(size=groups * size)
    x = np.exp(rng.uniform(0, 3, groups * size))
    return js.Runs.from_arrays(x=x, loss=np.exp(1 - 0.2 * np.log(x) + 0.02 * noise), cluster=codes)


@pytest.fixture(scope="module")
def grouped_fit(key):
    runs = grouped_runs(0.4)
    return js.fit(log_line, runs, objective=js.LogGaussian(), restarts=16, key=key)


@pytest.fixture
def table():
    return js.Runs.from_arrays(
        N=[1e8, 3e8, 1.001e8, 3.002e8, 1.0005e8],
        D=[1e9, 2e9, 3e9, 4e9, 5e9],
        loss=[3.0, 2.5, 2.8, 2.4, 2.7],
        cluster=["b", "a", "a", "b", "c"],
    )


def test_values_of_an_input_within_one_percent_are_one_cluster(table):
    assert cluster_codes(table, "N").tolist() == [0, 1, 0, 1, 0]
    assert cluster_codes(table, "D").tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("name", ["C", "flop"])
def test_budgets_are_six_n_d(name):
    runs = js.Runs.from_arrays(N=[1e8, 2e8, 1e8], D=[2e9, 1e9, 9e9], loss=[3.0, 3.1, 2.9])
    assert cluster_codes(runs, name).tolist() == [0, 0, 1]


def test_labels_carried_or_given(table):
    assert cluster_codes(table).tolist() == [1, 0, 0, 1, 2]
    assert cluster_codes(table, "cluster").tolist() == [1, 0, 0, 1, 2]
    assert cluster_codes(table, ["x", "x", "y", "y", "y"]).tolist() == [0, 0, 1, 1, 1]
    assert cluster_codes(table, np.array([2.5, 1, 1, 1, 1])).tolist() == [1, 0, 0, 0, 0]


def test_refusals(table, simulated):
    with pytest.raises(js.DataError, match="no input 'P' to cluster by; there are N, D"):
        cluster_codes(table, "P")
    with pytest.raises(js.DataError, match="5 runs need as many cluster labels"):
        cluster_codes(table, [1, 2])
    with pytest.raises(js.DataError, match="one cluster"):
        cluster_codes(table, np.ones(5))
    with pytest.raises(js.DataError, match="carry no cluster labels"):
        cluster_codes(simulated[0])
    with pytest.raises(js.DataError, match="choose one data set"):
        cluster_codes(js.Runs.stack({"a": table, "b": table}), "N")


def test_padding_makes_no_cluster():
    runs = js.Runs.from_arrays(
        N=[1e8, 1e8, 5e8], D=[1e9, 2e9, 1e9], loss=[3.0, 2.9, 2.8], weight=[1.0, 1.0, 0.0]
    )
    with pytest.raises(js.DataError, match="one cluster"):
        cluster_codes(runs, "N")


def test_icc_of_equal_clusters_is_the_textbook_one(grouped_fit):
    r = np.asarray(grouped_fit.residuals()).reshape(30, 5)
    found = icc(grouped_fit)
    F, p = f_oneway(*r)
    assert found.statistic == pytest.approx(F, rel=1e-10)
    assert found.p_value == pytest.approx(p, rel=1e-8)
    assert found.icc == pytest.approx((F - 1) / (F - 1 + 5), rel=1e-10)
    assert (found.clusters, found.n, found.size) == (30, 150, 5.0)
    assert 0.2 < found.icc < 0.6
    assert not found.ok
    assert "use intervals that resample clusters" in repr(found)


def test_icc_of_unequal_clusters(grouped_fit):
    labels = np.repeat(np.arange(6), [5, 10, 15, 30, 40, 50])
    r = np.asarray(grouped_fit.residuals())
    F, p = f_oneway(*(r[labels == g] for g in range(6)))
    found = icc(grouped_fit, labels)
    assert found.statistic == pytest.approx(F, rel=1e-10)
    assert found.p_value == pytest.approx(p, rel=1e-8)
    sizes = np.bincount(labels)
    n0 = (150 - (sizes**2).sum() / 150) / 5
    assert found.icc == pytest.approx((F - 1) / (F - 1 + n0), rel=1e-10)


def test_independent_runs_are_left_alone(grouped_fit, key):
    labels = np.random.default_rng(1).permutation(np.repeat(np.arange(30), 5))
    found = icc(grouped_fit, labels)
    assert found.ok
    assert "no more alike than chance" in found.sentence
    permuted = icc(grouped_fit, labels, key=key, permutations=500)
    assert permuted.p_value == pytest.approx(found.p_value, abs=0.1)
    assert permuted == icc(grouped_fit, labels, key=key, permutations=500)


def test_icc_needs_a_cluster_with_two_runs(grouped_fit):
    with pytest.raises(js.DataError, match="has one run"):
        icc(grouped_fit, np.arange(150))


@pytest.mark.parametrize(("exact", "value", "clusters"), [(False, 0.153, 41), (True, 0.186, 140)])
def test_model_sizes_of_the_replication_share_residuals(chinchilla_fit, exact, value, clusters):
    """0.15 for sizes equal to 1%; 0.19 for sizes equal to the last digit read off the figure."""
    by = chinchilla_fit.runs.inputs["N"] if exact else "N"
    found = icc(chinchilla_fit, by)
    assert found.icc == pytest.approx(value, abs=0.001)
    assert found.clusters == clusters
    assert not found.ok


def test_inputs_that_may_be_zero_are_clusters_of_equal_values(key):
    """Three runs at each of twelve values, zero among them; a shared residual is found."""
    rng = np.random.default_rng(4)
    D = np.repeat(np.array([0.0, *np.geomspace(1e2, 1e6, 11)]), 3)
    shared = np.repeat(0.03 * rng.normal(size=12), 3)
    law, truth = js.laws.rectified_finetuning, {"E": 1.2, "drop": 1.5, "D0": 9e3, "beta": 0.6}
    clean = np.asarray(law(D, **truth))
    for extra, found in ((shared, True), (0.0, False)):
        loss = clean * np.exp(extra + 0.005 * rng.normal(size=36))
        runs = js.Runs.from_arrays(D=D, loss=loss, duplicates="keep")
        fit = js.fit(law, runs, objective=js.LogGaussian(), restarts=32, key=key)
        demand = demanded_clusters(fit)
        assert (demand is not None) == found
        assert demand is None or demand.by == "D"


def test_scores_of_outcomes_are_no_residuals(key):
    """Equal counts have equal scores, which is not dependence."""
    k = np.random.default_rng(0).binomial(20, 0.3, 60).astype(float)
    runs = js.Runs.from_arrays(successes=k, failures=20 - k, loss=np.ones(60), duplicates="keep")
    fit = js.fit(js.laws.beta_binomial, runs, objective=js.LogScore(), restarts=16, key=key)
    assert demanded_clusters(fit) is None
