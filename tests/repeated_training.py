"""Hypergradients of a model that is trained again and again, for tests of many models."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from keras_drmad import DrMADSGD, hypergradient, paths

STEPS, BATCH = 6, 5


def normal(*shape, seed=0):
    return np.random.default_rng((seed, *shape)).normal(size=shape)


def compiled(model, loss="mse", *, run_eagerly=False, jit_compile="auto", **options):
    """`model`, with a `DrMADSGD` whose L2 and momentum matter within a few steps."""
    optimizer = DrMADSGD(0.05, momentum=0.8, l2=0.01, learn=())
    model.compile(optimizer, loss, run_eagerly=run_eagerly, jit_compile=jit_compile, **options)
    return model


class Training:
    """Hypergradients of a model that is trained again and again from one start.

    Variables are put back rather than models rebuilt, so nothing is compiled again.
    """

    def __init__(self, model, train, validation, jit_compile=False):
        self.model, self.data, self.jit_compile = model, (train, validation), jit_compile
        self._differentiate(paths.Stored())  # the start has velocities and statistics
        (engine,) = model.optimizer.engines.by_key.values()
        seeds = engine.objective.random  # Keras's global seed is no variable of the model
        self.variables = [*model.variables, *model.optimizer.variables, *seeds]
        self.start = [v.numpy() for v in self.variables]

    def _differentiate(self, path):
        batch_size = BATCH if isinstance(self.data[0], tuple) else None
        return hypergradient(
            self.model,
            *self.data,
            steps=STEPS,
            path=path,
            batch_size=batch_size,
            seed=1,
            jit_compile=self.jit_compile,
            verbose=0,
        )

    def restore(self):
        for variable, value in zip(self.variables, self.start, strict=True):
            variable.assign(value)

    def run(self, path=None, shift=(), hyperparameters=None):
        """The hypergradient from the start, its weights shifted and its hyperparameters set."""
        self.restore()
        for weight, by in zip(self.model.trainable_variables, shift, strict=bool(shift)):
            weight.assign_add(by)
        self.model.optimizer.set_hyperparameters(hyperparameters or {})
        return self._differentiate(path or paths.Stored())


def check(training, rel=1e-6):
    """Derivatives along a random direction in the weights and in each kind of hyperparameter."""
    found = training.run()
    assert np.isfinite(found.validation_loss) and not found.diverged
    values = training.model.optimizer.hyperparameters
    rng = np.random.default_rng(3)

    shift = [rng.normal(size=g.shape) for g in found.initial_weights]
    size = np.sqrt(sum(np.sum(s**2) for s in shift))
    shift = [s / size for s in shift]
    expected = sum(np.sum(s * g) for s, g in zip(shift, found.initial_weights, strict=True))
    slope = central(lambda h: training.run(shift=[h * s for s in shift]))
    assert slope == pytest.approx(expected, rel=rel), "initial weights"

    for kind in ("learning_rate", "momentum", "l2"):
        # Relative changes: the kinds' sizes differ.
        moves = {group: rng.uniform(0.5, 1) * rng.choice([-1, 1]) for group in values}
        expected = sum(found.gradients[g][kind] * values[g][kind] * moves[g] for g in moves)

        def bumped(h, kind=kind, moves=moves):
            new = {g: {kind: values[g][kind] * (1 + h * moves[g])} for g in moves}
            return training.run(hyperparameters=new)

        assert central(bumped) == pytest.approx(expected, rel=rel), kind
    return found


def central(function, h=1e-5):
    """Derivative of the validation loss at 0."""
    return (function(h).validation_loss - function(-h).validation_loss) / (2 * h)


def mlp(*hidden):
    model = keras.Sequential([keras.Input((4,))])
    for width in hidden:
        model.add(layers.Dense(width, activation="tanh"))
    model.add(layers.Dense(2))
    return model


def vectors(samples):
    return normal(samples, 4), normal(samples, 2, seed=1)


def both(data, train=20):
    """Training and validation data out of one structure of arrays."""
    return tuple(
        tf.nest.map_structure(lambda a, s=s: a[s], data) for s in (np.s_[:train], np.s_[train:])
    )
