"""`tf.function` for programs of which every model has its own, and for those that are called often."""

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras_drmad import compat
from keras_drmad.typing import Structure


def tf_function(function: Callable[..., Any], **options: Any) -> Any:
    """`tf.function(function, autograph=False, **options)`, whose traces are counted by themselves.

    TensorFlow counts calls and traces by a function's code, those of all models together, and warns of
    retracing where some models were each compiled once. A partial has no code, and is counted alone.
    """
    return tf.function(functools.partial(function), autograph=False, **options)


class Program:
    """A `tf_function` of structures of tensors, quick to call.

    `tf.function` looks closely at each tensor at each call, which takes longer than a step of a small
    model. Here shapes and dtypes are compared; they must tell how the arguments are structured.
    """

    def __init__(self, function: Callable[..., Any], **options: Any) -> None:
        self.function = tf_function(function, **options)
        self._concrete: dict[Any, Any] = {}

    def __call__(self, *arguments: Structure) -> Any:
        if not tf.executing_eagerly():
            return self.function(*arguments)
        leaves = tf.nest.flatten(arguments)
        tensors = [leaf if tf.is_tensor(leaf) else tf.convert_to_tensor(leaf) for leaf in leaves]
        key = tuple([(tensor.shape, tensor.dtype) for tensor in tensors])
        if key not in self._concrete:
            self._concrete[key] = self.function.get_concrete_function(*arguments)
        return compat.call(self._concrete[key], tensors)
