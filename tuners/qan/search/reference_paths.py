"""Which episodes have left the path of their weights, for the next ones to stay near."""

from collections.abc import Set

from ...storage import files
from ..project import QANProject


class ReferencePaths:
    """Trials whose `WeightPath`s may be there; the next training is kept near that of the last.

    Args:
        project: names of files.
    """

    def __init__(self, project: QANProject) -> None:
        self._project = project
        self.names: list[str] = []

    @property
    def last(self) -> str:
        """ "" before there is one."""
        return self.names[-1] if self.names else ""

    def add(self, name: str) -> None:
        self.names.append(name)

    def drop(self, name: str) -> None:
        """A trial has come back once more; its path is not needed if it was not before."""
        if name not in self.names:
            files.remove(self._project.reference(name))

    def tidy(self, needed: Set[str]) -> None:
        """Removes all but the last and those needed."""
        needed = {*needed, self.last}
        for name in self.names:
            if name not in needed:
                files.remove(self._project.reference(name))
        self.names = [name for name in self.names if name in needed]
