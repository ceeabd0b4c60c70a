"""What a training with hypergradients costs, in trainings without."""

import time

import keras_tuner
import numpy as np

from keras_drmad.callbacks.learn_hyperparameters import LearnHyperparameters
from keras_drmad.data import as_validation

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

    1 without hypergradients. With `DrMADTuner` 1 + r: r is the time of the way back, with the loss of
    the validation data and its gradient, over that of the training. With `LearnHyperparameters` 2 + r:
    each window is trained once more. Both are compiled and run alone.
    """
    learner = method.learner(train, validation)
    if learner is None and not isinstance(tuner, DrMADTuner):
        return 1.0
    hp = keras_tuner.HyperParameters()
    batches = training_batches(train, batch_size, seed=0)
    steps = epochs * (batches.epoch_steps or 0)
    source = learner if learner is not None else tuner
    assert isinstance(source, LearnHyperparameters | DrMADTuner)
    whole = steps if isinstance(source, DrMADTuner) else batches.epoch_steps or 0
    window = min(source.horizon or whole, steps)
    training = DifferentiatedTraining(
        method.build(hp),
        lambda: method.build(hp),
        batches.batch(0),
        steps,
        source.path,
        tuner.hyper_variables if isinstance(tuner, DrMADTuner) else None,
        jit_compile=tuner.jit_compile if isinstance(tuner, DrMADTuner) else "auto",
        check=False,  # the search does that
    )
    engine, hyper = training.engine, as_validation(validation)
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
    return 2.0 + ratio
