"""Sees each training step that `fit` takes: its batch, the state before it, and its end."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from keras_drmad.data import Batch, Shares, as_batch
from keras_drmad.typing import Logs, Structure


class Recorder:
    """Stands before a model's train function.

    Keras has no event that carries the batches. `model.train_function` is what `fit` calls with its
    iterator, and it takes any iterator of batches: so each step is called by itself, also where
    `steps_per_execution` are called at once.

    Args:
        model: whose steps are seen.
        before: called with each batch, before its step; of several replicas with its `Shares`.
        after: called after each step.

    Attributes:
        step: trains on the batch that `before` was called with.
    """

    step: Callable[[], object]
    _train: Callable[[Iterator[Structure]], Logs]

    def __init__(
        self,
        model: keras.Model,
        before: Callable[[Batch | Shares], None],
        after: Callable[[], None],
    ) -> None:
        assert model.train_function is not None  # `fit` makes it before training begins
        train = model.train_function
        while isinstance(left := getattr(train, "__self__", None), Recorder):
            train = left._train  # of a `fit` that broke off
        self._model, self._train = model, train
        self._before, self._after = before, after
        self.is_expecting = False
        model.train_function = self._record

    def stop(self) -> None:
        """Leaves the model's own train function in its place."""
        self._model.train_function = self._train

    def _record(self, iterator: Iterator[Structure]) -> Logs:
        if not self.is_expecting:  # a later `fit`, without the callback, after one that broke off
            self.stop()
            return self._train(iterator)
        self.is_expecting = False
        logs: Logs | None = None
        for data in itertools.islice(iterator, self._model.steps_per_execution):
            self.step = functools.partial(self._take, data)
            self._before(_seen(self._model.distribute_strategy, data))
            logs = self.step()
            self._after()
        if logs is None:
            raise StopIteration
        return logs

    def _take(self, data: Structure) -> Logs:
        return self._train(iter([data]))


def _seen(strategy: tf.distribute.Strategy, data: Structure) -> Batch | Shares:
    """A batch, or its parts for the replicas of a strategy."""

    def part(leaf: Any, replica: int) -> Any:
        if not isinstance(leaf, tf.distribute.DistributedValues):
            return leaf
        return strategy.experimental_local_results(leaf)[replica]

    parts = [
        as_batch(tf.nest.map_structure(lambda leaf, i=i: part(leaf, i), data))
        for i in range(strategy.num_replicas_in_sync)
    ]
    return parts[0] if len(parts) == 1 else Shares(tuple(parts))
