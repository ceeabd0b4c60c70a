"""`hypergradient`: train, take the validation loss, walk back."""

import time
from dataclasses import dataclass, field

import keras
import numpy as np

from keras_drmad.data import as_batches, as_validation
from keras_drmad.engine import GROWTH_LIMIT, Engine, drmad_optimizer
from keras_drmad.paths import Path, SegmentMeans
from keras_drmad.paths.base import positive_integer

LONG_RUN_SECONDS = 5


@dataclass
class Hypergradient:
    """What `hypergradient` returns.

    Attributes:
        validation_loss: the validation loss after training.
        gradients: its derivatives with respect to the effective hyperparameters, in the form of
            `optimizer.hyperparameters`. Where a schedule changes the learning rate, with respect to
            the effective rates of the last step (that is, to all rates, scaled together).
        hyper_variables: its derivatives with respect to `hyper_variables`, in their order.
        initial_weights: its derivatives with respect to the weights before training, one array a
            trainable variable.
        diverged: True if training or the reverse pass was not finite, or if the adjoint grew beyond
            what a stable training run allows; the gradients are then not to be used.
        growth: the largest norm of the adjoint on the way back over its norm at the start.
        steps: training steps.
        path: the path that was used.
        information: what the path reports of itself (bits of `Reversible`, …).
    """

    validation_loss: float
    gradients: dict
    hyper_variables: list
    initial_weights: list
    diverged: bool
    growth: float
    steps: int
    path: object
    information: dict = field(default_factory=dict)


def hypergradient(
    model,
    train_data,
    validation_data,
    *,
    steps=None,
    path=None,
    hyper_variables=(),
    batch_size=None,
    seed=None,
    jit_compile="auto",
    verbose="auto",
):
    """Trains a model and differentiates its validation loss by the hyperparameters of the training."""
    optimizer = drmad_optimizer(model)
    if optimizer.use_ema:
        raise ValueError(
            "`hypergradient` does not keep the averages of `use_ema=True`: train with `fit`, and "
            "learn with `LearnHyperparameters`."
        )
    if seed is None:
        seed = int(np.random.randint(2**31))  # follows `keras.utils.set_random_seed`
    batches = as_batches(train_data, batch_size, seed)
    validation = as_validation(validation_data)
    steps = _steps(steps, batches)
    path = SegmentMeans() if path is None else path
    if not isinstance(path, Path):
        raise ValueError(f"`path` must be a `keras_drmad.paths.Path`. Received: path={path!r}")
    engine = Engine.of(model, batches.batch(0), path, hyper_variables, jit_compile)
    advance = _progress(verbose, 2 * steps)
    run = engine.train(engine.read(), batches, optimizer.learning_rates(steps), advance)
    engine.write(run.end, steps)
    found = engine.differentiate(run, validation, advance)
    return Hypergradient(
        validation_loss=found.validation_loss,
        gradients=effective(optimizer, found.adjoint, run.rates[-1]),
        hyper_variables=[g.numpy() for g in found.adjoint.eta],
        initial_weights=[g.numpy() for g in found.adjoint.weights],
        diverged=not found.finite or found.growth > GROWTH_LIMIT,
        growth=found.growth,
        steps=steps,
        path=path,
        information=path.information(run.start, run.closed, steps),
    )


def effective(optimizer, adjoint, rate):
    """Derivatives by effective values, in the form of `optimizer.hyperparameters`."""
    vectors = {kind: g.numpy() for kind, g in adjoint.hyper.items()}
    vectors["learning_rate"] = vectors["learning_rate"] / rate
    return optimizer.layout.nest(vectors)


def _steps(steps, batches):
    if steps is None:
        steps = batches.epoch_steps
        if steps is None:
            raise ValueError("`steps` must be given for training data of unknown length.")
    return positive_integer("steps", steps)


def _progress(verbose, total):
    """A function that counts steps on a progress bar, from when a run turns out to be long."""
    if verbose == 0:
        return None
    bar, begun = keras.utils.Progbar(total), time.monotonic()
    done = 0

    def advance(steps):
        nonlocal done
        done += steps
        if verbose == 1 or time.monotonic() - begun > LONG_RUN_SECONDS:
            bar.update(done)

    return advance
