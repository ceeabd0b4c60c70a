"""What a trial is compared by, and what KerasTuner is to know of it."""

from collections.abc import Sequence

import keras
import keras_tuner
import numpy as np
from keras_tuner.engine.trial import Trial

from keras_drmad.typing import Logs

from .. import luck
from .costs import COST
from .outcome import Outcome
from .place import ITERATION, RUN


def objective_value(objective: keras_tuner.Objective, logs: Logs) -> float:
    """The objective's value, the worst there is if it is not a number."""
    if not objective.has_value(logs):
        raise keras_tuner.errors.FatalValueError(
            f"The objective {objective.name!r} is not among what a training gives: {list(logs)}"
        )
    found = objective.get_value(logs)
    worst = -np.inf if objective.direction == "max" else np.inf
    return worst if np.isnan(found) else float(found)


def sign(direction: str) -> float:
    """What scores are multiplied by, that less is better."""
    return 1.0 if direction == "min" else -1.0


def check_logged(
    objective: keras_tuner.Objective, logs: Logs, callbacks: Sequence[keras.callbacks.Callback]
) -> None:
    """Raises a FatalValueError if a training gives no value of an objective.

    Args:
        objective: of the search.
        logs: of a training without callbacks.
        callbacks: which may add to them, if they are not Keras's own. A metric of the training set is
            refused all the same: trainings log those of the validation set only.
    """
    for one in getattr(objective, "objectives", [objective]):
        if one.name not in logs and f"val_{one.name}" in logs:
            raise keras_tuner.errors.FatalValueError(
                f"The objective {one.name!r} is not among what a training gives: {list(logs)}. Did you "
                f"mean {'val_' + one.name!r}?"
            )
    if all(_logs_nothing(callback) for callback in callbacks):
        objective_value(objective, logs)


def _logs_nothing(callback: keras.callbacks.Callback) -> bool:
    is_kerass = type(callback).__module__.startswith("keras.")
    return is_kerass and not isinstance(callback, keras.callbacks.LambdaCallback)


def metrics(objective: keras_tuner.Objective, outcomes: Sequence[Outcome]) -> Logs:
    """Mean logs of a trial's trainings, the objective, and what they cost together."""
    means = {n: np.mean([o.logs[n] for o in outcomes]) for n in outcomes[0].logs}
    means["hyper_loss"] = np.mean([o.hyper_loss for o in outcomes])
    if outcomes[0].gradients:
        means["growth"] = np.max([o.growth for o in outcomes])
    means[objective.name] = np.mean([objective_value(objective, o.logs) for o in outcomes])
    means |= {COST + n: np.sum([o.cost[n] for o in outcomes]) for n in outcomes[0].cost}
    # KerasTuner cannot compare what is not a number.
    return {name: float(mean) for name, mean in means.items() if not np.isnan(mean)}


def noise(trials: Sequence[Trial], resample: bool) -> float:
    """The standard deviation of scores with the same hyperparameters; NaN if it is not known.

    Of the trials of each meta-iteration. Where each has one, of how scores go up and down from one
    meta-iteration to the next; with `resample=False`, that is no luck.
    """
    runs: dict[int, dict[int, list[float]]] = {}
    for trial in trials:
        if trial.score is not None and np.isfinite(trial.score):
            values = trial.hyperparameters.values
            run = runs.setdefault(values[RUN], {})
            run.setdefault(values[ITERATION], []).append(trial.score)
    spread = luck.spread([scores for run in runs.values() for scores in run.values()])
    if not resample or np.isfinite(spread):
        return spread
    return luck.roughness([[run[i][0] for i in sorted(run)] for run in runs.values()])
