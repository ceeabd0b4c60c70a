"""The folder of a search: names of the files beside KerasTuner's own."""

import os
import pathlib
import re
from collections.abc import Iterator

from ..storage import files
from ..storage.project import Project


class QANProject(Project):
    """Files of a search by a deep Q-network."""

    def learner(self, episodes: int) -> str:
        """Network, target and optimizer after so many episodes."""
        return os.path.join(self.folder, f"learner_{episodes:06d}.npz")

    def trajectory(self, number: int) -> str:
        """A trajectory of the replay buffer."""
        return os.path.join(self.folder, "memory", f"{number:06d}.npz")

    def last_learner(self, episodes: int) -> int:
        """The number of the last file of at most so many episodes; 0 if there is none."""
        numbers = (number for number, _ in self._numbered("learner"))
        return max((number for number in numbers if number <= episodes), default=0)

    def snapshot(self, number: int) -> str:
        """A network that was tested."""
        return os.path.join(self.folder, f"snapshot_{number:06d}.npz")

    @property
    def warm_start(self) -> str:
        """What states and jump-start took from the warm start."""
        return os.path.join(self.folder, "warm_start.npz")

    def history(self, trial_id: str) -> str:
        """What was decided in an episode, and what came of it."""
        return self._of(trial_id, "episode.npz")

    def reference(self, trial_id: str) -> str:
        """The path of weights of an episode."""
        return self._of(trial_id, "reference.npz")

    def tidy(self, learned: set[int], snapshots: set[int]) -> None:
        """Removes all learners but those of `learned` episodes, and all snapshots but these."""
        for name, keep in (("learner", learned), ("snapshot", snapshots)):
            for number, path in self._numbered(name):
                if number not in keep:
                    files.remove(path)

    def _numbered(self, name: str) -> Iterator[tuple[int, str]]:
        for path in pathlib.Path(self.folder).glob(f"{name}_*.npz"):
            if number := re.fullmatch(rf"{name}_(\d+)\.npz", path.name):  # others are temporary
                yield int(number[1]), str(path)
