"""`ScheduledOptimizer`: where an optimizer stands in its schedules, the given and the learned one."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any

import keras
import numpy as np

from keras_drmad import compat
from keras_drmad.hyperparameters.schedules import Knots
from keras_drmad.optimizers.further_slots import FurtherSlots
from keras_drmad.optimizers.schedule_program import ScheduleProgram

# How far ahead a schedule that begins at 0 is searched for its first rate above 0.
LONGEST_WAIT = 2**17


class ScheduledOptimizer(FurtherSlots):
    """Base class: an optimizer whose hyperparameters may follow a learned schedule.

    Attributes:
        schedule: a `Knots`, or None for constant hyperparameters.
    """

    schedule: Knots | None = None

    def __init__(self, learning_rate: compat.LearningRate | float, **kwargs: Any) -> None:
        super().__init__(learning_rate=learning_rate, **kwargs)
        self._compiled_rate = float(learning_rate) if isinstance(learning_rate, Real) else 0.0
        self._program: ScheduleProgram | None = None

    def positions(self, steps: Sequence[int] | np.ndarray) -> np.ndarray:
        """Where training steps stand in the learned schedule; zeros if there is none.

        It counts accumulated gradients as one step, as `iterations` does.
        """
        if self.schedule is None:
            return np.zeros(len(steps), "float32")
        return self.schedule.positions(np.asarray(steps) // self.accumulation).astype("float32")

    def span_schedule(self, steps: int) -> None:
        """Fills in how many steps the learned schedule spans, if it was not said."""
        if self.schedule is not None and self.schedule.steps is None:
            self.stretch_schedule(steps)

    def stretch_schedule(self, steps: int) -> None:
        """Lets the learned schedule, if there is one, span so many training steps (batches)."""
        if self.schedule is not None:
            self.schedule = self.schedule.over(-(-steps // self.accumulation))

    def follows_schedule(self) -> bool:
        """Whether the global learning rate is a function of the step."""
        return self._schedule_program() is not None

    def learning_rates(self, steps: int, first: int | None = None) -> np.ndarray:
        """The global learning rates of `steps` steps, from number `first` on; by default the next.

        Raises:
            ValueError: a schedule that cannot be compiled.
        """
        program = self._schedule_program()
        if program is not None:
            return program(self.steps_taken() if first is None else first, steps)
        return np.full(steps, self._global_rate())

    def reference_rate(self) -> float:
        """The rate that effective learning rates are multiples of: the global one, above 0.

        That is the rate now. Where it is 0, a schedule's last one above 0 before now, or else its
        first one after; of a rate that was set to 0, the compiled one. 0 if there is none.
        """
        now = self._global_rate()
        if now > 0:
            return now
        program = self._schedule_program()
        if program is None:
            return self._compiled_rate
        at = int(compat.step_counter(self).numpy())
        return program.first_above_zero(at - 1, -1, at) or program.first_above_zero(
            at + 1, 1, LONGEST_WAIT
        )

    def _schedule_program(self) -> ScheduleProgram | None:
        """The program of the learning rate's schedule, made once; None if it has none."""
        rate = compat.learning_rate(self)
        if not isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
            return None
        if self._program is None or self._program.schedule is not rate:
            self._program = ScheduleProgram(rate, compat.step_counter(self))
        return self._program

    def _global_rate(self) -> float:
        return float(keras.ops.convert_to_tensor(self.learning_rate).numpy())
