"""`CheckedOptimizer`: refuses arguments of an optimizer that Keras takes, and that make no sense."""

import inspect
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_drmad.arguments import flag, number, of_kind, whole_number


def learning_rate(name: str, value: Any) -> Any:
    """A learning rate as Keras takes it; of numbers a finite one, 0 or more, as a `float`.

    Raises:
        ValueError: It is a number that is none, or neither a number, a schedule nor a function.
    """
    kinds = (keras.Variable, keras.optimizers.schedules.LearningRateSchedule)
    if isinstance(value, kinds) or tf.is_tensor(value) or _is_called(value):
        return value
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value.item()
    return number(name, value, least=0)


def _is_called(value: Any) -> bool:
    """Whether it is a function without arguments, as Keras calls it; a class is no function."""
    if not callable(value) or isinstance(value, type):
        return False
    try:
        inspect.signature(value).bind()
    except TypeError:
        return False
    except ValueError:  # no signature is known
        pass
    return True


def _size(name: str, value: object) -> float | None:
    return None if value is None else number(name, value, least=0)


CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "learning_rate": learning_rate,
    "weight_decay": _size,
    "clipnorm": _size,
    "clipvalue": _size,
    "global_clipnorm": _size,
    "loss_scale_factor": lambda name, value: (
        None if value is None else number(name, value, above=0)
    ),
    "use_ema": flag,
    "ema_momentum": lambda name, value: number(name, value, 0, 1),
    "ema_overwrite_frequency": lambda name, value: whole_number(name, value, optional=True),
    "gradient_accumulation_steps": lambda name, value: whole_number(name, value, optional=True),
    "name": lambda name, value: value if value is None else of_kind(name, value, str, "text"),
}


class CheckedOptimizer(keras.optimizers.Optimizer):
    """Base class: what the constructor refuses, an assignment later on refuses, too.

    Keras's constructor assigns its arguments, so both go through `_checked`.
    """

    def __init__(self, learning_rate: Any, **kwargs: Any) -> None:
        # Keras compares some before it assigns them, and keeps the rate under another name.
        given = {"learning_rate": learning_rate, **kwargs}
        super().__init__(**{name: self._checked(name, value) for name, value in given.items()})

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, self._checked(name, value))

    def _checked(self, name: str, value: Any) -> Any:
        """The value to keep as an attribute.

        Raises:
            ValueError: It makes no sense.
        """
        check = CHECKS.get(name)
        return value if check is None else check(name, value)
