"""Losses and metrics of a model at other weights than its own."""

from collections.abc import Mapping

import keras
import tensorflow as tf

from keras_drmad import compat
from keras_drmad.arguments import choice, did_you_mean, named, of_kind, positive_integer, wrong
from keras_drmad.data import as_arguments, as_batches
from keras_drmad.data_checks import check_data
from keras_drmad.plots.recorded_path import RecordedPath, Values, state_variables
from keras_drmad.tf_function import tf_function
from keras_drmad.typing import Logs, Structure, Tensors

Batches = list[Structure]  # `(x, y, sample_weight)` each
STATISTICS = ("interpolated", "recomputed")


class Evaluation:
    """What `model.evaluate` would report if the model had other weights.

    One compiled function takes the weights as arguments. The variables of the model are never
    assigned, so nothing has to be put back.

    Args:
        model: A compiled Keras model.
        path: Where the weights will come from; its shapes must be the model's.
        data: A data set as `fit` takes it, arrays as a tuple `(x, y)`; or a dictionary of several.
        batch_size: Of arrays.
        statistics: `"interpolated"`: moving statistics of batch normalization are those given with
            the weights. `"recomputed"`: they are means over the batches of the first data set.

    Raises:
        ValueError: The model is not compiled, or not built; data have no end; `path` is of another
            model.
    """

    def __init__(
        self,
        model: keras.Model,
        path: RecordedPath,
        data: Structure,
        batch_size: int,
        statistics: str,
    ) -> None:
        of_kind("model", model, keras.Model, "a Keras model")
        if not model.compiled:
            raise ValueError("`model` must be compiled: its loss is evaluated.")
        if not model.built:
            raise ValueError("`model` must be built: call it on a batch, or load its weights.")
        choice("statistics", statistics, STATISTICS)
        path.check(model)
        self.model = model
        self.sets = _named(model, data, positive_integer("batch_size", batch_size))
        self._weights = list(model.trainable_variables)
        self._state = state_variables(model)
        self._recompute = statistics == "recomputed"
        self._averages = _moving_averages(model) if self._recompute else {}
        self._make_metrics()
        self._step = tf_function(self._evaluate_batch, reduce_retracing=True)
        self._moments = tf_function(self._batch_moments, reduce_retracing=True)

    @property
    def metric_names(self) -> list[str]:
        """Names of what is reported beside the loss."""
        return [name for name in self._names if name != "loss"]

    def __call__(self, weights: Values, state: Values) -> dict[str, Logs]:
        """`{data set: {"loss": …, metric: …}}` at these weights and moving statistics."""
        at = [tf.convert_to_tensor(v, w.dtype) for v, w in zip(weights, self._weights, strict=True)]
        statistics = [
            tf.convert_to_tensor(v, w.dtype) for v, w in zip(state, self._state, strict=True)
        ]
        if self._averages:
            statistics = self._recomputed(at, statistics)
        return {name: self._of(at, statistics, batches) for name, batches in self.sets.items()}

    def _of(self, weights: Tensors, state: Tensors, batches: Batches) -> Logs:
        logs: dict[str, tf.Tensor] = {}
        totals = self._empty
        for batch in batches:
            logs, totals = self._step(weights, state, totals, batch)
        return {name: float(value) for name, value in logs.items()}

    def _evaluate_batch(
        self, weights: Tensors, state: Tensors, totals: Tensors, batch: Structure
    ) -> tuple[dict[str, tf.Tensor], Tensors]:
        metrics = self.model.metrics_variables
        mapping = [*self._mapping(weights, state), *zip(metrics, totals, strict=True)]
        with keras.StatelessScope(state_mapping=mapping) as scope:
            logs = self.model.test_step(batch)
            return logs, [scope.get_current_value(v) for v in metrics]

    def _mapping(self, weights: Tensors, state: Tensors) -> list[tuple[keras.Variable, tf.Tensor]]:
        return [*zip(self._weights, weights, strict=True), *zip(self._state, state, strict=True)]

    def _recomputed(self, weights: Tensors, state: Tensors) -> Tensors:
        total, samples = [tf.zeros_like(v) for v in state], 0
        for x, *_ in next(iter(self.sets.values())):
            size = len(tf.nest.flatten(x)[0])
            moments = self._moments(weights, state, x)
            total = [t + size * tf.cast(m, t.dtype) for t, m in zip(total, moments, strict=True)]
            samples += size
        return [t / samples for t in total]

    def _batch_moments(self, weights: Tensors, state: Tensors, x: Structure) -> Tensors:
        """The state, with a batch's own moments in place of their moving averages.

        Training mode makes `ρ · average + (1 − ρ) · moment` of an average, and of 0 the moment times
        `1 − ρ`.
        """
        empty = [
            tf.zeros_like(value) if id(v) in self._averages else value
            for v, value in zip(self._state, state, strict=True)
        ]
        with keras.StatelessScope(state_mapping=self._mapping(weights, empty)) as scope:
            self.model(x, training=True)
            after = [scope.get_current_value(v) for v in self._state]
        return [
            new / (1 - self._averages[id(v)]) if id(v) in self._averages else value
            for v, value, new in zip(self._state, state, after, strict=True)
        ]

    def _make_metrics(self) -> None:
        """Metrics have no variables before their first batch. Those that there are keep their values."""
        first = next(iter(self.sets.values()))[0]
        variables = (*self.model.metrics_variables, *self.model.non_trainable_variables)
        kept = [(v, keras.ops.copy(v)) for v in variables]
        try:
            self._names = list(self.model.test_step(first))
            for metric in self.model.metrics:
                metric.reset_state()
            self._empty = [tf.identity(v) for v in self.model.metrics_variables]
        finally:
            for metric in self.model.metrics:
                metric.reset_state()
            for variable, value in kept:
                variable.assign(value)


def metric_of(evaluation: Evaluation, metric: str | None) -> str | None:
    """The metric to draw: that asked for, or the first; None if there is none.

    Raises:
        ValueError: The model does not report it.
    """
    names = evaluation.metric_names
    if metric is None:
        return names[0] if names else None
    if metric not in names:
        advice = did_you_mean(metric, valid=names) or "Compile it with `metrics=[...]`"
        raise wrong("metric", metric, f"one of the model's, {names}", advice)
    return metric


def _named(model: keras.Model, data: Structure, batch_size: int) -> dict[str, Batches]:
    named: Mapping[str, Structure] = data if isinstance(data, dict) else {"data": data}
    if not named:
        raise ValueError("`data` must hold at least one data set. Received: {}")
    return {
        of_kind("data", name, str, "a data set, or a dictionary of them by name"): _batches(
            model, name, of, batch_size
        )
        for name, of in named.items()
    }


def _batches(model: keras.Model, name: str, data: Structure, batch_size: int) -> Batches:
    """All batches, as tensors: they are read again at each evaluation."""
    with named("data"):
        batches = as_batches(data, batch_size)
    if not batches.epoch_steps:
        raise ValueError(
            f"`data` must have an end, and at least one batch: use `dataset.take(n)`. {name!r} has not."
        )
    check_data("data", model, batches)
    tensors = (
        tf.nest.map_structure(tf.convert_to_tensor, batches.batch(step))
        for step in range(batches.epoch_steps)
    )
    return [as_arguments(batch) for batch in tensors]


def _moving_averages(model: keras.Model) -> dict[int, float]:
    """`{id of a variable: ρ}` of the moving averages that training mode updates.

    Raises:
        ValueError: A layer normalizes by its moving averages in training, too.
    """
    averages = {}
    for layer in compat.all_layers(model):
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable:
            if layer.renorm:
                raise ValueError(
                    f"`statistics` cannot be 'recomputed': layer {layer.name!r} has `renorm=True`. Use "
                    "'interpolated'."
                )
            if layer.momentum < 1:
                for variable in (layer.moving_mean, layer.moving_variance):
                    averages[id(variable)] = layer.momentum
    return averages
