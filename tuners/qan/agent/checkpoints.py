"""`Checkpoints`: files that learning goes on from."""

import logging
from collections.abc import Iterator

import numpy as np

from keras_drmad.typing import Arrays

from ...storage import files
from ...storage.damage import DamagedFile
from ..project import QANProject

_log = logging.getLogger("keras_drmad")


class Checkpoints:
    """Files of a learner: each trajectory once, for there are many; the rest after each episode.

    Args:
        project: names of files.
    """

    def __init__(self, project: QANProject) -> None:
        self._project = project
        self.episodes = 0  # that were learned from at the last file
        self.before = 0  # and at the one before, which stays in case that the last one is damaged
        self.is_written = True  # whether the last state could be
        self._trajectories = 0
        self._unwritten: dict[int, Arrays] = {}  # trajectories

    def add(self, trajectory: Arrays) -> None:
        self._unwritten[self._trajectories] = trajectory
        self._trajectories += 1

    def write(self, episodes: int, **state: Arrays) -> None:
        """Writes the state after so many episodes, and trajectories that are not written yet."""
        self.is_written = False
        for number, trajectory in list(self._unwritten.items()):
            path = self._project.trajectory(number)
            if not files.attempt(files.write_arrays, path, trajectory=trajectory):
                return
            del self._unwritten[number]
        state["memory"] = {"trajectories": np.array(self._trajectories)}
        if files.attempt(files.write_arrays, self._project.learner(episodes), **state):
            if episodes != self.episodes:
                self.before = self.episodes
            self.episodes, self.is_written = episodes, True

    def read(self) -> dict[str, Arrays] | None:
        """The state of the last file; None before there is one."""
        state = files.read_arrays(self._project.learner(self.episodes)) if self.episodes else None
        if state is not None:
            self._trajectories = int(state["memory"]["trajectories"])
        return state

    def trajectories(self) -> Iterator[Arrays]:
        """Those of the last file, which `read` has read."""
        for number in range(self._trajectories):
            saved = files.read_arrays(self._project.trajectory(number))
            if saved is None:  # a state is written after its trajectories
                raise DamagedFile(self._project.trajectory(number), "there is no such file")
            yield saved["trajectory"]

    def rewind(self, episodes: int) -> None:
        """Goes back to the last file of at most so many episodes that can be read."""
        self._trajectories, self._unwritten, self.is_written = 0, {}, True
        self.episodes = self._project.last_learner(episodes)
        while self.episodes and files.read_if_whole(self._project.learner(self.episodes)) is None:
            self.episodes = self._project.last_learner(self.episodes - 1)
        self.before = self._project.last_learner(self.episodes - 1)
        if self.episodes < episodes:
            _log.warning(
                "What was learned of episodes %d to %d is not there: the network is from before.",
                self.episodes + 1,
                episodes,
            )
