"""Meta-runs: how far the hyperparameters of a configuration have come, and how they go on."""

import logging
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import keras
import keras_tuner
import numpy as np
from keras_tuner.engine.trial import Trial, TrialStatus

from keras_drmad.typing import Arrays

from ..storage import files
from ..storage.damage import DamagedFile
from .meta_step import MetaState, back_to_best, step
from .online import mean_of
from .place import DIFFERENTIATE, ITERATION, LEARN, RUN
from .project import DrMADProject
from .result import TrialResult
from .stages import Stages

_log = logging.getLogger("keras_drmad")


@dataclass
class MetaRun:
    """The meta-iterations of one configuration."""

    number: int
    values: dict[str, Any]  # the configuration
    proposal: str | None = None  # its trial in the outer oracle
    iteration: int = 0
    trial_ids: list[str] = field(default_factory=list)  # of this meta-iteration, one a gradient
    best: float | None = None
    stale: int = 0  # meta-iterations since the best
    failures: int = 0  # meta-iterations in a row of which no training came back
    ended: bool = False
    retests: int = 0  # trainings with the best so far


class MetaOptimization:
    """Advances meta-runs: takes their meta-steps, and ends them.

    Args:
        project: names of the files.
        objective: what meta-iterations are compared by, in the mean over their trials.
        meta_optimizer: takes the steps.
        patience, return_after: as in `DrMADOracle`.
        failures_allowed: ends a run after so many meta-iterations of which no training came back.
        stages: of a run.
    """

    def __init__(
        self,
        project: DrMADProject,
        objective: keras_tuner.Objective,
        meta_optimizer: keras.optimizers.Optimizer,
        patience: int | None,
        return_after: int | None,
        failures_allowed: int,
        stages: Stages,
    ) -> None:
        self._stages = stages
        self._project, self._objective = project, objective
        self._meta_optimizer = meta_optimizer
        self._patience, self._return_after = patience, return_after
        self._failures_allowed = failures_allowed

    def advance(self, run: MetaRun, trials: list[Trial], most: int | None) -> None:
        """Ends a meta-iteration of a run: takes the meta-step, or ends the run.

        A function of what is on disk: killed here, it is done again. So it is if a file cannot be
        read or written, which is why the run changes after that.

        Args:
            run: the run.
            trials: those of its meta-iteration, ended.
            most: meta-iterations of a run; None for any number.

        Raises:
            OSError: A file cannot be read or written.
        """
        completed = [t for t in trials if t.status == TrialStatus.COMPLETED]
        best, stale = run.best, run.stale
        if run.iteration == self._stages.prepared:  # what came before had other values
            best, stale = None, 0
        if completed:
            score = float(np.mean([t.score for t in completed]))
            is_better = best is None or self._objective.better_than(score, best)
            best, stale = (score, 0) if is_better else (best, stale + 1)
        failures = 0 if completed else run.failures + 1
        ended = (
            failures >= self._failures_allowed
            or any(self._project.why_refused(t.trial_id) for t in trials)  # so will be the next
            or (most is not None and run.iteration + 1 >= most)
            or (self._patience is not None and stale >= self._patience)
        )
        goes_on = bool(completed) and not ended
        if goes_on:
            self._meta_step(run, completed, stale)
        run.best, run.stale, run.failures, run.ended = best, stale, failures, ended
        run.iteration += goes_on
        run.trial_ids = []

    def mend(self, run: MetaRun, trials: Iterable[Trial]) -> None:
        """Repeats the meta-iteration before, where the state of one cannot be read.

        Raises:
            DamagedFile: Nothing of that is there, either.
        """
        path = self._project.state(run.number, run.iteration)
        if run.ended or run.iteration == 0 or _is_whole(path):
            return
        before = self._project.state(run.number, run.iteration - 1)
        if _is_whole(before):
            shutil.copyfile(before, path)
        else:
            files.write_arrays(path, **asdict(MetaState(self._values_of(run, trials))))
        _log.warning(
            "%s is damaged or missing: meta-iteration %d trains with the hyperparameters of the one "
            "before.",
            path,
            run.iteration,
        )

    def _values_of(self, run: MetaRun, trials: Iterable[Trial]) -> Arrays:
        """Those of the meta-iteration before, from a trial whose result is still there."""
        place = {RUN: run.number, ITERATION: run.iteration - 1}
        for trial in trials:
            values = trial.hyperparameters.values
            saved = None
            if all(values.get(name) == value for name, value in place.items()):
                saved = files.read_if_whole(self._project.result(trial.trial_id))
            if saved is not None:
                return saved["values"]
        raise DamagedFile(
            self._project.state(run.number, run.iteration), "and so is the one before"
        )

    def _meta_step(self, run: MetaRun, completed: list[Trial], stale: int) -> None:
        results = [TrialResult.read(self._project.result(t.trial_id)) for t in completed]
        saved = files.read_arrays(self._project.state(run.number, run.iteration))
        state = MetaState(**saved) if saved else MetaState(results[0].values)
        stage = self._stages.of(run.iteration)
        if stage != DIFFERENTIATE:
            if stage == LEARN:
                learned = run.iteration - self._stages.scouted  # before this one
                found = [r.values for r in results if r.finite] or [state.values]
                state = MetaState(mean_of(found, state.values, learned))
            files.write_arrays(self._project.state(run.number, run.iteration + 1), **asdict(state))
            return
        usable = [r.gradients for r in results if r.is_usable(self._meta_optimizer)]
        if stale == 0:
            state.best = state.values
        # What diverges backs off instead: the best may be the first that diverged.
        if usable and stale and self._return_after and stale % self._return_after == 0:
            state = back_to_best(state)
        else:
            state = step(state, usable, results[0].bounds(), self._meta_optimizer)
        files.write_arrays(self._project.state(run.number, run.iteration + 1), **asdict(state))


def _is_whole(path: str) -> bool:
    try:
        return files.read_arrays(path) is not None
    except DamagedFile:
        return False
