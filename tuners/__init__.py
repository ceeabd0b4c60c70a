"""Tuners for KerasTuner: offline hypergradient search."""

from keras_drmad.tuners.drmad.oracle import DrMADOracle
from keras_drmad.tuners.drmad.tuner import DrMADTuner

__all__ = ["DrMADOracle", "DrMADTuner"]
