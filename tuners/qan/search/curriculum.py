"""`Curriculum`: schedules first, then training and testing by turns, then the contest."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from keras_drmad.arguments import number, whole_number

from ...luck import PRIOR
from ..training.actions import Actions
from .episode import CONTEST, GUIDED, RANDOM, SCHEDULE, TEST, TRAIN, Episode
from .ranking import Ranking
from .schedules import Schedule, propose

RETESTED = 3  # best schedules, each on fresh seeds
CANDIDATES = 5  # snapshots that stay
TRAININGS_A_TEST = 2
PEAK_RANGE = (0.2, 200.0)  # multiples of the compiled rate that schedules are searched in
START_RANGE = (0.5, 50.0)  # multiples of the compiled rate that episodes may begin with
USUAL_BUDGET = 1000  # for the lengths of schedules, before the first episode has told


@dataclass
class Curriculum:
    """Plans `max_trials` episodes.

    1. `schedule_trials` of them search schedules (`schedules.propose`); the last third of these trains
       the `RETESTED` best again on fresh seeds. The first few, `random_trials`, take random actions.
    2. `guided_trials` episodes follow the best schedules by actions, the nearest ones.
    3. Of the others, every sixth follows a schedule near one of the best, and every third is a test:
       the present network becomes a snapshot, and acts greedily on a fresh seed.
    4. `final_tests` find the best snapshot: the next test is of the one with the least m − b, and the
       best one has the least m + b; see `Ranking`.
    5. The contest: the best snapshot and the best schedule on the same `contest` fresh seeds each.

    Args:
        max_trials: episodes.
        schedule_trials, random_trials, guided_trials, final_tests, contest: their numbers, of schedule
            searches, of random episodes, of guided ones, of last tests, and of seeds in the contest.
        bounds: of the peaks of schedules; see `peak_bounds`.
        seed: of the search.
        random_starts: the share of training and random episodes that begin with another rate.
        early_stop_factor: how many times the cost of the best schedule a training or guided episode may
            have.
        budget: steps of an episode; 0 until the first has told.
    """

    max_trials: int
    schedule_trials: int
    random_trials: int
    guided_trials: int
    final_tests: int
    contest: int
    bounds: tuple[float, float]
    seed: int
    random_starts: float = 0.0
    early_stop_factor: float = np.inf
    budget: int = 0
    episodes: list[Episode] = field(default_factory=list)
    dropped: list[int] = field(default_factory=list)  # snapshots that are no candidates any more

    @classmethod
    def with_defaults(
        cls,
        max_trials: int,
        schedule_trials: int | None = None,
        random_trials: int | None = None,
        guided_trials: int | None = None,
        contest: int | None = None,
        **more: Any,
    ) -> "Curriculum":
        """One whose numbers of episodes have defaults; `more`: its other arguments."""
        given = {"schedule_trials": schedule_trials, "random_trials": random_trials}
        given |= {"guided_trials": guided_trials, "contest": contest}
        known = {n: whole_number(n, value) for n, value in given.items() if value is not None}
        made, least = cls(max_trials, **_numbers(max_trials, known), **more), 0
        while (needed := cls(least, **_numbers(least, known), **more).least_trials) > least:
            least = needed  # more trials have more of the others, too
        if least > max_trials:
            made.least_trials = least
        return made

    def __post_init__(self) -> None:
        last = self.final_tests + 2 * self.contest
        self.least_trials = self._before_learning + last + TRAININGS_A_TEST + 1

    @property
    def ranking(self) -> Ranking:
        """Who is best by now."""
        return Ranking(self.episodes, self.dropped)

    def start(self, episode: Episode) -> float:
        """The learning rate that an episode begins with, as a multiple of the compiled one."""
        rng = np.random.default_rng((episode.seed, 1))
        if episode.kind not in (TRAIN, RANDOM) or rng.random() >= self.random_starts:
            return 1.0
        return float(np.exp(rng.uniform(*np.log(START_RANGE))))

    def limit(self, episode: Episode) -> float:
        """What an episode may cost before it is hopeless."""
        best = self.ranking.best_schedule()
        if episode.kind not in (TRAIN, GUIDED) or best is None:
            return np.inf
        return self.early_stop_factor * best.mean

    def check(self) -> None:
        """Whether there is anything to learn in.

        Raises:
            ValueError: There is not, or numbers are out of range.
        """
        number("random_starts", self.random_starts, 0, 1)
        number("early_stop_factor", self.early_stop_factor, 1)
        if self.least_trials > self.max_trials:
            raise ValueError(
                f"`max_trials` must be at least {self.least_trials}, or there is no episode to learn "
                f"in: random ones take {self.random_trials}, schedules {self.schedule_trials}, guided "
                f"ones {self.guided_trials}, the last tests {self.final_tests}, the contest "
                f"{2 * self.contest}, and there must be a test. Received: max_trials={self.max_trials}"
            )

    @property
    def _before_learning(self) -> int:
        return self.random_trials + self.schedule_trials + self.guided_trials

    # -- what comes next ---------------------------------------------------------------------

    def next(self) -> Episode | None:
        """The next `Episode`; None where others must end before, or all have begun."""
        number = len(self.episodes)
        contest = self.max_trials - 2 * self.contest  # where it begins
        if number >= self.max_trials:
            return None
        if number < self.random_trials:
            episode = self._episode(RANDOM, number)
        elif number < self.random_trials + self.schedule_trials:
            episode = self._schedule(number, number - self.random_trials)
        elif number < self._before_learning:
            episode = self._episode(GUIDED, number, guide=self._guide(number, 0.0))
        elif number < contest - self.final_tests:
            episode = self._learning(number, contest - self.final_tests - self._before_learning)
        elif number < contest:
            episode = self._episode(TEST, number, snapshot=self._promising(number), progress=1.0)
        elif any(e.ended == "" for e in self.episodes[:contest]):
            return None  # the contestants are not known yet
        else:
            episode = self._contest(number, number - contest)
        self.episodes.append(episode)
        return episode

    def _episode(self, kind: str, number: int, **more: Any) -> Episode:
        return Episode(number, kind, self._seed(number), **more)

    def _seed(self, number: int, contest: bool = False) -> int:
        words = (self.seed, int(contest), number, 7)
        return int(np.random.SeedSequence(words).generate_state(1)[0])

    def _schedule(self, number: int, place: int) -> Episode:
        """Another schedule or, in the last third, the next one of the best."""
        rng = np.random.default_rng((self.seed, 1, number))
        searched = self.schedule_trials - self.schedule_trials // 3
        ranking = self.ranking
        done = ranking.done(SCHEDULE)
        first = [e for e in done if e.number - self.random_trials < searched]
        if place >= searched and first:
            ranked = sorted(first, key=ranking.rank)
            again = min((place - searched) % RETESTED, len(ranked) - 1)
            return self._episode(SCHEDULE, number, schedule=ranked[again].schedule)
        tried = [(e.schedule, ranking.rank(e)) for e in done if e.schedule is not None]
        budget = self.budget or USUAL_BUDGET
        schedule = propose(place, searched, tried, *self.bounds, budget, rng)
        return self._episode(SCHEDULE, number, schedule=schedule)

    def _learning(self, number: int, total: int) -> Episode:
        """One of `total` episodes of training and testing by turns."""
        begun = number - self._before_learning
        progress = begun / total
        if begun % (TRAININGS_A_TEST + 1) == TRAININGS_A_TEST:
            return self._episode(TEST, number, snapshot=number, progress=progress)
        # Single actions do not find another schedule; following a near one through does.
        kind = GUIDED if begun % (TRAININGS_A_TEST + 1) == 0 and begun % 2 == 0 else TRAIN
        return self._episode(kind, number, progress=progress, guide=self._guide(number, 0.2))

    def _guide(self, number: int, spread: float) -> Schedule | None:
        """One of the best schedules known, with other rates and another length by that spread."""
        ranked = self.ranking.schedules()[:RETESTED]
        if not ranked:
            return None
        rng = np.random.default_rng((self.seed, 2, number))
        best = ranked[int(rng.integers(len(ranked)))].schedule
        peak, over = np.exp(spread * rng.standard_normal(2) * (1, 1.5))
        return replace(best, peak=best.peak * float(peak), over=best.over * float(over))

    def _promising(self, number: int) -> int:
        """The snapshot that may turn out to be the best; the present network if there is none."""
        going_on = [e.snapshot for e in self.episodes if e.kind == TEST and not e.ended]
        low = {}
        for snapshot in self.ranking.estimates():
            tests = len(snapshot.episodes) + PRIOR
            bound = snapshot.bound * np.sqrt(tests / (tests + going_on.count(snapshot.number)))
            low[snapshot.number] = snapshot.mean - bound
        return min(low, key=lambda snapshot: low[snapshot], default=number)

    def _contest(self, number: int, place: int) -> Episode:
        """Of policy and schedule by turns, on the same seeds."""
        snapshot, schedule = self.ranking.best_snapshot(), self.ranking.best_schedule()
        episode = Episode(number, CONTEST, self._seed(place // 2, contest=True))
        if schedule is None or (place % 2 == 0 and snapshot is not None):
            episode.snapshot = None if snapshot is None else snapshot.number
        else:
            episode.schedule = schedule.schedule
        return episode

    # -- snapshots that stay -----------------------------------------------------------------

    def drop_snapshots(self) -> None:
        """All but the best are no candidates any more, for good."""
        self.dropped += [snapshot.number for snapshot in self.ranking.snapshots()[CANDIDATES:]]

    def needed_snapshots(self) -> set[int]:
        """Snapshots whose networks must stay."""
        needed = {snapshot.number for snapshot in self.ranking.snapshots()[:CANDIDATES]}
        acting = [e.snapshot for e in self.episodes if not e.ended or e.kind == CONTEST]
        return needed | {snapshot for snapshot in acting if snapshot is not None}

    # -- files -------------------------------------------------------------------------------

    def settings(self) -> dict[str, Any]:
        """What must be the same when a search goes on; `final_tests` follow from `contest`."""
        names = ("max_trials", "schedule_trials", "random_trials", "guided_trials", "contest")
        return {n: getattr(self, n) for n in (*names, "random_starts", "early_stop_factor")}

    def get_state(self) -> dict[str, Any]:
        return {
            "curriculum_seed": self.seed,
            "episodes": [episode.get_state() for episode in self.episodes],
            "dropped": self.dropped,
            "budget": self.budget,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        self.seed, self.dropped, self.budget = (
            state[name] for name in ("curriculum_seed", "dropped", "budget")
        )
        self.episodes = [Episode.from_state(episode) for episode in state["episodes"]]


def peak_bounds(start_rate: float, actions: Actions) -> tuple[float, float]:
    """Bounds of schedules' peaks where trainings are compiled with a rate, within those of actions."""
    low, high = (actions.within(start_rate * multiple) for multiple in PEAK_RANGE)
    return low, high


def _numbers(max_trials: int, given: dict[str, int]) -> dict[str, Any]:
    """The numbers of episodes of each kind: those given, and defaults for the others."""
    numbers = {
        # Less than some thirty find none worth following.
        "schedule_trials": max(min(max_trials // 3, 36), round(0.15 * max_trials)),
        "random_trials": max(round(0.02 * max_trials), 1),
        "guided_trials": max(round(0.04 * max_trials), 2),
        "contest": min(10, max_trials // 20),
    } | given
    return numbers | {"final_tests": 2 * numbers["contest"]}
