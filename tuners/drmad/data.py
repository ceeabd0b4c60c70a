"""The data of a hypergradient search."""

import collections
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from keras_drmad.data import ArrayBatches, Batches, as_arguments, as_validation
from keras_drmad.typing import JsonObject, Structure

from ..data_checks import check_samples, check_values, training_batches

# Of a hyper set: how much more of it may be found in the training set than is found there by chance.
OVERLAP_ALLOWED = 0.1


class SearchData:
    """The data of a search, checked.

    Attributes:
        hyper: `Batches` of the hyper set.
        selection: what `fit` takes as `validation_data`.
    """

    def __init__(
        self,
        train: Structure,
        hyper: Structure,
        selection: Structure,
        batch_size: int | None,
        shuffle: bool,
        shards: int,
    ) -> None:
        self._shuffle, self._shards = shuffle, shards
        self._batches = training_batches(train, batch_size)
        self.hyper = evaluation_batches("validation_data", hyper)
        self._selected = (
            self.hyper if selection is None else evaluation_batches("selection_data", selection)
        )
        named = {
            "x": self._batches,
            "validation_data": self.hyper,
            "selection_data": self._selected,
        }
        for name, batches in named.items():
            check_values(name, batches)
            check_samples(name, batches, self._batches)
        check_apart(self._batches, self.hyper)
        if shards > 1 and not isinstance(self._batches, ArrayBatches):
            raise ValueError("`shard=True` needs training data in arrays.")
        self.selection = hyper if selection is None else selection
        if isinstance(self._selected, ArrayBatches):
            self.selection = as_arguments(self._selected.data)

    def training(self, seed: int, number: int = 0) -> Batches:
        """Training `Batches`; of arrays, shard `number` in an order by `seed`."""
        if not isinstance(self._batches, ArrayBatches):
            return self._batches
        each = self._batches.samples // self._shards  # all take as many steps
        shard = slice(number % self._shards, None, self._shards)
        data = tf.nest.map_structure(lambda a: a[shard][:each], self._batches.data)
        return ArrayBatches(data, self._batches.batch_size, seed if self._shuffle else None)

    def steps(self, epochs: int) -> int:
        """Training steps of so many epochs."""
        steps = self.training(seed=0).epoch_steps
        assert steps is not None  # `training_batches` has refused what has no end
        return epochs * steps

    def summary(self) -> JsonObject:
        """What must be the same when a search goes on."""
        sets = {"training": self._batches, "hyper": self.hyper, "selection": self._selected}
        return {"shuffle": self._shuffle} | {
            name: [batches.epoch_steps, str(batches.signature(0))] for name, batches in sets.items()
        }


def evaluation_batches(name: str, data: Structure) -> Batches:
    """`Batches` of the hyper or the selection set."""
    if data is None:
        raise ValueError(
            f"`{name}` must be given: the hyperparameters are fitted to its loss. Keep it apart from "
            "the training data."
        )
    try:
        return as_validation(data)
    except ValueError as error:
        raise ValueError(f"`{name}`: {error}") from error


def check_apart(training: Batches, hyper: Batches) -> None:
    """Raises a ValueError if the hyper set is taken from the training arrays."""
    if not isinstance(training, ArrayBatches) or not isinstance(hyper, ArrayBatches):
        return
    x, x_hyper = (tf.nest.flatten(batches.data[0])[0] for batches in (training, hyper))
    known = collections.Counter(map(hash, _rows(x)))
    both = sum(hash(row) in known for row in _rows(x_hyper)) / len(x_hyper)
    # Small discrete inputs repeat themselves, and are in both by chance as often.
    by_chance = sum(number for number in known.values() if number > 1) / len(x)
    if both - by_chance > OVERLAP_ALLOWED + len(x_hyper) ** -0.5:
        raise ValueError(
            f"`validation_data` overlaps the training data: {both:.0%} of its samples are in both. "
            "Hyperparameters that are fitted to training data learn to overfit; split the arrays."
        )


def _rows(array: np.ndarray) -> Iterator[bytes]:
    for row in np.ascontiguousarray(array):
        yield row.tobytes()
