"""Pruning: trainings that are going to lose end early."""

from collections.abc import Iterable, Mapping, Sequence

import keras
import keras_tuner
import numpy as np
from keras_tuner.engine.trial import Trial, TrialStatus

from keras_drmad.typing import Logs

from .score import objective_value, sign

# Under which a trial reports its objective after each epoch.
CURVE = "drmad/curve"
# Of a trial that was ended early: after how many epochs. KerasTuner, which has no such status, has it
# as complete.
PRUNED = "drmad/pruned"
# Nothing is pruned before so many trainings have come to their end.
WHOLE = 4


def is_behind(
    value: float, step: int, others: Sequence[Mapping[int, float]], last: int, direction: str
) -> bool:
    """Whether a value is worse than the median of others at the same step.

    Args:
        value: of the objective.
        step: after which epoch, from 0.
        others: `{step: value}` of other trainings.
        last: the step at which a training has come to its end.
        direction: "min" or "max".
    """
    if sum(last in curve for curve in others) < WHOLE:
        return False
    seen = [curve[step] for curve in others if step in curve]
    if not np.isfinite(value):
        return True
    return bool(sign(direction) * value > np.median(sign(direction) * np.array(seen)))


def curve(trial: Trial) -> dict[int, float]:
    """`{epoch: objective}` that a trial has reported."""
    if not trial.metrics.exists(CURVE):
        return {}
    return {int(seen.step): float(seen.mean()) for seen in trial.metrics.get_history(CURVE)}


def hear(
    trial: Trial, value: float, step: int, trials: Iterable[Trial], direction: str, prunes: bool
) -> bool:
    """Notes what a trial reports of an epoch; whether it is to end there, if any is.

    Args:
        trial: which trains.
        value, step, direction: as in `is_behind`.
        trials: of the search.
        prunes: whether any is to end.
    """
    _note(trial, CURVE, value, step, direction)
    curves = [curve(other) for other in trials if other is not trial]
    last = max((max(curve) for curve in curves if curve), default=-1)
    ends = prunes and step != last and is_behind(value, step, curves, last, direction)
    if ends:
        _note(trial, PRUNED, step + 1, step, "max")
    return ends


def _note(trial: Trial, name: str, value: float, step: int, direction: str) -> None:
    if not trial.metrics.exists(name):
        trial.metrics.register(name, direction=direction)
    trial.metrics.update(name, value, step=step)


def epochs_until_pruned(trial: Trial) -> int:
    """After how many epochs a trial has ended, as it fell behind; 0 if it has not."""
    if not trial.metrics.exists(PRUNED):
        return 0
    epochs = int(trial.metrics.get_best_value(PRUNED))
    return epochs if epochs > max(curve(trial)) else 0  # else it has gone on


class Reporting(keras.callbacks.Callback):
    """Reports a training after each epoch, and ends it where the oracle says that it is behind.

    Args:
        oracle: of the search, or a worker's client of it.
        trial_id: whose training it is.

    Attributes:
        curve: `{epoch: objective}` that were reported.
        is_behind: whether the oracle has said so.
    """

    def __init__(self, oracle: keras_tuner.Oracle, trial_id: str) -> None:
        super().__init__()
        self._oracle, self._trial_id = oracle, trial_id
        self.curve: dict[int, float] = {}
        self.is_behind = False

    def report(self, epoch: int, value: float) -> None:
        """Tells the oracle the value of the objective after an epoch."""
        self.curve[epoch] = value
        answer = self._oracle.update_trial(self._trial_id, {CURVE: value}, step=epoch)
        self.is_behind = answer.status == TrialStatus.STOPPED

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        objective = self._oracle.objective
        if not objective.has_value(logs or {}):
            return  # an epoch without validation
        self.report(epoch, objective_value(objective, logs or {}))
        if self.is_behind:
            assert self.model is not None
            self.model.stop_training = True
