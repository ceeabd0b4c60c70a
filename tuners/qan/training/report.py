"""What is known of a training at a decision, and how it may have ended."""

from dataclasses import dataclass

import numpy as np

STOP = "stop"
UNKNOWN = 1e30  # a metric, or a gap, that is larger is no number
REACHED, DIVERGED, TRUNCATED = "reached", "diverged", "truncated"


@dataclass
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
