"""What is wrong with data, before anything is trained."""

from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from keras_drmad.data import ArrayBatches, Batches, StreamBatches, as_batches
from keras_drmad.typing import Structure


def as_fit_data(x: Structure, y: Structure, sample_weight: Structure) -> Structure:
    """What `fit` is given, in one: without targets a list or tuple is one of inputs, not `(x, y)`."""
    if y is not None or sample_weight is not None:
        return x, y, sample_weight
    return (x,) if isinstance(x, tuple | list) else x


def training_batches(data: Structure, batch_size: int | None, seed: int | None = None) -> Batches:
    """`Batches` of training data, whatever `fit` takes as `x`, of known length."""
    if data is None:
        raise ValueError("`x` must be given: the training data. Received: x=None")
    batches = as_batches(data, batch_size, seed)
    if batches.epoch_steps is None:
        raise ValueError(
            "The training data must have an end: a length or a cardinality. "
            "Use `take(n)` on a `tf.data.Dataset`."
        )
    return batches


def check_values(name: str, batches: Batches) -> None:
    """Raises a ValueError if there is no data, or a value in memory that is not finite."""
    if batches.epoch_steps == 0:
        raise ValueError(f"`{name}` holds no batch.")
    for leaf in _in_memory(batches):
        if np.issubdtype(leaf.dtype, np.inexact) and not np.isfinite(leaf).all():
            bad = int(np.count_nonzero(~np.isfinite(leaf)))
            raise ValueError(
                f"`{name}` holds {bad} values that are NaN or infinite, in an array of shape "
                f"{leaf.shape}. Remove or replace them."
            )


def _in_memory(batches: Batches) -> Iterator[np.ndarray]:
    """The arrays that `Batches` hold; those of a `PyDataset` are made when they are needed."""
    if isinstance(batches, ArrayBatches):
        yield from tf.nest.flatten(batches.data)
    elif isinstance(batches, StreamBatches):
        for step in range(batches.epoch_steps or 0):
            yield from map(np.asarray, tf.nest.flatten(batches.batch(step)))


def check_samples(name: str, batches: Batches, training: Batches, sizes: bool = True) -> None:
    """Raises a ValueError if samples are unlike those of the training data.

    Args:
        name: of the data, in the error.
        batches, training: `Batches`.
        sizes: whether shapes must be the same, or only the number of their axes: there are models that
            take samples of any length.
    """
    here, there = (
        [tuple(leaf.shape[1:]) for leaf in tf.nest.flatten(b.batch(0)[:2])]
        for b in (batches, training)
    )
    compared: Callable[[tuple], object] = tuple if sizes else len
    if list(map(compared, here)) != list(map(compared, there)):
        raise ValueError(
            f"`{name}` must hold samples like the training data. Received: shapes "
            f"{list(map(str, here))} in `{name}`, {list(map(str, there))} in the training data (x and "
            "y, one sample each)"
        )
