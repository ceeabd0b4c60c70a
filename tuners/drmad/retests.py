"""Retests: the best hyperparameters so far are trained with again, on a fresh seed."""

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

import keras_tuner
import numpy as np
from keras_tuner.engine.trial import Trial

from .. import luck
from .meta_run import MetaRun
from .place import ITERATION, RUN
from .score import sign
from .stages import Stages


class Candidate(NamedTuple):
    """A meta-iteration that has ended, and its trials, retests included, the best first."""

    mean: float  # shrunken, of what is to be least
    iteration: int
    trial_ids: list[str]


class Retests:
    """Says when the best of a meta-run is to be trained again, and which that is.

    After each meta-iteration that was differentiated one training, without a way back. The best is the
    one with the best shrunken mean (`luck.shrunken`) over its trials so far.

    Args:
        stages: of a run.
        objective: what trials are compared by.
        is_on: whether there are any.
    """

    def __init__(self, stages: Stages, objective: keras_tuner.Objective, is_on: bool) -> None:
        self._stages, self._is_on = stages, is_on
        self._sign = sign(objective.direction)

    def is_due(self, run: MetaRun) -> bool:
        """Whether a run has ended more meta-iterations than it has had retests."""
        return self._is_on and run.retests < run.iteration - self._stages.prepared

    def is_possible(self, run: MetaRun) -> bool:
        """Whether there is something to be trained again."""
        return self._is_on and run.iteration > self._stages.prepared

    def candidates(self, run: MetaRun, trials: Iterable[Trial]) -> Sequence[Candidate]:
        """What may be the best of a run, the best now first; nothing where there are no retests."""
        found: dict[int, dict[str, float]] = {}
        for trial in trials if self._is_on else ():
            place = trial.hyperparameters.values
            iteration = place[ITERATION]
            is_refined = self._stages.prepared <= iteration < run.iteration
            if place[RUN] == run.number and is_refined and trial.score is not None:
                found.setdefault(iteration, {})[trial.trial_id] = self._sign * trial.score
        known = [score for of in found.values() for score in of.values() if np.isfinite(score)]
        if not known:
            return []
        worst, ordered = max(known), sorted(found)
        scores = [np.nan_to_num(list(found[i].values()), posinf=worst).tolist() for i in ordered]
        candidates = [
            Candidate(estimate.mean, i, sorted(found[i], key=found[i].__getitem__))
            for i, estimate in zip(ordered, luck.shrunken(scores), strict=True)
        ]
        return sorted(candidates)

    def favourite(self, runs: Iterable[MetaRun], trials: Collection[Trial]) -> str | None:
        """The trial with the best score of the best candidate of all runs; None without one."""
        best = min((c for run in runs for c in self.candidates(run, trials)[:1]), default=None)
        return None if best is None else best.trial_ids[0]
