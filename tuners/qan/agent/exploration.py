"""What is done in one episode, and what is remembered of it."""

from dataclasses import dataclass

import numpy as np

from ..search.curriculum import GUIDED, RANDOM, TRAIN
from ..search.schedules import Schedule
from ..training.report import STOP, TRUNCATED

STRETCH = 1 / 3  # of an episode, the longest one of exploration
REACH = 10.0  # how far one action takes the learning rate, repeated
FOLLOWED = 0.5  # of the stretches follow the guide
TOGETHER = 0.5  # of the random ones have one action for all layers


@dataclass
class Trajectory:
    """An episode as decisions: observations (T + 1, groups, D), actions and usable (T, groups)."""

    observations: np.ndarray
    actions: np.ndarray
    usable: np.ndarray
    costs: np.ndarray
    gaps: np.ndarray
    ended: str

    @property
    def least_gap(self):
        """To the goal; at least 0."""
        return _least(self.gaps)


class Behaviour:
    """Decides in one episode, and collects its trajectory.

    A schedule's episode has rates, which are remembered as the nearest actions where one is near.
    Others have actions: greedy ones or, with probability ε at each decision, the first of a stretch
    of exploration: one random action again and again (single random multipliers have no drift), which
    several groups share in half of the stretches, and draw each for itself in the others, or
    those that follow the episode's guide, with a random sample selection, of which a schedule says
    nothing. Lengths of stretches are log-uniform, up to a third of the episode (that a rate should fall
    for long is not found by short ones), or until the rate is a tenth or tenfold.

    Args:
        episode: the `Episode`.
        actions: the `Actions`.
        greedy: a function (groups, D) → (groups,) actions; of no use to schedules and random ones.
        epsilon: ε.
        decisions: of a whole episode.
        is_hopeless: a function of a `Report`: whether the episode is to be cut off.
    """

    def __init__(
        self, episode, actions, greedy, epsilon, decisions, is_hopeless=lambda report: False
    ):
        self.episode, self.actions, self.greedy = episode, actions, greedy
        self._is_hopeless = is_hopeless
        self.schedule = episode.schedule and Schedule(**episode.schedule)
        self.guide = episode.guide and Schedule(**episode.guide)
        self.epsilon = {RANDOM: 1.0, GUIDED: 1.0, TRAIN: epsilon}.get(episode.kind, 0.0)
        self._longest = max(STRETCH * decisions, 1.0)
        self._rng = np.random.default_rng((episode.seed, 2))
        self._stretch, self._left = None, 0  # its actions (None: the guide's), and decisions left
        self._selection = None  # of the guide's actions
        self._observations, self._actions, self._usable = [], [], []
        self._costs, self._gaps, self._steps, self._rates = [], [], [], []
        self.reports, self.report = 0, None  # how many, and the last
        self.ended = ""

    def decide(self, report):
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

    def _decide(self, report):
        groups = len(report.rates)
        if self.schedule is not None:
            rate = self.actions.within(self.schedule(report.step))
            nearest, usable = zip(
                *(self.actions.nearest(rate / before) for before in report.rates), strict=True
            )
            self._remember(nearest, usable)
            return rate
        explores = self._is_exploring(groups)
        choices = self._explored(report) if explores else self.greedy(report.observation)
        choices = [int(c) for c in choices]
        self._remember(choices, [True] * groups)
        return choices

    def recall(self, report, taken):
        """Takes a `Report` in of which is known what was done then."""
        self.decide(report)
        if isinstance(taken, list):
            self._actions[-1] = taken
        self.ended = report.ended or (TRUNCATED if taken == STOP else "")

    def _is_exploring(self, groups):
        if self._left == 0 and self._rng.random() < self.epsilon:
            share = {GUIDED: 1.0, RANDOM: 0.0}.get(self.episode.kind, FOLLOWED)
            follow = self.guide is not None and self._rng.random() < share
            longest = self._longest
            if follow:
                self._stretch, self._selection = (
                    None,
                    str(self._rng.choice(self.actions.sample_selection)),
                )
            else:
                self._stretch = self._drawn(groups)
                # By a decision, of the rate that moves the most.
                moved = max(abs(np.log(self.actions.all[a][0])) for a in self._stretch)
                longest = np.clip(np.log(REACH) / max(moved, 1e-6), 1.0, longest)
            self._left = int(np.exp(self._rng.uniform(0, np.log(longest))))
        if self._left == 0:
            return False
        self._left -= 1
        return True

    def _drawn(self, groups):
        """Random actions, one for each group."""
        if groups == 1 or self._rng.random() < TOGETHER:
            return [int(self._rng.integers(len(self.actions)))] * groups
        return self._rng.integers(len(self.actions), size=groups).tolist()

    def _explored(self, report):
        if self._stretch is not None:
            return self._stretch
        rate = float(self.guide(report.step))
        return [self.actions.nearest(rate / before, self._selection)[0] for before in report.rates]

    def _remember(self, actions, usable):
        self._actions.append(actions)
        self._usable.append(usable)

    @property
    def costs(self):
        """Of the chunks so far."""
        return np.array(self._costs)

    @property
    def least_gap(self):
        """To the goal; at least 0."""
        return _least(self._gaps)

    @property
    def is_begun(self):
        """Whether there was a transition."""
        return len(self._observations) > 1

    def history(self):
        """`{name: array}`: of each decision the step, the gap, the rates before it, and the actions."""
        return {
            "steps": np.array(self._steps),
            "gaps": np.array(self._gaps),
            "rates": np.stack(self._rates),
            "actions": np.array(self._actions),
        }

    def trajectory(self):
        """The `Trajectory`."""
        return Trajectory(
            observations=np.stack(self._observations).astype("float32"),
            actions=np.array(self._actions[:-1]),
            usable=np.array(self._usable[:-1]),
            costs=self.costs,
            gaps=np.array(self._gaps),
            ended=self.ended,
        )


def _least(gaps):
    return max(float(np.nanmin(gaps)), 0.0)
