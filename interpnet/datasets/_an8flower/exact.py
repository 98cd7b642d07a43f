"""Arithmetic that has the same bits on every machine: random draws, angles, small vectors.

Additions, products, quotients and square roots are exact to the last bit wherever IEEE 754 holds; library sines and
matrix products are not. So angles are polynomials here, dot products are written out, and random numbers are the raw
words of a generator whose stream numpy guarantees.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np

from interpnet.support.types import Bytes, Float32

Vector = tuple[float, float, float]
_TAU = 6.283185307179586


class Draws:
    """Uniform numbers fixed by a list of names, such as ``Draws("plant", 3)``."""

    def __init__(self, *names: object) -> None:
        digest = hashlib.sha256("\0".join(str(name) for name in names).encode()).digest()
        self._bits = np.random.PCG64(int.from_bytes(digest[:16], "little"))

    def uniform(self, low: float, high: float) -> float:
        """Return a number in [low, high)."""
        # The upper 53 bits of a word over 2^53: numpy guarantees its raw words, not what its samplers make of them.
        return low + (high - low) * ((int(self._bits.random_raw()) >> 11) / 9007199254740992.0)

    def below(self, n: int) -> int:
        """Return a whole number of 0 to n - 1."""
        # The upper half of the product, with no bias that could be seen; a remainder would favour low numbers.
        return int(self._bits.random_raw()) * n >> 64

    def bytes(self, n: int) -> Bytes:
        """Return n random bytes, the same on machines of either byte order."""
        words = self._bits.random_raw((n + 7) // 8).astype("<u8", copy=False)
        return words.view(np.uint8)[:n]


def vectors(text: str) -> tuple[Vector, ...]:
    """Return a table of vectors: numbers split by spaces, vectors by commas."""
    rows = [[float(number) for number in row.split()] for row in text.split(",")]
    return tuple((x, y, z) for x, y, z in rows)


def clamped(values: np.ndarray, low: float, high: float) -> Float32:
    """Return the values, at least ``low`` and at most ``high``."""
    inside: Float32 = np.minimum(np.maximum(values, low), high)
    return inside


def sincos(turns: float) -> tuple[float, float]:
    """Return sine and cosine of an angle in turns (1 is 360 degrees), to about 1e-15.

    The angle is brought to within an eighth of a turn of a multiple of a quarter; Taylor's polynomials do the rest.

    Examples
    --------
    >>> [round(x, 12) for x in sincos(1 / 12)]
    [0.5, 0.866025403784]
    """
    quarter = math.floor(4.0 * turns + 0.5)
    a = (turns - quarter / 4.0) * _TAU
    b = a * a
    # Horner's scheme of sin(a) / a and cos(a) in a^2: each factor is b / ((2 k) (2 k + 1)), or b / ((2 k - 1) (2 k)).
    s = a * (1 - b / 6 * (1 - b / 20 * (1 - b / 42 * (1 - b / 72 * (1 - b / 110 * (1 - b / 156 * (1 - b / 210)))))))
    c = 1 - b / 2 * (
        1 - b / 12 * (1 - b / 30 * (1 - b / 56 * (1 - b / 90 * (1 - b / 132 * (1 - b / 182 * (1 - b / 240))))))
    )
    return ((s, c), (c, -s), (-s, -c), (-c, s))[quarter % 4]


def dot(a: Vector, b: Vector) -> float:
    """Return the inner product of two vectors, summed from the left."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def cross(a: Vector, b: Vector) -> Vector:
    """Return the vector product."""
    return (a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0])


def mix(*terms: tuple[float, Vector]) -> Vector:
    """Return the sum of ``factor * vector`` over the terms, summed from the left."""
    x = y = z = 0.0
    for factor, (a, b, c) in terms:
        x += factor * a
        y += factor * b
        z += factor * c
    return (x, y, z)


def unit(a: Vector) -> Vector:
    """Return the vector scaled to length one."""
    length = math.sqrt(dot(a, a))
    return (a[0] / length, a[1] / length, a[2] / length)
