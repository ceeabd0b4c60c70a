"""How a model is trained again from scratch, while its programs stay compiled."""

from collections.abc import Callable

import keras
import tensorflow as tf

from keras_drmad import compat
from keras_drmad.data import as_arguments
from keras_drmad.typing import Structure


class Retraining:
    """A compiled model that begins anew again and again.

    A new model is made each time. Its weights and the state of its optimizer are copied into the
    first one, whose compiled programs go on reading the same variables.

    Args:
        model: the compiled model. It is built here, if it is not.
        build: returns another model like it, with new initial weights.
        example: a batch of training data.
    """

    def __init__(
        self, model: keras.Model, build: Callable[[], keras.Model], example: Structure
    ) -> None:
        self.model, self._build = model, build
        self._x = as_arguments(example)[0]
        if not model.built:
            self._build_by_call(model)

    def restart(self, seed: int) -> None:
        """New initial weights, and an optimizer that has taken no step.

        Python's, NumPy's and Keras's global generators are seeded, TensorFlow's is not.

        Args:
            seed: of everything random.

        Raises:
            ValueError: `build` returns what it has returned before, or a part of it.
        """
        # Within a graph this leaves TensorFlow's own seed as it is: after a new one all functions are
        # prepared anew, which takes longer than a small model's training and is never given back
        # (TensorFlow 2.21).
        with tf.Graph().as_default():
            keras.utils.set_random_seed(seed)
        new = self._new()
        _copy(new.variables, self.model.variables)
        for model in (self.model, new):
            if not model.optimizer.built:
                with model.distribute_strategy.scope():
                    model.optimizer.build(model.trainable_variables)
        _copy(new.optimizer.variables, self.model.optimizer.variables)
        for layer in compat.all_layers(self.model):
            if getattr(layer, "stateful", False) and hasattr(layer, "reset_states"):
                layer.reset_states()  # which are no variables of the model

    def _new(self) -> keras.Model:
        """Another model, built, which shares nothing that is trained with the first one."""
        new, model = self._build(), self.model
        if new is model or _inner(new.optimizer) is _inner(model.optimizer):
            raise ValueError(
                "The hypermodel must return a new model each time, with a new optimizer. Received: the "
                "same again"
            )
        if not new.built:
            with new.distribute_strategy.scope():
                new.build_from_config(model.get_build_config())
            if len(new.variables) != len(model.variables):  # some cannot be built so
                self._build_by_call(new)
        trained = {id(variable) for variable in model.trainable_variables}
        if trained & {id(variable) for variable in new.trainable_variables}:
            raise ValueError(
                "The hypermodel must return a new model each time: what it trains must be made in it, "
                "not outside."
            )
        return new

    def _build_by_call(self, model: keras.Model) -> None:
        with model.distribute_strategy.scope():  # `fit` would, but weights are set before
            model(self._x)


def _inner(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """What a loss scale is wrapped around, which `compile` does by itself in float16."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def _copy(variables: list[keras.Variable], into: list[keras.Variable]) -> None:
    for own, other in zip(into, variables, strict=True):
        own.assign(other.numpy())
