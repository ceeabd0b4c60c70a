"""`tf_function`: `tf.function` for programs of which every model has its own."""

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf


def tf_function(function: Callable[..., Any], **options: Any) -> Any:
    """`tf.function(function, autograph=False, **options)`, whose traces are counted by themselves.

    TensorFlow counts calls and traces by a function's code, those of all models together, and warns of
    retracing where some models were each compiled once. A partial has no code, and is counted alone.
    """
    return tf.function(functools.partial(function), autograph=False, **options)
