"""Hyperparameter optimization by gradient, as a drop-in for Keras."""

from keras_drmad.optimizer import DrMADSGD

__all__ = ["DrMADSGD"]
