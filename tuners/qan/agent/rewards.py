"""What the decisions of an episode are paid."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from keras_drmad.typing import Arrays

from ..training.goals import Goal
from ..training.report import DIVERGED, REACHED, TRUNCATED, UNKNOWN
from .trajectory import Trajectory


class Rewards:
    """Rewards of episodes, and the bounds of values that follow from those so far.

    Costs are counted in units: a typical decision of the first episode costs 1. Steps come in chunks
    anyway, but seconds are as long as a machine takes, and neither shaping nor the agent's settings are
    to depend on that.

    Args:
        goal: the `Goal`.

    Attributes:
        unit: of costs; 0 before the first episode.
        largest_cost, largest_gap: of a decision, so far.
    """

    def __init__(self, goal: Goal) -> None:
        self.goal, self.unit = goal, 0.0
        self.largest_cost, self.largest_gap = 0.0, 0.0

    def in_units(self, trajectory: Trajectory, left: float) -> tuple[Trajectory, float]:
        """A trajectory, and the cost of what was left of its budget, with costs in units."""
        if not self.unit:
            self.unit = float(np.median(trajectory.costs)) if self.goal.unit == "seconds" else 1.0
        unit = max(self.unit, 1e-9)
        return replace(trajectory, costs=trajectory.costs / unit), left / unit

    def __call__(self, trajectory: Trajectory, left: float) -> tuple[np.ndarray, bool]:
        """(T,) rewards of a trajectory in units, and whether nothing comes after its end."""
        is_diverged = trajectory.ended == DIVERGED
        rewards = step_rewards(self.goal, trajectory.costs, trajectory.gaps, is_diverged, left)
        # The budget is a part of the task, which the agent sees: nothing comes after it (Pardo et al.,
        # Time limits in reinforcement learning, ICML 2018). What others have stopped might have gone on.
        terminated = trajectory.ended != TRUNCATED or left <= 0
        if terminated and self.goal.value is not None and trajectory.ended != REACHED:
            rewards[-1] -= (trajectory.costs.sum() + left) * trajectory.least_gap
        return rewards, terminated

    def potentials(self, trajectory: Trajectory) -> np.ndarray:
        """(T + 1,) Φ: a gap as a potential leaves the best policy what it is (Ng et al., 1999)."""
        return np.zeros_like(trajectory.gaps) if self.goal.value is None else -trajectory.gaps

    def bounds(self, trajectory: Trajectory, gamma: float, shaping: float) -> tuple[float, float]:
        """Of values: decisions only cost, up to the most that one did; a potential adds its own."""
        if self.goal.value is None:
            return (-np.inf, np.inf)
        gaps = trajectory.gaps[trajectory.gaps < UNKNOWN]
        self.largest_cost = max(self.largest_cost, float(np.max(trajectory.costs)))
        self.largest_gap = max(self.largest_gap, float(np.max(gaps, initial=0.0)))
        lowest = -self.largest_cost / (1 - gamma) if gamma < 1 else -np.inf
        return lowest, shaping * self.largest_gap

    def get_state(self) -> Arrays:
        state = {"unit": self.unit}
        state |= {"largest_cost": self.largest_cost, "largest_gap": self.largest_gap}
        return {name: np.array(value) for name, value in state.items()}

    def set_state(self, state: Arrays) -> None:
        self.unit = float(state["unit"])
        self.largest_cost = float(state["largest_cost"])
        self.largest_gap = float(state["largest_gap"])


def step_rewards(
    goal: Goal,
    costs: Sequence[float] | np.ndarray,
    gaps: Sequence[float] | np.ndarray,
    diverged: bool = False,
    left: float = 0.0,
) -> np.ndarray:
    """The rewards of an episode's decisions.

    With a goal's value, every decision costs what its chunk of training does, r_t = −cost_t; without,
    only progress counts: r_t = gap_t − gap_{t+1}. A training that diverged pays for all that was left
    of its budget.

    Args:
        goal: the `Goal`.
        costs: (T,) of the chunks.
        gaps: (T + 1,) before each decision and at the end.
        diverged: whether the last chunk ended in NaN or an exploded loss.
        left: the cost of what was left of the budget then.
    """
    costs, gaps = np.asarray(costs, "float64"), np.asarray(gaps, "float64")
    rewards = gaps[:-1] - gaps[1:] if goal.value is None else -costs
    if diverged:
        rewards[-1] = -float(costs[-1]) - left
    return rewards.astype("float32")
