"""Arguments that both tuners refuse, or warn of, in the same words."""

import inspect
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import keras
import keras_tuner
import tensorflow as tf

from keras_drmad.arguments import (
    did_you_mean,
    flag,
    of_kind,
    path_like,
    positive_integer,
    whole_number,
    wrong,
)
from keras_drmad.callbacks.learn_hyperparameters import LearnHyperparameters
from keras_drmad.typing import Structure

# Arguments of `fit` that `search` does not take, and what does the same.
INSTEAD = {
    "class_weight": "Give each sample its class's weight in `sample_weight`.",
    "initial_epoch": "Leave it out: each training begins at its first epoch.",
    "max_queue_size": "Give it to the `PyDataset`.",
    "shuffle": "Leave it out: arrays are shuffled, what comes in batches is read as it comes.",
    "steps_per_epoch": "Cut the training data: `dataset.take(steps)`.",
    "use_multiprocessing": "Give it to the `PyDataset`.",
    "validation_freq": "Leave it out: the model is validated at every decision.",
    "validation_split": "Split the arrays, and pass one part as `validation_data`.",
    "validation_steps": "Cut the validation data: `dataset.take(steps)`.",
    "workers": "Give them to the `PyDataset`.",
}


def refuse(names: Iterable[str]) -> None:
    """Raises a ValueError if there are any arguments of these names, which `search` does not take."""
    names = sorted(names)
    if names:
        known = sorted(inspect.signature(keras.Model.fit).parameters.keys() - INSTEAD.keys())
        unknown = "`fit` does not know it either."
        fixes = [
            f"`{name}`: {INSTEAD.get(name) or did_you_mean(name, valid=known) or unknown}"
            for name in names
        ]
        raise ValueError(f"`search` does not take these arguments. {' '.join(fixes)}")


def check_builds(hypermodel: object) -> None:
    """Raises a ValueError unless it is a `HyperModel` or a function."""
    is_class = isinstance(hypermodel, type) and issubclass(hypermodel, keras_tuner.HyperModel)
    is_either = isinstance(hypermodel, keras_tuner.HyperModel) or callable(hypermodel)
    if is_class or isinstance(hypermodel, keras.Model) or not is_either:
        what = "a `keras_tuner.HyperModel`, or a function of `hp` that returns a compiled model"
        raise wrong("hypermodel", hypermodel, what)


def fits_itself(hypermodel: object) -> bool:
    """Whether it is a `HyperModel` with a `fit` of its own."""
    return isinstance(hypermodel, keras_tuner.HyperModel) and (
        type(hypermodel).fit is not keras_tuner.HyperModel.fit
    )


def check_hypermodel(hypermodel: object) -> None:
    """Refuses what makes no models; warns of a `HyperModel` whose own `fit` would be ignored.

    Raises:
        ValueError: It is neither a `HyperModel` nor a function.
    """
    check_builds(hypermodel)
    if fits_itself(hypermodel):
        kind = type(hypermodel)
        warnings.warn(
            f"`fit` of {kind.__name__} is not called: the tuner trains the models itself. Pass what it "
            "gives to `model.fit` to `search`, and do the rest in `build` or in callbacks.",
            UserWarning,
            stacklevel=4,
        )


def check_oracle(given: Mapping[str, Any]) -> None:
    """Raises a ValueError for arguments that KerasTuner's oracles take, and fail with later."""
    for name in ("allow_new_entries", "tune_new_entries"):
        flag(name, given.get(name, True))
    whole_number("max_retries_per_trial", given.get("max_retries_per_trial", 0))
    if (space := given.get("hyperparameters")) is not None:
        of_kind("hyperparameters", space, keras_tuner.HyperParameters, "`HyperParameters`")


def check_tuner(given: Mapping[str, Any]) -> None:
    """Raises a ValueError for arguments that KerasTuner's tuners take, and fail with later."""
    if (directory := given.get("directory")) is not None:
        path_like("directory", directory)
    if (name := given.get("project_name")) is not None:
        of_kind("project_name", name, str, "text")
    if (tuner_id := given.get("tuner_id")) is not None:
        of_kind("tuner_id", tuner_id, str, "text")
    if (strategy := given.get("distribution_strategy")) is not None:
        of_kind(
            "distribution_strategy", strategy, tf.distribute.Strategy, "a `tf.distribute.Strategy`"
        )
    flag("overwrite", given.get("overwrite", False))
    positive_integer("executions_per_trial", given.get("executions_per_trial", 1))
    positive_integer("max_model_size", given.get("max_model_size"), optional=True)


def as_callbacks(callbacks: Structure) -> list[keras.callbacks.Callback]:
    """Callbacks as in `fit`, as a list; a ValueError for something else."""
    given = [one for one in keras.tree.flatten(callbacks) if one is not None]
    kind, what = keras.callbacks.Callback, "a list of Keras callbacks"
    return [of_kind("callbacks", one, kind, what) for one in given]


def checked_callbacks(
    callbacks: Structure, others: Mapping[type[keras.callbacks.Callback], str] | None = None
) -> list[keras.callbacks.Callback]:
    """The callbacks of a search, as a list.

    Args:
        callbacks: as in `fit`.
        others: kinds that this search does not take, with what to do instead.

    Raises:
        ValueError: Something else than callbacks, or one that would act against the search.
    """
    given = as_callbacks(callbacks)
    refused = {LearnHyperparameters: "the search moves the hyperparameters itself"} | dict(
        others or {}
    )
    for one in given:
        for kind, instead in refused.items():
            if isinstance(one, kind):
                raise ValueError(f"`callbacks` may not hold `{kind.__name__}`: {instead}.")
    return given
