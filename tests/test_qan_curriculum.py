"""Plans, who has won, and what is shown of it: of episodes that are made up."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib import pyplot
from qan_task import GOAL

from keras_drmad.tuners import Actions, QANOracle
from keras_drmad.tuners.qan import plots, summary
from keras_drmad.tuners.qan.agent.exploration import Behaviour
from keras_drmad.tuners.qan.search.curriculum import (
    CONTEST,
    RANDOM,
    SCHEDULE,
    TEST,
    TRAIN,
    Curriculum,
    Episode,
)
from keras_drmad.tuners.qan.search.schedules import Schedule, propose
from keras_drmad.tuners.qan.training.report import REACHED, STOP, TRUNCATED, Report
from keras_drmad.tuners.storage import files

COSINE, CONSTANT = Schedule("cosine", 0.1, 16), Schedule("constant", 0.05)


def made(folder, **arguments):
    arguments = {"goal": GOAL, "max_trials": 12, "schedule_trials": 2, "contest": 1} | arguments
    oracle = QANOracle(seed=0, network={"units": (4,)}, agent={"jit_compile": False}, **arguments)
    oracle._set_project_dir(str(folder), "p")
    oracle.curriculum.budget = 16
    return oracle


def add(oracle, kind, *costs, schedule=None, snapshot=None, hits=True):
    """Episodes that have ended; each kind has seeds from 0 on, as policy and schedule in a contest."""
    episodes = oracle.curriculum.episodes
    for seed, cost in enumerate(costs):
        episode = Episode(len(episodes), kind, seed, snapshot=snapshot, cost=cost, hit=hits)
        episode.schedule = schedule and schedule.get_config()
        episode.ended = REACHED if hits else TRUNCATED
        episodes.append(episode)


def report(**more):
    given = {"observation": np.zeros((1, 7)), "gap": 1.0, "step": 3, "cost": 1.0, "ended": ""}
    given |= {"metric": 0.9, "seconds": 1.0, "rates": np.full(1, 0.02)}
    return Report(**(given | more))


# -- plans ----------------------------------------------------------------------------------


def test_the_last_third_of_schedules_are_the_best_three_again():
    plan = Curriculum(40, 9, randoms=1, guided=1, finals=2, contest=1, bounds=(0.01, 1), seed=0)
    for cost in (50.0, 5.0, 3.0, 9.0, 1.0, 7.0, 8.0, 99.0, 99.0, 99.0):
        episode = plan.next()
        episode.cost, episode.ended = cost, REACHED
    tried = [e for e in plan.episodes if e.kind == SCHEDULE]
    assert [e.schedule for e in tried[6:]] == [tried[place].schedule for place in (3, 1, 0)]
    assert len({str(e.schedule) for e in tried}) == 6 and len({e.seed for e in tried}) == 9


def test_exploration_decays_until_four_fifths_of_the_training(tmp_path):
    oracle = made(tmp_path, epsilon=(0.5, 0.1))
    found = [
        oracle._behaviour(Episode(0, TRAIN, seed=0, progress=progress)).epsilon
        for progress in (0.0, 0.4, 0.8, 1.0)
    ]
    assert found == pytest.approx([0.5, 0.3, 0.1, 0.1])


@pytest.mark.parametrize("kind, is_greedy", [(TRAIN, False), (TEST, True), (CONTEST, True)])
def test_tests_and_contest_are_greedy(kind, is_greedy):
    guide = CONSTANT.get_config()
    episode = Episode(0, kind, seed=3, snapshot=0, guide=guide)
    behaviour = Behaviour(episode, Actions(), lambda observed: [3], epsilon=1.0, decisions=30)
    decided = [behaviour.decide(report()) for _ in range(50)]
    assert all(actions == [3] for actions in decided) == is_greedy


def test_what_schedules_did_is_remembered_as_actions():
    """Where there is an action that is near."""
    episode = Episode(0, SCHEDULE, seed=0, schedule=Schedule("step", 0.02, 6).get_config())
    behaviour = Behaviour(episode, Actions((0.1, 0.5, 1.0)), None, epsilon=0.0, decisions=4)
    for step, rate in ((0, 0.001), (3, 0.02), (6, 0.02), (9, 0.002)):
        behaviour.decide(report(step=step, rates=np.full(1, rate)))
    found = behaviour.trajectory()
    assert found.usable.ravel().tolist() == [False, True, True]
    assert found.actions.ravel().tolist()[1:] == [2, 0]


@pytest.mark.parametrize(
    "unit, spent, is_cut",
    [
        ("seconds", {"seconds": 5.1, "step": 1}, True),
        ("seconds", {"seconds": 4.9, "step": 15}, False),
        ("steps", {"seconds": 99.0, "step": 4}, False),
        ("steps", {"seconds": 0.1, "step": 5}, True),
    ],
)
def test_episodes_are_cut_off_by_the_unit_of_the_goal(tmp_path, unit, spent, is_cut):
    oracle = made(tmp_path, goal=(*GOAL, unit), cut=1.25)
    add(oracle, SCHEDULE, 4.0, schedule=COSINE)
    behaviour = oracle._behaviour(Episode(1, TRAIN, seed=0))
    assert (behaviour.decide(report(**spent)) == STOP) == is_cut


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


def curriculum(total=60):
    numbers = {"schedules": 9, "randoms": 2, "guided": 2, "finals": 6, "contest": 4}
    return Curriculum(total, bounds=(0.01, 1), seed=0, **numbers)


@pytest.mark.parametrize("trials, schedules", [(30, 10), (100, 33), (200, 36), (300, 45)])
def test_few_trials_search_schedules_long_enough_too(trials, schedules):
    assert QANOracle(goal=GOAL, max_trials=trials).curriculum.schedules == schedules


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


def test_snapshots_are_ranked_by_a_bound_not_by_one_lucky_test():
    plan = curriculum()
    costs = {1: [10.0], 2: [12, 12, 13, 11, 12, 12, 12, 12, 12], 3: [30, 20, 10]}
    for snapshot, of in costs.items():
        plan.episodes += [Episode(0, TEST, 0, snapshot=snapshot, cost=c, ended=REACHED) for c in of]
    assert next(snapshot for snapshot, *_ in plan.snapshots_ranked()) == 2


def test_a_lucky_test_among_bad_neighbours_counts_less_than_a_good_neighbourhood():
    plan = curriculum()
    for snapshot, cost in enumerate([30, 30, 30, 11, 30, 30, 30, 13, 12, 13, 12, 13, 12]):
        plan.episodes.append(
            Episode(0, TEST, 0, snapshot=snapshot, cost=float(cost), ended=REACHED)
        )
    assert plan.snapshots_ranked()[0][0] in (10, 11, 12)


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


# -- who has won ----------------------------------------------------------------------------


def held(folder, winner):
    """A contest, won by 4 and by 6."""
    oracle = made(folder)
    add(oracle, SCHEDULE, 14.0, schedule=COSINE)
    add(oracle, RANDOM, 16.0, 16.0, hits=False)
    add(oracle, TEST, 13.0, snapshot=1)
    oracle.learner.keep(1)
    better, worse = [8.0, 9.0], [12.0, 15.0]
    add(oracle, CONTEST, *(better if winner == "policy" else worse), snapshot=1)
    add(oracle, CONTEST, *(worse if winner == "policy" else better), schedule=COSINE)
    return oracle


def test_the_best_policy_is_who_has_won_the_contest(tmp_path):
    network = held(tmp_path, "policy").policy(0.02)
    schedule = held(tmp_path, "schedule").policy(0.02)
    assert network.network is not None and network.learning_rate is None
    assert schedule.network is None and schedule.learning_rate == COSINE


@pytest.mark.parametrize("winner", ["policy", "schedule"])
def test_the_summary_says_who_has_won_and_by_how_much(tmp_path, winner):
    said = re.search(r"The (\w+) is better, by (\S+)", summary.table(held(tmp_path, winner)))
    assert (said[1], float(said[2])) == (winner, 5.0)


def test_the_summary_lists_the_costs_and_hits_of_each(tmp_path):
    oracle = held(tmp_path, "policy")
    oracle.curriculum.episodes[-1].hit = False
    found = {name: (costs, hits) for name, costs, hits in summary.rows(oracle)}

    def row(*words):
        return next(of for name, of in found.items() if all(word in name for word in words))

    assert row("policy", "contest") == ([8.0, 9.0], 2)
    assert row("schedule", "contest") == ([12.0, 15.0], 1)
    assert row("policy", "tests") == ([13.0], 1)
    assert row("random") == ([16.0, 16.0], 0)
    lines = summary.table(oracle).splitlines()
    shown = {words: [n for n in lines if words in n] for words in ("policy, contest", "random")}
    assert all(n in shown["policy, contest"][0] for n in ("8.5", "2/2"))
    assert all(n in shown["random"][0] for n in ("16", "0/2"))


# -- pictures -------------------------------------------------------------------------------


@pytest.fixture
def drawn(tmp_path):
    oracle = made(tmp_path)
    yield SimpleNamespace(oracle=oracle, project=oracle.project)
    pyplot.close("all")


def test_the_map_of_actions_shows_what_they_multiply_by(drawn):
    add(drawn.oracle, TRAIN, 16.0)
    add(drawn.oracle, TEST, 9.0, snapshot=1)
    for trial, actions in (("00", [0, 4, 2, 1]), ("01", [4, 1, 0])):  # nothing comes of the last
        drawn.oracle.start_order.append(trial)
        taken = {"actions": np.array(actions)[:, None]}
        files.write_arrays(drawn.project.history(trial), decisions=taken)
    image = plots.actions(drawn).get_images()[0].get_array()
    np.testing.assert_allclose(image[0], [-1, 1, 0])
    np.testing.assert_allclose(image[1].compressed(), [1, np.log2(0.9)])


def test_the_best_constant_rate_has_a_line_of_its_own(drawn):
    add(drawn.oracle, SCHEDULE, 5.0, schedule=COSINE)
    add(drawn.oracle, SCHEDULE, 11.0, schedule=CONSTANT)
    lines = {line.get_label(): line for line in plots.learning_curve(drawn).get_lines()}
    for name, cost in (("best schedule", 5.0), ("constant", 11.0)):
        line = next(line for label, line in lines.items() if name in label)
        assert set(line.get_ydata()) == {cost}
