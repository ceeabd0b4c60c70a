"""Successive halving: which meta-runs go on (Jamieson and Talwalkar 2016, arXiv 1502.07943)."""

from collections.abc import Sequence

import keras_tuner

from .meta_run import MetaRun
from .score import sign
from .stages import Stages

# Of the starts that are scouted one in so many learns, and one of these is refined.
REDUCTION = 4


class Halving:
    """Ends meta-runs that are behind: many starts are scouted, some of them learn, one is refined.

    Runs wait for each other at the end of a *rung*: one training in the first one, and in the second
    one all that it takes to learn a schedule and to see what it is worth.

    Args:
        scouts: how many runs there are; 0 for no halving.
        stages: of a run.
        objective: what runs are compared by.
    """

    def __init__(self, scouts: int, stages: Stages, objective: keras_tuner.Objective) -> None:
        self._scouts, self._objective = scouts, objective
        self._ends = (stages.scouted, stages.prepared + 1)  # of rungs, in meta-iterations
        self._sizes = (max(scouts // REDUCTION, 1), 1)  # runs that are left then

    def wants_another(self, runs: Sequence[MetaRun]) -> bool:
        """Whether there are starts to be scouted still."""
        return len(runs) < self._scouts

    def losers(self, runs: Sequence[MetaRun]) -> list[MetaRun]:
        """Runs that end now, because a rung has ended that they are not among the best of."""
        if not self._scouts or self.wants_another(runs):
            return []
        going_on = [run for run in runs if not run.ended]
        rung = min((self._rung(run) for run in going_on), default=0)
        if not rung or len(going_on) <= self._sizes[rung - 1]:
            return []
        way = sign(self._objective.direction)
        ranked = sorted(
            going_on, key=lambda run: float("inf") if run.best is None else way * run.best
        )
        return ranked[self._sizes[rung - 1] :]

    def waits(self, run: MetaRun, runs: Sequence[MetaRun]) -> bool:
        """Whether a run is at the end of a rung, and others are not."""
        if not self._scouts:
            return False
        others = [self._rung(other) for other in runs if not other.ended]
        is_scouting = self.wants_another(runs)
        return self._rung(run) > (0 if is_scouting else min(others))

    def _rung(self, run: MetaRun) -> int:
        return sum(run.iteration >= end for end in self._ends)
