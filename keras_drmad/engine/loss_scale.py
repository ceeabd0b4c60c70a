"""The loss scale of half precision: fixed, or followed step by step as Keras moves it."""

from __future__ import annotations

import keras
import tensorflow as tf

from keras_drmad.optimizers.learnable import learnable_optimizer
from keras_drmad.typing import Tensor, Tensors


class FixedScale:
    """Losses are multiplied by `factor` before they are differentiated, and gradients divided after.

    Args:
        factor: a number.
    """

    is_dynamic = False

    def __init__(self, factor: float) -> None:
        self.factor = factor
        self.variables: list[keras.Variable] = []


class DynamicScale:
    """The scale of a `keras.optimizers.LossScaleOptimizer`.

    A step whose gradients are not all finite is left out, and the scale is halved; after so many
    finite ones in a row it is doubled.

    Args:
        optimizer: the wrapper, built.
    """

    is_dynamic = True
    factor = 1.0  # of nothing: the scale is an argument

    def __init__(self, optimizer: keras.optimizers.LossScaleOptimizer) -> None:
        self._growth_steps = optimizer.dynamic_growth_steps
        self.variables: list[keras.Variable] = [optimizer.dynamic_scale, optimizer.step_counter]

    def after(self, values: Tensors, finite: Tensor) -> Tensors:
        """`[scale, finite steps in a row]` after a step."""
        scale, counter = values
        full = tf.equal(counter, self._growth_steps - 1)
        moved = tf.where(finite, tf.where(full, scale * 2.0, scale), scale * 0.5)
        zero = tf.zeros_like(counter)
        return [moved, tf.where(finite & ~full, counter + 1, zero)]


def of(model: keras.Model) -> FixedScale | DynamicScale:
    """The loss scale that a compiled, built model trains with."""
    if isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer):
        return DynamicScale(model.optimizer)
    return FixedScale(float(learnable_optimizer(model).loss_scale_factor or 1.0))


def all_finite(gradients: Tensors) -> Tensor:
    """Whether all entries of all gradients are."""
    return tf.reduce_all(tf.stack([tf.reduce_all(tf.math.is_finite(g)) for g in gradients]))
