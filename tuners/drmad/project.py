"""The folder of a search: names of its files, and which of them stay."""

import os
import pathlib
from collections.abc import Collection, Iterable

from ..storage import files
from ..storage.project import Project


class DrMADProject(Project):
    """Files beside KerasTuner's own.

    Args:
        keep_checkpoints: of how many best trials weights and result stay.

    Attributes:
        ranked: ended trials whose files may be there, best first.
    """

    def __init__(self, keep_checkpoints: int) -> None:
        self.keep_checkpoints = keep_checkpoints
        self.ranked: list[str] = []

    def state(self, run: int, iteration: int) -> str:
        """What a meta-iteration trains with: values, and the state of the meta-optimizer."""
        return os.path.join(self.folder, f"run_{run:03d}", f"state_{iteration:05d}.npz")

    def result(self, trial_id: str) -> str:
        """The `TrialResult`."""
        return self._of(trial_id, "result.npz")

    def execution(self, trial_id: str, number: int) -> str:
        """The `Outcome` of an execution, one of several of a trial that has not ended."""
        return self._of(trial_id, f"execution_{number}.npz")

    def checkpoint(self, trial_id: str) -> str:
        """The trained weights."""
        return self._of(trial_id, "checkpoint.weights.h5")

    def without_weights(self, trial_id: str) -> str:
        """What there is to say of a trial whose weights are not there."""
        return (
            f"The weights of trial {trial_id} are not there ({self.checkpoint(trial_id)}): those of the "
            f"`keep_checkpoints` best trials are kept (now {self.keep_checkpoints}). Raise it before "
            "the search; if the file was lost, train a model with its hyperparameters again."
        )

    def learned(self, trial_id: str) -> str:
        """What was learned by a trial, of each group; for pictures, nothing else depends on it."""
        return self._of(trial_id, "learned.json")

    def refusal(self, trial_id: str) -> str:
        """Why the configuration of a trial cannot be trained."""
        return self._of(trial_id, "refusal.json")

    def why_refused(self, trial_id: str) -> str | None:
        """What the file says; None if there is none."""
        return files.read_json(self.refusal(trial_id))

    @property
    def inputs(self) -> str:
        """`shapes` of a batch of inputs: how to build a model before its weights are loaded."""
        return os.path.join(self.folder, "inputs.json")

    def tidy(self, trial_ids: Iterable[str], needed: Collection[str]) -> None:
        """Removes what is not needed of the files of ended trials.

        Args:
            trial_ids: the trials.
            needed: those whose result a meta-step will read.
        """
        best = set(self.ranked[: self.keep_checkpoints])
        stay = best | set(needed)
        for trial_id in trial_ids:
            for path in pathlib.Path(self._of(trial_id, "")).glob("execution_*.npz"):
                files.remove(str(path))
            if trial_id not in best:
                files.remove(self.checkpoint(trial_id))
            if trial_id not in stay:
                files.remove(self.result(trial_id))
        self.ranked = [trial_id for trial_id in self.ranked if trial_id in stay]
