"""What `LearnHyperparameters` refuses before anything is trained."""

import weakref
from typing import Any

import keras

from keras_drmad.arguments import named
from keras_drmad.data import Batches, BufferedBatches, as_validation
from keras_drmad.data_checks import check_inputs, check_targets, check_values, overlap, overlapping
from keras_drmad.typing import Structure

_LEARNING: weakref.WeakSet[keras.callbacks.Callback] = weakref.WeakSet()


def checked_hyper_set(data: Structure, batch_size: int | None) -> Batches:
    """The `Batches` of a hyper set.

    Raises:
        ValueError: data of another kind, without an end, or with values that are not finite.
    """
    with named("validation_data"):
        batches = as_validation(data, batch_size)
    check_values("validation_data", batches)
    return batches


def check_alone(callback: keras.callbacks.Callback) -> None:
    """Raises a ValueError if another callback learns in the same `fit`; each calls it once."""
    for other in _LEARNING:
        # One dictionary for all callbacks of a `fit`, and another one each time.
        if other is not callback and other.params is callback.params:
            raise ValueError(
                "`callbacks` hold two `LearnHyperparameters`, which would undo each other: leave one "
                "out."
            )
    _LEARNING.add(callback)


def check_horizon(horizon: int | None, params: dict[str, Any] | None) -> None:
    """Raises a ValueError if no window would ever end, where `fit` knows how long it is."""
    steps, epochs = ((params or {}).get(name) for name in ("steps", "epochs"))
    if horizon is not None and steps and epochs and horizon > steps * epochs:
        raise ValueError(
            f"`horizon` must be at most the {steps * epochs} steps of the training, or nothing is "
            f"learned. Received: horizon={horizon}"
        )


def check_data(model: keras.Model, hyper: Batches, fed: BufferedBatches) -> None:
    """Raises a ValueError if a hyper set is the training set, or its targets are none for the loss.

    `fed` are the first batches of the training.
    """
    check_inputs("validation_data", model, hyper)
    check_targets("validation_data", model, hyper)
    known = (hyper.batch(step) for step in range(hyper.epoch_steps or 0))
    shared = overlap((fed.batch(step) for step in range(len(fed))), known)
    if shared is not None:
        raise ValueError(overlapping(shared, "a batch"))
