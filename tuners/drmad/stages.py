"""The stages of a meta-run: what its meta-iterations do, one after the other."""

from typing import NamedTuple

from .place import DIFFERENTIATE, LEARN, SCOUT


class Stages(NamedTuple):
    """How many meta-iterations each stage takes; the last one, differentiated, takes all others.

    Attributes:
        scouted: that try a start, 0 or 1.
        learners: that learn while they train.
    """

    scouted: int = 0
    learners: int = 0

    @property
    def prepared(self) -> int:
        """Meta-iterations before the first that is differentiated."""
        return self.scouted + self.learners

    def of(self, iteration: int) -> str:
        """What a meta-iteration does."""
        if iteration < self.scouted:
            return SCOUT
        return LEARN if iteration < self.prepared else DIFFERENTIATE
