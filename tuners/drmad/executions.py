"""The executions of a trial: its trainings, which differ in their seeds."""

from collections.abc import Callable
from typing import Any

import keras
import keras_tuner
from keras_tuner.engine.trial import Trial

from keras_drmad.engine.engine import OnStep
from keras_drmad.typing import Arrays

from . import trained_model
from .data import SearchData
from .online import learn
from .place import GRADIENT_NUMBER, LEARN, SCOUT, STAGE, seed_of
from .project import DrMADProject
from .pruning import Reporting
from .score import objective_value
from .starts import displacements
from .training import DifferentiatedTraining, Outcome


class Executions:
    """Trains a trial, and keeps the weights of its best execution.

    Args:
        oracle: of the search, or a worker's client of it.
        project: names of the files.
        count: of executions.
        resample, horizon: as in `DrMADTuner`.
        on_step: is called at each step on the way back.
    """

    def __init__(
        self,
        oracle: keras_tuner.Oracle,
        project: DrMADProject,
        count: int,
        resample: bool,
        horizon: int | None,
        on_step: OnStep,
    ) -> None:
        self._oracle, self._project, self._count = oracle, project, count
        self._resample, self._horizon, self._on_step = resample, horizon, on_step

    def train(
        self,
        trial: Trial,
        training: DifferentiatedTraining,
        values: Arrays | None,
        data: SearchData,
        epochs: int,
        callbacks: Callable[[int], list[keras.callbacks.Callback]],
        **fit_arguments: Any,
    ) -> list[Outcome]:
        """What each execution gives.

        Args:
            trial: says what it does, and from which seeds.
            training: of its configuration.
            values: that it trains with; None for the compiled ones.
            data, epochs: of the search.
            callbacks: gives those of an execution by its number.
            **fit_arguments: others of `fit`.
        """
        place, objective = trial.hyperparameters.values, self._oracle.objective
        outcomes: list[Outcome] = []
        best: float | None = None
        for execution in range(self._count):
            seed = seed_of(place, execution, self._resample)
            training.restart(seed, values, displacements(place, training.optimizer))
            batches = data.training(seed, place[GRADIENT_NUMBER])
            own = callbacks(execution)
            if place[STAGE] == SCOUT and not execution:
                own.append(Reporting(self._oracle, trial.trial_id))
            each = fit_arguments | {"callbacks": own, "validation_data": data.selection}
            if place[STAGE] == LEARN:
                outcome = learn(training, batches, data.hyper, epochs, **each)
            else:
                outcome = training.train(
                    batches,
                    data.hyper,
                    epochs,
                    self._horizon,
                    on_step=self._on_step,
                    differentiates=place[STAGE] != SCOUT,
                    **each,
                )
            outcomes.append(outcome)
            score = objective_value(objective, outcome.logs)
            if best is None or objective.better_than(score, best):
                best = score
                trained_model.save(training.model, self._project.checkpoint(trial.trial_id))
        return outcomes
