"""Which episode comes next: schedules, then training and testing by turns, then the contest."""

from dataclasses import dataclass, field, replace

import numpy as np

from .schedules import KINDS, Schedule, propose

SCHEDULE, RANDOM, GUIDED = "schedule", "random", "guided"
TRAIN, TEST, CONTEST = "train", "test", "contest"
RETESTED = 3  # best schedules, each on fresh seeds
CANDIDATES = 5  # snapshots that stay
NEIGHBOURS, PRIOR = 3, 2.0  # how many snapshots on each side tell of one, and as how many tests
TRAININGS_A_TEST = 2
START_RANGE = (0.5, 50.0)  # multiples of the compiled rate that episodes may begin with


@dataclass
class Episode:
    """One training.

    Attributes:
        number: counted from 0; the trial is named by it.
        kind: of this module's constants.
        seed: of everything random in it.
        schedule: its rates, as a configuration; None if actions are chosen.
        snapshot: of the network that chooses them; None for the present one.
        progress: of learning, 0 to 1.
        guide: a schedule that exploration follows, as a configuration.
        cost: what its goal has cost, the whole budget if it was not reached; or the objective,
            lower is better. None while it goes on, and for good if its training failed.
        lack: how much worse it counts in comparisons, as it has missed its goal: cost · gap.
        hit: whether the goal was reached.
        ended: how.
    """

    number: int
    kind: str
    seed: int
    schedule: dict | None = None
    snapshot: int | None = None
    progress: float = 0.0
    guide: dict | None = None
    cost: float | None = None
    lack: float = 0.0
    hit: bool = False
    ended: str = ""

    @property
    def rank(self):
        """What episodes are compared by, lower is better."""
        return self.cost + self.lack


@dataclass
class Curriculum:
    """Plans `total` episodes.

    1. `schedules` of them search schedules (`schedules.propose`); the last third of these trains the
       `RETESTED` best again on fresh seeds. The first few, `randoms`, take random actions.
    2. `guided` episodes follow the best schedules by actions, the nearest ones.
    3. Of the others, every sixth follows a schedule near one of the best, and every third is a test:
       the present network becomes a snapshot, and acts greedily on a fresh seed.
    4. `finals` more tests find the best snapshot. With n tests of a snapshot,

           m = (sum of costs + 2 · mean cost of its neighbours) / (n + 2),   b = s / √(n + 2)

       where its neighbours are the three snapshots before it, the three after it, and itself, and s is
       the standard deviation of tests around the means of their snapshots. The next test is of the one
       with the least m − b; the best one has the least m + b.
    5. The contest: the best snapshot and the best schedule on the same `contest` fresh seeds each.

    Args:
        total: episodes.
        schedules, randoms, guided, finals, contest: their numbers, of schedule searches, of random
            episodes, of guided ones, of last tests, and of seeds in the contest.
        bounds: of learning rates.
        seed: of the search.
        random_starts: the share of training and random episodes that begin with another rate.
        cut: how many times the cost of the best schedule a training or guided episode may have.
        budget: steps of an episode; None until the first has told.
    """

    total: int
    schedules: int
    randoms: int
    guided: int
    finals: int
    contest: int
    bounds: tuple
    seed: int
    random_starts: float = 0.0
    cut: float = np.inf
    budget: int | None = None
    episodes: list = field(default_factory=list)
    dropped: list = field(default_factory=list)  # snapshots that are no candidates any more

    def start(self, episode):
        """The learning rate that an episode begins with, as a multiple of the compiled one."""
        rng = np.random.default_rng((episode.seed, 1))
        if episode.kind not in (TRAIN, RANDOM) or rng.random() >= self.random_starts:
            return 1.0
        return float(np.exp(rng.uniform(*np.log(START_RANGE))))

    def limit(self, episode):
        """What an episode may cost before it is hopeless."""
        ranked = self.schedules_ranked()
        if episode.kind not in (TRAIN, GUIDED) or not ranked:
            return np.inf
        return self.cut * float(np.mean(ranked[0][1]))

    def check(self):
        """Whether there is anything to learn in.

        Raises:
            ValueError: There is not.
        """
        before = self.randoms + self.schedules + self.guided
        if before + self.finals + 2 * self.contest + TRAININGS_A_TEST >= self.total:
            raise ValueError(
                f"`max_trials={self.total}` leaves no episode to learn in: random ones take "
                f"{self.randoms}, schedules {self.schedules}, guided ones {self.guided}, the last tests "
                f"{self.finals}, the contest {2 * self.contest}, and there must be a test."
            )

    # -- what comes next ---------------------------------------------------------------------

    def next(self):
        """The next `Episode`; None where others must end before, or all have begun."""
        number = len(self.episodes)
        if number >= self.total:
            return None
        tests = self.total - 2 * self.contest
        if number < tests - self.finals:
            episode = self._learning(number, tests - self.finals)
        elif number < tests:
            episode = Episode(
                number, TEST, self._seed(number), snapshot=self._promising(number), progress=1.0
            )
        elif any(e.ended == "" for e in self.episodes[:tests]):
            return None  # the contestants are not known yet
        else:
            episode = self._contest(number, number - tests)
        self.episodes.append(episode)
        return episode

    def _learning(self, number, learning):
        if number < self.randoms:
            return Episode(number, RANDOM, self._seed(number), progress=0.0)
        number_of_schedule = number - self.randoms
        if number_of_schedule < self.schedules:
            return self._schedule(number, number_of_schedule)
        begun = number_of_schedule - self.schedules - self.guided
        if begun < 0:
            return Episode(number, GUIDED, self._seed(number), guide=self._guide(number, 0.0))
        of = max(learning - self.randoms - self.schedules - self.guided, 1)
        if begun % (TRAININGS_A_TEST + 1) == TRAININGS_A_TEST:
            return Episode(number, TEST, self._seed(number), snapshot=number, progress=begun / of)
        # Single actions do not find another schedule; following a near one through does.
        kind = GUIDED if begun % (TRAININGS_A_TEST + 1) == 0 and begun % 2 == 0 else TRAIN
        guide = self._guide(number, 0.2)
        return Episode(number, kind, self._seed(number), progress=begun / of, guide=guide)

    def _guide(self, number, spread):
        """One of the best schedules known, with other rates and another length by that spread."""
        ranked = self.schedules_ranked()[:RETESTED]
        if not ranked:
            return None
        rng = np.random.default_rng((self.seed, 2, number))
        best = Schedule(**ranked[int(rng.integers(len(ranked)))][0])
        peak, over = np.exp(spread * rng.standard_normal(2) * (1, 1.5))
        return replace(
            best, peak=best.peak * float(peak), over=best.over * float(over)
        ).get_config()

    def _schedule(self, number, of_schedule):
        rng = np.random.default_rng((self.seed, 1, number))
        searched = self.schedules - self.schedules // 3
        first = [e for e in self._done(SCHEDULE) if e.number - self.randoms < searched]
        if of_schedule < searched or not first:
            tried = [(Schedule(**e.schedule), self.rank(e)) for e in self._done(SCHEDULE)]
            budget = self.budget or 1000
            schedule = propose(of_schedule, searched, tried, *self.bounds, budget, rng).get_config()
        else:
            ranked = sorted(first, key=self.rank)
            place = (of_schedule - searched) % RETESTED
            schedule = ranked[min(place, len(ranked) - 1)].schedule
        return Episode(number, SCHEDULE, self._seed(number), schedule=schedule)

    def _promising(self, number):
        """The snapshot that may turn out to be the best; the present network if there is none."""
        going_on = [e.snapshot for e in self.episodes if e.kind == TEST and not e.ended]
        low = {}
        for snapshot, costs, mean, bound in self._estimates():
            tests = len(costs) + PRIOR
            low[snapshot] = mean - bound * np.sqrt(tests / (tests + going_on.count(snapshot)))
        return min(low, key=low.get, default=number)

    def _contest(self, number, place):
        snapshots, schedules = self.snapshots_ranked(), self.schedules_ranked()
        episode = Episode(number, CONTEST, self._seed(place // 2, contest=True))
        if (place % 2 == 0 and snapshots) or not schedules:
            episode.snapshot = snapshots[0][0] if snapshots else None
        else:
            episode.schedule = schedules[0][0]
        return episode

    def _seed(self, number, contest=False):
        words = (self.seed, int(contest), number, 7)
        return int(np.random.SeedSequence(words).generate_state(1)[0])

    # -- what has come out -------------------------------------------------------------------

    def rank(self, episode):
        """What an episode is compared by: its rank; the worst known one if it has come to nothing."""
        if np.isfinite(episode.rank):
            return episode.rank
        known = [e.rank for e in self.episodes if e.cost is not None and np.isfinite(e.rank)]
        return max(known, default=0.0)

    def _done(self, *kinds):
        return [e for e in self.episodes if e.kind in kinds and e.cost is not None]

    def schedules_ranked(self, kinds=KINDS):
        """`[(configuration, ranks)]` of searched schedules of these kinds, best first."""
        costs = {}
        for episode in self._done(SCHEDULE):
            if episode.schedule["kind"] not in kinds:
                continue
            key = tuple(sorted(episode.schedule.items()))
            costs.setdefault(key, (episode.schedule, []))[1].append(self.rank(episode))
        # Those of the search had one seed; the best of many is partly luck. Retested ones come first.
        most = max((len(c) for _, c in costs.values()), default=0)
        retested = [entry for entry in costs.values() if len(entry[1]) > 1 or most == 1]
        return sorted(retested, key=lambda entry: float(np.mean(entry[1])))

    def best_schedule(self, kinds=KINDS):
        """The `Schedule`, and the episodes that have searched it; None if there is none."""
        ranked = self.schedules_ranked(kinds)
        if not ranked:
            return None
        of = [e for e in self._done(SCHEDULE) if e.schedule == ranked[0][0]]
        return Schedule(**ranked[0][0]), of

    def snapshots_ranked(self):
        """`[(snapshot, ranks, m + b)]` of tested snapshots, best first; see above."""
        ranked = [
            (snapshot, costs, mean + bound) for snapshot, costs, mean, bound in self._estimates()
        ]
        return sorted(ranked, key=lambda entry: entry[2])

    def best_snapshot(self):
        """`(snapshot, episodes)`: the best one, and its tests; None if there is none."""
        ranked = self.snapshots_ranked()
        if not ranked:
            return None
        best = ranked[0][0]
        return best, [e for e in self._done(TEST) if e.snapshot == best]

    def _estimates(self):
        """`[(snapshot, ranks, m, b)]` of tested snapshots, in their order."""
        costs = {}
        for episode in self._done(TEST):
            costs.setdefault(episode.snapshot, []).append(self.rank(episode))
        off = [c - np.mean(of) for of in costs.values() if len(of) > 1 for c in of]
        freedom = len(off) - sum(len(of) > 1 for of in costs.values())
        if freedom:
            spread = np.sqrt(np.sum(np.square(off)) / freedom)
        else:
            spread = np.std([c for of in costs.values() for c in of] or [0.0])
        ordered, found = sorted(costs), []
        for place, snapshot in enumerate(ordered):
            near = ordered[max(place - NEIGHBOURS, 0) : place + NEIGHBOURS + 1]
            around = np.mean([c for neighbour in near for c in costs[neighbour]])
            of, tests = costs[snapshot], len(costs[snapshot]) + PRIOR
            mean = (sum(of) + PRIOR * around) / tests
            found.append((snapshot, of, float(mean), float(spread / np.sqrt(tests))))
        return [entry for entry in found if entry[0] not in self.dropped]

    def drop_snapshots(self):
        """All but the best are no candidates any more, for good."""
        self.dropped += [snapshot for snapshot, *_ in self.snapshots_ranked()[CANDIDATES:]]

    def needed_snapshots(self):
        """Snapshots whose networks must stay."""
        ranked = [snapshot for snapshot, *_ in self.snapshots_ranked()]
        going_on = {e.snapshot for e in self.episodes if not e.ended and e.snapshot is not None}
        contest = {e.snapshot for e in self.episodes if e.kind == CONTEST}
        return (set(ranked[:CANDIDATES]) | going_on | contest) - {None}

    def verdict(self):
        """`(name, episodes of the policy, episodes of the schedule)` of the contest.

        name: "policy" or "schedule", whichever had the lower mean cost; None before there is one.
        """
        done = self._done(CONTEST)
        policy = [e for e in done if e.schedule is None]
        schedule = [e for e in done if e.schedule is not None]
        if not policy and not schedule:
            return None, policy, schedule
        mean = [np.mean([self.rank(e) for e in of]) if of else np.inf for of in (policy, schedule)]
        return ("policy" if mean[0] <= mean[1] else "schedule"), policy, schedule

    def better(self):
        """ "policy" or "schedule", whichever is to be used; None if there is neither.

        That is who has won the contest. Before one, it is the policy only if even the upper bound of its
        best snapshot is as good as the best schedule's mean.
        """
        winner, *_ = self.verdict()
        snapshots, schedules = self.snapshots_ranked(), self.schedules_ranked()
        if winner is not None or not (snapshots or schedules):
            return winner
        policy = snapshots[0][2] if snapshots else np.inf
        schedule = np.mean(schedules[0][1]) if schedules else np.inf
        return "policy" if policy <= schedule else "schedule"


def planned(total, schedules=None, randoms=None, guided=None, contest=None, **more):
    """A `Curriculum` whose numbers of episodes have defaults; `more`: its other arguments."""
    if schedules is None:  # less than some thirty find none worth following
        schedules = max(min(total // 3, 36), round(0.15 * total))
    randoms = max(round(0.02 * total), 1) if randoms is None else randoms
    guided = max(round(0.04 * total), 2) if guided is None else guided
    contest = min(10, total // 20) if contest is None else contest
    return Curriculum(total, schedules, randoms, guided, 2 * contest, contest, **more)
