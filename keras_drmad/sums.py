"""Sums over whole tensors, written so that compiled programs take them in one fast pass."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from keras_drmad.devices import only_cpus
from keras_drmad.typing import Tensor, Tensors

# On a CPU, XLA sums up a large tensor number by number, in windows of 32: five times as long as a
# product with a matrix takes. Rows are cut to a length at which rounding does not add up.
LEAST_SIZE, LEAST_ROWS, ROW = 512, 8, 1024


def total(tensor: Tensor) -> Tensor:
    """The sum of all entries, a scalar."""
    size = tensor.shape.num_elements()
    is_wide = tensor.dtype in (tf.float32, tf.float64)  # sums of others are taken in float32
    if size is None or size < LEAST_SIZE or not is_wide or not only_cpus():
        return tf.reduce_sum(tensor)
    rows = max(LEAST_ROWS, size // ROW)
    row = size // rows
    flat = tf.reshape(tensor, [-1])
    parts = tf.linalg.matvec(tf.reshape(flat[: rows * row], (rows, row)), tf.ones(row, flat.dtype))
    return tf.reduce_sum(tf.concat([parts, flat[rows * row :]], axis=0))


def inner(a: Tensors, b: Tensors) -> Tensor:
    """The inner product of two lists of tensors, in float64 if one of them is, else in float32."""
    terms = [total(p * q) for p, q in zip(a, b, strict=True)]
    wide = "float64" if any(t.dtype == tf.float64 for t in terms) else "float32"
    return tf.add_n([tf.cast(t, wide) for t in terms])


def norm(tensors: Tensors) -> Tensor:
    """‖(a, b, …)‖, in float64 if one of them is, else in float32.

    Squares of half precision overflow early, and `tf.linalg.global_norm` takes no mixture of dtypes.
    """
    wide = "float64" if any(t.dtype == tf.float64 for t in tensors) else "float32"
    return tf.sqrt(tf.add_n([total(tf.square(tf.cast(t, wide))) for t in tensors]))


@tf.custom_gradient
def scaled(tensor: Tensor, by: Tensor) -> tuple[Tensor, Callable[[Tensor], tuple[Tensor, Tensor]]]:
    """`tensor * by`, of which the derivative by a scalar is a `total`."""

    def backward(upstream: Tensor) -> tuple[Tensor, Tensor]:
        by_factor = upstream * tensor
        if by.shape.rank == 0:
            return upstream * by, total(by_factor)
        axes = [axis for axis, size in enumerate(by.shape) if size == 1]
        return upstream * by, tf.reduce_sum(by_factor, axes, keepdims=True)

    return tensor * by, backward
