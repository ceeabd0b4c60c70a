"""What is decided in an episode, and what is remembered of it."""

import numpy as np
import pytest
from qan_task import GOAL, a_report, add_episodes, made_up

from keras_drmad.tuners import Actions
from keras_drmad.tuners.qan.search.episode import CONTEST, SCHEDULE, TEST, TRAIN, Episode
from keras_drmad.tuners.qan.search.rollout import Rollout
from keras_drmad.tuners.qan.search.schedules import Schedule
from keras_drmad.tuners.qan.training.report import STOP

COSINE, CONSTANT = Schedule("cosine", 0.1, 16), Schedule("constant", 0.05)


def test_exploration_decays_until_four_fifths_of_the_training(tmp_path):
    oracle = made_up(tmp_path, epsilon=(0.5, 0.1))
    found = [
        oracle._rollout(Episode(0, TRAIN, seed=0, progress=progress)).exploration.epsilon
        for progress in (0.0, 0.4, 0.8, 1.0)
    ]
    assert found == pytest.approx([0.5, 0.3, 0.1, 0.1])


@pytest.mark.parametrize("kind, is_greedy", [(TRAIN, False), (TEST, True), (CONTEST, True)])
def test_tests_and_contest_are_greedy(kind, is_greedy):
    episode = Episode(0, kind, seed=3, snapshot=0, guide=CONSTANT)
    rollout = Rollout(episode, Actions(), lambda observed: [3], epsilon=1.0, decisions=30)
    decided = [rollout.decide(a_report()) for _ in range(50)]
    assert all(actions == [3] for actions in decided) == is_greedy


def test_what_schedules_did_is_remembered_as_actions():
    """Where there is an action that is near."""
    episode = Episode(0, SCHEDULE, seed=0, schedule=Schedule("step", 0.02, 6))
    rollout = Rollout(episode, Actions((0.1, 0.5, 1.0)), None, epsilon=0.0, decisions=4)
    for step, rate in ((0, 0.001), (3, 0.02), (6, 0.02), (9, 0.002)):
        rollout.decide(a_report(step=step, rates=np.full(1, rate)))
    found = rollout.trajectory()
    assert found.usable.ravel().tolist() == [False, True, True]
    assert found.actions.ravel().tolist()[1:] == [2, 0]


@pytest.mark.parametrize(
    "unit, spent, is_stopped",
    [
        ("seconds", {"seconds": 5.1, "step": 1}, True),
        ("seconds", {"seconds": 4.9, "step": 15}, False),
        ("steps", {"seconds": 99.0, "step": 4}, False),
        ("steps", {"seconds": 0.1, "step": 5}, True),
    ],
)
def test_episodes_are_stopped_early_by_the_unit_of_the_goal(tmp_path, unit, spent, is_stopped):
    oracle = made_up(tmp_path, goal=(*GOAL, unit), early_stop_factor=1.25)
    add_episodes(oracle, SCHEDULE, 4.0, schedule=COSINE)
    rollout = oracle._rollout(Episode(1, TRAIN, seed=0))
    assert (rollout.decide(a_report(**spent)) == STOP) == is_stopped
