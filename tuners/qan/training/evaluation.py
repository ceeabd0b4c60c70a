"""Validation metrics in the middle of an epoch."""

import copy
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import keras
import numpy as np
import tensorflow as tf

from keras_drmad.arguments import named, positive_integer
from keras_drmad.data_checks import check_arrays
from keras_drmad.typing import Logs, Structure, Tensors

from .data import as_tensors, untuned

LEAST_BATCH = 1024

Read: TypeAlias = Callable[[], tuple[tf.Tensor, ...]]


class Validation:
    """Evaluates a model without a trace in the training metrics of an epoch in progress.

    One compiled call, as `evaluate` would take longer to begin than most chunks of training last;
    where it cannot be one (a `PyDataset`, a dataset for several replicas, a model that runs eagerly, or
    whose `test_step` returns other than its metrics), `evaluate` is called.

    Args:
        data: `x`, `(x, y)`, `(x, y, sample_weight)`, each an array or a structure of arrays, a
            `tf.data.Dataset` or a `PyDataset`.
        batch_size: of arrays. Defaults to 1024: what is larger is quicker, and nothing else depends
            on it.

    Raises:
        ValueError: Data of another kind.
    """

    def __init__(self, data: Structure, batch_size: int | None = None) -> None:
        data = readable("validation_data", data)
        positive_integer("batch_size", batch_size, optional=True)
        self._arrays, self._batch = None, batch_size or LEAST_BATCH
        if isinstance(data, tuple | list):
            check_arrays("validation_data", data)
            self._arrays = as_tensors([part for part in data if part is not None])
        self._data = untuned(data)
        self._model: keras.Model | None = None
        self._compiled: _CompiledEvaluation | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> "Validation":
        other = copy.copy(self)  # of the same data; what is compiled cannot be copied
        other._model = other._compiled = None
        return other

    def __call__(self, model: keras.Model) -> Logs:
        """`{"val_<metric>": number}`."""
        return self.beside(model, tuple)[0]

    def beside(self, model: keras.Model, read: Read) -> tuple[Logs, tuple[np.ndarray, ...]]:
        """`({"val_<metric>": number}, arrays)`, with what `read` returns computed in the same call.

        Args:
            model: a compiled model.
            read: a function without arguments that returns a tuple of tensors.
        """
        if model is not self._model:  # `knows` takes longer: who compiles a model anew asks it
            self.prepare(model)
        if self._is_graph:
            if self._compiled is None or read != self._compiled.read:
                self._compiled = _CompiledEvaluation(
                    model, read, self._data, self._arrays, self._batch
                )
            logs, values = self._compiled()
        else:
            kept = _metrics(model)
            logs = model.evaluate(self._data, verbose=0, return_dict=True)
            _set_metrics(model, kept)
            values = read()
        return _named(logs), tuple(value.numpy() for value in values)

    def knows(self, model: keras.Model) -> bool:
        """Whether it is this model that was prepared, as it is compiled now."""
        return model is self._model and _ids(model.metrics) == _ids(self._metrics)

    def prepare(self, model: keras.Model) -> Logs:
        """Evaluates by Keras, which builds what of a model is not yet built; returns the metrics."""
        self._model, self._compiled = model, None
        replicas = model.distribute_strategy.num_replicas_in_sync
        if self._arrays is not None:
            # Keras builds metrics by the first batch, which replicas must share evenly.
            batch = min(self._batch, len(keras.tree.flatten(self._arrays)[0]))
            batch = max(batch - batch % replicas, 1)
            self._data = untuned(tf.data.Dataset.from_tensor_slices(self._arrays).batch(batch))
        kept = _metrics(model)
        with named("validation_data"):
            logs = model.evaluate(self._data, verbose=0, return_dict=True)
        # Else `test_step` returns something of its own.
        is_of_metrics = set(logs) == set(model.get_metrics_result())
        if len(kept) == len(model.metrics_variables):
            _set_metrics(model, kept)
        else:
            model.reset_metrics()
        is_dataset = isinstance(self._data, tf.data.Dataset)
        is_shared = self._arrays is not None or replicas == 1  # by the replicas, in one call
        self._is_graph = is_dataset and is_shared and is_of_metrics and not model.run_eagerly
        self._metrics = model.metrics  # new ones at each `compile`
        return _named(logs)


class _CompiledEvaluation:
    """An evaluation of one model in one call, with what `read` returns."""

    def __init__(
        self,
        model: keras.Model,
        read: Read,
        data: tf.data.Dataset,
        arrays: Structure,
        batch: int,
    ) -> None:
        self.read = read
        self._model, self._data, self._arrays, self._batch = model, data, arrays, batch
        self._call = tf.function(self._evaluate).get_concrete_function()

    def __call__(self) -> tuple[dict[str, tf.Tensor], tuple[tf.Tensor, ...]]:
        return self._call()

    def _evaluate(self) -> tuple[dict[str, tf.Tensor], tuple[tf.Tensor, ...]]:
        model = self._model
        kept = _metrics(model)
        model.reset_metrics()
        if self._arrays is None:
            # A loop over the data set itself would be prepared anew at each call.
            iterator = iter(self._data)
            batch = iterator.get_next_as_optional()
            while batch.has_value():
                model.test_step(batch.get_value())
                batch = iterator.get_next_as_optional()
        else:  # an iterator would take longer to begin than a small model to evaluate
            model.distribute_strategy.run(self._evaluate_share)
        logs = {name: tf.identity(value) for name, value in model.get_metrics_result().items()}
        _set_metrics(model, kept)
        return logs, self.read()

    def _evaluate_share(self) -> None:
        """Of one replica: every n-th batch, of n replicas."""
        of = tf.distribute.get_replica_context()
        first, replicas = of.replica_id_in_sync_group * self._batch, of.num_replicas_in_sync
        end = tf.maximum(len(keras.tree.flatten(self._arrays)[0]), first)
        for start in tf.range(first, end, replicas * self._batch):
            self._model.test_step(self._batch_from(start))

    def _batch_from(self, start: tf.Tensor) -> Structure:
        end = tf.add(start, self._batch)
        return keras.tree.map_structure(lambda array: array[start:end], self._arrays)


def scalars(logs: Mapping[str, Any]) -> Logs:
    """`{name: number}` of those metrics that are one."""
    return {name: float(value) for name, value in logs.items() if np.ndim(value) == 0}


def readable(name: str, data: Structure) -> Structure:
    """Data of an argument, inputs alone as `(x,)`; refuses what cannot be read again, or has no end."""
    if isinstance(data, tf.data.Dataset) and data.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise ValueError(f"`{name}` repeats for ever: use `dataset.take(...)`.")
    if isinstance(data, tuple | list | tf.data.Dataset | keras.utils.PyDataset):
        return data
    if isinstance(data, dict) or hasattr(data, "__array__"):
        return (data,)
    raise ValueError(
        f"`{name}` must be arrays as `x`, `(x, y)` or `(x, y, sample_weight)`, a `tf.data.Dataset` or a "
        f"`keras.utils.PyDataset`. Received: a {type(data).__name__}"
    )


def _ids(metrics: list[keras.Metric]) -> list[int]:
    return [id(metric) for metric in metrics]


def _named(logs: Mapping[str, Any]) -> Logs:
    return {f"val_{name}": number for name, number in scalars(logs).items()}


def _metrics(model: keras.Model) -> Tensors:
    return [tf.identity(v.value) for v in model.metrics_variables]


def _set_metrics(model: keras.Model, values: Tensors) -> None:
    for variable, value in zip(model.metrics_variables, values, strict=True):
        variable.assign(value)
