"""Trials of `DrMADOracle` that are ended by hand."""

from typing import Any

import numpy as np
from keras_tuner.engine.trial import Trial

from keras_drmad.tuners import DrMADOracle, compat
from keras_drmad.tuners.drmad.meta_step import MetaState
from keras_drmad.tuners.drmad.place import GRADIENT_NUMBER, ITERATION, RUN
from keras_drmad.tuners.drmad.result import TrialResult
from keras_drmad.tuners.storage import files
from keras_drmad.typing import Arrays

BOUNDS = {"learning_rate": (-2.0, 2.0), "other": (-np.inf, np.inf)}


def state(rate: float = 0.0, other: float = 1.0, **more: Any) -> MetaState:
    return MetaState({"learning_rate": np.float32([rate]), "other": np.float32([other])}, **more)


def gradient(rate: float, other: float) -> Arrays:
    return {"learning_rate": np.float32([rate]), "other": np.float32([other])}


def make(folder: Any, space: bool = False, **arguments: Any) -> DrMADOracle:
    oracle = DrMADOracle(**{"max_trials": 12, "seed": 0, **arguments})
    oracle.verbose = 0
    if space:
        oracle.hyperparameters.Choice("width", [1, 2, 3, 4, 5])
    compat.set_project_dir(oracle, folder, "project")
    return oracle


def end(
    oracle: DrMADOracle,
    trial: Trial,
    score: float = 1.0,
    g: float = 1.0,
    growth: float = 1.0,
    finite: bool = True,
    status: str = "COMPLETED",
    **metrics: float,
) -> None:
    """What a worker does at the end of a trial."""
    place = trial.hyperparameters.values
    if status == "COMPLETED":
        saved = files.read_arrays(oracle.project.state(place[RUN], place[ITERATION]))
        values = saved["values"] if saved else state().values
        low, high = ({name: np.asarray(b[i]) for name, b in BOUNDS.items()} for i in (0, 1))
        effective = {"learning_rate": np.exp(values["learning_rate"])}
        TrialResult(values, gradient(g, 0), low, high, effective, 8, growth, finite).write(
            oracle.project.result(trial.trial_id)
        )
        with open(oracle.project.checkpoint(trial.trial_id), "w") as file:
            file.write("weights")
        oracle.update_trial(trial.trial_id, metrics | {"val_loss": score})
    trial.status = status
    oracle.end_trial(trial)


def place(trial: Trial) -> tuple[int, ...]:
    names = (RUN, ITERATION, GRADIENT_NUMBER)
    return tuple(trial.hyperparameters.values[name] for name in names)


def rate(oracle: DrMADOracle, trial: Trial) -> float:
    run, iteration, _ = place(trial)
    saved = files.read_arrays(oracle.project.state(run, iteration))
    return saved["values"]["learning_rate"].item() if saved else 0.0
