"""Tuning the training of Keras models, by gradient and by reinforcement learning."""

from keras_drmad import paths
from keras_drmad.hypergradient import Hypergradient, hypergradient
from keras_drmad.learn import LearnHyperparameters
from keras_drmad.meta import Sign
from keras_drmad.optimizer import DrMADSGD
from keras_drmad.schedule import Knots

__all__ = [
    "DrMADSGD",
    "Hypergradient",
    "Knots",
    "LearnHyperparameters",
    "Sign",
    "hypergradient",
    "paths",
]
