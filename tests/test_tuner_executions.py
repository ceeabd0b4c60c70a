"""Executions of a trial: what was trained is not trained again, and what is pruned is not repeated."""

import itertools
import os
import pathlib
import signal

import keras
import keras_tuner
import numpy as np
import pytest
from drmad_task import make, result, scores, search, trials
from keras_tuner.engine.trial import Trial
from processes import all_killed, ended, started, starter

from keras_drmad.tuners.drmad.executions import Executions
from keras_drmad.tuners.drmad.outcome import Outcome
from keras_drmad.tuners.drmad.place import SCOUT, STAGE
from keras_drmad.tuners.drmad.pruning import CURVE, curve


@pytest.fixture
def trained(monkeypatch):
    """Which executions were trained; with `.stops`, before that many more one is broken off."""

    class Trained(list):
        stops = np.inf

    found, train = Trained(), Executions._trained

    def noted(self, execution, *arguments, **more):
        if found.stops == 0:
            raise KeyboardInterrupt
        found.stops -= 1
        found.append((self._trial_id, execution))
        return train(self, execution, *arguments, **more)

    monkeypatch.setattr(Executions, "_trained", noted)
    return found


def several(folder, **arguments):
    return make(folder, **{"max_trials": 2, "executions_per_trial": 3, **arguments})


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A search that nothing has stopped."""
    keras.utils.set_random_seed(0)
    return search(several(tmp_path_factory.mktemp("whole"), keep_checkpoints=2))


def same(tuner, whole):
    """Whether two searches have found the same, bit for bit."""
    assert scores(tuner) == scores(whole)
    for trial in trials(whole):
        a, b = (result(one, trial.trial_id) for one in (tuner, whole))
        for name in a.values:
            np.testing.assert_array_equal(a.values[name], b.values[name])
            np.testing.assert_array_equal(a.gradients[name], b.gradients[name])
    a, b = (one.get_best_models()[0].get_weights() for one in (tuner, whole))
    for mine, its in zip(a, b, strict=True):
        np.testing.assert_array_equal(mine, its)
    return True


def noting(folder, dies=None):
    """A search that notes its trainings in a file; a process kills itself before the `dies`th."""
    train, count = Executions._trained, itertools.count()

    def noted(self, execution, *arguments, **more):
        if next(count) == dies:
            os.kill(os.getpid(), signal.SIGKILL)
        with open(f"{folder}.txt", "a") as file:
            file.write(f"{self._trial_id} {execution}\n")
        return train(self, execution, *arguments, **more)

    Executions._trained = noted
    search(several(folder, keep_checkpoints=2, timeout=2))


EVERY = [f"{trial} {execution}" for trial in "01" for execution in range(3)]


@pytest.mark.slow
def test_after_sigkill_what_was_trained_is_not_trained_again(tmp_path, whole):
    folder = str(tmp_path / "killed")
    for _ in range(3):
        assert ended(started(noting, folder, 1), 60) == -signal.SIGKILL
    assert ended(started(noting, folder), 60) == 0
    assert pathlib.Path(f"{folder}.txt").read_text().splitlines() == EVERY
    assert same(several(folder), whole)


@pytest.mark.slow
def test_a_worker_goes_on_with_a_trial_of_one_that_was_killed(tmp_path, whole):
    folder = str(tmp_path / "many")
    start = starter(noting, folder)
    with all_killed({"chief": start("chief")}) as processes:
        environment = start.variables | {"KERASTUNER_TUNER_ID": "worker0"}
        processes["worker0"] = started(noting, folder, 2, environment=environment)
        assert ended(processes["worker0"], 60) == -signal.SIGKILL
        processes["worker1"] = start("worker1")
        assert [ended(processes[name], 90) for name in ("worker1", "chief")] == [0, 0]
    assert pathlib.Path(f"{folder}.txt").read_text().splitlines() == EVERY
    assert same(several(folder), whole)


def broken_off(folder, trained, stops):
    trained.stops = stops
    with pytest.raises(KeyboardInterrupt):
        search(several(folder, keep_checkpoints=2))
    trained.clear()
    trained.stops = np.inf
    return several(folder, keep_checkpoints=2)


def test_what_was_trained_is_not_trained_again(tmp_path, trained, whole):
    again = broken_off(tmp_path, trained, stops=2)
    assert same(search(again), whole)
    assert trained == [("0", 2), ("1", 0), ("1", 1), ("1", 2)]
    assert not list(pathlib.Path(tmp_path).rglob("execution_*"))


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["execution_0.npz", "checkpoint.weights.h5"])
def test_what_is_damaged_is_trained_again(tmp_path, trained, whole, damage, caplog):
    again = broken_off(tmp_path, trained, stops=2)
    path = pathlib.Path(again.project.folder) / "trial_0" / damage
    if damage.endswith("npz"):
        path.write_bytes(path.read_bytes()[:100])
    else:
        path.unlink()
    assert same(search(again), whole)
    assert trained[:3] == [("0", 0), ("0", 1), ("0", 2)]
    assert ("what one training of this trial gave" in caplog.text) is damage.endswith("npz")


def test_what_another_trial_of_the_same_number_gave_is_not_taken(tmp_path):
    path = str(tmp_path / "execution_0.npz")
    cost = {"steps": 9.0}
    given = Outcome({"loss": 0.1}, {"l2": np.ones(2)}, {}, True, 1.0, 0.3, cost, {0: 0.5})
    given.write(path, "one")
    assert Outcome.read(path, "another") is None
    found = Outcome.read(path, "one")
    np.testing.assert_array_equal(found.values.pop("l2"), given.values.pop("l2"))
    assert found == given


@pytest.mark.slow
def test_a_start_that_is_behind_is_trained_once(tmp_path, monkeypatch, trained):
    monkeypatch.setattr("keras_drmad.tuners.drmad.pruning.is_behind", lambda *_: True)
    search(several(tmp_path, max_trials=3, scouts=2))
    assert trained == [("0", 0), ("1", 0), ("2", 0), ("2", 1), ("2", 2)]


def test_a_worker_tells_a_chief_again_how_a_start_went(tmp_path, monkeypatch):
    """As one that was killed before it had written down that the trial ended."""
    tuner, told = make(tmp_path), []
    answer = Trial(None)
    monkeypatch.setattr(
        tuner.oracle, "update_trial", lambda *given, step: told.append((*given, step)) or answer
    )
    trial = Trial(keras_tuner.HyperParameters(), "7")
    executions = Executions(trial, None, None, tuner.oracle, None, 1, True, None, False, None)
    tuner._executions = executions
    tuner.tell_again()
    assert not told
    for epoch in range(2):
        executions._reporting.report(epoch, 0.5 - epoch)
    tuner.tell_again()
    assert told == [("7", {CURVE: 0.5}, 0), ("7", {CURVE: -0.5}, 1)] * 2


@pytest.mark.slow
def test_an_oracle_is_told_again_how_a_start_went(tmp_path, monkeypatch, trained):
    """It has forgotten that with its process; whether others are pruned depends on it."""
    trained.stops = 1
    with pytest.raises(KeyboardInterrupt):
        search(several(tmp_path, scouts=1))
    again = several(tmp_path, scouts=1)
    assert not again.oracle.trials["0"].metrics.exists(CURVE)
    trained.stops = np.inf
    search(again)
    first = trials(again)[0]
    assert first.hyperparameters.values[STAGE] == SCOUT
    assert trained[:2] == [("0", 0), ("0", 1)] and sorted(curve(first)) == [0, 1]
