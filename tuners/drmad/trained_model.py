"""The trained model of a trial: its weights in a file, and how it is made again from them."""

import os
import tempfile
from collections.abc import Callable

import keras
import tensorflow as tf

from keras_drmad import compat
from keras_drmad.optimizers.learnable import learnable_optimizer
from keras_drmad.typing import JsonObject, Structure

from ..retraining import build_by_call
from ..storage import files
from ..storage.damage import DamagedFile

WEIGHTS = ".weights.h5"  # the ending that Keras asks for


def shapes(x: Structure) -> JsonObject:
    """Shapes and dtypes of a batch of inputs, of any structure, such that JSON can hold them."""
    if isinstance(x, dict):
        return {"dict": {name: shapes(part) for name, part in x.items()}}
    if isinstance(x, tuple | list):
        return {"list": [shapes(part) for part in x]}
    return {"shape": list(x.shape), "dtype": tf.as_dtype(x.dtype).name}


def zeros(batch: JsonObject) -> Structure:
    """A batch of such shapes and dtypes."""
    if "dict" in batch:
        return {name: zeros(part) for name, part in batch["dict"].items()}
    if "list" in batch:
        return [zeros(part) for part in batch["list"]]
    return tf.zeros(batch["shape"], batch["dtype"])


def trace(model: keras.Model, x: Structure) -> None:
    """Calls a model on a batch without computing anything; an error says why that cannot be."""
    with model.distribute_strategy.scope():
        tf.function(model, autograph=False).get_concrete_function(x)


def save(model: keras.Model, path: str) -> None:
    """Writes the weights, all or nothing."""
    # Keras makes an optimizer to know what one has (3.15), which would have another name each time.
    with files.replaced(path, WEIGHTS) as temporary, compat.Names().again():
        model.save_weights(temporary)


def load(model: keras.Model, path: str | None, inputs: JsonObject, steps: int) -> None:
    """Reads the weights into a new model, which is built here if it is not.

    Args:
        model: compiled with a learnable optimizer.
        path: the file; None to build it only.
        inputs: `shapes` of what the model is called on.
        steps: of the training, which a learned schedule spans.

    Raises:
        DamagedFile: the file holds no weights.
    """
    if not model.built:
        build_by_call(model, zeros(inputs))
    learnable_optimizer(model).span_schedule(steps)
    with model.distribute_strategy.scope():
        model.optimizer.build(model.trainable_variables)
    if path is None:
        return
    try:
        model.load_weights(path)
    except OSError as error:
        raise DamagedFile(path, error) from error


def check(
    model: keras.Model, build: Callable[[], keras.Model], inputs: JsonObject, steps: int
) -> None:
    """Raises a ValueError if the weights of a model could not be loaded into another one like it."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, f"trained{WEIGHTS}")
        try:
            model.save_weights(path)
            load(build(), path, inputs, steps)
        except OSError:
            raise
        except Exception as error:
            raise ValueError(
                "The weights of the model could not be loaded again after the search. Give its layers "
                "their weights in `build` or at the first call, and give layers with state of another "
                f"kind `save_own_variables` and `load_own_variables`. Keras says: {error}"
            ) from error
