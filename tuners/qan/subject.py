"""The training that is steered: from scratch, again and again, its programs compiled once."""

import functools
import gc

import keras

from keras_drmad.tuners.qan.steering import Steering
from keras_drmad.tuners.qan.validation import Validation, as_dataset


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
        **steering: `states`, `actions`, `goal` of `Steering`.
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
        pools=None,
        **steering,
    ):
        self._build, self.epochs = build, epochs
        self.data = {"x": x, "y": y, "sample_weight": sample_weight, "batch_size": batch_size}
        self.model = model or build()
        self.model.steps_per_execution = every
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
        self.pools = pools
        if not self.model.built:
            self._build_by_a_batch()

    def _build_by_a_batch(self):
        # `fit` would do it, but initial weights are set before.
        batch = next(iter(as_dataset((self.data["x"],))))
        self.model(batch[0] if isinstance(batch, tuple) else batch)

    def restart(self, seed):
        """New initial weights, and an optimizer that has taken no step."""
        keras.utils.set_random_seed(seed)
        new, model = self._build(), self.model
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
        del new
        gc.collect()

    def run(self, seed, decide, start_rate=None, stop=True, callbacks=(), verbose=0, begin=None):
        """One training; returns its `Report`s and `History`.

        Args:
            seed: of initial weights and everything else random.
            decide: as in `Steering`.
            start_rate: learning rate to begin with. Defaults to the compiled one.
            stop: whether to stop once the goal is reached.
            callbacks: of `fit`.
            verbose: of `fit`.
            begin: called with the model before training, to change its weights.
        """
        self.restart(seed)
        if begin is not None:
            begin(self.model)
        steering = self.steering
        steering.decide, steering.start_rate, steering.stop = decide, start_rate, stop
        history = self.model.fit(
            **{name: value for name, value in self.data.items() if value is not None},
            epochs=self.epochs,
            callbacks=[steering, *callbacks],
            verbose=verbose,
        )
        return steering.reports, history
