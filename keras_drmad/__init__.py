"""Tuning the training of Keras models, by gradient and by reinforcement learning.

Whatever learns during or after one training is here; searches of many trainings are in `tuners`.
"""

import importlib.metadata

import keras_drmad.backend  # noqa: F401 (first, for it refuses what the others could not use)
from keras_drmad import paths
from keras_drmad.callbacks.learn_hyperparameters import LearnHyperparameters
from keras_drmad.hypergradient import Hypergradient, hypergradient
from keras_drmad.hyperparameters.meta import Rprop, Sign
from keras_drmad.hyperparameters.schedules import Knots
from keras_drmad.optimizers.adamw import DrMADAdamW
from keras_drmad.optimizers.sgd import DrMADSGD
from keras_drmad.smoothness import Smoothness, smoothness

__version__ = importlib.metadata.version("keras_drmad")  # it stands in pyproject.toml

__all__ = [
    "DrMADAdamW",
    "DrMADSGD",
    "Hypergradient",
    "Knots",
    "LearnHyperparameters",
    "Rprop",
    "Sign",
    "Smoothness",
    "hypergradient",
    "paths",
    "smoothness",
]
