"""The executions of a trial: its trainings, which differ in their seeds, and where there are folds in
what they are trained on."""

import hashlib
import json
import os
import time
from collections.abc import Callable
from typing import Any

import keras
import keras_tuner
from keras_tuner.engine.trial import Trial

from keras_drmad.engine.engine import OnStep
from keras_drmad.typing import Arrays, Logs

from ..storage import files
from . import trained_model
from .data import SearchData
from .online import learn
from .outcome import Outcome
from .place import DIFFERENTIATE, GRADIENT_NUMBER, LEARN, LEARNED, SCOUT, STAGE, seed_of
from .project import DrMADProject
from .pruning import Reporting
from .score import objective_value
from .starts import displacements
from .training import DifferentiatedTraining


class Executions:
    """Trains a trial, and keeps the weights of its best execution.

    What each of several gave is in a file until the trial has ended: a process that is killed among
    them, or the worker that gets the trial next, does not train them again.

    Args:
        trial: says what it does, and from which seeds.
        training: of its configuration.
        values: that it trains with; None for the compiled ones.
        oracle: of the search, or a worker's client of it.
        project: names of the files.
        count: of executions.
        resample, horizon, averages: as in `DrMADTuner`.
        on_step: is called at each step on the way back.
    """

    def __init__(
        self,
        trial: Trial,
        training: DifferentiatedTraining,
        values: Arrays | None,
        oracle: keras_tuner.Oracle,
        project: DrMADProject,
        count: int,
        resample: bool,
        horizon: int | None,
        averages: bool,
        on_step: OnStep,
    ) -> None:
        self._trial_id, self._place = trial.trial_id, trial.hyperparameters.values
        self._training, self._values = training, values
        self._objective, self._project, self._count = oracle.objective, project, count
        self._resample, self._horizon, self._on_step = resample, horizon, on_step
        self._averages = averages
        self._reporting = Reporting(oracle, trial.trial_id)

    def train(
        self,
        data: SearchData,
        epochs: int,
        callbacks: Callable[[int], list[keras.callbacks.Callback]],
        **fit_arguments: Any,
    ) -> list[Outcome]:
        """What each execution gives; of a start that falls behind the first one only.

        Args:
            data, epochs: of the search.
            callbacks: gives those of an execution by its number.
            **fit_arguments: others of `fit`.
        """
        weights = self._project.checkpoint(self._trial_id)
        goes_on = self._count > 1 and os.path.exists(weights)
        outcomes: list[Outcome] = []
        best: float | None = None
        for execution in range(self._count):
            kept = self._kept(execution) if goes_on else None
            # Later ones are trained again, too: the weights may be of one of these.
            goes_on = kept is not None
            began = time.perf_counter()
            outcome = kept or self._trained(execution, data, epochs, callbacks, **fit_arguments)
            outcome.cost.setdefault("seconds", time.perf_counter() - began)
            outcomes.append(outcome)
            score = objective_value(self._objective, outcome.logs)
            is_best = best is None or self._objective.better_than(score, best)
            best = score if is_best else best
            if kept is None:
                if is_best:
                    trained_model.save(self._training.model, weights)
                if self._count > 1:  # after the weights, which it says are there
                    path = self._project.execution(self._trial_id, execution)
                    files.attempt(outcome.write, path, self._source(execution))
            if self._reporting.is_behind:
                break
        return outcomes

    def _kept(self, execution: int) -> Outcome | None:
        """What an execution gave, if that is on disk."""
        path = self._project.execution(self._trial_id, execution)
        outcome = Outcome.read(path, self._source(execution))
        if outcome is not None and outcome.curve:
            self._reporting.curve = outcome.curve
            self.tell_again()
        return outcome

    def tell_again(self) -> None:
        """Reports what the oracle was told of a start, and has forgotten if it was killed."""
        for epoch, value in list(self._reporting.curve.items()):
            self._reporting.report(epoch, value)

    def _trained(
        self,
        execution: int,
        data: SearchData,
        epochs: int,
        callbacks: Callable[[int], list[keras.callbacks.Callback]],
        **fit_arguments: Any,
    ) -> Outcome:
        place, training, data = self._place, self._training, data.fold(execution)
        seed = seed_of(place, execution, self._resample)
        training.restart(seed, self._values, displacements(place, training.optimizer))
        own = callbacks(execution)  # now, as TensorBoard shows what it trains with
        batches = data.training(seed, place[GRADIENT_NUMBER])
        reports = place[STAGE] == SCOUT and not execution
        each = fit_arguments | {
            "callbacks": [*own, self._reporting] if reports else own,
            "validation_data": data.selection,
        }
        if place[STAGE] == LEARN:
            return learn(training, batches, data.hyper, epochs, self._averages, **each)
        outcome = training.train(
            batches,
            data.hyper,
            epochs,
            self._horizon,
            on_step=self._on_step,
            differentiates=place[STAGE] == DIFFERENTIATE,
            prefers=self._prefers if self._averages else None,
            **each,
        )
        outcome.curve = self._reporting.curve if reports else {}
        return outcome

    def _prefers(self, one: Logs, other: Logs) -> bool:
        """Whether logs are better than others, by the objective."""
        scores = [objective_value(self._objective, logs) for logs in (one, other)]
        return self._objective.better_than(*scores)

    def _source(self, execution: int) -> str:
        """Tells an execution from those of other searches and of trials that had the same number."""
        place = {n: v for n, v in self._place.items() if not n.startswith(LEARNED)}
        words = json.dumps([place, execution], sort_keys=True, default=str)
        source = hashlib.sha256(words.encode())
        for name, value in sorted((self._values or {}).items()):
            source.update(name.encode() + value.tobytes())
        return source.hexdigest()
