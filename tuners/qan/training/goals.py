"""What a training shall reach."""

import re
from typing import Any, TypeAlias, Union

import keras
import keras_tuner
import numpy as np

from keras_drmad.arguments import choice, named, number, suggesting, wrong
from keras_drmad.typing import Logs

from ...objectives import known_direction
from .report import Report

# A `Goal`, `(metric, value)`, `(metric, value, unit)`, or an objective.
GoalLike: TypeAlias = Union["Goal", tuple, list, keras_tuner.Objective]

LEAST = 1e-6  # of errors and shares whose logarithm is taken


@keras.saving.register_keras_serializable(package="keras_drmad")
@suggesting
class Goal:
    """A metric, and the value that it should reach soon; without a value, it is made as good as can be.

    How far a training is from its goal is its *gap*, 0 where the goal is reached:

        to be raised to a value in [0, 1] (accuracies):   log((1 − m) / (1 − value))
        to be raised to another one:                      (value − m) / max(|value|, 1)
        to be lowered to a positive value (losses):       log(m / value)
        to be lowered to another one:                     (m − value) / max(|value|, 1)

    with 1 − m and m / value of at least 10⁻⁶. Without a value, the gap is taken to the metric at the
    beginning of the training.

    Args:
        metric: A name from the logs, such as `"val_accuracy"`.
        value: A number, or None.
        direction: `"max"` or `"min"`; found as KerasTuner finds it if not given.
        unit: What the cost of reaching it is counted in: training `"steps"` or `"seconds"`.

    Raises:
        ValueError: A value that is not a number, an unknown unit, a direction that cannot be found.

    References:
        Ng, Harada and Russell, Policy invariance under reward transformations, ICML 1999, for the gap
        as a potential (`QANOracle(shaping=...)`). The gap itself is our own.

    Example:

    >>> goal = Goal("val_accuracy", 0.9)
    >>> round(goal.gap(0.8, 0.1), 3)  # log(0.2 / 0.1)
    0.693
    >>> goal.reached(0.93)
    True
    """

    def __init__(
        self,
        metric: str,
        value: float | None = None,
        direction: str | None = None,
        unit: str = "steps",
    ) -> None:
        if not isinstance(metric, str) or not metric:
            raise wrong("metric", metric, "the name of a metric")
        self.value = None if value is None else number("value", value)
        choice("unit", unit, ("steps", "seconds"))
        if direction is not None:
            choice("direction", direction, ("max", "min"))
        elif (direction := known_direction(metric)) is None:
            raise ValueError(
                f"Whether {metric!r} is to be raised or lowered is not known: pass "
                '`Goal(metric, value, direction="max")` or "min".'
            )
        self.metric, self.direction, self.unit = metric, direction, unit

    @classmethod
    def of(cls, goal: GoalLike) -> "Goal":
        """A `Goal` from itself, `(metric, value)`, `(metric, value, unit)` or an `Objective`."""
        if isinstance(goal, cls):
            return goal
        if isinstance(goal, keras_tuner.Objective):
            return cls(goal.name, direction=goal.direction)
        if isinstance(goal, tuple | list) and len(goal) in (2, 3):
            metric, value, *unit = goal
            with named("goal"):
                return cls(metric, value, None, *unit)
        raise ValueError(
            "`goal` must be a `Goal`, (metric, value) or (metric, value, unit). Received: "
            f"goal={goal!r}"
        )

    def reached(self, metric: float) -> bool:
        """Whether a value of the metric reaches the goal."""
        if self.value is None:
            return False
        # As Keras has it: 0.7 in float32, which is what 7 of 10 are, is less than Python's.
        now, wanted = np.float32(metric), np.float32(self.value)
        return bool(now >= wanted if self.direction == "max" else now <= wanted)

    def measured(self, logs: Logs, name: str) -> float:
        """What is measured under a name that is needed; a ValueError if there is none."""
        if name in logs:
            return logs[name]
        # Keras numbers the metrics of a process that have no name.
        numbered = re.compile(rf"{re.escape(name)}_\d+")
        alike = next(filter(numbered.fullmatch, logs), "")
        why = f" {alike!r} has its number from Keras: give the metric a `name`." if alike else ""
        raise ValueError(
            f"`goal` is {self}, but what is measured is {sorted(logs)}: {name!r} is needed.{why}"
        )

    def gap(self, metric: float, initial: float) -> float:
        """The gap at a value of the metric; `initial`: its value when the training began."""
        to = initial if self.value is None else self.value
        # By the value alone: one formula for a whole training, whatever the metric becomes.
        if self.direction == "max":
            if 0 <= to <= 1:
                return float(np.log(max(1 - metric, LEAST) / max(1 - to, LEAST)))
            return float((to - metric) / max(abs(to), 1))
        if to > 0:
            return float(np.log(max(metric / to, LEAST)))
        return float((metric - to) / max(abs(to), 1))

    def spent(self, report: Report) -> float:
        """What a training has cost so far, in its unit; `report`: its last `Report`."""
        return report.step if self.unit == "steps" else report.seconds

    def left(self, report: Report, budget: int, every: int) -> float:
        """What the rest of a training would cost, in chunks of steps or in seconds.

        Args:
            report: the last `Report`.
            budget: steps of the whole training.
            every: steps of a chunk.
        """
        steps = budget - report.step
        if self.unit == "seconds":
            return steps * report.seconds / report.step
        return steps / every

    def get_config(self) -> dict[str, Any]:
        return {
            "metric": self.metric,
            "value": self.value,
            "direction": self.direction,
            "unit": self.unit,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Goal":
        return cls(**config)

    def __repr__(self) -> str:
        return (
            f"Goal({self.metric!r}, {self.value}, direction={self.direction!r}, unit={self.unit!r})"
        )

    def __str__(self) -> str:
        return self.metric if self.value is None else f"{self.metric} of {self.value:g}"
