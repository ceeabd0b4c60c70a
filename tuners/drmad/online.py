"""Trials that learn while they train: what they take over from a training is its learned schedule."""

from typing import Any

import keras
import numpy as np

from keras_drmad.callbacks.learn_hyperparameters import LearnHyperparameters
from keras_drmad.callbacks.window import Window
from keras_drmad.data import Batches, for_fit
from keras_drmad.hyperparameters.groups import INIT_SCALE
from keras_drmad.hyperparameters.schedules import Knots
from keras_drmad.optimizers.learnable import LearnableOptimizer, learnable_optimizer
from keras_drmad.paths import Path
from keras_drmad.typing import Arrays, Structure

from .costs import Laps, StepClock, cost
from .outcome import Outcome
from .training import DifferentiatedTraining, last_logs

# Of a schedule for an optimizer that has none; no more than fit into the training.
KNOTS, STEPS_A_KNOT = 10, 4
# Shorter trainings have too few windows to learn a schedule in, and learn only where it is asked for.
LEAST_STEPS = 100
# The schedules of so many meta-iterations are averaged: one is as noisy as its windows.
LEARNERS = 2
# How much of what sets a group apart from the mean of all groups stays. Half of it and more is noise
# of few trainings; what is real comes back with the hypergradients of whole trainings.
APART = 0.5


def decided(online: bool | str, optimizer: LearnableOptimizer, path: Path, steps: int) -> bool:
    """Whether trials learn while they train; "auto": where they can, in trainings of some length.

    Raises:
        ValueError: `True`, where they cannot.
    """
    why_not = _why_not(optimizer, path)
    if online is True and why_not:
        raise ValueError(f"`online=True` is not possible: {why_not} Leave `online` out.")
    return online is True or (online == "auto" and not why_not and steps >= LEAST_STEPS)


def _why_not(optimizer: LearnableOptimizer, path: Path) -> str:
    if not optimizer.learn:
        return "nothing of the optimizer is learned."
    if INIT_SCALE in optimizer.learn:
        return 'no step of a training moves initial scales ("init_scale" in `learn`) any more.'
    if optimizer.schedule is None and optimizer.built:
        return (
            "it gives the optimizer a learned schedule, and the hypermodel returns one that is built. "
            "Leave `optimizer.build(…)` out of it, or give it a schedule (`schedule=Knots(10)`)."
        )
    if path.replay == "backward":
        return f"{path!r} needs a momentum that does not vary over training."
    return ""


def give_schedule(model: keras.Model, steps: int) -> keras.Model:
    """A compiled model whose optimizer has a learned schedule: its own, or that of `KNOTS` knots."""
    optimizer = learnable_optimizer(model)
    if optimizer.schedule is None:
        optimizer.schedule = Knots(int(np.clip(steps // STEPS_A_KNOT, 2, KNOTS)))
    return model


def learn(
    training: DifferentiatedTraining,
    batches: Batches,
    hyper: Batches,
    epochs: int,
    **fit_arguments: Any,
) -> Outcome:
    """A training that `LearnHyperparameters` watches; its optimizer has the schedule afterwards.

    Args:
        training: restarted.
        batches: of training data.
        hyper: the hyper set.
        epochs: a number of epochs.
        **fit_arguments: of `fit`.

    Returns:
        An `Outcome` without gradients.
    """
    model, optimizer = training.model, training.optimizer
    laps = Laps()
    learner = _TimedLearner(hyper, laps)
    callbacks = [StepClock(laps), learner, *fit_arguments.pop("callbacks", ())]
    history = model.fit(
        _Feed(batches), epochs=epochs, shuffle=False, callbacks=callbacks, **fit_arguments
    )
    layout = optimizer.layout
    values = training.learned.values
    training.learned.values = values | {
        kind: drawn_together(values[kind], layout.knots.get(kind, 1)) for kind in optimizer.learn
    }
    logs = last_logs(training, history, fit_arguments)
    return Outcome(
        logs=logs,
        values=training.learned.values,
        gradients={},
        finite=bool(np.isfinite(logs["loss"])),
        growth=1.0,
        hyper_loss=float(np.nan if learner.hyper_loss is None else learner.hyper_loss),
        cost=cost(training.steps, laps, learner.windows.seconds()),
    )


def drawn_together(values: np.ndarray, knots: int) -> np.ndarray:
    """Displacements of a kind, all groups half the way to their mean at each knot.

    >>> drawn_together(np.array([0.0, 2.0, 10.0, 14.0]), knots=2)
    array([ 0.5,  1.5, 11. , 13. ])
    """
    table = np.reshape(values, (knots, -1))
    mean = table.mean(1, keepdims=True)
    return (mean + APART * (table - mean)).astype(values.dtype).ravel()


def mean_of(schedules: list[Arrays], earlier: Arrays, count: int) -> Arrays:
    """The mean of learned schedules, and of `count` earlier ones whose mean is known."""
    found = {}
    for name in schedules[0]:
        known = np.mean([schedule[name] for schedule in schedules], 0)
        share = count / (count + len(schedules))
        found[name] = share * earlier[name] + (1 - share) * known if count else known
    return found


class _TimedLearner(LearnHyperparameters):
    """Times its windows, and leaves them out of the laps of the training."""

    def __init__(self, hyper: Batches, laps: Laps) -> None:
        super().__init__(hyper, check=False)
        self.windows, self._laps = Laps(), laps

    def _end_window(self, window: Window) -> None:
        self.windows.begin()
        super()._end_window(window)
        self._laps.leave_out(self.windows.end(len(window)))


class _Feed(keras.utils.PyDataset):
    """`Batches` for `fit`, epoch by epoch."""

    def __init__(self, batches: Batches) -> None:
        super().__init__()
        self._batches, self._epoch = batches, 0

    def __len__(self) -> int:
        assert self._batches.epoch_steps is not None
        return self._batches.epoch_steps

    def __getitem__(self, index: int) -> Structure:
        return for_fit(self._batches.batch(self._epoch * len(self) + index))

    def on_epoch_end(self) -> None:
        self._epoch += 1
