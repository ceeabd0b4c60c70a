"""Many tensors as one vector of each dtype: fewer operations to copy, to stack and to compile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import keras
import tensorflow as tf

from keras_drmad.typing import Tensor, Tensors

Vectors: TypeAlias = dict[str, Tensor]  # one of each dtype


class Flat:
    """Packs lists of tensors into vectors, and takes them out again.

    Args:
        like: what has the shapes and dtypes of the tensors, in their order.
    """

    def __init__(self, like: Sequence[keras.Variable]) -> None:
        self._shapes = [tuple(v.shape) for v in like]
        self._dtypes = [tf.as_dtype(v.dtype).name for v in like]

    def pack(self, tensors: Tensors) -> Vectors:
        """The vectors of tensors in the order of `like`."""
        parts: dict[str, Tensors] = {}
        for dtype, tensor in zip(self._dtypes, tensors, strict=True):
            parts.setdefault(dtype, []).append(tf.reshape(tensor, (-1,)))
        return {dtype: keras.ops.concatenate(of) for dtype, of in parts.items()}

    def unpack(self, vectors: Vectors) -> Tensors:
        """The tensors of vectors."""
        found, starts = [], dict.fromkeys(vectors, 0)
        for shape, dtype in zip(self._shapes, self._dtypes, strict=True):
            size = tf.TensorShape(shape).num_elements()
            start = starts[dtype]
            found.append(tf.reshape(vectors[dtype][start : start + size], shape))
            starts[dtype] += size
        return found
