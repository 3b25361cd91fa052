"""Sobol points against SciPy's, and the second that they save."""

import subprocess
import sys

import numpy as np
import pytest
from scipy.stats import qmc

from jaxscale._sobol import MOST_DIMENSIONS, sobol_points


@pytest.mark.parametrize("dimensions", [1, 2, 6, MOST_DIMENSIONS, MOST_DIMENSIONS + 3])
def test_points_are_those_of_scipy(dimensions):
    ours = sobol_points(dimensions, 10)
    theirs = qmc.Sobol(dimensions, scramble=False).random_base2(10)
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("depth", [0, 1, 8, 12])
def test_scrambled_points_fill_every_slice_once(depth):
    n, dimensions = 1 << depth, MOST_DIMENSIONS
    points = sobol_points(dimensions, depth, np.random.default_rng(3))
    assert points.shape == (n, dimensions)
    for column in points.T:  # a property of every digital net: one point in each interval 1 / n
        np.testing.assert_array_equal(np.sort(np.floor(column * n)), np.arange(n))
    # the first two dimensions are one in base 2: every box of area 1 / n holds one point
    for k in range(depth + 1):
        box = np.floor(points[:, :2] * [1 << k, n >> k])
        assert len(np.unique(box, axis=0)) == n


def test_scrambling_depends_on_the_generator_alone():
    one, again, other = (sobol_points(5, 6, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert not np.isclose(one, other).any()
    mean = np.mean([sobol_points(5, 2, np.random.default_rng(i)) for i in range(400)], axis=0)
    # unbiased: each of the four points is uniform over the seeds; 20 means, 5 standard errors
    assert abs(mean - 0.5).max() < 5 / np.sqrt(12 * 400)


def test_importing_jaxscale_spares_the_seconds_that_scipy_takes():
    code = (
        "import sys, jaxscale; from jaxscale import plot\n"
        "loaded = {'scipy.stats', 'scipy.optimize'} & set(sys.modules)\n"
        "assert not loaded, loaded"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
