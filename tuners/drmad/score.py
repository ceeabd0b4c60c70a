"""What a trial is compared by, and what KerasTuner is to know of it."""

from collections.abc import Sequence

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


def check_logged(objective: keras_tuner.Objective, logs: Logs, may_hold_more: bool) -> None:
    """Raises a FatalValueError if a training gives no value of an objective.

    Args:
        objective: of the search.
        logs: of a training.
        may_hold_more: whether callbacks may add to them. What is known to be a metric of the training
            set is refused all the same: trainings log those of the validation set only.
    """
    names = [one.name for one in getattr(objective, "objectives", [objective])]
    for name in names:
        if name not in logs and f"val_{name}" in logs:
            raise keras_tuner.errors.FatalValueError(
                f"The objective {name!r} is not among what a training gives: {list(logs)}. Did you mean "
                f"{'val_' + name!r}?"
            )
    if not may_hold_more:
        objective_value(objective, logs)


def metrics(objective: keras_tuner.Objective, outcomes: Sequence[Outcome]) -> Logs:
    """Mean logs of a trial's trainings, and the objective."""
    means = {n: np.mean([o.logs[n] for o in outcomes]) for n in outcomes[0].logs}
    means["hyper_loss"] = np.mean([o.hyper_loss for o in outcomes])
    means[objective.name] = np.mean([objective_value(objective, o.logs) for o in outcomes])
    # KerasTuner cannot compare what is not a number.
    return {name: float(mean) for name, mean in means.items() if not np.isnan(mean)}
