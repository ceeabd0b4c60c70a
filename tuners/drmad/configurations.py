"""Discrete hyperparameters: an oracle of the user's choice proposes them, one set a meta-run."""

import keras_tuner
import numpy as np
from keras_tuner.engine import trial as trial_module

# The tuner id under which a configuration is asked for: each is its own, so that several may run.
TUNER_ID = "configuration{}"


class Configurations:
    """Drives an oracle of KerasTuner through its public methods.

    Its state is saved as a part of the state of the oracle that owns it; it writes no files.
    """

    def __init__(self, oracle):
        self.oracle = oracle
        oracle.verbose = 0
        oracle.max_consecutive_failed_trials = -1  # it would raise with KerasTuner's lock held
        oracle.save = oracle._save_trial = lambda *_: None  # and so would a full disk

    def set_folder(self, directory, project_name):
        # What a tuner calls on its oracle; there is no public name.
        self.oracle._set_project_dir(directory, project_name)

    def propose(self, space, objective, number):
        """The trial of configuration `number`; its status says whether there is one, or will be."""
        # What it was given may have the other direction; of several objectives it hears the sum.
        self.oracle.objective = keras_tuner.Objective(objective.name, objective.direction)
        self.oracle.update_space(space)
        return self.oracle.create_trial(TUNER_ID.format(number))

    def report(self, trial_id, score):
        """Ends a configuration with the best score of its meta-run (None: it failed).

        A score that is not finite is a failure too: Bayesian optimization takes ∞ for 0.
        """
        trial = self.oracle.get_trial(trial_id)
        trial.status = trial_module.TrialStatus.FAILED
        if score is not None and np.isfinite(score):
            self.oracle.update_trial(trial_id, {self.oracle.objective.name: score})
            trial.status = trial_module.TrialStatus.COMPLETED
        self.oracle.end_trial(trial)

    def get_state(self):
        trials = {name: trial.get_state() for name, trial in self.oracle.trials.items()}
        return {"oracle": self.oracle.get_state(), "trials": trials}

    def set_state(self, state):
        self.oracle.trials = {
            name: trial_module.Trial.from_state(trial) for name, trial in state["trials"].items()
        }
        self.oracle.set_state(state["oracle"])
