"""Tuners and oracles for KerasTuner: by hypergradients, by a learned policy, and by Optuna's samplers;
and `compare`, which compares what is tuned.

What they are made of is imported from `keras_drmad`, which does not know them.
"""

from . import plots  # noqa: F401 (what `keras_drmad.plots.search` draws)
from .comparison.comparison import compare
from .comparison.method import Method
from .comparison.result import Comparison
from .drmad.oracle import DrMADOracle
from .drmad.tuner import DrMADTuner
from .optuna_oracle import OptunaOracle
from .qan.oracle import QANOracle
from .qan.policy import Policy
from .qan.training.actions import Actions
from .qan.training.goals import Goal
from .qan.tuner import QANTuner

__all__ = [
    "Actions",
    "Comparison",
    "DrMADOracle",
    "DrMADTuner",
    "Goal",
    "Method",
    "OptunaOracle",
    "Policy",
    "QANOracle",
    "QANTuner",
    "compare",
]
