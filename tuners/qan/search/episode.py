"""`Episode`: one training of a search, and what has come of it."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..training.report import REACHED
from .schedules import Schedule

SCHEDULE, RANDOM, GUIDED = "schedule", "random", "guided"
TRAIN, TEST, CONTEST = "train", "test", "contest"


@dataclass
class Episode:
    """One training.

    Attributes:
        number: counted from 0; the trial is named by it.
        kind: one of this module's constants.
        seed: of everything random in it.
        schedule: its learning rates; None if actions are chosen.
        snapshot: of the network that chooses them; None for the present one.
        progress: of learning, 0 to 1.
        guide: a schedule that exploration follows.
        cost: what its goal has cost, the whole budget if it was not reached; or the objective,
            lower is better. None while it goes on, and for good if its training failed.
        miss_penalty: how much worse it counts in comparisons if it has missed its goal: cost · gap.
        hit: whether the goal was reached.
        ended: how; "" while it goes on.
    """

    number: int
    kind: str
    seed: int
    schedule: Schedule | None = None
    snapshot: int | None = None
    progress: float = 0.0
    guide: Schedule | None = None
    cost: float | None = None
    miss_penalty: float = 0.0
    hit: bool = False
    ended: str = ""

    @property
    def rank(self) -> float:
        """What episodes are compared by, lower is better."""
        return np.inf if self.cost is None else self.cost + self.miss_penalty

    def end(self, ended: str, cost: float, least_gap: float) -> None:
        """It has ended, with this cost and this gap to its goal, 0 without a goal's value."""
        self.ended, self.cost, self.hit = ended, cost, ended == REACHED
        if not self.hit:
            self.miss_penalty = cost * least_gap

    def get_state(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "Episode":
        schedules = {
            name: state[name] and Schedule(**state[name]) for name in ("schedule", "guide")
        }
        return cls(**(state | schedules))
