"""What is known of a training at a decision, what may be decided, and how it may have ended."""

import math
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

STOP = "stop"
UNKNOWN = 1e30  # a metric, or a gap, that is larger is no number
LARGEST = 3e38  # beyond `UNKNOWN`; infinities do not survive every way between processes
REACHED, DIVERGED, TRUNCATED = "reached", "diverged", "truncated"

# An action for each group, or a learning rate; None for no change.
Change: TypeAlias = list[int] | float | None
Decision: TypeAlias = Change | str  # or `STOP`


@dataclass(frozen=True)
class Report:
    """What is known at a decision: the observation, and what the chunk before it has brought.

    Attributes:
        observation: (groups, D).
        gap: to the goal.
        step: steps taken so far.
        cost: of the last chunk, in full chunks of `every` steps, or in seconds.
        ended: "" or how the training has ended: `"reached"`, `"diverged"`, `"truncated"`.
        metric: the goal's metric.
        seconds: spent on training so far, with choosing its samples.
        rates: (groups,).
    """

    observation: np.ndarray
    gap: float
    step: int
    cost: float
    ended: str
    metric: float
    seconds: float
    rates: np.ndarray

    def finite(self) -> "Report":
        """The same report; where something in it is no number, a copy with `LARGEST` for it."""
        numbers = self.gap, self.cost, self.metric, self.seconds
        are_finite = all(abs(number) <= LARGEST for number in numbers)  # not so of NaN
        if are_finite and np.isfinite(self.observation).all():
            return self
        observation = np.nan_to_num(self.observation, nan=LARGEST, posinf=LARGEST, neginf=-LARGEST)
        return replace(
            self,
            observation=observation,
            gap=_finite(self.gap),
            cost=_finite(self.cost),
            metric=_finite(self.metric),
            seconds=_finite(self.seconds),
        )


def _finite(number: float) -> float:
    return LARGEST if math.isnan(number) else min(max(number, -LARGEST), LARGEST)
