"""`fit` whose training steps an `Engine` takes, so that the run can be differentiated afterwards."""

from __future__ import annotations

import contextlib
import types
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_drmad.data import Batches, Later, as_arguments, for_fit
from keras_drmad.engine.engine import Engine, OnStep
from keras_drmad.engine.trajectory import Trajectory
from keras_drmad.typing import Structure


def fit(
    model: keras.Model,
    engine: Engine,
    batches: Batches,
    epochs: int,
    horizon: int | None = None,
    on_step: OnStep | None = None,
    judge: str = "last",
    **arguments: Any,
) -> tuple[keras.callbacks.History, Trajectory]:
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
        judge: one of `engine.judge.JUDGES`.
        **arguments: further arguments of `model.fit`.

    Returns:
        `(History, Trajectory)`; the trajectory is finished, and shorter where a callback ended
        training early.
    """
    assert batches.epoch_steps is not None
    if model.distribute_strategy.num_replicas_in_sync == 1:  # else `fit` does it itself
        _build_metrics(model, batches.batch(0))
    run = _Run(model, engine, batches, batches.epoch_steps, epochs, horizon, on_step, judge)
    with run.instead_of_train_function():
        history = model.fit(
            _Epoch(batches, batches.epoch_steps, model.distribute_strategy.num_replicas_in_sync),
            epochs=epochs,
            shuffle=False,
            callbacks=[run.callback, *arguments.pop("callbacks", ())],
            **arguments,
        )
    return history, engine.finish(run.trajectory)


def _build_metrics(model: keras.Model, batch: Structure) -> None:
    """`fit` asks metrics for results that its own train function would have built."""
    x, y, sample_weight = as_arguments(batch)
    model.compute_metrics(x=x, y=y, y_pred=model(x), sample_weight=sample_weight)
    model.reset_metrics()


class _Epoch(keras.utils.PyDataset):
    """What `fit` believes to read: it has the length and the shapes of the training data."""

    def __init__(self, batches: Batches, length: int, replicas: int) -> None:
        super().__init__()
        self._length = length
        batch = batches.batch(0)
        samples = len(tf.nest.flatten(batch)[0])
        # Keras builds a distributed model with one batch, whose parts must be equal.
        even = np.arange(max(samples // replicas, 1) * replicas) % samples
        batch = tf.nest.map_structure(lambda leaf: tf.gather(leaf, even, axis=0), batch)
        self._batch = for_fit(batch)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Structure:
        return self._batch


class _Run:
    """Stands in for `model.train_function`."""

    def __init__(
        self,
        model: keras.Model,
        engine: Engine,
        batches: Batches,
        epoch_steps: int,
        epochs: int,
        horizon: int | None,
        on_step: OnStep | None,
        judge: str,
    ) -> None:
        self.model, self.engine, self.batches, self.on_step = model, engine, batches, on_step
        self.judge = judge
        # Nearly equal stacks, for a progress bar that ends at its end.
        stacks = -(-epoch_steps // engine.stacks.length(batches))
        self.stack = -(-epoch_steps // stacks)
        self.epoch_steps, self.steps = epoch_steps, epochs * epoch_steps
        self.skipped = 0 if horizon is None else max(0, self.steps - horizon)
        self.done = 0
        self.losses: list[float] = []  # of the epoch
        self._per_execution = model.steps_per_execution
        self.callback = keras.callbacks.LambdaCallback(on_train_begin=lambda logs: self._restore())

    @contextlib.contextmanager
    def instead_of_train_function(self) -> Iterator[None]:
        own = self.model.train_function
        # `fit` reads this once, before training; the validation in it reads it later.
        self.model.steps_per_execution = self.stack
        self.model.train_function = self._train
        try:
            yield
        finally:
            self.model.train_function = own
            self._restore()

    def _restore(self) -> None:
        self.model.steps_per_execution = self._per_execution

    def _train(self, _: Structure) -> Mapping[str, float]:
        """Takes the next stack of steps; the iterator that `fit` passes is not read."""
        epoch, within = divmod(self.done, self.epoch_steps)
        if within == 0:
            self.losses = []
        stop = min(self.done + self.stack, (epoch + 1) * self.epoch_steps)
        while self.done < stop:
            skipping = self.done < self.skipped
            part = self.skipped if skipping else self.steps
            if self.done in (0, self.skipped):
                batches = Later(self.batches, self.done)
                self.trajectory = self.engine.begin(
                    self.engine.read(), batches, part - self.done, judge=self.judge
                )
            now = min(stop, part) - self.done
            rates = self.engine.optimizer.learning_rates(now)
            state = self.engine.advance(self.trajectory, rates, self.on_step)
            self.engine.write(state, sum(self.trajectory.taken[-now:]))
            self.losses += self.trajectory.losses[-now:]
            self.done += now
            if skipping:
                self.trajectory.forget()
        # No `dict`, in whose place Keras would take its own mean of the loss, where there are no other
        # metrics: no step has updated that.
        return types.MappingProxyType({"loss": float(np.mean(self.losses))})
