"""A training that decisions steer: from scratch, again and again, its programs compiled once."""

import gc
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from keras_drmad.arguments import positive_integer
from keras_drmad.data import as_arguments
from keras_drmad.data_checks import check_inputs, check_targets
from keras_drmad.typing import Structure

from ...retraining import Retraining
from .actions import Actions
from .checks import check_compiled, check_goal, check_states, checked_data
from .data import are_arrays, as_tensors, shuffled, untuned
from .decision_callback import Decide, DecisionCallback
from .evaluation import LEAST_BATCH, Validation, scalars
from .goals import Goal
from .report import STOP, TRUNCATED, Decision, Report
from .sample_selection import SampleSelection
from .states import State
from .view import View


class SteeredTraining:
    """A model that is trained from new initial weights in every episode.

    Args:
        build: returns a compiled model with new initial weights.
        x, y, sample_weight: as in `fit`.
        validation_data: as in `fit`, or None.
        batch_size: of arrays.
        validation_batch_size: of those of the validation data.
        epochs: of a training; its budget.
        every: steps between decisions; also what is compiled into one call.
        states, actions, goal: of `DecisionCallback`.

    Raises:
        ValueError: Something in the data, or a model that is not compiled.
    """

    def __init__(
        self,
        build: Callable[[], keras.Model],
        x: Structure,
        y: Structure = None,
        sample_weight: Structure = None,
        *,
        validation_data: Structure = None,
        batch_size: int | None = None,
        validation_batch_size: int | None = None,
        epochs: int = 1,
        every: int = 20,
        states: Sequence[State],
        actions: Actions,
        goal: Goal,
    ) -> None:
        self.epochs = positive_integer("epochs", epochs)
        positive_integer("decision_every", every)
        positive_integer("batch_size", batch_size, optional=True)
        positive_integer("validation_batch_size", validation_batch_size, optional=True)
        checked, steps = checked_data(x, y, sample_weight, validation_data, batch_size)
        self._first = checked["x"].batch(0)
        self.budget = steps * epochs
        self.model = build()
        check_compiled(self.model)
        for name, batches in checked.items():
            check_inputs(name, self.model, batches)
            check_targets(name, self.model, batches)
        self._retraining = Retraining(self.model, build, self._first)
        data = x, y, sample_weight
        self._arrays = as_tensors(data) if are_arrays(data) else None
        # What are no arrays is `fit`'s own business.
        others = {"x": untuned(x), "y": y, "sample_weight": sample_weight, "batch_size": batch_size}
        self._others = {name: part for name, part in others.items() if part is not None}
        self._batch_size = batch_size or 32
        self._replicas = replicas = self.model.distribute_strategy.num_replicas_in_sync
        samples = len(keras.tree.flatten(self._first)[0])
        if samples % replicas:
            raise ValueError(
                f"{replicas} replicas must share batches evenly. Received: batches of {samples} samples"
            )
        # Several steps a call are what several replicas cannot do (Keras 3.15).
        self.model.steps_per_execution = every if replicas == 1 else 1
        validation = None
        if validation_data is not None:
            validation = Validation(
                validation_data, validation_batch_size or max(batch_size or 0, LEAST_BATCH)
            )
        self.callback = DecisionCallback(states, actions, goal, every, validation=validation)
        self._selection = None
        if actions.chooses_samples():
            x, y, sample_weight = self._arrays or data
            self._selection = SampleSelection(
                self.model, x, y, sample_weight, self._batch_size, every
            )
            self.callback.select = self._selection.select

    def check(self) -> None:
        """Refuses what cannot work, before anything is trained. Seeds everything random.

        Raises:
            ValueError: The same model again; a learning rate that cannot be set, or is out of bounds; no
                loss that is measured; a goal that is not, that is out of reach, or reached already;
                validation data or states that are not for such a model; no decision before the end.
        """
        tf.random.set_seed(0)
        self.restart(seed=0)
        model, goal, actions = self.model, self.callback.goal, self.callback.actions
        self.callback.attach(model, self.budget)
        low, high = actions.bounds
        if not low <= self.start_rate <= high:
            raise ValueError(
                f"The compiled learning rate, {self.start_rate:g}, is not within the bounds of the "
                f"actions, {low:g} and {high:g}. Compile with another, or set `Actions(bounds=...)`."
            )
        # Not by `test_on_batch`: it hands `(x, y, None)` to a `test_step`, which may take two.
        parts = tuple(part for part in as_arguments(self._first) if part is not None)
        first = tf.data.Dataset.from_tensors(as_tensors(parts if len(parts) > 1 else parts[0]))
        logs = scalars(model.evaluate(first, verbose=0, return_dict=True))
        model.reset_metrics()
        if self.callback.validation is not None:
            try:
                logs |= self.callback.validation.prepare(model)
            except (ValueError, tf.errors.OpError) as error:  # the training data were evaluated
                raise ValueError(f"`validation_data` cannot be evaluated: {error}") from error
        elif goal.metric.startswith("val_"):
            raise ValueError(f"`goal` is {goal}: it needs `validation_data`.")
        check_goal(goal, logs)
        check_states(self.callback, logs)
        every = self.callback.every
        is_one_chunk = self.epochs == 1 and every >= self.budget
        if every > self.budget or (is_one_chunk and not self.callback.observes_first):
            raise ValueError(self.undecided(TRUNCATED))
        if goal.unit == "seconds":
            self._compile()

    def undecided(self, ended: str) -> str:
        """What there is to say of a training that has ended before its first decision."""
        return (
            f"The training ends ({ended}) before there is anything to decide: pass `validation_data` "
            "and a goal for them, more `epochs`, or a smaller `decision_every`. Received: "
            f"decision_every={self.callback.every} for {self.budget} steps"
        )

    def _compile(self) -> None:
        """Trains for a chunk, that no episode pays for what is compiled once."""
        action = len(self.callback.actions) - 1  # which chooses samples, if any does

        def decide(report: Report | None) -> Decision:
            if report is None:
                return None
            return STOP if report.step else [action] * len(report.rates)

        self.run(0, decide)
        self.restart(seed=0)  # the rate was moved, and is still to be read as the compiled one

    @property
    def start_rate(self) -> float:
        return compiled_rate(self.model)

    def restart(self, seed: int) -> None:
        """New initial weights, and an optimizer that has taken no step."""
        self._retraining.restart(seed)

    def run(
        self,
        seed: int,
        decide: Decide,
        regularize: Callable[[View], None] | None = None,
        start_rate: float | None = None,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        verbose: int = 0,
        start_weights: Sequence[np.ndarray] | None = None,
    ) -> tuple[list[Report], keras.callbacks.History]:
        """One training; returns its `Report`s and `History`.

        Args:
            seed: of initial weights and everything else random.
            decide, regularize: as in `DecisionCallback`.
            start_rate: learning rate to begin with. Defaults to the compiled one.
            callbacks: of `fit`.
            verbose: of `fit`.
            start_weights: of `weights`, to begin with. Defaults to new initial ones.
        """
        self.restart(seed)
        if start_weights is not None:
            self.set_weights(start_weights)
        callback = self.callback
        callback.decide, callback.regularize = decide, regularize
        callback.start_rate = start_rate
        data = self._data(seed)
        history = self.model.fit(
            **data,
            epochs=self.epochs,
            callbacks=[callback, *callbacks],
            verbose=verbose,
        )
        if self._replicas > 1 or not isinstance(data["x"], tf.data.Dataset):
            # Where `fit` is stopped within an epoch, its iterator waits for Python to look for cycles.
            # Those of Keras's own pipelines and of replicas, which cannot be `untuned`, must not wait
            # for long.
            gc.collect()
        return callback.reports, history

    def _data(self, seed: int) -> dict[str, Structure]:
        """What a training reads, as arguments of `fit`."""
        if self._selection is not None:
            self._selection.restart(seed)
            data = {"x": self._selection.dataset}
        elif self._arrays is not None:
            x, y, sample_weight = self._arrays
            data = {"x": shuffled(x, y, sample_weight, self._batch_size, seed)}
        else:
            data = self._others
        # `fit` warns of data sets that it is to shuffle.
        return data | {"shuffle": not isinstance(data["x"], tf.data.Dataset)}

    # -- weights in the middle ---------------------------------------------------------------

    def weights(self) -> list[np.ndarray]:
        """Of the model and its optimizer, as arrays."""
        return [v.numpy() for v in (*self.model.variables, *self.model.optimizer.variables)]

    def set_weights(self, weights: Sequence[np.ndarray]) -> None:
        """What `weights` has given before."""
        variables = (*self.model.variables, *self.model.optimizer.variables)
        for variable, value in zip(variables, weights, strict=True):
            variable.assign(value)


def compiled_rate(model: keras.Model) -> float:
    """The learning rate of a model's optimizer, as it was given: float32 has some digits more."""
    return float(f"{float(model.optimizer.learning_rate.numpy()):.6g}")
