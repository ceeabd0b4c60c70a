"""What a trial is compared by, and what KerasTuner is to know of it."""

from collections.abc import Sequence

import keras
import keras_tuner
import numpy as np

from keras_drmad.typing import Logs

from .training import Outcome


def objective_value(objective: keras_tuner.Objective, logs: Logs) -> float:
    """The objective's value, the worst there is if it is not a number."""
    if not objective.has_value(logs):
        raise keras_tuner.errors.FatalValueError(
            f"The objective {objective.name!r} is not among what a training gives: {list(logs)}"
        )
    found = objective.get_value(logs)
    worst = -np.inf if objective.direction == "max" else np.inf
    return worst if np.isnan(found) else float(found)


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
    """Mean logs of a trial's trainings, and the objective."""
    means = {n: np.mean([o.logs[n] for o in outcomes]) for n in outcomes[0].logs}
    means["hyper_loss"] = np.mean([o.hyper_loss for o in outcomes])
    means[objective.name] = np.mean([objective_value(objective, o.logs) for o in outcomes])
    # KerasTuner cannot compare what is not a number.
    return {name: float(mean) for name, mean in means.items() if not np.isnan(mean)}
