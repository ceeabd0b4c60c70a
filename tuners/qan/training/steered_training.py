"""The training that is steered: from scratch, again and again, its programs compiled once."""

import gc

import keras
import numpy as np
import tensorflow as tf

from keras_drmad.arguments import positive_integer
from keras_drmad.data import ArrayBatches, as_arguments, as_batches

from ...data_checks import check_samples, check_values, training_batches
from ...retraining import Retraining
from .data import are_arrays, as_tensors, shuffled, untuned
from .decision_callback import Steering
from .evaluation import Validation, check_kind, scalars
from .report import STOP, TRUNCATED
from .sample_selection import Pools

SHARES = ("accuracy", "acc", "auc", "precision", "recall")  # endings of metrics from 0 to 1


class Subject:
    """A model that is trained from new initial weights in every episode.

    Args:
        build: returns a compiled model with new initial weights.
        x, y, sample_weight: as in `fit`.
        validation_data: as in `fit`, or None.
        batch_size: of arrays.
        epochs: of a training; its budget.
        every: steps between decisions; also what is compiled into one call.
        **steering: `states`, `actions`, `goal` of `Steering`.

    Raises:
        ValueError: Something in the data, or a model that is not compiled.
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
        **steering,
    ):
        self.epochs = positive_integer("epochs", epochs)
        positive_integer("decision_every", every)
        positive_integer("batch_size", batch_size, optional=True)
        self._first, steps = _checked(x, y, sample_weight, validation_data, batch_size)
        self.budget = steps * epochs
        self.model = build()
        _check_compiled(self.model)
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
            validation = Validation(validation_data, batch_size)
        self.steering = Steering(
            every=every,
            decide=None,
            validation=validation,
            **steering,
        )
        self._pools = None
        if steering["actions"].chooses_samples():
            self._pools = Pools(self.model, *(self._arrays or data), self._batch_size, every)
            self.steering.fill = self._pools.fill

    def check(self):
        """Refuses what cannot work, before anything is trained. Seeds everything random.

        Raises:
            ValueError: The same model again; a learning rate that cannot be set, or is out of bounds; no
                loss that is measured; a goal that is not, that is out of reach, or reached already;
                validation data or states that are not for such a model; no decision before the end.
        """
        tf.random.set_seed(0)
        self.restart(seed=0)
        model, goal, actions = self.model, self.steering.goal, self.steering.actions
        self.steering.attach(model, self.budget)
        low, high = actions.bounds
        if not low <= self.start_rate <= high:
            raise ValueError(
                f"The compiled learning rate, {self.start_rate:g}, is not within the bounds of the "
                f"actions, {low:g} and {high:g}."
            )
        # Not by `test_on_batch`: it hands `(x, y, None)` to a `test_step`, which may take two.
        first = tuple(part for part in as_arguments(self._first) if part is not None)
        first = tf.data.Dataset.from_tensors(as_tensors(first if len(first) > 1 else first[0]))
        logs = scalars(model.evaluate(first, verbose=0, return_dict=True))
        model.reset_metrics()
        if self.steering.validation is not None:
            try:
                logs |= self.steering.validation.prepare(model)
            except (ValueError, tf.errors.OpError) as error:  # the training data were evaluated
                raise ValueError(f"`validation_data` cannot be evaluated: {error}") from error
        elif goal.metric.startswith("val_"):
            raise ValueError(f"`goal` is {goal}: it needs `validation_data`.")
        for name in ("loss", goal.metric):
            goal.measured(logs, name)
        is_share = goal.direction == "max" and 0 <= logs[goal.metric] <= 1
        if is_share and goal.metric.endswith(SHARES) and (goal.value or 0) > 1:
            raise ValueError(
                f"`goal` is {goal}, which is from 0 to 1. Did you mean {goal.value / 100:g}?"
            )
        if goal.reached(logs[goal.metric]):
            raise ValueError(
                f"`goal` is {goal}, to be {'raised' if goal.direction == 'max' else 'lowered'}: an "
                f"untrained model reaches it ({logs[goal.metric]:.4g})."
            )
        self._check_states(logs)
        is_one_chunk = self.epochs == 1 and self.steering.every >= self.budget
        if is_one_chunk and not self.steering.observes_first:
            raise ValueError(self.undecided(TRUNCATED))
        if goal.unit == "seconds":
            self._compile()

    def _check_states(self, logs):
        """Observes the untrained model."""
        steering, view = self.steering, self.steering.view
        (view.rates, view.momenta), view.motion = [part.numpy() for part in steering.gauges()]
        view.losses = [logs["loss"]]
        if steering.validation is not None:
            view.val_losses = [logs["val_loss"]]
        metric = logs[steering.goal.metric]
        view.gaps = [steering.goal.gap(metric, metric)]
        if not steering.observes_first:  # states are asked after a chunk only
            view.step = view.steps = steering.every
        for state in steering.states:
            state.check(self.model)
            if state.needs_first_run():
                continue
            seen, shape = state.observe(view), (len(view.rates), *state.shape)
            if not isinstance(seen, np.ndarray) or seen.shape != shape:
                what = f"an array of {seen.shape}" if isinstance(seen, np.ndarray) else repr(seen)
                raise ValueError(
                    f"`observe` of {type(state).__name__} must return a NumPy array of shape {shape}: "
                    f"(groups, *shape), with shape={state.shape}. Received: {what}"
                )

    def undecided(self, ended):
        """What there is to say of a training that has ended before its first decision."""
        return (
            f"The training ends ({ended}) before there is anything to decide: pass `validation_data` "
            "and a goal for them, more `epochs`, or a smaller `decision_every`. Received: "
            f"decision_every={self.steering.every} for {self.budget} steps"
        )

    def _compile(self):
        """Trains for a chunk, that no episode pays for what is compiled once."""
        action = len(self.steering.actions) - 1  # which chooses samples, if any does

        def decide(report):
            if report is None:
                return None
            return STOP if report.step else [action] * len(report.rates)

        self.run(0, decide)
        self.restart(seed=0)  # the rate was moved, and is still to be read as the compiled one

    @property
    def start_rate(self):
        return compiled_rate(self.model)

    def restart(self, seed):
        """New initial weights, and an optimizer that has taken no step."""
        self._retraining.restart(seed)

    def run(self, seed, decide, hold=None, start_rate=None, callbacks=(), verbose=0, begin=None):
        """One training; returns its `Report`s and `History`.

        Args:
            seed: of initial weights and everything else random.
            decide, hold: as in `Steering`.
            start_rate: learning rate to begin with. Defaults to the compiled one.
            callbacks: of `fit`.
            verbose: of `fit`.
            begin: called with the model before training, to change its weights.
        """
        self.restart(seed)
        if begin is not None:
            begin(self.model)
        steering = self.steering
        steering.decide, steering.hold, steering.start_rate = decide, hold, start_rate
        data = self._data(seed)
        history = self.model.fit(
            **data,
            epochs=self.epochs,
            callbacks=[steering, *callbacks],
            verbose=verbose,
        )
        if self._replicas > 1 or not isinstance(data["x"], tf.data.Dataset):
            # Where `fit` is stopped within an epoch, its iterator waits for Python to look for cycles.
            # Those of Keras's own pipelines and of replicas, which cannot be `untuned`, must not wait
            # for long.
            gc.collect()
        return steering.reports, history

    def _data(self, seed):
        """What a training reads, as arguments of `fit`."""
        if self._pools is not None:
            self._pools.restart(seed)
            data = {"x": self._pools.dataset}
        elif self._arrays is not None:
            data = {"x": shuffled(*self._arrays, self._batch_size, seed)}
        else:
            data = self._others
        # `fit` warns of data sets that it is to shuffle.
        return data | {"shuffle": not isinstance(data["x"], tf.data.Dataset)}

    # -- weights in the middle ---------------------------------------------------------------

    def weights(self):
        """Of the model and its optimizer, as arrays."""
        return [v.numpy() for v in (*self.model.variables, *self.model.optimizer.variables)]

    def set_weights(self, weights):
        """What `weights` has given before."""
        variables = (*self.model.variables, *self.model.optimizer.variables)
        for variable, value in zip(variables, weights, strict=True):
            variable.assign(value)


def _check_compiled(model):
    if not isinstance(model, keras.Model) or not model.compiled or model.optimizer is None:
        what = repr(model)
        if isinstance(model, keras.Model):
            what = "one without an optimizer" if model.compiled else "one that is not compiled"
        raise ValueError(f"There must be a compiled model. Received: {what}")
    known = model.optimizer, getattr(model.optimizer, "inner_optimizer", None)
    for name, value in vars(model).items():
        if isinstance(value, keras.optimizers.Optimizer) and not any(value is k for k in known):
            raise ValueError(
                f"The model has an optimizer `{name}` of its own. Only the one that it is compiled with "
                "is steered, and begins anew in each episode."
            )


def compiled_rate(model):
    """The learning rate of a model's optimizer, as it was given: float32 has some digits more."""
    return float(f"{float(model.optimizer.learning_rate.numpy()):.6g}")


def _checked(x, y, sample_weight, validation_data, batch_size):
    """The first training batch, and their number, once all data are seen to be in order."""
    data, steps = x if y is None and sample_weight is None else (x, y, sample_weight), None
    if isinstance(x, tf.data.Dataset) and x.cardinality() != tf.data.INFINITE_CARDINALITY:
        if x.cardinality() == tf.data.UNKNOWN_CARDINALITY:
            raise ValueError(
                "The length of the training data is not known. Use "
                "`dataset.apply(tf.data.experimental.assert_cardinality(batches))`."
            )
        data, steps = x.take(1), int(x.cardinality())  # all of it need not fit in memory
    named = {"x": training_batches(data, batch_size)}
    if validation_data is not None:
        check_kind(validation_data)
        is_dataset = isinstance(validation_data, tf.data.Dataset)
        if is_dataset and validation_data.cardinality() == tf.data.INFINITE_CARDINALITY:
            raise ValueError("`validation_data` repeats for ever: use `dataset.take(...)`.")
        named["validation_data"] = as_batches(validation_data, batch_size)
    for name, batches in named.items():
        if isinstance(batches, ArrayBatches):  # others are read only as far as the first batch
            check_values(name, batches)
        check_samples(name, batches, named["x"], sizes=False)
    return named["x"].batch(0), steps or named["x"].epoch_steps
