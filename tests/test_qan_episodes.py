"""What each episode of a search does and leaves behind."""

import dataclasses
from types import SimpleNamespace
from typing import ClassVar

import keras
import keras_tuner
import numpy as np
import pytest
import tensorflow as tf
from keras_tuner.engine.trial import Trial
from qan_task import make, search

from keras_drmad.tuners import Actions, Goal, Policy
from keras_drmad.tuners.qan.agent.learner import Learner
from keras_drmad.tuners.qan.agent.trajectory import Trajectory
from keras_drmad.tuners.qan.decision_channel import KIND, REFERENCE, START
from keras_drmad.tuners.qan.project import QANProject
from keras_drmad.tuners.qan.search.episode import CONTEST, SCHEDULE, TEST, TRAIN, Episode
from keras_drmad.tuners.qan.search.logs import EpisodeLogs
from keras_drmad.tuners.qan.search.rollout import Rollout
from keras_drmad.tuners.qan.training.filters import BagOfFilters
from keras_drmad.tuners.qan.training.regressor import Regressor
from keras_drmad.tuners.qan.training.report import DIVERGED, REACHED, TRUNCATED, Report
from keras_drmad.tuners.qan.training.states import Ratios, State, observe
from keras_drmad.tuners.storage import files

pytestmark = pytest.mark.slow

# -- a search -------------------------------------------------------------------------------


@keras.saving.register_keras_serializable(package="tests")
class Norm(State):
    """Of all weights, in a unit."""

    shape = (1,)

    def __init__(self, unit=1.0):
        self.unit = unit

    def observe(self, view):
        squares = [np.sum(v.numpy() ** 2) for of in view.variables for v in of]
        return np.full((len(view.rates), 1), np.sqrt(sum(squares)) / self.unit, "float32")

    def get_config(self):
        return {"unit": self.unit}


class Begun(keras.callbacks.Callback):
    """Each episode gets a copy."""

    seen: ClassVar = []

    def on_train_begin(self, logs=None):
        variables = (*self.model.variables, *self.model.optimizer.variables)
        self.seen.append({v.path: v.numpy() for v in variables})


class Seen(Regressor):
    """What it has held: steps, paths, and weights afterwards."""

    def __init__(self):
        super().__init__(0.01)
        self.held = []

    def regularize(self, model, path, view):
        super().regularize(model, path, view)
        self.held.append((view.step, path, [v.numpy() for v in model.trainable_variables]))


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    keras.utils.set_random_seed(0)
    tuner = make(
        tmp_path_factory.mktemp("searched"),
        goal=("val_loss", 1e-9),
        max_trials=15,
        states=[Ratios(), Norm(2.0), BagOfFilters(4, layer="a")],
        jump_start=3,
        regressor=Seen(),
        random_starts=0.5,
    )
    run_trial, begun, held, memory = tuner.run_trial, [], [], []

    def watched(trial, **more):
        memory.append(len(tuner.oracle.learner.agent.replay))
        Begun.seen, tuner.regressor.held = [], []
        results = run_trial(trial, **more)
        begun.append(Begun.seen)
        held.append(tuner.regressor.held)
        return results

    tuner.run_trial = watched
    search(tuner, epochs=1, callbacks=[Begun()])
    added = np.diff([*memory, len(tuner.oracle.learner.agent.replay)])
    episodes = tuner.oracle.curriculum.episodes
    trials = [tuner.oracle.trials[f"{e.number:02d}"] for e in episodes]
    return SimpleNamespace(
        tuner=tuner, episodes=episodes, trials=trials, begun=begun, held=held, added=added
    )


@pytest.fixture(scope="module")
def warm_start(searched):
    """All weights at the decisions of a training with the compiled rate."""
    training, weights = searched.tuner._training, []
    training.run(0, lambda report: weights.append(training.weights()) or 0.02)
    return weights


def test_episodes_jump_to_where_the_warm_start_was(searched, warm_start):
    start = files.read_arrays(searched.tuner.project.warm_start)["start"]
    start = [start[str(i)] for i in range(len(start))]
    for kept, at_step_3 in zip(start, warm_start[1], strict=True):
        np.testing.assert_allclose(kept, at_step_3, rtol=1e-5, atol=1e-7)
    assert [len(of) for of in searched.begun] == [1] * 15
    for (begun,) in searched.begun:
        for (path, value), kept in zip(begun.items(), start, strict=True):
            if not path.endswith("learning_rate"):
                np.testing.assert_array_equal(value, kept)


def test_words_lie_near_the_filters_of_the_warm_start(searched, warm_start):
    codebook = searched.tuner.oracle.states[2].codebook
    for kernel, *_ in warm_start:
        filters = (kernel / np.linalg.norm(kernel, axis=0)).T
        away = np.linalg.norm(filters[:, None] - codebook, axis=-1)
        assert away.min(0).max() < 0.1 and away.min(1).max() < 0.1


def test_the_regressor_holds_training_episodes_near_the_one_before(searched):
    """And no others."""
    kinds, held = [e.kind for e in searched.episodes], searched.held
    assert {SCHEDULE, TEST, CONTEST} <= set(kinds)
    _, second, third = (i for i, kind in enumerate(kinds) if kind == TRAIN)
    assert [i for i, of in enumerate(held) if of] == [second, third]
    assert [step for step, *_ in held[third]] == [0, 3, 6]
    path = held[third][0][1]
    for step, _, weights in held[second]:
        for before, value in zip(path.at(step), weights, strict=True):
            np.testing.assert_array_equal(before, value)
    # Neither oracle nor tuner relies on the other.
    asked = [trial.hyperparameters.values[REFERENCE] for trial in searched.trials]
    assert [i for i, name in enumerate(asked) if name] == [second, third]
    for kind in set(kinds):
        values = {KIND: kind, REFERENCE: asked[third]}
        trial = SimpleNamespace(hyperparameters=SimpleNamespace(values=values))
        assert (searched.tuner._regularizer(trial, None) is not None) == (kind == TRAIN)


def test_all_episodes_but_the_contests_fill_the_replay_memory(searched):
    """With three decisions each; a schedule's are usable where an action is near."""
    for episode, added in zip(searched.episodes, searched.added, strict=True):
        if episode.kind == CONTEST:
            assert added == 0
        elif episode.schedule is None or episode.schedule.kind == "constant":
            assert added == 3
    assert searched.episodes[1].schedule.kind == "constant"


def test_episodes_that_begin_like_a_policys_may_be_imitated(searched):
    """By their ranks: not schedules, nor those that began with another rate."""
    replay = searched.tuner.oracle.learner.agent.replay
    expected, others = [], 0
    for episode, trial, added in zip(
        searched.episodes, searched.trials, searched.added, strict=True
    ):
        is_comparable = episode.schedule is None and trial.hyperparameters.values[START] == 1.0
        others += episode.schedule is None and not is_comparable
        expected += [-episode.rank if is_comparable else -np.inf] * int(added)
    assert others and len(set(expected)) > 5
    np.testing.assert_allclose(replay.scores[: len(replay)], expected, rtol=1e-6)


def test_a_state_of_ones_own_is_saved_with_the_policy(searched, tmp_path):
    policy = searched.tuner.get_best_policy("network")
    policy.save(tmp_path / "policy.keras")
    loaded = Policy.load(tmp_path / "policy.keras")
    assert isinstance(loaded.states[1], Norm) and loaded.states[1].unit == 2.0
    training = searched.tuner._training
    reports, _ = training.run(0, loaded.decide)
    norm = np.sqrt(sum(np.sum(w**2) for w in training.model.get_weights()))
    assert reports[-1].observation[0, len(Ratios.FEW)] == pytest.approx(norm / 2, rel=1e-5)
    again = observe(loaded.states, training.callback.view)
    np.testing.assert_array_equal(again, reports[-1].observation)
    assert [loaded.decide(report) for report in reports] == list(map(policy.decide, reports))


# -- outcomes -------------------------------------------------------------------------------


def ended(how, metric=0.9, step=6):
    """After 6 steps of 16, in 3 s."""
    return Report(np.zeros((1, 7)), 0.5, step, 1.0, how, metric, 3.0, np.full(1, 0.02))


def outcome(tuner, report):
    view = SimpleNamespace(budget=16)
    callback = SimpleNamespace(validating=1.5, deciding=2.5, view=view)
    return tuner._outcome([ended(""), report], SimpleNamespace(callback=callback, budget=16))


@pytest.mark.parametrize("how, share", [(REACHED, 1), (TRUNCATED, 16 / 6), (DIVERGED, 16 / 6)])
def test_a_miss_costs_the_whole_budget_in_the_goals_unit(tmp_path, how, share):
    for unit, spent in (("steps", 6), ("seconds", 3.0)):
        tuner = make(tmp_path, goal=("val_loss", 0.6, unit))
        found = outcome(tuner, ended(how))
        assert found[f"{unit}_to_goal"] == pytest.approx(spent * share)
        assert tuner.goal.spent(ended(how)) == spent
        assert (found["validating"], found["deciding"]) == (1.5, 2.5)


def test_a_training_without_a_step_is_not_a_quick_one(tmp_path):
    """Its initial weights give NaN."""
    for unit, spent in (("steps", 16), ("seconds", np.inf)):
        tuner = make(tmp_path, goal=("val_loss", 0.6, unit))
        report = dataclasses.replace(ended(DIVERGED, step=0), seconds=0.0)
        assert outcome(tuner, report)[f"{unit}_to_goal"] == spent


@pytest.mark.parametrize("direction, worst", [("min", np.inf), ("max", -np.inf)])
def test_a_divergence_is_the_worst_objective(tmp_path, direction, worst):
    objective = keras_tuner.Objective("val_x", direction)
    tuner = make(tmp_path, goal=None, objective=objective)
    assert outcome(tuner, ended(TRUNCATED))["val_x"] == 0.9
    assert outcome(tuner, ended(DIVERGED))["val_x"] == worst
    assert outcome(tuner, ended(TRUNCATED, np.inf))["val_x"] == worst


# -- learning -------------------------------------------------------------------------------


def project(folder):
    of = QANProject()
    of.folder = str(folder)
    return of


@pytest.fixture
def learner(tmp_path):
    arguments = {"network": {"units": (4,)}, "agent": {"jit_compile": False}, "gradient_steps": 4}
    arguments |= {"states": [Ratios(["rate", "gap"])], "actions": Actions(), "shaping": 5.0}
    arguments |= {"pretrained": None, "project": project(tmp_path), "seed": 0}
    return Learner(goal=Goal("val_loss", 0.1), **arguments)


def test_the_agent_learns_as_often_as_it_is_told(learner, monkeypatch):
    learned = []
    monkeypatch.setattr(learner.agent, "learn", lambda steps, *more: learned.append(steps) or {})
    episode = Trajectory(
        observations=np.ones((4, 1, 2), "float32"),
        actions=np.array([[0], [1], [2]]),
        usable=np.ones((3, 1), bool),
        costs=np.ones(3),
        gaps=np.array([2.0, 1.0, 0.5, 0.75]),
        ended=REACHED,
    )
    learner.learn(episode, 0.0, None, 0.0)
    assert learned == [3 * 4]


def test_snapshots_are_of_the_running_average(learner):
    fast = learner.agent.network.get_weights()
    slow = [w + 1 for w in fast]
    learner.agent.target.set_weights(slow)
    learner.take_snapshot(1)
    for kept, average in zip(learner.snapshots.weights(1), slow, strict=True):
        np.testing.assert_array_equal(kept, average)


# -- logs -----------------------------------------------------------------------------------


def test_tensorboards_histogram_is_of_the_actions(tmp_path):
    logs = EpisodeLogs(project(tmp_path))
    logs.folder = str(tmp_path)
    choices = iter([[1], [3], [3], [4]])
    episode = Episode(3, TEST, seed=0, snapshot=0)
    rollout = Rollout(episode, Actions(), lambda observed: next(choices), 0.0, decisions=4)
    for step, how in enumerate(("", "", "", TRUNCATED)):
        rollout.decide(ended(how, step=step))
    trial = Trial(keras_tuner.HyperParameters(), "3", "RUNNING")
    trial.metrics.register("steps_to_goal", "min")
    trial.metrics.update("steps_to_goal", 16.0)
    logs.record(trial, episode, rollout, {}, "steps_to_goal")
    (written,) = (tmp_path / "agent").glob("events*")
    values = [
        (event.step, tf.make_ndarray(value.tensor))
        for event in tf.compat.v1.train.summary_iterator(str(written))
        for value in event.summary.value
        if value.tag == "actions"
    ]
    ((step, buckets),) = values
    counted = [bucket for bucket in buckets if bucket[2]]  # (left, right, count)
    assert step == 3 and [count for *_, count in counted] == [1, 2, 1]
    for (left, right, _), action in zip(counted, (1, 3, 4), strict=True):
        assert left <= action <= right
