"""Tuners for KerasTuner: offline hypergradient search, and a learned schedule."""

from .drmad.oracle import DrMADOracle
from .drmad.tuner import DrMADTuner
from .qan.oracle import QANOracle
from .qan.policy import Policy
from .qan.training.actions import Actions
from .qan.training.goals import Goal
from .qan.tuner import QANTuner

__all__ = ["Actions", "DrMADOracle", "DrMADTuner", "Goal", "Policy", "QANOracle", "QANTuner"]
