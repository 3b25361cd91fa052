"""Sobol points for as many dimensions as laws have parameters; SciPy takes over beyond them.

`scipy.stats` has them, too, and needs longer to import than a fit of a few hundred runs takes.
"""

import numpy as np

_BITS = 30
# The primitive polynomial of each dimension after the first, its coefficients as bits, and the
# initial direction numbers: Joe and Kuo 2008, SIAM J. Sci. Comput. 30, 2635, criterion D(6).
_DIRECTIONS = (
    (0b11, (1,)),
    (0b111, (1, 3)),
    (0b1011, (1, 3, 1)),
    (0b1101, (1, 1, 1)),
    (0b10011, (1, 1, 3, 3)),
    (0b11001, (1, 3, 5, 13)),
    (0b100101, (1, 1, 5, 5, 17)),
    (0b101001, (1, 1, 5, 5, 5)),
    (0b101111, (1, 1, 7, 11, 19)),
    (0b110111, (1, 1, 5, 1, 1)),
    (0b111011, (1, 1, 1, 3, 11)),
    (0b111101, (1, 3, 5, 5, 31)),
    (0b1000011, (1, 3, 3, 9, 7, 49)),
    (0b1011011, (1, 1, 1, 15, 21, 21)),
    (0b1100001, (1, 3, 1, 13, 27, 49)),
    (0b1100111, (1, 1, 1, 15, 7, 5)),
    (0b1101101, (1, 3, 1, 15, 13, 25)),
    (0b1110011, (1, 1, 5, 5, 19, 61)),
    (0b10000011, (1, 3, 7, 11, 23, 15, 103)),
    (0b10001001, (1, 3, 7, 13, 13, 15, 69)),
)
MOST_DIMENSIONS = 1 + len(_DIRECTIONS)


def sobol_points(dimensions: int, depth: int, rng: np.random.Generator | None = None) -> np.ndarray:
    """The first ``2**depth`` points of a Sobol sequence in the unit cube.

    Args:
        dimensions: of the cube.
        depth: binary logarithm of the number of points, at most 30.
        rng: scrambles the points by a random lower triangular matrix of bits and a random shift
            (Matousek 1998, J. Complexity 14, 527); None for the sequence itself.

    Returns:
        Shape (points, dimensions), float64, in [0, 1).
    """
    if dimensions > MOST_DIMENSIONS:
        from scipy.stats import qmc

        return np.asarray(
            qmc.Sobol(dimensions, scramble=rng is not None, rng=rng).random_base2(depth)
        )
    bits = _direction_bits(dimensions)
    points = np.zeros((1 << depth, dimensions), np.uint32)
    if rng is not None:
        rng = rng.spawn(1)[0]  # as SciPy does, which so gives the same points
        digits = rng.integers(2, size=(dimensions, _BITS), dtype=np.uint32)
        points[0] = digits @ (1 << np.arange(_BITS))
        matrix = rng.integers(2, size=(dimensions, _BITS, _BITS), dtype=np.uint32)
        bits = (np.tril(matrix, -1) + np.eye(_BITS, dtype=np.uint32)) @ bits % 2
    directions = ((1 << np.arange(_BITS)[::-1]) @ bits).astype(np.uint32)
    for i in range(depth):  # in the order of a Gray code, whose second half mirrors the first
        half = 1 << i
        points[half : 2 * half] = points[:half][::-1] ^ directions[:, i]
    return points / 2.0**_BITS


def _direction_bits(dimensions: int) -> np.ndarray:
    """Binary digits of the direction numbers, (dimensions, digit, number), the highest first."""
    numbers = [np.ones(_BITS, np.int64)]
    for polynomial, initial in _DIRECTIONS[: dimensions - 1]:
        m, degree = list(initial), len(initial)
        for i in range(degree, _BITS):
            new = m[i - degree] ^ (m[i - degree] << degree)
            for k in range(1, degree):
                if polynomial >> (degree - k) & 1:
                    new ^= m[i - k] << k
            m.append(new)
        numbers.append(np.array(m))
    left = np.array(numbers)[:dimensions] << np.arange(_BITS)[::-1]
    return left[:, None, :] >> np.arange(_BITS)[::-1][:, None] & 1
