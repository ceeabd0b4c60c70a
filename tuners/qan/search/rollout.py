"""`Rollout`: decides in one episode, and collects its trajectory."""

from collections.abc import Callable

import numpy as np

from keras_drmad.typing import Arrays

from ..agent.exploration import Exploration
from ..agent.trajectory import Trajectory, least_gap
from ..training.actions import Actions
from ..training.report import STOP, TRUNCATED, Decision, Report
from .episode import GUIDED, RANDOM, TRAIN, Episode

GUIDED_SHARE = 0.5  # of the stretches of exploration, where there is a guide


class Rollout:
    """One episode as it is lived, report by report.

    A schedule's episode has rates, which are remembered as the nearest actions where one is near.
    Others have actions: greedy ones or those of `Exploration`.

    Args:
        episode: the `Episode`.
        actions: the `Actions`.
        greedy: a function (groups, D) → (groups,) actions; of no use to schedules and random ones.
        epsilon: ε, of training episodes.
        decisions: of a whole episode.
        is_hopeless: a function of a `Report`: whether the episode is to be stopped early.
    """

    def __init__(
        self,
        episode: Episode,
        actions: Actions,
        greedy: Callable[[np.ndarray], np.ndarray | list[int]],
        epsilon: float,
        decisions: float,
        is_hopeless: Callable[[Report], bool] = lambda report: False,
    ) -> None:
        self._schedule, self._actions, self._greedy = episode.schedule, actions, greedy
        self._is_hopeless = is_hopeless
        self.exploration = Exploration(
            actions,
            {RANDOM: 1.0, GUIDED: 1.0, TRAIN: epsilon}.get(episode.kind, 0.0),
            decisions,
            seed=(episode.seed, 2),
            guide=episode.guide,
            guided_share={GUIDED: 1.0, RANDOM: 0.0}.get(episode.kind, GUIDED_SHARE),
        )
        self._observations: list[np.ndarray] = []
        self._chosen: list[list[int]] = []
        self._usable: list[list[bool]] = []
        self._costs: list[float] = []
        self._gaps: list[float] = []
        self._steps: list[int] = []
        self._rates: list[np.ndarray] = []
        self.reports = 0  # how many
        self.report: Report | None = None  # the last
        self.ended = ""

    def decide(self, report: Report) -> Decision:
        """Takes a `Report` in; returns a rate, or the actions, or `STOP`."""
        if self.report is not None and report.ended and report.step == self.report.step:
            # Something else has stopped the training: what it was told to do last was never done.
            self.reports, self.ended = self.reports + 1, report.ended
            return STOP
        self.reports, self.report = self.reports + 1, report
        self._observations.append(report.observation)
        self._gaps.append(report.gap)
        self._steps.append(report.step)
        self._rates.append(report.rates)
        if self.reports > 1:
            self._costs.append(report.cost)
        self.ended = report.ended
        decision = self._decide(report)
        if not report.ended and self._is_hopeless(report):
            self.ended = TRUNCATED
            return STOP
        return decision

    def _decide(self, report: Report) -> Decision:
        if self._schedule is not None:
            rate = self._actions.within(self._schedule(report.step))
            nearest = [self._actions.nearest(rate / before) for before in report.rates]
            self._chosen.append([action for action, _ in nearest])
            self._usable.append([usable for _, usable in nearest])
            return rate
        explored = self.exploration.choose(report.step, report.rates)
        choices = self._greedy(report.observation) if explored is None else explored
        choices = [int(choice) for choice in choices]
        self._chosen.append(choices)
        self._usable.append([True] * len(report.rates))
        return choices

    def recall(self, report: Report, taken: Decision) -> None:
        """Takes a `Report` in of which is known what was done then."""
        self.decide(report)
        if isinstance(taken, list):
            self._chosen[-1] = taken
        self.ended = report.ended or (TRUNCATED if taken == STOP else "")

    @property
    def costs(self) -> np.ndarray:
        """Of the chunks so far."""
        return np.array(self._costs)

    @property
    def least_gap(self) -> float:
        """To the goal; at least 0."""
        return least_gap(self._gaps)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of an observation."""
        return self._observations[-1].shape

    @property
    def is_begun(self) -> bool:
        """Whether there was a transition."""
        return len(self._observations) > 1

    def history(self) -> Arrays:
        """Of each decision the step, the gap, the rates before it, and the actions."""
        return {
            "steps": np.array(self._steps),
            "gaps": np.array(self._gaps),
            "rates": np.stack(self._rates),
            "actions": np.array(self._chosen),
        }

    def trajectory(self) -> Trajectory:
        """The `Trajectory`."""
        return Trajectory(
            observations=np.stack(self._observations).astype("float32"),
            actions=np.array(self._chosen[:-1]),
            usable=np.array(self._usable[:-1]),
            costs=self.costs,
            gaps=np.array(self._gaps),
            ended=self.ended,
        )
