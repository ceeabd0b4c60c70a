"""What a training costs: its steps, and the time of its way back over that of them."""

import time

import keras
import numpy as np

from keras_drmad.typing import Logs

# Before the names of units: metrics that say what a trial has cost.
COST = "cost/"
# A lap that took more than so many times the median one has compiled a program: it counts as so many.
LONG = 3.0


class Laps:
    """Times stretches of steps.

    Attributes:
        steps: of all laps.
    """

    def __init__(self) -> None:
        self.steps, self._seconds, self._since = 0, list[float](), 0.0

    def begin(self) -> None:
        """Begins a lap; `end` does so, too."""
        self._since = time.perf_counter()

    def end(self, steps: int) -> float:
        """Ends a lap of so many steps; gives its seconds."""
        now = time.perf_counter()
        lap, self._since = now - self._since, now
        self.steps += steps
        self._seconds.append(lap)
        return lap

    def leave_out(self, seconds: float) -> None:
        """Takes something that was done within a lap out of it."""
        self._since += seconds

    def seconds(self, compiles: bool = True) -> float:
        """Of all laps, without what they compile if they do.

        >>> laps = Laps()
        >>> laps._seconds = [9.0, 1.0, 1.0, 1.0]
        >>> laps.seconds(), laps.seconds(compiles=False)
        (6.0, 12.0)
        """
        if not self._seconds:
            return 0.0
        most = LONG * np.median(self._seconds) if compiles else np.inf
        return float(np.minimum(self._seconds, most).sum())


def cost(steps: int, forth: Laps, beside: float) -> Logs:
    """What a training has cost, by unit: what was taken of its steps, times 1 + r.

    Args:
        steps: of a whole training.
        forth: those that were taken.
        beside: seconds of what was done for derivatives; r is the part that they are of `forth`.
    """
    seconds = forth.seconds()
    taken = forth.steps * (1.0 + (beside / seconds if seconds else 0.0))
    return {"trainings": taken / steps, "steps": taken}


class StepClock(keras.callbacks.Callback):
    """Ends a lap with each call of the train function.

    Args:
        laps: that it begins and ends.
    """

    def __init__(self, laps: Laps) -> None:
        super().__init__()
        self._laps, self._seen = laps, 0

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self._seen = 0

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        self._laps.begin()

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        # With several steps in a call, the last may be behind the end of the epoch.
        taken = min(batch + 1, (self.params or {})["steps"])
        self._laps.end(taken - self._seen)
        self._seen = taken
