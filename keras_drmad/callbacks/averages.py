"""The mean of the weights after each step of the last windows."""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf

from keras_drmad.engine import judge
from keras_drmad.engine.programs import TrainingState
from keras_drmad.typing import Arrays, Tensors


class Averages:
    """Adds weights up; those of a window count once it is accepted.

    Args:
        arrays: what `arrays` of another one returned.

    Attributes:
        loss: of the mean, where it was last looked at.
    """

    def __init__(self, arrays: Arrays | None = None) -> None:
        arrays = arrays or {}
        self._count = int(arrays.get("average_count", 0))
        names = [f"average_{i}" for i in range(len(arrays))]
        self._sums: Tensors = [tf.constant(arrays[name]) for name in names if name in arrays]
        self._pending: Tensors = []
        self._pending_count = 0
        self.loss = math.inf

    def __bool__(self) -> bool:
        return self._count > 0

    def add(self, weights: Tensors) -> None:
        """Adds the weights after a step of the window that goes on."""
        pending = self._pending or judge.totals("mean", weights)
        self._pending = [s + tf.cast(w, s.dtype) for s, w in zip(pending, weights, strict=True)]
        self._pending_count += 1

    def accept(self) -> None:
        """Counts the steps since the last window."""
        if self._sums and self._pending:
            self._pending = [a + b for a, b in zip(self._sums, self._pending, strict=True)]
        self._sums = self._pending or self._sums
        self._count += self._pending_count
        self.drop()

    def drop(self) -> None:
        """Forgets the steps since the last window."""
        self._pending, self._pending_count = [], 0

    def state(self, now: TrainingState) -> TrainingState:
        """`now` with the mean of the weights."""
        means = [
            tf.cast(s / self._count, w.dtype) for s, w in zip(self._sums, now.weights, strict=True)
        ]
        return now._replace(weights=means)

    def arrays(self) -> Arrays:
        """All that it is, in arrays."""
        if not self:
            return {}
        sums = {f"average_{i}": np.asarray(s) for i, s in enumerate(self._sums)}
        return sums | {"average_count": np.array(self._count)}
