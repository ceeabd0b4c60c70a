"""`ScheduledOptimizer`: where an optimizer stands in its schedules, the given and the learned one."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np

from keras_drmad import compat
from keras_drmad.hyperparameters.schedules import Knots


class ScheduledOptimizer(keras.optimizers.Optimizer):
    """Base class: an optimizer whose hyperparameters may follow a learned schedule.

    Attributes:
        schedule: a `Knots`, or None for constant hyperparameters.
    """

    schedule: Knots | None = None

    def positions(self, steps: Sequence[int] | np.ndarray) -> np.ndarray:
        """Where training steps stand in the learned schedule; zeros if there is none."""
        if self.schedule is None:
            return np.zeros(len(steps), "float32")
        return self.schedule.positions(steps).astype("float32")

    def span_schedule(self, steps: int) -> None:
        """Fills in how many steps the learned schedule spans, if it was not said."""
        if self.schedule is not None and self.schedule.steps is None:
            self.schedule = self.schedule.over(steps)

    def steps_taken(self) -> int:
        """How many training steps the optimizer has taken."""
        return int(self.iterations.numpy())

    def follows_schedule(self) -> bool:
        """Whether the global learning rate is a function of the step."""
        rate = compat.learning_rate(self)
        return isinstance(rate, keras.optimizers.schedules.LearningRateSchedule)

    def learning_rates(self, steps: int, first: int | None = None) -> np.ndarray:
        """The global learning rates of `steps` steps, from number `first` on; by default the next."""
        rate = compat.learning_rate(self)
        if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
            now = self.steps_taken() if first is None else first
            return np.array([float(rate(now + i)) for i in range(steps)])
        return np.full(steps, self._global_rate())

    def _global_rate(self) -> float:
        return float(keras.ops.convert_to_tensor(self.learning_rate).numpy())
