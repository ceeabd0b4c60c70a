"""Momentum SGD in fixed-point integers, undone bit for bit.

Weights and velocities are int64 multiples of 2⁻⁴⁸. Adding is exact, and so is undone exactly. What
loses information is the product of the velocity with a momentum below 1: a rational μ = n / d takes d
neighbouring velocities to n. The lost digit goes into an *information buffer*, one integer a weight,
from which the way back reads it again (Maclaurin et al. 2015, algorithm 3):

    multiply:  b ← b·d + v mod d;  v ← ⌊v / d⌋·n + b mod n;  b ← ⌊b / n⌋
    undo:      b ← b·n + v mod n;  v ← ⌊v / n⌋·d + b mod d;  b ← ⌊b / d⌋

The buffer grows by log₂(1/μ) bits a step, the same for all weights of one μ. So it is known without
looking when its lower 32 bits must be set aside (`flush`), and the words come back in order.

Adding is exact only while nothing overflows. `LARGEST` leaves so much room that a number which leaves
the range is still beyond it after an overflow, so that looking once a step is enough (`fits`). The
unit is then NaN, and with it every number that is decoded from there on.
"""

import functools
import math
from collections.abc import Sequence
from fractions import Fraction

import tensorflow as tf

from keras_drmad.typing import Tensor, Tensors

UNIT = 2.0**-48
# The bound of weights, velocities and pushes. In one step a weight moves by less than two bounds,
# and three bounds wrap around to no less than one: 2⁶⁴ − 3 · 2⁶² = 2⁶².
LARGEST = 2.0**14
LARGEST_DENOMINATOR = 2**15  # so that b·d fits into 63 bits while b < 2⁴⁷
WORD_BITS = 32
GROWTH_BITS = 15  # between two looks at the bound


def rational(momentum: float) -> Fraction:
    """The nearest fraction of a momentum that the buffer can hold."""
    return Fraction(momentum).limit_denominator(LARGEST_DENOMINATOR)


def longest_segment(momenta: Sequence[float]) -> int:
    """Steps in which no buffer grows by more than `GROWTH_BITS`."""
    bits = max(-math.log2(rational(m)) if m < 1 else 0.0 for m in momenta)
    return max(int(GROWTH_BITS / max(bits, 1e-3)) - 1, 1)


@functools.cache
def flushes(lengths: tuple[int, ...], momentum: float) -> list[bool]:
    """For each of a tuple of segment lengths, whether a word is set aside at the segment's end."""
    fraction = rational(momentum)
    n, d = fraction.numerator, fraction.denominator
    bound, schedule = 0, []  # the largest value that the buffer can have
    for length in lengths:
        for _ in range(length):
            bound = (bound * d + d - 1) // n
        schedule.append(bound >= 2**WORD_BITS)
        if schedule[-1]:
            bound >>= WORD_BITS
    return schedule


def encode(values: Tensors) -> Tensors:
    """Floats to fixed point."""
    # float16 does not reach as far as 2⁴⁸.
    wide = [tf.cast(v, "float32") if v.dtype.size < 4 else v for v in values]
    return [tf.cast(tf.round(v * tf.cast(1 / UNIT, v.dtype)), tf.int64) for v in wide]


def decode(integers: Tensors, dtypes: Sequence[str], unit: Tensor | float = UNIT) -> Tensors:
    """Fixed point to floats."""
    return [tf.cast(tf.cast(i, "float64") * unit, d) for i, d in zip(integers, dtypes, strict=True)]


def fits(*values: Tensors) -> Tensor:
    """Whether all numbers of lists of floats, alike in shapes, are within the range; NaN is not."""
    inside = [[tf.abs(v) < LARGEST for v in alike] for alike in zip(*values, strict=True)]
    together = [tf.reduce_all(functools.reduce(tf.logical_and, alike)) for alike in inside]
    return tf.reduce_all(together)


def multiply(velocity: Tensor, buffer: Tensor, n: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """`(velocity · n/d, buffer)`, invertible by `undo`."""
    quotient = tf.math.floordiv(velocity, d)
    buffer = buffer * d + (velocity - quotient * d)
    kept = buffer // n
    return quotient * n + (buffer - kept * n), kept


def undo(velocity: Tensor, buffer: Tensor, n: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """The `(velocity, buffer)` of which `multiply` made these."""
    return multiply(velocity, buffer, d, n)


def flush(buffer: Tensor) -> tuple[Tensor, Tensor]:
    """`(buffer, word)`: the lower bits set aside."""
    return tf.bitwise.right_shift(buffer, WORD_BITS), tf.cast(
        buffer & (2**WORD_BITS - 1), tf.uint32
    )


def unflush(buffer: Tensor, word: Tensor) -> Tensor:
    """The buffer before `flush`."""
    return tf.bitwise.left_shift(buffer, tf.constant(WORD_BITS, tf.int64)) | tf.cast(word, tf.int64)
