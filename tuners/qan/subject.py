"""The training that is steered: from scratch, again and again, its programs compiled once."""

import functools
import gc

import keras
import numpy as np
import tensorflow as tf

from keras_drmad.tuners.qan.pools import Pools
from keras_drmad.tuners.qan.steering import Steering
from keras_drmad.tuners.qan.validation import Validation


class Subject:
    """A model that is trained from new initial weights in every episode.

    Args:
        build: returns a compiled model with new initial weights.
        x, y, sample_weight: as in `fit`.
        validation_data: as in `fit`, or None.
        batch_size: of arrays.
        epochs: of a training; its budget.
        every: steps between decisions; also what is compiled into one call.
        model: a model that `build` has made before. Defaults to a new one.
        **steering: `states`, `actions`, `goal`, `reference` of `Steering`.
    """

    def __init__(
        self,
        build,
        x,
        y=None,
        sample_weight=None,
        *,
        validation_data=None,
        batch_size=None,
        epochs=1,
        every=20,
        model=None,
        **steering,
    ):
        self._build, self.epochs = build, epochs
        # As tensors: `fit` would copy arrays, and its copies go only when Python looks for cycles.
        data = {"x": x, "y": y, "sample_weight": sample_weight}
        self.data = {name: _as_tensors(part) for name, part in data.items()}
        self.data["batch_size"] = batch_size
        self.model = model or build()
        # Several steps a call are what several replicas cannot do (Keras 3.15).
        replicas = self.model.distribute_strategy.num_replicas_in_sync
        self.model.steps_per_execution = every if replicas == 1 else 1
        validate = None
        if validation_data is not None:
            validation = Validation(validation_data, batch_size)
            validate = functools.partial(validation, self.model)
        self.steering = Steering(
            every=every,
            decide=None,
            validate=validate,
            **steering,
        )
        if not self.model.built:
            self._build_by_a_batch()
        self._pools = None
        if steering["actions"].pools != ("uniform",):
            parts = (self.data[name] for name in data)
            self._pools = Pools(self.model, *parts, batch_size or 32, every)
            self.data = {"x": self._pools.dataset}
            self.steering.fill = self._pools.fill

    def _build_by_a_batch(self):
        # `fit` would do it, but initial weights are set before.
        x = self.data["x"]
        if isinstance(x, tf.data.Dataset | keras.utils.PyDataset):
            x = next(iter(x))
            x = x[0] if isinstance(x, tuple) else x
        self.model(keras.tree.map_structure(lambda part: part[:1], x))

    def restart(self, seed):
        """New initial weights, and an optimizer that has taken no step."""
        keras.utils.set_random_seed(seed)
        new, model = self._build(), self.model
        if new is model:
            raise ValueError(
                "The hypermodel must return a new model each time, not the same again."
            )
        if not new.built:
            new.build_from_config(model.get_build_config())
        for own, other in zip(model.variables, new.variables, strict=True):
            own.assign(other.numpy())
        for optimizer, source in ((model.optimizer, model), (new.optimizer, new)):
            if not optimizer.built:
                with source.distribute_strategy.scope():
                    optimizer.build(source.trainable_variables)
        for own, other in zip(model.optimizer.variables, new.optimizer.variables, strict=True):
            own.assign(other.numpy())

    def run(self, seed, decide, start_rate=None, callbacks=(), verbose=0, begin=None):
        """One training; returns its `Report`s and `History`.

        Args:
            seed: of initial weights and everything else random.
            decide: as in `Steering`.
            start_rate: learning rate to begin with. Defaults to the compiled one.
            callbacks: of `fit`.
            verbose: of `fit`.
            begin: called with the model before training, to change its weights.
        """
        self.restart(seed)
        if begin is not None:
            begin(self.model)
        if self._pools is not None:
            self._pools.restart(seed)
        steering = self.steering
        steering.decide, steering.start_rate = decide, start_rate
        history = self.model.fit(
            **{name: value for name, value in self.data.items() if value is not None},
            epochs=self.epochs,
            callbacks=[steering, *callbacks],
            verbose=verbose,
        )
        # Where `fit` is stopped within an epoch, its iterator waits for Python to look for cycles. Of
        # several iterators of `tf.data` that wait, each takes up to a minute to end (TensorFlow 2.21).
        gc.collect()
        return steering.reports, history

    # -- weights in the middle ---------------------------------------------------------------

    def weights(self):
        """Of the model and its optimizer, as arrays."""
        return [v.numpy() for v in (*self.model.variables, *self.model.optimizer.variables)]

    def set_weights(self, weights):
        """What `weights` has given before."""
        variables = (*self.model.variables, *self.model.optimizer.variables)
        for variable, value in zip(variables, weights, strict=True):
            variable.assign(value)


def _as_tensors(part):
    """Arrays as tensors, also those in dictionaries and tuples; anything else as it is."""
    return keras.tree.map_structure(
        lambda leaf: tf.convert_to_tensor(leaf) if isinstance(leaf, np.ndarray) else leaf, part
    )
