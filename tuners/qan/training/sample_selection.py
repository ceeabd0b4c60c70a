"""Mini-batch selection: which samples the next chunk is trained on."""

import keras
import numpy as np
import tensorflow as tf

from keras_drmad.arguments import positive_integer
from keras_drmad.data_checks import check_arrays
from keras_drmad.typing import Structure

from .data import as_tensors

CANDIDATES = 2  # drawn for each sample that is taken


class SampleSelection:
    """Training data whose next samples are selected at each decision.

    For a chunk of n samples, 2 n candidates are the next ones of a shuffled order; by a rule,
    of these are taken

        uniform     the first n (no candidates are drawn)
        hardest     those n with the largest loss under the present weights
        easiest     those with the smallest
        newest      those that were trained on longest ago, or never

    A sample's weight is a factor of its loss. The last chunk of an epoch may be shorter: what was
    chosen beyond it is passed over. The losses cost a forward pass of the candidates, which counts
    in seconds of training, not in steps.

    Args:
        model: a compiled model with one loss, on one replica.
        x, y: arrays.
        sample_weight: one, too, or None.
        batch_size: samples a step.
        every: steps of a chunk.
    """

    def __init__(
        self,
        model: keras.Model,
        x: Structure,
        y: Structure,
        sample_weight: Structure,
        batch_size: int,
        every: int,
    ) -> None:
        if not hasattr(x, "shape") or not hasattr(y, "shape"):
            raise ValueError(
                '`Actions(sample_selection=...)` beyond "uniform" needs `x` and `y` as arrays.'
            )
        if model.loss is None or isinstance(model.loss, (list, tuple, dict)):
            raise ValueError(
                '`Actions(sample_selection=...)` beyond "uniform" needs a model compiled with one loss. '
                f"Received: loss={model.loss!r}"
            )
        if (replicas := model.distribute_strategy.num_replicas_in_sync) > 1:
            raise ValueError(
                '`Actions(sample_selection=...)` beyond "uniform" needs one replica: several read '
                f"batches before they are chosen. Received: {replicas} replicas"
            )
        check_arrays("x", (x, y, sample_weight))
        self.model, self._size = model, positive_integer("batch_size", batch_size) * every
        parts = (x, y) if sample_weight is None else (x, y, sample_weight)
        self._data = as_tensors(parts)
        loss = keras.losses.get(model.loss)
        self._loss = loss.call if isinstance(loss, keras.losses.Loss) else loss
        self._chosen = tf.Variable(tf.zeros(self._size, "int64"))
        self.steps = -(-len(x) // batch_size)

        def batch(step: tf.Tensor) -> tuple[tf.Tensor, ...]:
            first = tf.multiply(tf.math.floormod(step, every), batch_size)
            return self._samples(tf.slice(self._chosen, [first], [batch_size]))

        options = tf.data.Options()
        options.autotune.enabled = False  # nothing may be read before it is chosen
        options.experimental_optimization.inject_prefetch = False
        self.dataset = tf.data.Dataset.range(self.steps).map(batch).with_options(options)
        self._losses = tf.function(self._losses_of)

    def restart(self, seed: int) -> None:
        """A new order, of which nothing is chosen yet."""
        self._rng = np.random.default_rng((seed, 3))
        self._order = np.empty(0, "int64")
        self._seen = np.full(len(self._data[0]), -1)
        self._chunk = 0

    def select(self, rule: str) -> None:
        """Selects the next chunk's samples by a rule."""
        taken = self._next(self._size if rule == "uniform" else CANDIDATES * self._size)
        if rule == "newest":
            taken = taken[np.argsort(self._seen[taken], kind="stable")[: self._size]]
        elif rule != "uniform":
            losses = self._losses(tf.constant(taken)).numpy()
            order = np.argsort(-losses if rule == "hardest" else losses, kind="stable")
            taken = self._rng.permutation(taken[order[: self._size]])
        self._seen[taken] = self._chunk
        self._chunk += 1
        self._chosen.assign(taken)

    def _next(self, number: int) -> np.ndarray:
        while len(self._order) < number:
            self._order = np.concatenate([self._order, self._rng.permutation(len(self._data[0]))])
        first, self._order = self._order[:number], self._order[number:]
        return first

    def _samples(self, indices: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return tuple(tf.gather(part, indices, axis=0) for part in self._data)

    def _losses_of(self, indices: tf.Tensor) -> tf.Tensor:
        x, y, *weight = self._samples(indices)
        predicted = self.model(x, training=False)
        if len(y.shape) + 1 == len(predicted.shape) and predicted.shape[-1] == 1:
            y = tf.expand_dims(y, -1)  # as in `fit`, but losses given by name do not do it
        losses = self._loss(y, predicted)
        losses = tf.reduce_mean(tf.reshape(losses, (tf.shape(losses)[0], -1)), axis=1)
        return losses * tf.cast(weight[0], losses.dtype) if weight else losses
