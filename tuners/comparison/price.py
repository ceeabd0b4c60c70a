"""What a training with hypergradients costs, in trainings without."""

import time
from typing import Any

import keras_tuner
import numpy as np
import tensorflow as tf

from keras_drmad.callbacks.hyper_samples import HyperSamples
from keras_drmad.callbacks.learn_hyperparameters import LearnHyperparameters
from keras_drmad.callbacks.progress import Progress
from keras_drmad.data import Batches, as_validation
from keras_drmad.optimizers.learnable import learnable_optimizer
from keras_drmad.paths import Path, Stored

from ..data_checks import training_batches
from ..drmad.online import decided
from ..drmad.place import DIFFERENTIATE, LEARN
from ..drmad.training import DifferentiatedTraining
from ..drmad.tuner import DrMADTuner
from .data import Part
from .method import Method

ANY_STAGE = ""
REPEATS, SECONDS = 4, 60.0  # the first one compiles; the most to spend on the others


def prices(
    method: Method,
    tuner: keras_tuner.Tuner,
    train: Part,
    validation: Part,
    epochs: int,
    batch_size: int | None,
) -> dict[str, float]:
    """By what the trainings that a `Meter` counts are to be multiplied, for each stage of a search.

    1 without hypergradients. Else 1 + r: r is the time of the way back, with the loss of the hyper
    samples and its gradient, over that of the training; with `LearnHyperparameters` of a window. A path
    of its own other than `Stored` trains each window once more: 2 + r. Both are compiled and run alone.

    Returns:
        `{stage: price}`; of tuners without stages that of `ANY_STAGE`.
    """
    learner = method.learner(train, validation)
    if learner is None and not isinstance(tuner, DrMADTuner):
        return {ANY_STAGE: 1.0}
    batches = training_batches(train, batch_size, seed=0)
    measure = _Measure(method, batches, as_validation(validation), epochs)
    if learner is not None:
        return {ANY_STAGE: measure.learning(learner)}
    assert isinstance(tuner, DrMADTuner)
    found = {DIFFERENTIATE: measure.differentiating(tuner)}
    steps = epochs * (batches.epoch_steps or 0)
    optimizer = learnable_optimizer(method.build(keras_tuner.HyperParameters()))
    if decided(tuner.online, optimizer, tuner.path, steps):
        found[LEARN] = measure.learning(LearnHyperparameters(validation, check=False))
    return found


class _Measure:
    """Times the programs of a method's model on its data."""

    def __init__(self, method: Method, batches: Batches, hyper: Batches, epochs: int) -> None:
        self._method, self._batches, self._hyper = method, batches, hyper
        self._counts = {"epochs": epochs, "steps": batches.epoch_steps}
        self._steps = epochs * (batches.epoch_steps or 0)

    def learning(self, learner: LearnHyperparameters) -> float:
        """The price of a training that a callback watches."""
        path = learner.path or Stored()
        window = min(learner.horizon or Progress(self._counts).window(), self._steps)
        samples = learner.samples or window * len(tf.nest.flatten(self._batches.batch(0))[0])
        drawn = HyperSamples(self._hyper, samples, seed=0)
        ratio = self._ratio(path, window, drawn.as_batches(drawn.draw(0)))
        return (1.0 if type(path) is Stored else 2.0) + ratio

    def differentiating(self, tuner: DrMADTuner) -> float:
        """The price of a trial of a tuner."""
        window = min(tuner.horizon or self._steps, self._steps)
        options = {"hyper_variables": tuner.hyper_variables, "jit_compile": tuner.jit_compile}
        return 1.0 + self._ratio(tuner.path, window, self._hyper, **options) * window / self._steps

    def _ratio(self, path: Path, window: int, hyper: Batches, **options: Any) -> float:
        """The time of the way back over a window, over that of its training."""
        hp = keras_tuner.HyperParameters()
        training = DifferentiatedTraining(
            self._method.build(hp),
            lambda: self._method.build(hp),
            self._batches.batch(0),
            self._steps,
            path,
            check=False,  # the search does that
            **options,
        )
        engine = training.engine
        rates = engine.optimizer.learning_rates(window)
        forward = backward = np.inf
        begun = time.monotonic()
        for repeat in range(REPEATS):
            start = time.perf_counter()
            run = engine.train(engine.read(), self._batches, rates)
            halfway = time.perf_counter()
            engine.differentiate(run, hyper)
            if repeat:
                forward = min(forward, halfway - start)
                backward = min(backward, time.perf_counter() - halfway)
            if repeat and time.monotonic() - begun > SECONDS:
                break
        return backward / forward
