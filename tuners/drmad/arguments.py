"""Arguments of a hypergradient search, checked before anything is trained."""

import copy
import logging
from collections.abc import Callable, Iterable
from typing import Any

import keras

from keras_drmad.arguments import choice, flag, of_kind, positive_integer, wrong
from keras_drmad.hyperparameters.groups import INIT_SCALE
from keras_drmad.optimizers.learnable import LearnableOptimizer
from keras_drmad.paths import Path

from ..arguments import refuse
from ..budget import UNITS, Budget, Unit

_log = logging.getLogger("keras_drmad")


def check_options(
    path: Path | None,
    jit_compile: bool | str,
    hyper_variables: Callable[[keras.Model], Iterable[keras.Variable]] | None,
    resample: bool,
    shard: bool,
    check: bool,
    averages: bool,
) -> None:
    """Raises a ValueError for arguments of the tuner's constructor that are of another kind."""
    if path is not None:
        of_kind("path", path, Path, "a `keras_drmad.paths.Path`")
    flags = {"resample": resample, "shard": shard, "check": check, "averages": averages}
    for name, value in flags.items():
        flag(name, value)
    if averages and path is not None and type(path).mean_weights is Path.mean_weights:
        raise ValueError(
            "`averages=True` needs a path that keeps means of the weights, as `SegmentMeans()` does. "
            f"Received: path={path!r}"
        )
    flag("jit_compile", jit_compile, auto=True)
    if hyper_variables is not None and not callable(hyper_variables):
        raise wrong("hyper_variables", hyper_variables, "a function of the model")


def as_budget(
    budget: float | None, unit: Unit, max_trials: int | None, scouts: int
) -> Budget | None:
    """The budget of a search, if it has one.

    Raises:
        ValueError: It is none, has no unit, or is too small for `scouts`; or so is `max_trials`.
    """
    choice("unit", unit, UNITS)
    if budget is None and unit != UNITS[0]:
        raise ValueError(
            "`unit` is that of a `budget`: give one, or leave `unit` out. Received: "
            f"unit={unit!r}, budget=None"
        )
    if isinstance(budget, list | tuple):
        raise wrong("budget", budget, "one number")
    if unit == "trials" and max_trials is not None:
        raise ValueError(
            "`budget` and `max_trials` may not both limit trials: leave one of them out. Received: "
            f'budget={budget!r}, unit="trials", max_trials={max_trials}'
        )
    found = None if budget is None else Budget(budget, unit)
    limits: dict[str, float | None] = {"max_trials": max_trials}
    if unit in ("trainings", "trials"):  # each of them costs one, or what it has used of one
        limits["budget"] = budget
    for name, limit in limits.items():
        if limit is not None and scouts >= limit:
            raise ValueError(
                f"`scouts` must be less than `{name}`: they are a part of it. Received: "
                f"scouts={scouts}, {name}={limit}"
            )
    return found


def check_search(
    epochs: int,
    batch_size: int | None,
    validation_batch_size: int | None,
    shuffle: bool,
    fit_arguments: dict[str, Any],
) -> None:
    """Raises a ValueError for what `search` does not take."""
    flag("shuffle", shuffle)
    refuse(set(fit_arguments) - {"validation_freq"})
    positive_integer("epochs", epochs)
    positive_integer("batch_size", batch_size, optional=True)
    positive_integer("validation_batch_size", validation_batch_size, optional=True)
    if epochs % positive_integer("validation_freq", fit_arguments.get("validation_freq", 1)):
        raise ValueError(
            "The last epoch must be validated: `validation_freq` must divide `epochs`. Received: "
            f"validation_freq={fit_arguments['validation_freq']}, epochs={epochs}"
        )


def check_learnable(
    optimizer: LearnableOptimizer,
    hyper_variables: Callable[[keras.Model], Iterable[keras.Variable]] | None,
    horizon: int | None,
    steps: int,
) -> None:
    """Raises a ValueError if there is nothing to learn, or too short a way back for it."""
    if hyper_variables is None:
        optimizer.check_learns()
    if horizon is not None and horizon > steps:
        raise ValueError(
            f"`horizon` must be at most the {steps} steps of a training. Received: horizon={horizon}. "
            "Leave it out, to go all the way back."
        )
    if INIT_SCALE in optimizer.learn and horizon is not None and horizon < steps:
        raise ValueError(
            f"`horizon` must reach back to the initial weights, {steps} steps: learning "
            f'"init_scale" needs that. Received: horizon={horizon}. Leave one of them out.'
        )


def check_copyable(callbacks: Iterable[keras.callbacks.Callback]) -> None:
    """Raises a ValueError if not: each training gets copies."""
    for callback in callbacks:
        try:
            copy.deepcopy(callback)
        except Exception as error:
            raise ValueError(
                f"`callbacks` must be such that they can be copied, for each training anew. Received: "
                f"{callback!r} ({error}). Let it open files and locks in `on_train_begin`."
            ) from error


def warn_of_rest(max_trials: int | None, gradients_per_step: int) -> None:
    """Says that the last meta-iteration will lack trainings."""
    if max_trials is not None and max_trials % gradients_per_step:
        _log.warning(
            "`max_trials=%d` is not a multiple of `gradients_per_step=%d`: the last meta-iteration "
            "will be incomplete.",
            max_trials,
            gradients_per_step,
        )
