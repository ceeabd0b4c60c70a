"""`OptunaOracle` in a chief, and its workers."""

import os
import time
import types

import keras_tuner
import optuna
import pytest
from keras_tuner.src.distribute import oracle_chief
from optuna.trial import TrialState
from optuna_task import Broken
from processes import ended, starter

from keras_drmad.tuners import OptunaOracle


class Scopes(keras_tuner.Tuner):
    """What the workers find, the chief has not seen."""

    def run_trial(self, trial):
        hp = trial.hyperparameters
        rate = hp.Float("rate", 0.1, 1.0, sampling="log")
        kind = hp.Choice("kind", ["a", "b"])
        with hp.conditional_scope("kind", ["b"]):
            steps = hp.Int("steps", 1, 9)
        score = rate + (steps if kind == "b" else 0)
        for step in range(3):
            time.sleep(0.01)
            answer = self.oracle.update_trial(trial.trial_id, {"default_objective": score}, step)
            if answer.status == "STOPPED":
                break
        return score


def wait_for_workers(folder, what):
    while len(list(folder.glob(f"worker*.{what}"))) < 2:
        time.sleep(0.02)


def work(folder, sampler=None):
    name = os.environ["KERASTUNER_TUNER_ID"]
    if name == "chief":
        # KerasTuner's chief ends with the workers that have asked; one that asks later waits for an
        # hour. So this one looks whether they have gone once both have ended, however slow they are.
        oracle_chief.time = types.SimpleNamespace(
            sleep=lambda seconds: wait_for_workers(folder, "ended")
        )
    else:
        (folder / f"{name}.here").touch()
        wait_for_workers(folder, "here")  # or else the first may do all
    pruner = optuna.pruners.ThresholdPruner(upper=5.0)
    oracle = OptunaOracle(max_trials=12, sampler=sampler, pruner=pruner, seed=0)
    try:
        Scopes(oracle, directory=folder, project_name="project").search()
    finally:
        (folder / f"{name}.ended").touch()


def run(folder, *arguments):
    """The exit codes of a chief and two workers."""
    start = starter(work, folder, *arguments)
    processes = [start(name) for name in ("chief", "worker0", "worker1")]
    try:
        return [ended(process, 120) for process in processes]
    finally:
        for process in processes:
            process.kill()


def test_a_chief_and_its_workers(tmp_path):
    assert run(tmp_path) == [0, 0, 0]
    oracle = OptunaOracle(max_trials=12, seed=0)
    oracle._set_project_dir(tmp_path, "project")
    oracle.reload()
    assert len(oracle.trials) == 12
    assert {trial.status for trial in oracle.trials.values()} == {"COMPLETED"}
    for trial in oracle.study.trials:
        is_pruned = trial.value > 5.0
        assert trial.state == (TrialState.PRUNED if is_pruned else TrialState.COMPLETE)
        assert len(trial.intermediate_values) == (2 if is_pruned else 3)
        b = trial.params["kind"] == "b"
        assert set(trial.params) == {"rate", "kind"} | ({"steps (kind=b)"} if b else set())
        assert trial.value == pytest.approx(
            trial.params["rate"] + (trial.params["steps (kind=b)"] if b else 0)
        )


def test_a_chief_with_a_broken_sampler_ends(tmp_path):
    assert run(tmp_path, Broken()) == [0, 0, 0]
