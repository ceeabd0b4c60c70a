"""Pictures: the way of the weights, learned hyperparameters, filters, searches (extra `plots`).

What is drawn of a search is beside its tuner (`tuners.drmad.plots`, `tuners.qan.plots`).
"""

from keras_drmad.plots.filter_animation import FilterAnimation
from keras_drmad.plots.hyperparameters import hyperparameters
from keras_drmad.plots.interpolation import interpolation
from keras_drmad.plots.path_loss import path_loss
from keras_drmad.plots.record_path import RecordPath
from keras_drmad.plots.recorded_path import RecordedPath, Snapshot
from keras_drmad.plots.residual import residual
from keras_drmad.plots.search import search
from keras_drmad.plots.trajectory import trajectory

__all__ = [
    "FilterAnimation",
    "RecordPath",
    "RecordedPath",
    "Snapshot",
    "hyperparameters",
    "interpolation",
    "path_loss",
    "residual",
    "search",
    "trajectory",
]
