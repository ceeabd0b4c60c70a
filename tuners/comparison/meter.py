"""`Meter`: counts what trainings have taken."""

from typing import Any

import keras

from keras_drmad.typing import Logs


class Meter(keras.callbacks.Callback):
    """Counts training steps times their batch size, as parts of a whole training.

    Tuners give each training copies of its callbacks: copies of this one are itself.

    Args:
        epochs: of a whole training.

    Attributes:
        trainings: what `fit` has taken since the last `start`.
    """

    def __init__(self, epochs: int) -> None:
        super().__init__()
        self._epochs, self._seen = epochs, 0
        self.trainings = 0.0

    def __deepcopy__(self, memo: dict[int, Any]) -> "Meter":
        return self

    def start(self) -> None:
        """Begins to count at 0."""
        self.trainings = 0.0

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self._seen = 0

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        # All samples are read in an epoch, so a step is that part of them whatever its batch size.
        # With several steps in a call, the last may be behind the end of the epoch.
        steps = (self.params or {})["steps"]
        taken = min(batch + 1, steps)
        self.trainings += (taken - self._seen) / (steps * self._epochs)
        self._seen = taken
