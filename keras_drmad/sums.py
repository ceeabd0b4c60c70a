"""Sums over whole tensors, written so that compiled programs take them in one fast pass."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from keras_drmad import compat
from keras_drmad.devices import only_cpus
from keras_drmad.typing import Tensor, Tensors

# On a CPU, XLA sums up a tensor of more than 32 entries one by one, in windows of 32. A product with
# ones takes a fifth of the time. Its rows are short enough for rounding not to add up.
WINDOW, LEAST_ROWS, ROW = 32, 8, 4096


def total(tensor: Tensor) -> Tensor:
    """The sum of all entries, a scalar."""
    size = tensor.shape.num_elements()
    is_wide = tensor.dtype in (tf.float32, tf.float64)  # sums of others are taken in float32
    rows = _rows(size) if size and is_wide and only_cpus() else None
    if rows is None:
        return tf.reduce_sum(tensor)
    table = tf.reshape(tensor, (rows, -1))
    return tf.reduce_sum(tf.linalg.matvec(table, tf.ones(table.shape[1], table.dtype)))


def _rows(size: int) -> int | None:
    """Into how many rows so many entries are cut; None if they do not divide well."""
    if size <= WINDOW:
        return None
    least = max(LEAST_ROWS, size // ROW)
    return next((rows for rows in range(least, 4 * least) if size % rows == 0), None)


def inner(a: Tensors, b: Tensors) -> Tensor:
    """The inner product of two lists of tensors, in float64 if one of them is, else in float32.

    Products of half precision overflow early, and `tf.linalg.global_norm` takes no mixture of dtypes.
    """
    wide = "float64" if any(t.dtype == tf.float64 for t in (*a, *b)) else "float32"
    pairs = zip(a, b, strict=True)
    return tf.add_n([total(tf.cast(p, wide) * tf.cast(q, wide)) for p, q in pairs])


def norm(tensors: Tensors) -> Tensor:
    """‖(a, b, …)‖, in float64 if one of them is, else in float32."""
    return tf.sqrt(inner(tensors, tensors))


@compat.custom_gradient
def scaled(tensor: Tensor, by: Tensor) -> tuple[Tensor, Callable[[Tensor], tuple[Tensor, Tensor]]]:
    """`tensor * by`, of which the derivative by a scalar is a `total`."""

    def backward(upstream: Tensor) -> tuple[Tensor, Tensor]:
        by_factor = upstream * tensor
        if by.shape.rank == 0:
            return upstream * by, total(by_factor)
        axes = [axis for axis, size in enumerate(by.shape) if size == 1]
        return upstream * by, tf.reduce_sum(by_factor, axes, keepdims=True)

    return tensor * by, backward
