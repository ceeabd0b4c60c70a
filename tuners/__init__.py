"""Tuners for KerasTuner: offline hypergradient search."""

from keras_drmad.tuners.oracle import DrMADOracle
from keras_drmad.tuners.tuner import DrMADTuner

__all__ = ["DrMADOracle", "DrMADTuner"]
