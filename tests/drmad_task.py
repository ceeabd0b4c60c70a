"""A small training with hyperparameters, and searches on it, for the tests of `DrMADTuner`."""

import keras
import numpy as np

from keras_drmad import DrMADSGD
from keras_drmad.tuners import DrMADTuner
from keras_drmad.tuners.storage import files

rng = np.random.default_rng(0)
X = rng.normal(size=(160, 5)).astype("float32")
Y = np.tanh(X @ rng.normal(size=5)).astype("float32")
TRAIN, HYPER, SELECTION = (X[:80], Y[:80]), (X[80:120], Y[80:120]), (X[120:], Y[120:])
L = keras.layers


def build(hp, **optimizer):
    model = keras.Sequential([L.Input((5,)), L.Dense(4, "tanh", name="a"), L.Dense(1, name="b")])
    optimizer = DrMADSGD(**{"learning_rate": 0.02, "l2": 1e-3, **optimizer})
    # Compiling would take most of the time.
    model.compile(optimizer, "mse", metrics=["mae"], jit_compile=False)
    return model


def make(folder, hypermodel=build, **arguments):
    defaults = {"max_trials": 4, "seed": 0, "directory": folder, "project_name": "p"}
    return DrMADTuner(hypermodel, **{**defaults, "jit_compile": False, **arguments})


def search(tuner, **arguments):
    defaults = {"validation_data": HYPER, "batch_size": 10, "epochs": 2, "verbose": 0}
    tuner.search(*TRAIN, **{**defaults, **arguments})
    return tuner


def trials(tuner):
    return [tuner.oracle.trials[name] for name in tuner.oracle.start_order]


def result(tuner, trial_id):
    return files.read_arrays(tuner.project.hypergradient(trial_id))


def scores(tuner):
    return [trial.score for trial in trials(tuner)]
