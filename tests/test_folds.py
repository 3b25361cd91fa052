"""What is held out: the largest runs, random parts, single runs; nothing twice."""

import jax
import numpy as np
import pytest

import jaxscale as js
from jaxscale._sizes import design_codes, kept_below, sizes


@pytest.fixture
def runs():
    """Ten runs, two of almost one size, one of weight zero."""
    return js.Runs.from_arrays(
        N=np.full(10, 2.0), D=np.array([1, 2, 3, 4, 5, 6, 7, 7.03, 9, 10.0]), loss=np.ones(10) + 1,
        weight=np.array([1, 1, 0, 1, 1, 1, 1, 1, 1, 1.0]),
    )  # fmt: skip


def test_the_top_is_the_largest_runs_and_the_rest_the_others(runs):
    train, far = js.split_top(runs, by="flop", share=0.2)
    assert far.row.tolist() == [9, 10]
    assert train.row.tolist() == [1, 2, 4, 5, 6, 7, 8]
    assert js.top(runs, by="D", share=0.2).row.tolist() == far.row.tolist()
    # 4 of 9 would cut the pair of one size in two.
    assert js.top(runs, by="D", share=3 / 9).row.tolist() == [7, 8, 9, 10]
    assert js.top(runs, by=np.arange(10.0, 0, -1), share=0.1).row.tolist() == [1]
    assert len(js.top(runs, share=0.01)) == 1


def test_a_share_of_runs_is_not_rounded_up_by_round_off():
    runs = js.Runs.from_arrays(x=np.arange(1.0, 16), loss=np.ones(15))
    assert len(js.top(runs, share=0.2)) == 3


def test_unusable_splits_are_refused(runs):
    for share in (0, 1, -0.5):
        with pytest.raises(js.DataError, match="share"):
            js.top(runs, by="D", share=share)
    with pytest.raises(js.DataError, match="one size"):
        js.top(runs, by="N")
    with pytest.raises(js.DataError, match="no input 'x'"):
        js.top(runs, by="x")
    with pytest.raises(js.DataError, match="stack first"):
        js.top(js.Runs.stack({"a": runs}))
    with pytest.raises(js.DataError, match="10 positive numbers"):
        js.top(runs, by=np.ones(4))
    with pytest.raises(js.DataError, match="by='u'"):
        sizes(js.Runs.from_arrays(u=np.ones(3), v=np.ones(3), loss=np.ones(3), duplicates="keep"))


def test_every_run_is_left_out_once(runs, key):
    for folds in (js.folds.single(runs), js.folds.random(runs, 4, key=key)):
        assert folds.held.sum(axis=0).tolist() == [1, 1, 0, 1, 1, 1, 1, 1, 1, 1]
        assert (folds.held ^ folds.seen)[:, np.asarray(runs.weight) > 0].all()
    assert len(js.folds.single(runs)) == 9
    held = js.folds.random(runs, 4, key=key).held.sum(axis=1)
    assert sorted(held) == [2, 2, 2, 3]
    other = js.folds.random(runs, 4, key=jax.random.key(1))
    assert (other.held != js.folds.random(runs, 4, key=key).held).any()
    with pytest.raises(js.DataError, match="2 to 9 folds"):
        js.folds.random(runs, 10, key=key)


def test_folds_cannot_see_what_they_predict():
    with pytest.raises(js.DataError, match="cannot be predicted"):
        js.folds.Folds(("a",), np.array([[True, False]]), np.array([[True, True]]))
    with pytest.raises(js.DataError, match="shape"):
        js.folds.Folds(("a", "b"), np.ones((1, 3), bool), np.zeros((1, 3), bool))


def test_cuts_leave_enough_runs_on_both_sides(runs):
    size, weight = sizes(runs, "D"), np.asarray(runs.weight)
    kept = kept_below(size, weight, 3, None, "D")
    assert kept.sum(axis=1).tolist() == [3, 4, 5, 6, 7, 8]
    assert not kept[:, 2].any()
    assert kept_below(size, weight, 3, [4.0, 99.0], "D").sum(axis=1).tolist() == [3]
    with pytest.raises(js.DataError, match="at least 9 runs"):
        kept_below(size, weight, 9, None, "D")


def test_design_points_are_the_same_up_to_a_percent():
    tables = {
        "a": js.Runs.from_arrays(N=[10.0, 20.0], D=[1.0, 1.0], loss=[1.0, 2.0]),
        "b": js.Runs.from_arrays(N=[20.1, 10.05, 10.0], D=[1.0, 1.0, 2.0], loss=[1.0, 2.0, 3.0]),
    }
    codes = design_codes(tables, ("N", "D"))
    assert codes["a"][0] == codes["b"][1]
    assert codes["a"][1] == codes["b"][0]
    assert codes["b"][2] not in codes["a"]
