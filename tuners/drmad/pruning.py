"""Pruning: trainings that are going to lose end early."""

from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np

from keras_drmad.typing import Logs

# Under which a trial reports its objective after each epoch.
CURVE = "drmad/curve"
# Nothing is pruned before so many trainings have come to their end.
WHOLE = 4


def is_behind(
    value: float, step: int, others: Sequence[Mapping[int, float]], last: int, direction: str
) -> bool:
    """Whether a value is worse than the median of others at the same step.

    Args:
        value: of the objective.
        step: after which epoch, from 0.
        others: `{step: value}` of other trainings.
        last: the step at which a training has come to its end.
        direction: "min" or "max".
    """
    if sum(last in curve for curve in others) < WHOLE:
        return False
    seen = [curve[step] for curve in others if step in curve]
    if not np.isfinite(value):
        return True
    sign = 1.0 if direction == "min" else -1.0
    return bool(sign * value > np.median(sign * np.array(seen)))


class Reporting(keras.callbacks.Callback):
    """Reports a training after each epoch, and ends it where the answer is that it is behind.

    Args:
        value: gives the objective from `logs`; None where they have none.
        report: called with `(value, epoch)`; returns whether to end.
    """

    def __init__(
        self, value: Callable[[Logs], float | None], report: Callable[[float, int], bool]
    ) -> None:
        super().__init__()
        self._value, self._report = value, report

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        value = self._value(logs or {})
        if value is not None and self._report(value, epoch):
            assert self.model is not None
            self.model.stop_training = True
