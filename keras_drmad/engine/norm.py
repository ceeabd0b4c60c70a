"""The norm of a list of tensors, of any floating dtypes side by side."""

import tensorflow as tf

from keras_drmad.typing import Tensor, Tensors


def global_norm(tensors: Tensors) -> Tensor:
    """‖(a, b, …)‖, in float64 if one of them is, else in float32.

    Squares of half precision overflow early, and `tf.linalg.global_norm` takes no mixture of dtypes.
    """
    wide = "float64" if any(t.dtype == tf.float64 for t in tensors) else "float32"
    halves = [tf.nn.l2_loss(tf.cast(t, wide)) for t in tensors]
    return tf.sqrt(tf.reduce_sum(tf.stack(halves)) * tf.constant(2.0, wide))
