"""`ScheduleProgram`: a learning rate schedule at many steps, in one compiled call."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from keras_drmad.typing import Tensor


class ScheduleProgram:
    """Calls a schedule as Keras does: in a graph, with the variable that counts steps.

    Of Keras's own schedules the values are those of `fit`. An optimizer that holds a program in
    an attribute does not save it: Keras tracks only its own and TensorFlow's objects.

    Args:
        schedule: a `keras.optimizers.schedules.LearningRateSchedule`.
        counter: the variable that Keras calls it with. It is not written.

    Raises:
        ValueError: the schedule cannot be compiled.
    """

    def __init__(
        self, schedule: keras.optimizers.schedules.LearningRateSchedule, counter: keras.Variable
    ) -> None:
        self.schedule = schedule
        step_type = tf.as_dtype(counter.dtype)

        def rate(step: Tensor) -> Tensor:
            with keras.StatelessScope(state_mapping=[(counter, tf.cast(step, step_type))]):
                at = tf.cast(keras.ops.convert_to_tensor(schedule(counter)), tf.float64)
            return tf.reshape(at, ())

        # Not by `tf.map_fn`: after an error in it, no scope of a strategy can be entered any more.
        def over(first: Tensor, count: Tensor) -> Tensor:
            rates = tf.TensorArray(tf.float64, count, element_shape=())
            return tf.while_loop(
                lambda i, _: i < count,
                lambda i, rates: (i + 1, rates.write(i, rate(first + tf.cast(i, tf.int64)))),
                (tf.zeros((), tf.int32), rates),
            )[1].stack()

        def search(start: Tensor, stride: Tensor, count: Tensor) -> Tensor:
            return tf.while_loop(
                lambda i, found: (i < count) & ~(found > 0),
                lambda i, found: (i + 1, rate(start + stride * i)),
                (tf.zeros((), tf.int64), tf.zeros((), tf.float64)),
            )[1]

        number = tf.TensorSpec((), tf.int64)
        try:
            self._over = _compiled(over, number, tf.TensorSpec((), tf.int32))
            self._search = _compiled(search, number, number, number)
        except Exception as error:  # a schedule is the user's code
            raise ValueError(
                f"The learning rate schedule {schedule!r} cannot be compiled. Write it in TensorFlow "
                "or `keras.ops` operations on the `step` that Keras gives it, a `keras.Variable` of "
                f"integers. {type(error).__name__}: {error}"
            ) from error

    def __call__(self, first: int, steps: int) -> np.ndarray:
        """The learning rates of `steps` steps from step `first` on."""
        return self._over(tf.constant(first, tf.int64), tf.constant(steps)).numpy()

    def first_above_zero(self, start: int, stride: int, count: int) -> float:
        """The first rate above 0 at steps `start`, `start + stride`, …; 0 if `count` have none."""
        numbers = [tf.constant(n, tf.int64) for n in (start, stride, count)]
        return float(self._search(*numbers).numpy())


def _compiled(
    function: object, *signature: tf.TensorSpec
) -> tf.types.experimental.ConcreteFunction:
    compiled = tf.function(function, autograph=False, input_signature=signature)
    return compiled.get_concrete_function()
