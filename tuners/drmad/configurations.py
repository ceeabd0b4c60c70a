"""Discrete hyperparameters: an oracle of the user's choice proposes them, one set a meta-run."""

import importlib.util

import keras_tuner
import numpy as np
from keras_tuner.engine.trial import Trial, TrialStatus

from keras_drmad.typing import JsonObject

from .. import compat
from ..optuna_oracle import OptunaOracle

# The tuner id under which a configuration is asked for: each is its own, so that several may run.
TUNER_ID = "configuration{}"
# Arguments of KerasTuner's Bayesian optimization.
EXPLORATION = ("num_initial_points", "alpha", "beta")


class Configurations:
    """Drives an oracle of KerasTuner through its public methods.

    Its state is saved as a part of the state of the oracle that owns it; it writes no files.
    """

    def __init__(self, oracle: keras_tuner.Oracle) -> None:
        self.oracle = oracle
        oracle.verbose = 0
        oracle.max_consecutive_failed_trials = -1  # it would raise with KerasTuner's lock held
        compat.write_nothing(oracle)  # and so would a full disk
        if isinstance(oracle, OptunaOracle):
            oracle.is_asked_by_oracle = True

    def set_folder(self, directory: str, project_name: str) -> None:
        compat.set_project_dir(self.oracle, directory, project_name)

    def propose(
        self, space: keras_tuner.HyperParameters, objective: keras_tuner.Objective, number: int
    ) -> Trial:
        """The trial of configuration `number`; its status says whether there is one, or will be."""
        # What it was given may have the other direction; of several objectives it hears the sum.
        self.oracle.objective = keras_tuner.Objective(objective.name, objective.direction)
        self.oracle.update_space(space)
        return self.oracle.create_trial(TUNER_ID.format(number))

    def report(self, trial_id: str, score: float | None) -> None:
        """Ends a configuration with the best score of its meta-run (None: it failed).

        A score that is not finite is a failure too: Bayesian optimization takes ∞ for 0.
        """
        trial = self.oracle.get_trial(trial_id)
        trial.status = TrialStatus.FAILED
        if score is not None and np.isfinite(score):
            self.oracle.update_trial(trial_id, {self.oracle.objective.name: score})
            trial.status = TrialStatus.COMPLETED
        self.oracle.end_trial(trial)

    def settings(self) -> JsonObject:
        """How Bayesian optimization explores, which KerasTuner would read from its saved state."""
        if not isinstance(self.oracle, keras_tuner.oracles.BayesianOptimizationOracle):
            return {}
        return {name: getattr(self.oracle, name) for name in EXPLORATION}

    def get_state(self) -> JsonObject:
        trials = {name: trial.get_state() for name, trial in self.oracle.trials.items()}
        return {"oracle": self.oracle.get_state(), "trials": trials}

    def set_state(self, state: JsonObject) -> None:
        self.oracle.trials = {
            name: Trial.from_state(trial) for name, trial in state["trials"].items()
        }
        self.oracle.set_state(state["oracle"] | self.settings())


def default_oracle(seed: int, scouting: bool) -> keras_tuner.Oracle:
    """Random search; for starts TPE, where Optuna is installed."""
    if scouting and importlib.util.find_spec("optuna"):
        return OptunaOracle(seed=seed)
    oracle = keras_tuner.oracles.RandomSearchOracle(max_trials=None)
    compat.set_seed(oracle, seed)
    return oracle
