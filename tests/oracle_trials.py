"""Trials of `DrMADOracle` that are ended by hand."""

import numpy as np

from keras_drmad.tuners import DrMADOracle
from keras_drmad.tuners.drmad.meta_step import MetaState
from keras_drmad.tuners.drmad.oracle import CLIENT, FINITE, GROWTH, ITERATION, RUN
from keras_drmad.tuners.storage import files

BOUNDS = {"learning_rate": (-2.0, 2.0), "other": (-np.inf, np.inf)}


def state(rate=0.0, other=1.0, **more):
    return MetaState({"learning_rate": np.float32([rate]), "other": np.float32([other])}, **more)


def gradient(rate, other):
    return {"learning_rate": np.float32([rate]), "other": np.float32([other])}


def make(folder, space=False, **arguments):
    oracle = DrMADOracle(**{"max_trials": 12, "seed": 0, **arguments})
    oracle.verbose = 0
    if space:
        oracle.hyperparameters.Choice("width", [1, 2, 3, 4, 5])
    oracle._set_project_dir(folder, "project")
    return oracle


def end(oracle, trial, score=1.0, g=1.0, growth=1.0, finite=1.0, status="COMPLETED", **metrics):
    """What a worker does at the end of a trial."""
    place = trial.hyperparameters.values
    if status == "COMPLETED":
        saved = files.read_arrays(oracle.project.state(place[RUN], place[ITERATION]))
        values = saved["values"] if saved else state().values
        low, high = ({name: b[i] for name, b in BOUNDS.items()} for i in (0, 1))
        files.write_arrays(
            oracle.project.hypergradient(trial.trial_id),
            values=values,
            gradients=gradient(g, 0),
            low=low,
            high=high,
        )
        with open(oracle.project.checkpoint(trial.trial_id), "w") as file:
            file.write("weights")
        metrics |= {"val_loss": score, GROWTH: growth, FINITE: finite}
        oracle.update_trial(trial.trial_id, metrics)
    trial.status = status
    oracle.end_trial(trial)


def place(trial):
    return tuple(trial.hyperparameters.values[name] for name in (RUN, ITERATION, CLIENT))


def rate(oracle, trial):
    run, iteration, _ = place(trial)
    saved = files.read_arrays(oracle.project.state(run, iteration))
    return saved["values"]["learning_rate"].item() if saved else 0.0
