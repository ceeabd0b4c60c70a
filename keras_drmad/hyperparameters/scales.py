"""The scale on which each kind of hyperparameter is learned: log for rates and L2, logit for momentum.

Learned is a *displacement* on that scale, zero at the compiled value. So nothing learned means the
compiled value to the last bit, every displacement is a valid value, and a step of a meta-optimizer
means the same for every size of value.

Zero has no logarithm: a value pushed below `floor` is exactly 0, and a coefficient compiled as 0
starts there, at 0, and enters at `floor` when its hypergradient asks for more.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from keras_drmad.arguments import number
from keras_drmad.typing import Tensor


class Log:
    """`value = base · exp(displacement)`, within `[floor, ceiling]`, and 0 below (if `zero`)."""

    def __init__(self, base: float, floor: float, ceiling: float, zero: bool = True) -> None:
        # Below a compiled value there is room before it is cut to 0.
        self.floor = min(base / 10, floor) if base > 0 else floor
        self.base = max(base, self.floor)
        self.ceiling, self.zero = ceiling, zero
        # Displacements at the ends of the range; a value compiled as 0 is at the lower end.
        self.low = 0.0 if base == 0 else float(self.log(self.floor) - self.log(self.base))
        self.high = float(self.log(ceiling) - self.log(self.base))

    @staticmethod
    def log(value: ArrayLike) -> np.ndarray:
        return np.log(value)

    def value(self, displacement: Tensor) -> Tensor:
        """Effective values of a tensor of displacements."""
        value = self.positive(tf.minimum(displacement, self.high))
        if self.zero:
            return tf.where(displacement > self.low, value, tf.zeros_like(value))
        return tf.maximum(value, self.floor)

    def positive(self, displacement: Tensor) -> Tensor:
        """The value where it is not cut to zero."""
        return self.base * tf.exp(displacement)

    def slope(self, displacement: Tensor) -> Tensor:
        """∂value/∂displacement; at zero that of the floor, so that learning can leave zero."""
        return self.positive(displacement)

    def clip(self, displacement: Tensor) -> Tensor:
        """`displacement` within the range where it changes the value."""
        return tf.clip_by_value(displacement, self.low, self.high)

    def displacement(self, value: ArrayLike) -> np.ndarray:
        """The displacement (NumPy) at which `value` is reached."""
        value = np.asarray(value, "float64")
        at = self.log(np.maximum(value, self.floor)) - self.log(self.base)
        return np.where(value == 0, self.low, at)

    def check(self, name: str, value: ArrayLike) -> None:
        """Raises a ValueError that names `name` if an entry of `value` is out of range."""
        value = np.asarray(value)
        low_enough = value <= self.ceiling
        high_enough = value >= 0 if self.zero else value > 0
        if not np.all(np.isfinite(value) & low_enough & high_enough):
            opening = "[0" if self.zero else "(0"
            raise ValueError(f"{name} must lie in {opening}, {self.ceiling:g}]. Received: {value}")

    def check_reached(self, name: str, value: ArrayLike, unit: float = 1.0) -> None:
        """As `check`, of what is to be reached by a displacement: not every small value is.

        `unit` is what values and the ends of the range are multiples of, for users.
        """
        value = np.asarray(value, "float64")
        least, most = self.floor * unit, self.ceiling * unit
        # One that was read may have been rounded; at the floor a coefficient counts as 0.
        is_large = value > self.floor if self.zero else value >= self.floor * (1 - 1e-6)
        is_small = value <= self.ceiling * (1 + 1e-6)
        if not np.all(np.isfinite(value) & is_small & (is_large | (value == 0) & self.zero)):
            allowed = f"be 0, or lie in ({least:g}" if self.zero else f"lie in [{least:g}"
            raise ValueError(
                f"{name} must {allowed}, {most:g}]: what can be reached from the compiled value. "
                f"Received: {value * unit}. Compile with another value to go beyond."
            )


class Logit(Log):
    """`value = o / (1 + o)` with `o = base / (1 − base) · exp(displacement)`.

    Written with `(1 − base) + base · exp(displacement)` below the line, exactly 1 where nothing is
    learned.
    """

    @staticmethod
    def log(value: ArrayLike) -> np.ndarray:
        return np.log(value) - np.log1p(np.negative(value))

    def positive(self, displacement: Tensor) -> Tensor:
        grown = self.base * tf.exp(displacement)
        return grown / ((1 - self.base) + grown)

    def slope(self, displacement: Tensor) -> Tensor:
        value = self.positive(displacement)
        return value * (1 - value)


def scale_of(argument: str, value: float, make: Callable[[float], Log]) -> Log:
    """The scale that `make` gives for the value of an argument.

    Raises:
        ValueError: the value is no number, or out of range.
    """
    value = number(argument, value)
    make(0.0).check(f"`{argument}`", value)
    return make(value)


def multiplier(floor: float, ceiling: float) -> Log:
    """The scale of a factor that begins at 1."""
    return Log(1.0, floor, ceiling, zero=False)
