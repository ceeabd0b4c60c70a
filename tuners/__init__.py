"""Tuners for KerasTuner: offline hypergradient search, and a learned schedule."""

from keras_drmad.tuners.drmad.oracle import DrMADOracle
from keras_drmad.tuners.drmad.tuner import DrMADTuner
from keras_drmad.tuners.qan.actions import Actions
from keras_drmad.tuners.qan.goals import Goal
from keras_drmad.tuners.qan.oracle import QANOracle
from keras_drmad.tuners.qan.policy import Policy
from keras_drmad.tuners.qan.tuner import QANTuner

__all__ = ["Actions", "DrMADOracle", "DrMADTuner", "Goal", "Policy", "QANOracle", "QANTuner"]
