"""The data of a hypergradient search."""

import copy
from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from keras_drmad.arguments import named, positive_integer
from keras_drmad.data import (
    VALIDATION_BATCH,
    ArrayBatches,
    Batch,
    Batches,
    StreamBatches,
    as_arguments,
    as_validation,
)
from keras_drmad.data_checks import check_apart, check_targets, check_values
from keras_drmad.typing import JsonObject, Structure

from ..data_checks import check_samples, training_batches
from .folds import Folds
from .split import arrays

# Under which name a hypermodel asks `hp` for the size of the batches of training arrays.
BATCH_SIZE = "batch_size"


class SearchData:
    """The data of a search, checked.

    Attributes:
        hyper, selected: `Batches` of the hyper set and of the selection set.
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
        resample: bool = True,
        validation_batch_size: int | None = None,
        folds: int | None = None,
    ) -> None:
        self._shuffle, self._shards, self._resample = shuffle, shards, resample
        self._validation_batch_size = validation_batch_size
        self._folds = None if folds is None else Folds(arrays(train, "folds"), folds)
        if self._folds is not None:
            if hyper is not None:
                raise ValueError(
                    "`folds` must be left out where there is a hyper set (`validation_data` or "
                    "`validation_split`). Received: both"
                )
            for number in range(self._folds.count):
                check_values("x", ArrayBatches(self._folds.held_out(number), VALIDATION_BATCH))
            train, hyper = self._folds.others(0), self._folds.held_out(0)
        self._train, self._batch_size = train, batch_size
        self._batches = training_batches(train, batch_size)
        self._epoch_steps = self._batches.epoch_steps
        self._is_unused = True  # the batches have not been trained with
        self.hyper = evaluation_batches("validation_data", hyper, validation_batch_size)
        self.selected = (
            self.hyper
            if selection is None
            else evaluation_batches("selection_data", selection, validation_batch_size)
        )
        for name, batches in self._named().items():
            check_values(name, batches)
            check_samples(name, batches, self._batches)
        check_apart(self._batches, self.hyper)
        if shards > 1 and not isinstance(self._batches, ArrayBatches):
            raise ValueError("`shard=True` needs training data in arrays.")
        self.selection = hyper if selection is None else selection
        if isinstance(self.selected, ArrayBatches):
            self.selection = as_arguments(self.selected.data)

    def of(self, values: Mapping[str, Any]) -> "SearchData":
        """In batches of the size that a configuration has, if the hypermodel asks for one.

        Raises:
            ValueError: It is none, or they come in batches of a given size.
        """
        if BATCH_SIZE not in values:
            return self
        size = positive_integer(BATCH_SIZE, values[BATCH_SIZE])
        if self._batch_size is not None:
            raise ValueError(
                "`batch_size` must be left out: the hypermodel asks `hp` for it. Received: "
                f"batch_size={self._batch_size}"
            )
        if not isinstance(self._batches, ArrayBatches):
            raise ValueError(
                f'`hp` cannot choose a "{BATCH_SIZE}": it needs training data in arrays. Received: '
                f"x={type(self._train).__name__}, which comes in batches"
            )
        found = copy.copy(self)
        found._batches = ArrayBatches(self._batches.data, size)
        return found

    @property
    def folds(self) -> int:
        """How many trainings hold out each sample once; 1 where there is a hyper set."""
        return 1 if self._folds is None else self._folds.count

    def fold(self, number: int) -> "SearchData":
        """The data of training `number`: where there are folds, all but one of them, and that one."""
        if self._folds is None:
            return self
        assert isinstance(self._batches, ArrayBatches)
        found = copy.copy(self)
        found._batches = ArrayBatches(self._folds.others(number), self._batches.batch_size)
        found.hyper = as_validation(self._folds.held_out(number), self._validation_batch_size)
        if self.selected is self.hyper:
            found.selected = found.hyper
            found.selection = self._folds.held_out(number)
        return found

    def _named(self) -> dict[str, Batches]:
        """By the arguments of `search`."""
        return {
            "x": self._batches,
            "validation_data": self.hyper,
            "selection_data": self.selected,
        }

    def check_targets(self, model: keras.Model) -> None:
        """Raises a ValueError if there are targets that the loss of a model cannot take."""
        for name, batches in self._named().items():
            check_targets(name, model, batches)

    def training(self, seed: int, number: int = 0) -> Batches:
        """Training `Batches`; of arrays, shard `number` in an order by `seed`.

        Of a stream they are read anew for each training that resamples, and are the same otherwise.
        """
        if isinstance(self._batches, StreamBatches) and self._resample:
            self._read_anew()
        self._is_unused = False
        return self.batches(seed, number)

    def batches(self, seed: int = 0, number: int = 0) -> Batches:
        """The same as they have been read last, for what is no training."""
        if not isinstance(self._batches, ArrayBatches):
            return self._batches
        each = self._batches.samples // self._shards  # all take as many steps
        shard = slice(number % self._shards, None, self._shards)
        data = tf.nest.map_structure(lambda a: a[shard][:each], self._batches.data)
        return ArrayBatches(data, self._batches.batch_size, seed if self._shuffle else None)

    def _read_anew(self) -> None:
        """Replaces the batches, unless they have just been read; those before are not kept."""
        if self._is_unused:
            return
        self._batches = StreamBatches(self._train)
        if self._batches.epoch_steps != self._epoch_steps:
            raise ValueError(
                "The training data must have the same number of batches each time that they are read. "
                f"Received: {self._batches.epoch_steps}, and {self._epoch_steps} at first"
            )

    def example(self) -> Batch:
        """A training batch."""
        return self.batches().batch(0)

    def steps(self, epochs: int) -> int:
        """Training steps of so many epochs."""
        steps = self.batches().epoch_steps
        assert steps is not None  # `training_batches` has refused what has no end
        return epochs * steps

    def summary(self) -> JsonObject:
        """What must be the same when a search goes on."""
        sets = {"training": self._batches, "hyper": self.hyper, "selection": self.selected}
        return {
            "shuffle": self._shuffle,
            "folds": self.folds,
            "batch_size": getattr(self._batches, "batch_size", None),
        } | {name: _described(batches) for name, batches in sets.items()}


def _described(batches: Batches) -> list[int | str | None]:
    """Number and shapes of the samples of arrays; of what comes in batches, of these."""
    if isinstance(batches, ArrayBatches):
        arrays = tf.nest.flatten(batches.data)
        return [batches.samples, str([(array.shape[1:], array.dtype.name) for array in arrays])]
    return [batches.epoch_steps, str(batches.signature(0))]


def evaluation_batches(name: str, data: Structure, batch_size: int | None) -> Batches:
    """`Batches` of the hyper or the selection set."""
    if data is None:
        raise ValueError(
            f"`{name}` must be given: the hyperparameters are fitted to its loss. Keep it apart from "
            "the training data; `validation_split=0.2` does, or `folds=5`."
        )
    with named(name):
        return as_validation(data, batch_size)
