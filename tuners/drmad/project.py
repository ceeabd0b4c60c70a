"""The folder of a search: names of its files, and which of them stay."""

import os

from ..storage import files, project


class Project(project.Project):
    """Files beside KerasTuner's own.

    Args:
        keep_checkpoints: of how many best trials weights and hypergradient stay.

    Attributes:
        ranked: ended trials whose files may be there, best first.
    """

    def __init__(self, keep_checkpoints):
        super().__init__()
        self.keep_checkpoints = keep_checkpoints
        self.ranked = []

    def state(self, run, iteration):
        """What a meta-iteration trains with: values, and the state of the meta-optimizer."""
        return os.path.join(self.folder, f"run_{run:03d}", f"state_{iteration:05d}.npz")

    def hypergradient(self, trial_id):
        """The values that a trial used, and their derivatives."""
        return self._of(trial_id, "hypergradient.npz")

    def checkpoint(self, trial_id):
        """The trained weights."""
        return self._of(trial_id, "checkpoint.weights.h5")

    def build_config(self, trial_id):
        """How to build the model before its weights are loaded."""
        return self._of(trial_id, "build_config.json")

    def tidy(self, names, needed):
        """Removes what is not needed of the files of ended trials.

        Args:
            names: the trials.
            needed: those whose hypergradient a meta-step will read.
        """
        best = set(self.ranked[: self.keep_checkpoints])
        stay = best | set(needed)
        for name in names:
            if name not in best:
                files.remove(self.checkpoint(name))
            if name not in stay:
                files.remove(self.hypergradient(name))
        self.ranked = [name for name in self.ranked if name in stay]
