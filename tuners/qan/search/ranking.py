"""`Ranking`: which schedule, which snapshot, and which of both is best by the episodes so far."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ... import luck
from ..training.goals import Goal
from .episode import CONTEST, SCHEDULE, TEST, Episode
from .schedules import KINDS, Schedule


class RankedSchedule(NamedTuple):
    """A schedule that was searched, the episodes that have done it, and their mean rank."""

    schedule: Schedule
    episodes: list[Episode]
    mean: float


class RankedSnapshot(NamedTuple):
    """A snapshot that was tested, its tests, and its m and b; see `Ranking`."""

    number: int
    episodes: list[Episode]
    mean: float
    bound: float

    @property
    def upper(self) -> float:
        """m + b, what snapshots are ranked by."""
        return self.mean + self.bound


class Contest(NamedTuple):
    """Episodes of the policy and of the schedule, and which had the lower mean rank, by name."""

    policy: list[Episode]
    schedule: list[Episode]
    winner: str | None  # None before there is an episode

    def gains(self) -> np.ndarray:
        """How much less the policy has cost on each seed that both had."""
        policy, schedule = (
            {e.seed: e.cost for e in of if e.cost is not None}
            for of in (self.policy, self.schedule)
        )
        return np.array([schedule[seed] - policy[seed] for seed in policy if seed in schedule])

    def is_clear(self) -> bool:
        """Whether the winner's mean gain is at least two standard errors, and above 0."""
        gains = self.gains() if self.winner == "policy" else -self.gains()
        if len(gains) < 2:
            return False
        return bool(gains.mean() > 0 and gains.mean() >= 2 * luck.standard_error(gains))


@dataclass(frozen=True)
class Ranking:
    """Compares episodes that have ended.

    The m and b of a snapshot are its tests' shrunken mean and bound; see `luck.shrunken`.

    Args:
        episodes: of the search.
        dropped: snapshots that are no candidates any more.
    """

    episodes: Sequence[Episode]
    dropped: Sequence[int] = ()

    def rank(self, episode: Episode) -> float:
        """What an episode is compared by: its rank; the worst known one if it has come to nothing."""
        if np.isfinite(episode.rank):
            return episode.rank
        return max((e.rank for e in self.episodes if np.isfinite(e.rank)), default=0.0)

    def mean_rank(self, episodes: Sequence[Episode]) -> float:
        """Of some episodes; infinite without any."""
        return float(np.mean([self.rank(e) for e in episodes])) if episodes else np.inf

    def done(self, kind: str) -> list[Episode]:
        """Episodes of a kind that have ended, and not failed."""
        return [e for e in self.episodes if e.kind == kind and e.cost is not None]

    def schedules(self, kinds: Sequence[str] = KINDS) -> list[RankedSchedule]:
        """Searched schedules of these kinds, best first."""
        episodes: dict[Schedule, list[Episode]] = {}
        for episode in self.done(SCHEDULE):
            if episode.schedule is not None and episode.schedule.kind in kinds:
                episodes.setdefault(episode.schedule, []).append(episode)
        # Those of the search had one seed; the best of many is partly luck. Retested ones come first.
        most = max(map(len, episodes.values()), default=0)
        retested = [
            RankedSchedule(schedule, of, self.mean_rank(of))
            for schedule, of in episodes.items()
            if len(of) > 1 or most == 1
        ]
        return sorted(retested, key=lambda ranked: ranked.mean)

    def best_schedule(self, kinds: Sequence[str] = KINDS) -> RankedSchedule | None:
        """None before there is one."""
        return next(iter(self.schedules(kinds)), None)

    def snapshots(self) -> list[RankedSnapshot]:
        """Tested snapshots, best first: by m + b."""
        return sorted(self.estimates(), key=lambda ranked: ranked.upper)

    def best_snapshot(self) -> RankedSnapshot | None:
        """None before there is one."""
        return next(iter(self.snapshots()), None)

    def estimates(self) -> list[RankedSnapshot]:
        """Tested snapshots in their order."""
        episodes: dict[int, list[Episode]] = {}
        for episode in self.done(TEST):
            if episode.snapshot is not None:
                episodes.setdefault(episode.snapshot, []).append(episode)
        ordered = sorted(episodes)
        estimates = luck.shrunken([[self.rank(e) for e in episodes[n]] for n in ordered])
        found = [
            RankedSnapshot(number, episodes[number], *estimate)
            for number, estimate in zip(ordered, estimates, strict=True)
        ]
        return [ranked for ranked in found if ranked.number not in self.dropped]

    def contest(self) -> Contest:
        """Of the best snapshot and the best schedule."""
        done = self.done(CONTEST)
        policy = [e for e in done if e.schedule is None]
        schedule = [e for e in done if e.schedule is not None]
        if not done:
            return Contest(policy, schedule, None)
        is_policy = self.mean_rank(policy) <= self.mean_rank(schedule)
        return Contest(policy, schedule, "policy" if is_policy else "schedule")

    def unreached(self, goal: Goal) -> str:
        """What there is to say where no schedule has reached the goal; "" where one has."""
        done = self.done(SCHEDULE)
        if goal.value is None or not done or any(episode.hit for episode in done):
            return ""
        return (
            f"No schedule has reached the goal, {goal}, in {len(done)} episodes: there is none to learn "
            "from, and none to be better than. Give episodes more `epochs`, choose a goal that is "
            "nearer, or let more schedules be tried (`schedule_trials`)."
        )

    def score_noise(self) -> float:
        """The standard deviation of costs that differ in the seed only; NaN if there are none."""
        groups: dict[object, list[float]] = {}
        for e in self.episodes:
            is_fixed = e.kind in (SCHEDULE, TEST, CONTEST)
            if is_fixed and e.cost is not None and np.isfinite(e.cost):
                groups.setdefault((e.schedule, e.snapshot), []).append(e.cost)
        return luck.spread(list(groups.values()))

    def better(self) -> str | None:
        """ "policy" or "schedule", whichever is to be used; None if there is neither.

        That is who has won the contest. Before one, it is the policy only if even the upper bound of its
        best snapshot is as good as the best schedule's mean.
        """
        if (winner := self.contest().winner) is not None:
            return winner
        snapshot, schedule = self.best_snapshot(), self.best_schedule()
        if snapshot is None and schedule is None:
            return None
        upper = np.inf if snapshot is None else snapshot.upper
        mean = np.inf if schedule is None else schedule.mean
        return "policy" if upper <= mean else "schedule"
