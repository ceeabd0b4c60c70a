"""The data of a search, and what is wrong with them, before anything is trained."""

import numpy as np
import tensorflow as tf

from keras_drmad.data import ArrayBatches, as_arguments, as_batches, as_validation

# Of a hyper set: how much of it may also be found in the training set.
OVERLAP_ALLOWED = 0.5


class SearchData:
    """The data of a search, checked.

    Attributes:
        hyper: `Batches` of the hyper set.
        selection: what `fit` takes as `validation_data`.
    """

    def __init__(self, train, hyper, selection, batch_size, shuffle, clients):
        self._shuffle, self._clients = shuffle, clients
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
            check_shapes(name, batches, self._batches)
        check_apart(self._batches, self.hyper)
        if clients > 1 and not isinstance(self._batches, ArrayBatches):
            raise ValueError("`shard=True` needs training data in arrays.")
        arrays = isinstance(self._selected, ArrayBatches)
        given = hyper if selection is None else selection
        self.selection = as_arguments(self._selected.data) if arrays else given

    def training(self, seed, client=0):
        """Training `Batches`; of arrays, the share of a client in an order of its own."""
        if not isinstance(self._batches, ArrayBatches):
            return self._batches
        each = self._batches.samples // self._clients  # all clients take as many steps
        shard = slice(client, None, self._clients)
        data = tf.nest.map_structure(lambda a: a[shard][:each], self._batches.data)
        return ArrayBatches(data, self._batches.batch_size, seed if self._shuffle else None)

    def summary(self):
        """What must be the same when a search goes on."""
        sets = {"training": self._batches, "hyper": self.hyper, "selection": self._selected}
        return {"shuffle": self._shuffle} | {
            name: [batches.epoch_steps, str(batches.signature(0))] for name, batches in sets.items()
        }


def training_batches(data, batch_size, seed=None):
    """`Batches` of training data of known length."""
    batches = as_batches(data, batch_size, seed)
    if batches.epoch_steps is None:
        raise ValueError(
            "The training data must have an end: a length or a cardinality. "
            "Use `take(n)` on a `tf.data.Dataset`."
        )
    return batches


def evaluation_batches(name, data):
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


def check_values(name, batches):
    """Raises a ValueError if there is no data, or a value that is not finite (arrays only)."""
    if batches.epoch_steps == 0:
        raise ValueError(f"`{name}` holds no batch.")
    if not isinstance(batches, ArrayBatches):
        return
    for leaf in tf.nest.flatten(batches.data):
        if np.issubdtype(leaf.dtype, np.inexact) and not np.isfinite(leaf).all():
            bad = int(np.count_nonzero(~np.isfinite(leaf)))
            raise ValueError(
                f"`{name}` holds {bad} values that are NaN or infinite, in an array of shape "
                f"{leaf.shape}. Remove or replace them."
            )


def check_shapes(name, batches, training):
    """Raises a ValueError if samples are unlike those of the training data."""
    here, there = (
        tf.nest.flatten(tf.nest.map_structure(_sample, b.batch(0)[:2])) for b in (batches, training)
    )
    if here != there:
        raise ValueError(
            f"`{name}` must hold samples like the training data. Received: shapes {here} in "
            f"`{name}`, {there} in the training data (x and y, one sample each)"
        )


def _sample(leaf):
    return str(tuple(leaf.shape[1:]))


def check_apart(training, hyper):
    """Raises a ValueError if the hyper set is taken from the training arrays."""
    if not isinstance(training, ArrayBatches) or not isinstance(hyper, ArrayBatches):
        return
    x, x_hyper = (tf.nest.flatten(batches.data[0])[0] for batches in (training, hyper))
    known = set(map(hash, _rows(x)))
    both = sum(hash(row) in known for row in _rows(x_hyper)) / len(x_hyper)
    # Small discrete inputs repeat themselves by chance.
    by_chance = len(known) < OVERLAP_ALLOWED * len(x)
    if both > OVERLAP_ALLOWED and not by_chance:
        raise ValueError(
            f"`validation_data` overlaps the training data: {both:.0%} of its samples are in both. "
            "Hyperparameters that are fitted to training data learn to overfit; split the arrays."
        )


def _rows(array):
    for row in np.ascontiguousarray(array):
        yield row.tobytes()
