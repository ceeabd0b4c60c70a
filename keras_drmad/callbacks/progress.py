"""How far a training of `fit` has come, and the line that says how it goes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_drmad.optimizers.learnable import LearnableOptimizer
from keras_drmad.typing import Logs

# So many windows are enough to learn in, and longer windows see further.
WINDOWS, SHORTEST, LONGEST = 100, 10, 100


class Progress:
    """Counts steps and epochs.

    Args:
        params: a callback's `params`: `{"epochs": …, "steps": of an epoch, or None}`.

    Attributes:
        steps: of an epoch, if `fit` knows them.
        epoch: the one that goes on, from 0.
    """

    def __init__(self, params: Mapping[str, Any]) -> None:
        self._epochs, self.steps = int(params.get("epochs") or 1), params.get("steps")
        self._length: int | None = self.steps  # what an epoch has turned out to have
        self.epoch, self._step = 0, 0

    def begin_epoch(self, epoch: int) -> None:
        self.epoch, self._step = epoch, 0

    def end_step(self) -> None:
        self._step += 1

    def end_epoch(self) -> None:
        self._length = self._step

    @property
    def total(self) -> int | None:
        """How many steps the training has, if `fit` knows."""
        return self.steps and self.steps * self._epochs

    @property
    def done(self) -> float:
        """The share of training that is done."""
        share = min(self._step / self._length, 1.0) if self._length else 0.0
        return (self.epoch + share) / self._epochs

    def window(self, together: int = 1) -> int:
        """How many steps a window should have, so that windows end with epochs.

        `together` is how many of them move the weights once.
        """
        shortest, longest = SHORTEST * together, LONGEST * together
        if not self.steps:
            return shortest
        steps = min(max(self.steps * self._epochs / WINDOWS, shortest), longest)
        if self.steps >= steps:
            return -(-self.steps // round(self.steps / steps))
        return self.steps * min(max(round(steps / self.steps), 1), self._epochs)

    def line(self, optimizer: LearnableOptimizer, logs: Logs) -> str:
        """The range of each kind of hyperparameter, and the losses, in a line."""
        values: dict[str, list[float]] = {}
        for entries in optimizer.hyperparameters.values():
            for kind, value in entries.items():
                values.setdefault(kind, []).extend(np.ravel(value))
        parts = [f"{kind} {_range(numbers)}" for kind, numbers in values.items()]
        names = ("hyper_loss", "average_hyper_loss", "windows_taken_back")
        return ", ".join(parts + [f"{name} {logs[name]:.4g}" for name in names if name in logs])


def _range(numbers: list[float]) -> str:
    low, high = f"{min(numbers):.3g}", f"{max(numbers):.3g}"
    return low if low == high else f"{low} – {high}"
