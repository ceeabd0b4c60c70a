"""`fit` whose training steps an `Engine` takes, so that the run can be differentiated afterwards."""

import contextlib

import keras
import numpy as np
import tensorflow as tf

from keras_drmad.data import Later, as_arguments


def fit(model, engine, batches, epochs, horizon=None, on_step=None, **arguments):
    """Trains a model as `model.fit` does, through the compiled loop of an engine.

    Epochs, callbacks, validation, `History` and `verbose` are Keras's own. Steps are taken in
    stacks: callbacks see a batch event for each stack, as with `steps_per_execution`, and the
    trained weights in it. Of the training metrics, `logs` hold the loss (the mean over the steps of
    an epoch) only.

    Args:
        model: a compiled model.
        engine: its `Engine`.
        batches: `Batches` with a known `epoch_steps`.
        epochs: a number of epochs.
        horizon: how many of the last steps are to be differentiated; None for all.
        on_step: called with a number of steps taken.
        **arguments: further arguments of `model.fit`.

    Returns:
        `(History, Trajectory)`; the trajectory is finished, and shorter where a callback ended
        training early.
    """
    if model.distribute_strategy.num_replicas_in_sync == 1:  # else `fit` does it itself
        _build_metrics(model, batches.batch(0))
    run = _Run(model, engine, batches, epochs * batches.epoch_steps, horizon, on_step)
    with run.instead_of_train_function():
        history = model.fit(
            _Epoch(batches, model.distribute_strategy.num_replicas_in_sync),
            epochs=epochs,
            shuffle=False,
            callbacks=[run.callback, *arguments.pop("callbacks", ())],
            **arguments,
        )
    return history, engine.finish(run.trajectory)


def _build_metrics(model, batch):
    """`fit` asks metrics for results that its own train function would have built."""
    x, y, sample_weight = as_arguments(batch)
    model.compute_metrics(x=x, y=y, y_pred=model(x), sample_weight=sample_weight)
    model.reset_metrics()


class _Epoch(keras.utils.PyDataset):
    """What `fit` believes to read: it has the length and the shapes of the training data."""

    def __init__(self, batches, replicas):
        super().__init__()
        self._length = batches.epoch_steps
        batch = batches.batch(0)
        samples = len(tf.nest.flatten(batch)[0])
        # Keras builds a distributed model with one batch, whose parts must be equal.
        even = np.arange(max(samples // replicas, 1) * replicas) % samples
        batch = tf.nest.map_structure(lambda leaf: tf.gather(leaf, even), batch)
        self._batch = keras.utils.pack_x_y_sample_weight(*as_arguments(batch))

    def __len__(self):
        return self._length

    def __getitem__(self, index):
        return self._batch


class _Run:
    """Stands in for `model.train_function`."""

    def __init__(self, model, engine, batches, steps, horizon, on_step):
        self.model, self.engine, self.batches, self.on_step = model, engine, batches, on_step
        # Nearly equal stacks, for a progress bar that ends at its end.
        stacks = -(-batches.epoch_steps // engine.stack_steps(batches))
        self.stack = -(-batches.epoch_steps // stacks)
        self.steps = steps
        self.skipped = 0 if horizon is None else max(0, steps - horizon)
        self.done = 0
        self.losses = []  # of the epoch
        self._per_execution = model.steps_per_execution
        self.callback = keras.callbacks.LambdaCallback(on_train_begin=lambda logs: self._restore())

    @contextlib.contextmanager
    def instead_of_train_function(self):
        own = self.model.train_function
        # `fit` reads this once, before training; the validation in it reads it later.
        self.model.steps_per_execution = self.stack
        self.model.train_function = self._train
        try:
            yield
        finally:
            self.model.train_function = own
            self._restore()

    def _restore(self):
        self.model.steps_per_execution = self._per_execution

    def _train(self, _):
        """Takes the next stack of steps; the iterator that `fit` passes is not read."""
        epoch, within = divmod(self.done, self.batches.epoch_steps)
        if within == 0:
            self.losses = []
        stop = min(self.done + self.stack, (epoch + 1) * self.batches.epoch_steps)
        while self.done < stop:
            skipping = self.done < self.skipped
            part = self.skipped if skipping else self.steps
            if self.done in (0, self.skipped):
                batches = Later(self.batches, self.done)
                self.trajectory = self.engine.begin(self.engine.read(), batches, part - self.done)
            now = min(stop, part) - self.done
            rates = self.engine.optimizer.learning_rates(now)
            state = self.engine.advance(self.trajectory, rates, self.on_step)
            self.engine.write(state, now)
            self.losses += self.trajectory.losses[-now:]
            self.done += now
            if skipping:
                self.trajectory.forget()
        return {"loss": float(np.mean(self.losses))}
