"""What a reverse pass finds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from keras_drmad.engine.programs import Adjoint
from keras_drmad.hyperparameters.groups import Slice
from keras_drmad.typing import Tensor, Tensors

# Where the adjoint of the weights grew more than this on the way back, training was chaotic or the
# path left the region where it was stable. Healthy runs stay below 10.
GROWTH_LIMIT = 100.0


@dataclass
class Derivatives:
    """The result of a reverse pass, still as tensors."""

    validation_loss: float
    adjoint: Adjoint
    growth: float
    finite: bool
    undone: bool = False  # of a path that undoes training: whether it came back to its start


def by_init_scales(
    scales: Tensor, slices: Sequence[Slice | None], weights: Tensors, adjoint: Tensors
) -> Tensor:
    """w_0 is a scale times what the initializer gave: ∂L/∂scale = ⟨∂L/∂w_0, w_0⟩ / scale."""
    products = np.zeros(scales.shape)
    for w, dw, s in zip(weights, adjoint, slices, strict=True):
        if s is not None:
            products[s.start] = tf.reduce_sum(dw * w)
    return tf.constant(products, scales.dtype) / scales
