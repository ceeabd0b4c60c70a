"""The guard: which windows of training went wrong, and what to go back to."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from keras_drmad.engine.programs import TrainingState
from keras_drmad.typing import Arrays, Tensors, Vectors

# A window went wrong if its loss is above the running one by this share of it, and by so many times
# what losses usually differ from it: they are those of few samples.
SHARE, DEVIATIONS = 0.2, 2.0
# By this share of the first loss, as long as nothing is known of that.
FIRST_DEVIATION = 0.1
# Or if it moved the weights by more than the first share of their size, without having lowered the
# loss by the second. Rates from which a network does not recover (its units saturate or die) are seen
# by this before they are seen in the loss.
FAR, WORTH = 0.3, 0.5
# Weights are taken to be of this size at least, so that training may begin at zeros.
LEAST_SIZE = 0.01
# A loss not above the running one by more than this share is good: what came before is a place to
# go back to.
GOOD = 0.1
# The running loss follows a lower loss by this share, and a higher one by that.
DOWN, UP = 0.5, 0.1
# Each window taken back lets the next one have a higher loss by this share: none is out of reach.
RELAXED = 0.02
# Rates are divided by this after a window that was taken back, and by more if it went very far.
DIVISOR, MOST = 3.0, 400.0
# So much is left of the boldness of the meta-optimizer after a window was taken back; and so much of
# what is missing comes back with each one that is not.
CAUTION, RECOVERY = 0.7, 0.1


class Anchor(NamedTuple):
    """Where training stood before a good window.

    Attributes:
        state: of the model and its optimizer.
        displacements: `{kind: vector}` of the hyperparameters.
        meta: the variables of the meta-optimizer.
    """

    state: TrainingState
    displacements: Vectors | Arrays
    meta: Tensors | list[np.ndarray]


class Outcome(NamedTuple):
    """What the guard looks at in a window.

    Attributes:
        loss: the hyper loss, or the mean training loss if that is higher.
        moved: the norm of the way that the weights went.
        size: the norm of the weights before, and at least `LEAST_SIZE` for each entry.
    """

    loss: float
    moved: float
    size: float


class Guard:
    """Compares each window with those before it.

    Args:
        loss: the loss before the first window.
        anchor: where training begins.

    Attributes:
        anchor: the `Anchor` to go back to.
        boldness: what is left of the size of the meta-optimizer's steps, from 0 to 1.
        row: windows taken back, one right after the other.
        taken_back: windows taken back in all.
    """

    def __init__(self, loss: float, anchor: Anchor) -> None:
        self._running, self._deviation = loss, FIRST_DEVIATION * abs(loss)
        self.anchor = anchor
        self.boldness, self.row, self.taken_back = 1.0, 0, 0

    def divisor(self, window: Outcome) -> float | None:
        """What rates have to be divided by after this window; None if it went well."""
        allowed = SHARE * abs(self._running) + DEVIATIONS * self._deviation
        if not math.isfinite(window.loss):
            return DIVISOR
        is_far = window.moved > FAR * window.size
        if is_far and window.loss > self._running - WORTH * abs(self._running):
            return float(np.clip(2 * window.moved / (FAR * window.size), DIVISOR, MOST))
        return DIVISOR if window.loss > self._running + allowed else None

    def take_back(self) -> None:
        """Notes that a window is taken back."""
        self.taken_back += 1
        self.row += 1
        self.boldness *= CAUTION
        self._running += RELAXED * abs(self._running)

    def accept(self, loss: float, before: Anchor) -> None:
        """Notes that training goes on after a window that began at `before`."""
        off = loss - self._running
        self._deviation += UP * (abs(off) - self._deviation)
        self._running += (DOWN if off < 0 else UP) * off
        if loss <= self._running + GOOD * abs(self._running):
            self.anchor = before
        self.row = 0
        self.boldness += RECOVERY * (1 - self.boldness)

    # -- for a training that is broken off ---------------------------------------------------

    def numbers(self) -> np.ndarray:
        """All that it goes by but the anchor."""
        counts = [self.boldness, self.row, self.taken_back]
        return np.array([self._running, self._deviation, *counts], "float64")

    def restore(self, numbers: np.ndarray) -> None:
        """Goes on from the `numbers` of another one."""
        self._running, self._deviation, self.boldness, *counts = map(float, numbers)
        self.row, self.taken_back = map(int, counts)
