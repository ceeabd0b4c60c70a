"""What is wrong with the data of a search, before anything is trained."""

from collections.abc import Callable

import keras
import tensorflow as tf

from keras_drmad.arguments import named
from keras_drmad.data import Batches, as_batches
from keras_drmad.typing import Structure


def as_fit_data(x: Structure, y: Structure, sample_weight: Structure) -> Structure:
    """What `fit` is given, in one: without targets a list or tuple is one of inputs, not `(x, y)`."""
    if y is not None or sample_weight is not None:
        if isinstance(x, tf.data.Dataset | keras.utils.PyDataset):
            raise ValueError(
                f"`y` and `sample_weight` must be left out where `x` is a {type(x).__name__}: put them "
                "into it, as `(x, y, sample_weight)`."
            )
        return x, y, sample_weight
    return (x,) if isinstance(x, tuple | list) else x


def training_batches(data: Structure, batch_size: int | None, seed: int | None = None) -> Batches:
    """`Batches` of training data, whatever `fit` takes as `x`, of known length."""
    if data is None:
        raise ValueError("`x` must be given: the training data. Received: x=None")
    with named("x"):
        batches = as_batches(data, batch_size, seed)
        steps = batches.epoch_steps  # a stream is read for it
    if steps is None:
        raise ValueError(
            "The training data must have an end: a length or a cardinality. "
            "Use `take(n)` on a `tf.data.Dataset`."
        )
    if not steps:
        raise ValueError("`x` must hold at least one batch. Received: none")
    return batches


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
