"""What a training with hypergradients costs, in trainings without."""

import time

import keras_tuner
import numpy as np
import tensorflow as tf

from keras_drmad.callbacks.hyper_samples import HyperSamples
from keras_drmad.callbacks.learn_hyperparameters import LearnHyperparameters
from keras_drmad.callbacks.progress import Progress
from keras_drmad.data import as_validation
from keras_drmad.paths import Stored

from ..data_checks import training_batches
from ..drmad.training import DifferentiatedTraining
from ..drmad.tuner import DrMADTuner
from .data import Part
from .method import Method

REPEATS, SECONDS = 4, 60.0  # the first one compiles; the most to spend on the others


def price(
    method: Method,
    tuner: keras_tuner.Tuner,
    train: Part,
    validation: Part,
    epochs: int,
    batch_size: int | None,
) -> float:
    """By what the trainings that a `Meter` counts are to be multiplied.

    1 without hypergradients. Else 1 + r: r is the time of the way back, with the loss of the hyper
    samples and its gradient, over that of the training; with `LearnHyperparameters` of a window. A path
    of its own other than `Stored` trains each window once more: 2 + r. Both are compiled and run alone.
    """
    learner = method.learner(train, validation)
    if learner is None and not isinstance(tuner, DrMADTuner):
        return 1.0
    hp = keras_tuner.HyperParameters()
    batches = training_batches(train, batch_size, seed=0)
    steps = epochs * (batches.epoch_steps or 0)
    source = learner if learner is not None else tuner
    assert isinstance(source, LearnHyperparameters | DrMADTuner)
    hyper = as_validation(validation)
    path, window = source.path, source.horizon or steps
    if isinstance(source, LearnHyperparameters):
        counts = {"epochs": epochs, "steps": batches.epoch_steps}
        path, window = path or Stored(), source.horizon or Progress(counts).window()
        samples = source.samples or window * len(tf.nest.flatten(batches.batch(0))[0])
        drawn = HyperSamples(hyper, samples, seed=0)
        hyper = drawn.as_batches(drawn.draw(0))
    window = min(window, steps)
    assert path is not None  # of a tuner
    training = DifferentiatedTraining(
        method.build(hp),
        lambda: method.build(hp),
        batches.batch(0),
        steps,
        path,
        tuner.hyper_variables if isinstance(tuner, DrMADTuner) else None,
        jit_compile=tuner.jit_compile if isinstance(tuner, DrMADTuner) else "auto",
        check=False,  # the search does that
    )
    engine = training.engine
    rates = engine.optimizer.learning_rates(window)
    forward = backward = np.inf
    begun = time.monotonic()
    for repeat in range(REPEATS):
        start = time.perf_counter()
        run = engine.train(engine.read(), batches, rates)
        halfway = time.perf_counter()
        engine.differentiate(run, hyper)
        if repeat:
            forward = min(forward, halfway - start)
            backward = min(backward, time.perf_counter() - halfway)
        if repeat and time.monotonic() - begun > SECONDS:
            break
    ratio = backward / forward
    if isinstance(source, DrMADTuner):
        return 1.0 + ratio * window / steps
    return (1.0 if type(path) is Stored else 2.0) + ratio
