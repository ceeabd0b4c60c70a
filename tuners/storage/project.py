"""The folder of a search: names of files that every search has."""

import os


class Project:
    """Names of a project's files.

    Attributes:
        folder: set when KerasTuner says where it is.
    """

    folder: str

    @property
    def oracle(self) -> str:
        return os.path.join(self.folder, "oracle.json")

    @property
    def settings(self) -> str:
        return os.path.join(self.folder, "settings.json")

    @property
    def last_word(self) -> str:
        return os.path.join(self.folder, "ended.json")

    def trial(self, trial_id: str) -> str:
        return self._of(trial_id, "trial.json")

    def _of(self, trial_id: str, name: str) -> str:
        return os.path.join(self.folder, f"trial_{trial_id}", name)
