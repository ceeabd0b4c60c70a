"""What cannot work is refused before anything is trained."""

import keras
import numpy as np
import tensorflow as tf

from keras_drmad.arguments import named
from keras_drmad.data import Batches, as_batches
from keras_drmad.data_checks import check_values
from keras_drmad.typing import Logs, Structure

from ...data_checks import as_fit_data, check_samples, training_batches
from .decision_callback import DecisionCallback
from .evaluation import readable
from .goals import Goal

FRACTIONS = ("accuracy", "acc", "auc", "precision", "recall")  # endings of metrics from 0 to 1


def check_compiled(model: keras.Model) -> None:
    """Refuses what cannot be trained, or not by the optimizer that is steered."""
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


def checked_data(
    x: Structure,
    y: Structure,
    sample_weight: Structure,
    validation_data: Structure,
    batch_size: int | None,
) -> tuple[dict[str, Batches], int]:
    """Training and validation data by the names of their arguments, and the number of training batches.

    Raises:
        ValueError: something in them is not in order.
    """
    data, steps = as_fit_data(x, y, sample_weight), None
    if isinstance(x, tf.data.Dataset) and x.cardinality() != tf.data.INFINITE_CARDINALITY:
        if x.cardinality() == tf.data.UNKNOWN_CARDINALITY:
            raise ValueError(
                "The length of the training data is not known. Use "
                "`dataset.apply(tf.data.experimental.assert_cardinality(batches))`."
            )
        data, steps = x.take(1), int(x.cardinality())  # all of it need not fit in memory
    found = {"x": training_batches(data, batch_size)}
    if validation_data is not None:
        validation_data = readable("validation_data", validation_data)
        with named("validation_data"):
            found["validation_data"] = as_batches(validation_data, batch_size)
            found["validation_data"].batch(0)
    for name, batches in found.items():  # what are no arrays is read as far as the first batch
        check_values(name, batches)
        check_samples(name, batches, found["x"], sizes=False)
    return found, steps or found["x"].epoch_steps or 0


def check_goal(goal: Goal, logs: Logs) -> None:
    """Refuses a goal that is not measured, that is out of reach, or that an untrained model reaches."""
    for name in ("loss", goal.metric):
        goal.measured(logs, name)
    is_fraction = goal.direction == "max" and 0 <= logs[goal.metric] <= 1
    is_fraction &= goal.metric.endswith(FRACTIONS)
    if is_fraction and goal.value is not None and goal.value > 1:
        raise ValueError(
            f"`goal` is {goal}, which is from 0 to 1. Did you mean {goal.value / 100:g}?"
        )
    if goal.reached(logs[goal.metric]):
        raise ValueError(
            f"`goal` is {goal}, to be {'raised' if goal.direction == 'max' else 'lowered'}: an "
            f"untrained model reaches it ({logs[goal.metric]:.4g}). Set a harder one."
        )


def check_states(callback: DecisionCallback, logs: Logs) -> None:
    """Observes the untrained model that the callback is attached to; refuses states that cannot."""
    view = callback.view
    (view.rates, view.momenta), view.motion = [part.numpy() for part in callback.probes()]
    view.losses = [logs["loss"]]
    if callback.validation is not None:
        view.val_losses = [logs["val_loss"]]
    metric = logs[callback.goal.metric]
    view.gaps = [callback.goal.gap(metric, metric)]
    if not callback.observes_first:  # states are asked after a chunk only
        view.step = view.steps = callback.every
    for state in callback.states:
        state.check(view.model)
        if state.needs_warm_start():
            continue
        seen, shape = state.observe(view), (len(view.rates), *state.shape)
        if not isinstance(seen, np.ndarray) or seen.shape != shape:
            what = f"an array of {seen.shape}" if isinstance(seen, np.ndarray) else repr(seen)
            raise ValueError(
                f"`observe` of {type(state).__name__} must return a NumPy array of shape {shape}: "
                f"(groups, *shape), with shape={state.shape}. Received: {what}"
            )
