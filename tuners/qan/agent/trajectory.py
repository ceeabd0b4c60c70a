"""`Trajectory`: what an episode has left to learn from."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass
class Trajectory:
    """An episode of T decisions.

    Attributes:
        observations: (T + 1, groups, D), the end included.
        actions: (T, groups).
        usable: (T, groups) whether each was one of the agent's actions.
        costs: (T,) of the chunks of training.
        gaps: (T + 1,) to the goal.
        ended: how; see `Report`.
    """

    observations: np.ndarray
    actions: np.ndarray
    usable: np.ndarray
    costs: np.ndarray
    gaps: np.ndarray
    ended: str

    @property
    def least_gap(self) -> float:
        """To the goal; at least 0."""
        return least_gap(self.gaps)


def least_gap(gaps: Sequence[float] | np.ndarray) -> float:
    """The least gap of an episode, at least 0."""
    return max(float(np.nanmin(gaps)), 0.0)
