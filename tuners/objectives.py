"""What trials are compared by, with its direction."""

import keras_tuner

from keras_drmad.arguments import wrong

DIRECTIONS = ("min", "max")
# Endings of the names of Keras's metrics that KerasTuner would lower.
RAISED = (
    "f1_score",
    "fbeta_score",
    "r2_score",
    "io_u",
    "iou",
    "similarity",
    "correlation",
    "at_precision",
    "at_recall",
)

Directed = keras_tuner.Objective | list[keras_tuner.Objective]


def directed(objective: object, argument: str = "objective") -> Directed:
    """An objective, or a list of them, each with its direction.

    KerasTuner takes every metric of Keras that it does not know for one to be lowered, `R2Score` too.

    Raises:
        ValueError: It is none, or its direction is not known.
    """
    _check(objective, argument)
    if isinstance(objective, list):
        return [_directed(one, argument) for one in objective]
    return _directed(objective, argument)


def known_direction(metric: str) -> str | None:
    """ "max", "min", or None if its name does not say it."""
    if metric.endswith(RAISED):
        return "max"
    try:
        return keras_tuner.Oracle(objective=metric).objective.direction
    except (ValueError, TypeError):  # not one of Keras's own, or one that needs arguments
        return None


def _directed(objective: object, argument: str) -> keras_tuner.Objective:
    if isinstance(objective, keras_tuner.Objective):
        return objective
    assert isinstance(objective, str)
    if (direction := known_direction(objective)) is None:
        raise ValueError(
            f"`{argument}`: whether {objective!r} is to be raised or lowered is not known. Pass "
            f'`keras_tuner.Objective({objective!r}, "max")` or "min". Received: '
            f"{argument}={objective!r}"
        )
    return keras_tuner.Objective(objective, direction)


def _check(objective: object, argument: str) -> None:
    """Raises a ValueError unless it is a name, an `Objective` or a list of them."""
    each = objective if isinstance(objective, list) and objective else [objective]
    for one in each:
        if not one or not isinstance(one, str | keras_tuner.Objective):
            what = "the name of a metric, a `keras_tuner.Objective`, or a list of them"
            raise wrong(argument, objective, what)
        if isinstance(one, keras_tuner.Objective) and one.direction not in DIRECTIONS:
            raise wrong(argument, one, f"an `Objective` whose direction is one of {DIRECTIONS}")
