"""A small training with hyperparameters, and searches on it, for the tests of `DrMADTuner`."""

from typing import Any

import keras
import keras_tuner
import numpy as np
from keras_tuner.engine.trial import Trial

from keras_drmad import DrMADAdamW, DrMADSGD
from keras_drmad.tuners import DrMADTuner
from keras_drmad.tuners.drmad.costs import COST
from keras_drmad.tuners.drmad.result import TrialResult

rng = np.random.default_rng(0)
X = rng.normal(size=(160, 5)).astype("float32")
Y = np.tanh(X @ rng.normal(size=5)).astype("float32")
TRAIN, HYPER, SELECTION = (X[:80], Y[:80]), (X[80:120], Y[80:120]), (X[120:], Y[120:])
L = keras.layers


def build(hp: keras_tuner.HyperParameters | None, **arguments: Any) -> keras.Model:
    model = keras.Sequential([L.Input((5,)), L.Dense(4, "tanh", name="a"), L.Dense(1, name="b")])
    optimizer = DrMADSGD(**{"learning_rate": 0.02, "l2": 1e-3, **arguments})
    # Compiling would take most of the time.
    model.compile(optimizer, "mse", metrics=["mae"], jit_compile=False)
    return model


def build_with_adamw(hp: keras_tuner.HyperParameters | None) -> keras.Model:
    model = build(hp)
    model.compile(DrMADAdamW(0.02), "mse", metrics=["mae"], jit_compile=False)
    return model


def make(folder: Any, hypermodel: Any = build, **arguments: Any) -> DrMADTuner:
    defaults = {"max_trials": 4, "seed": 0, "directory": folder, "project_name": "p"}
    return DrMADTuner(hypermodel, **{**defaults, "jit_compile": False, **arguments})


def search(tuner: DrMADTuner, **arguments: Any) -> DrMADTuner:
    defaults = {"validation_data": HYPER, "batch_size": 10, "epochs": 2, "verbose": 0}
    tuner.search(*TRAIN, **{**defaults, **arguments})
    return tuner


def trials(tuner: DrMADTuner) -> list[Trial]:
    return [tuner.oracle.trials[name] for name in tuner.oracle.start_order]


def result(tuner: DrMADTuner, trial_id: str) -> TrialResult:
    return TrialResult.read(tuner.project.result(trial_id))


def scores(tuner: DrMADTuner) -> list[float]:
    return [trial.score for trial in trials(tuner)]


def scored(trial: Trial) -> dict[str, Any]:
    """The metrics of a trial but for what it has cost, which depends on the machine."""
    found = trial.metrics.get_config()["metrics"]
    return {name: metric for name, metric in found.items() if not name.startswith(COST)}


def scouted(folder: Any, **arguments: Any) -> DrMADTuner:
    """A search that scouts, learns and refines; also as chief or worker."""
    options = {"max_trials": 9, "scouts": 4, "online": True, "keep_checkpoints": 9}
    return search(make(folder, **options | arguments))
