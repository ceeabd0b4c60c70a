"""The oracle of `DrMADTuner`: killed at every write, a full disk; and what it refuses."""

import itertools
import os

import keras
import keras_tuner
import numpy as np
import pytest
from oracle_trials import end, make, place, rate

from keras_drmad.tuners import DrMADOracle
from keras_drmad.tuners.storage import files


@pytest.fixture
def oracle(tmp_path):
    return make(tmp_path, meta_optimizer=keras.optimizers.SGD(1.0))


# -- coming back ----------------------------------------------------------------------------


class Killed(BaseException):
    pass


def scripted(oracle, trial):
    """A training whose outcome depends on the hyperparameters only."""
    r = rate(oracle, trial)
    end(oracle, trial, score=(r + 1) ** 2, g=2 * (r + 1) * 0.2)


def play(folder, **arguments):
    """Searches to the end; `(rates, scores)` by trial."""
    oracle = make(folder, max_trials=6, meta_optimizer=keras.optimizers.Adam(0.3), **arguments)
    if os.path.exists(folder / "project" / "oracle.json"):
        oracle.reload()
    while (trial := oracle.create_trial("a")).status == "RUNNING":
        scripted(oracle, trial)
    return [
        (name, t.score, t.status, t.hyperparameters.values)
        for name, t in sorted(oracle.trials.items())
    ]


CHOICES = {"space": True, "meta_iterations": 2}


@pytest.mark.parametrize(
    "write, more", [(w, {}) for w in range(40)] + [(w, CHOICES) for w in range(2, 30, 5)]
)
def test_killed_at_any_write_it_ends_the_same(tmp_path, monkeypatch, write, more):
    undisturbed = play(tmp_path / "undisturbed", **more)
    replace, count = os.replace, 0

    def killing(source, target):
        nonlocal count
        count += 1
        if count == write + 1:
            raise Killed
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killing)
        try:
            play(tmp_path / "killed", **more)
        except Killed:
            keras_tuner.src.engine.oracle.THREADS.clear()  # the lock dies with a process
            keras_tuner.src.engine.oracle.LOCKS.clear()
        else:
            assert write >= 30  # there are no more writes
    assert play(tmp_path / "killed", **more) == undisturbed


def test_a_chief_that_comes_back_does_not_run_a_training_twice(tmp_path, monkeypatch):
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
    first = make(tmp_path, gradients_per_step=2)
    trial = first.create_trial("a")
    chief = make(tmp_path, gradients_per_step=2)
    chief.reload()
    assert place(chief.create_trial("b")) == (0, 0, 1)  # a is still at its trial
    end(chief, trial)
    assert chief.create_trial("a").status == "IDLE"


def test_metrics_that_died_with_a_chief_are_found_again(tmp_path, monkeypatch):
    """Killed between a worker's metrics and its end of the trial: the worker repeats it."""
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
    first = make(tmp_path)
    trial = first.create_trial("a")
    first.update_trial(trial.trial_id, {"val_loss": 1.0})
    chief = make(tmp_path)
    chief.reload()
    trial.status = "COMPLETED"
    chief.end_trial(trial)
    again = chief.create_trial("a")
    assert (again.trial_id, again.status) == (trial.trial_id, "RUNNING")
    end(chief, again)
    assert place(chief.create_trial("a")) == (0, 1, 0)


def test_a_trial_without_a_result_has_failed_and_says_why(oracle, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    trial = oracle.create_trial("a")
    oracle.update_trial(trial.trial_id, {"val_loss": 1.0})
    trial.status = "COMPLETED"
    oracle.end_trial(trial)
    ended = oracle.get_trial(trial.trial_id)
    assert ended.status == "FAILED"
    for part in (oracle.project.result(trial.trial_id), "`directory`", "`DrMADTuner.run_trial`"):
        assert part in ended.message
    assert place(oracle.create_trial("a")) == (0, 0, 0)  # the meta-iteration is repeated


def test_a_full_disk_loses_nothing(oracle, monkeypatch):
    trial = oracle.create_trial("a")
    with monkeypatch.context() as patch:

        def full(source, target):
            raise OSError(28, "No space left on device")

        end_arrays = files.write_arrays
        end(oracle, trial, g=0.5)
        patch.setattr(os, "replace", full)
        patch.setattr("time.sleep", lambda seconds: None)
        assert oracle.create_trial("a").status == "IDLE"
        assert files.write_arrays is end_arrays
    assert rate(oracle, oracle.create_trial("a")) == pytest.approx(-0.5)


COUNTS = ("max_trials", "gradients_per_step", "keep_checkpoints", "meta_iterations", "patience")


@pytest.mark.parametrize(
    "argument, value",
    [
        *itertools.product(COUNTS, (0, 1.5, True)),
        ("timeout", 0),
        ("meta_optimizer", "adam"),
        ("outer_oracle", "random"),
        ("seed", -1),
        ("seed", 1.5),
    ],
)
def test_bad_arguments_are_named(argument, value):
    with pytest.raises(ValueError, match=argument):
        DrMADOracle(**{argument: value})


def test_a_seed_may_be_numpys(tmp_path):
    oracle = make(tmp_path, seed=np.int64(3))
    end(oracle, oracle.create_trial("a"))
    assert oracle.is_saved
    assert oracle.settings()["seed"] == 3
