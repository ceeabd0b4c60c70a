"""Plans of episodes, and the search of schedules."""

import numpy as np
import pytest
from qan_task import GOAL

from keras_drmad.tuners import QANOracle
from keras_drmad.tuners.qan.search.curriculum import Curriculum
from keras_drmad.tuners.qan.search.episode import CONTEST, SCHEDULE, TEST
from keras_drmad.tuners.qan.search.schedules import Schedule, propose
from keras_drmad.tuners.qan.training.report import REACHED


def test_the_last_third_of_schedules_are_the_best_three_again():
    plan = Curriculum(40, 9, 1, 1, final_tests=2, contest=1, bounds=(0.01, 1), seed=0)
    for cost in (50.0, 5.0, 3.0, 9.0, 1.0, 7.0, 8.0, 99.0, 99.0, 99.0):
        episode = plan.next()
        episode.cost, episode.ended = cost, REACHED
    tried = [e for e in plan.episodes if e.kind == SCHEDULE]
    assert [e.schedule for e in tried[6:]] == [tried[place].schedule for place in (3, 1, 0)]
    assert len({str(e.schedule) for e in tried}) == 6 and len({e.seed for e in tried}) == 9


def curriculum(max_trials=60):
    numbers = {
        "schedule_trials": 9,
        "random_trials": 2,
        "guided_trials": 2,
        "final_tests": 6,
        "contest": 4,
    }
    return Curriculum(max_trials, bounds=(0.01, 1), seed=0, **numbers)


@pytest.mark.parametrize("trials, schedules", [(30, 10), (100, 33), (200, 36), (300, 45)])
def test_few_trials_search_schedules_long_enough_too(trials, schedules):
    assert QANOracle(goal=GOAL, max_trials=trials).curriculum.schedule_trials == schedules


def test_the_curriculum_holds_its_contest_on_the_same_fresh_seeds():
    plan = curriculum()
    while (episode := plan.next()) is not None:
        episode.cost, episode.ended, episode.hit = 100.0 - episode.number, REACHED, True
    kinds = [e.kind for e in plan.episodes]
    assert len(kinds) == 60 and kinds.count(SCHEDULE) == 9 and kinds.count(CONTEST) == 8
    contest = plan.episodes[-8:]
    assert [e.seed for e in contest[::2]] == [e.seed for e in contest[1::2]]
    others = [e.seed for e in plan.episodes[:-8]]
    assert not set(others) & {e.seed for e in contest} and len(set(others)) == len(others)
    assert all(e.snapshot is not None for e in contest[::2])
    assert all(e.schedule is not None for e in contest[1::2])


def test_the_contest_waits_for_all_tests():
    plan = curriculum()
    for _ in range(52):
        plan.next()
    for episode in plan.episodes[:-1]:
        episode.cost, episode.ended = 1.0, REACHED
    assert plan.next() is None
    plan.episodes[-1].ended = "failed"
    assert plan.next().kind == CONTEST


def test_the_last_tests_are_of_the_most_promising_snapshots():
    """The one that might be the best is tested until it has shown that it is not."""
    plan = curriculum()
    means, rng = {}, np.random.default_rng(0)
    while (episode := plan.next()) is not None:
        if episode.kind == TEST and episode.snapshot not in means:
            means[episode.snapshot] = 30.0 - 2 * len(means)  # learning makes them better
        mean = means.get(episode.snapshot, 50.0)
        episode.cost, episode.ended = mean + rng.normal(), REACHED
    last = [e.snapshot for e in plan.episodes[-14:-8]]
    tests = [e.snapshot for e in plan.episodes if e.kind == TEST and e.number < 60 - 14]
    assert tests == sorted(set(tests))  # each of the network as it was then
    assert set(last) <= set(tests[-3:])
    assert plan.episodes[-2].snapshot == tests[-1]


def test_schedules():
    assert Schedule("constant", 0.1)(500) == 0.1
    assert [Schedule("step", 0.1, 10)(t) for t in (9, 10)] == [0.1, pytest.approx(0.01)]
    assert Schedule("cosine", 0.1, 10)(5) == pytest.approx(0.05)
    cycle = Schedule("one_cycle", 0.1, 100)
    assert [cycle(0), cycle(30), cycle(65), cycle(100)] == pytest.approx([0.004, 0.1, 0.05, 0.001])


def test_the_search_of_schedules_goes_near_the_best():
    tried = [(Schedule("constant", 0.1), 10.0), (Schedule("constant", 0.001), 99.0)]
    near = [propose(8, 12, tried, 1e-4, 1, 100, np.random.default_rng(i)).peak for i in range(50)]
    assert 0.05 < np.exp(np.mean(np.log(near))) < 0.2
