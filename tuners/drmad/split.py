"""Sets that a search takes from the training arrays by itself, as `validation_split=` says."""

import itertools
import math
import numbers
from collections.abc import Sequence

import tensorflow as tf

from keras_drmad.arguments import named, number, pair
from keras_drmad.data import ArrayBatches, as_arguments, as_batches
from keras_drmad.typing import Structure

WHAT = "a share between 0 and 1, or two: of the hyper set and of the selection set"


def arrays(data: Structure, argument: str) -> ArrayBatches:
    """Training data in arrays.

    Raises:
        ValueError: They come in batches, of which `argument` cannot take parts.
    """
    with named("x"):
        batches = as_batches(data)
    if isinstance(batches, ArrayBatches):
        return batches
    raise ValueError(
        f"`{argument}` needs training data in arrays. Received: x={type(data).__name__}, which comes in "
        "batches. Pass others as `validation_data`."
    )


def split(
    data: Structure,
    validation_split: float | Sequence[float],
    validation_data: Structure,
    selection_data: Structure,
) -> tuple[Structure, Structure, Structure]:
    """Training data, hyper set and selection set, where the last samples of arrays are held out.

    As Keras's `fit` does it: before anything is shuffled, from sample ⌊n · (1 − share)⌋ on.

    Args:
        data: what `fit` is given, in one.
        validation_split: the share of the hyper set; or that, and the share of the selection set,
            which comes last.
        validation_data, selection_data: what `search` was given.

    Raises:
        ValueError: The share is none, or leaves a set without samples; a set was given, too; or the
            data are no arrays.
    """
    is_one = isinstance(validation_split, numbers.Real)
    given = (validation_split,) if is_one else pair("validation_split", validation_split, WHAT)
    shares = [number("validation_split", share, above=0, most=1) for share in given]
    sets = {
        "validation_data": validation_data,
        "selection_data": None if is_one else selection_data,
    }
    if both := [name for name, of in sets.items() if of is not None]:
        raise ValueError(
            f"`validation_split` must be left out where `{both[0]}` is given. Received: both"
        )
    whole = arrays(data, "validation_split")
    starts = [math.floor(whole.samples * (1.0 - sum(shares[i:]))) for i in range(len(shares))]
    parts = list(itertools.pairwise([0, *starts, whole.samples]))
    if any(start >= end for start, end in parts):
        raise ValueError(
            "`validation_split` must leave at least one sample for each set. Received: "
            f"validation_split={validation_split}, and {whole.samples} samples in all"
        )
    train, hyper, *selection = (_part(whole, slice(*part)) for part in parts)
    return train, hyper, selection[0] if selection else selection_data


def _part(whole: ArrayBatches, samples: slice) -> Structure:
    return as_arguments(tf.nest.map_structure(lambda array: array[samples], whole.data))
