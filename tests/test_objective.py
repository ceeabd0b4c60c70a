"""The losses that are differentiated."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from keras_drmad import DrMADSGD
from keras_drmad.engine.objective import ModelValues, Objective

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(6, 3)).astype("float32"), RNG.normal(size=(6, 1)).astype("float32")


class Counts(keras.Sequential):
    """Counts penalties `times`; Keras counts them once."""

    times = 1.0

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
        loss = keras.ops.mean((y - y_pred) ** 2)
        return loss + self.times * sum(self.losses) if self.times else loss


@pytest.mark.parametrize("times", [0.0, 1.0, 2.0])
def test_penalties_are_no_part_of_the_validation_loss(times):
    dense = layers.Dense(4, kernel_regularizer="l2", activity_regularizer="l2")
    model = Counts([keras.Input((3,)), dense, layers.Dense(1)])
    model.times = times
    model.compile(DrMADSGD(0.1), "mse", run_eagerly=True)
    objective, batch = Objective(model, (X, Y, ())), (X, Y, ())
    found = objective.validation_loss(objective._values(), batch)
    assert float(found) == pytest.approx(np.mean((Y - model.predict(X, verbose=0)) ** 2), rel=1e-6)


class Detached(keras.Sequential):
    """Weighs errors by what the weights say, and does not train that."""

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
        error = (y - y_pred) ** 2
        return keras.ops.mean(error * keras.ops.stop_gradient(1 + keras.ops.tanh(error)))


class Distilled(keras.Sequential):
    """Its targets are probabilities that the weights give, too."""

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
        targets = keras.ops.softmax(2 * y_pred[::-1])
        losses = keras.losses.categorical_crossentropy(targets, y_pred, from_logits=True)
        return keras.ops.mean(keras.ops.sin(losses))


class SeveralClasses(keras.Sequential):
    """Its targets do not sum to 1."""

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
        targets = keras.ops.ones_like(y_pred)
        losses = keras.losses.categorical_crossentropy(targets, y_pred, from_logits=True)
        return keras.ops.mean(losses)


def inner(a, b):
    return sum(float(tf.reduce_sum(p * q)) for p, q in zip(a, b, strict=True))


@pytest.mark.parametrize("kind", [Detached, Distilled, SeveralClasses])
def test_what_tensorflow_takes_for_constant_changes_with_the_weights(float64, kind):
    renormalized = layers.BatchNormalization(renorm=True)
    model = kind([keras.Input((3,)), layers.Dense(4), renormalized, layers.Dense(2)])
    model.compile(DrMADSGD(0.1), "mse", run_eagerly=True)
    batch = X.astype("float64"), Y.astype("float64"), ()
    objective = Objective(model, batch)
    start, step = objective._values(), 1e-5
    direction, adjoint = ([RNG.normal(size=w.shape) for w in start.weights] for _ in range(2))

    def at(h):
        weights = [w + h * d for w, d in zip(start.weights, direction, strict=True)]
        return ModelValues(weights, *start[1:])

    gradients, state, _, vjp = objective.vjp(start, batch)
    with tf.GradientTape() as tape:
        loss = model.compute_loss(None, batch[1], model(batch[0], training=True))
    for ours, keras_own in zip(gradients, tape.gradient(loss, objective.weights), strict=True):
        np.testing.assert_allclose(ours, keras_own, rtol=1e-10, atol=1e-14)

    up, down = (inner(adjoint, objective.gradient(at(h), batch)[0]) for h in (step, -step))
    found = vjp(adjoint, [tf.zeros_like(s) for s in state])[0]
    assert inner(found, direction) == pytest.approx((up - down) / (2 * step), rel=1e-6)

    with tf.GradientTape() as tape:
        tape.watch(start.weights)
        loss = objective.validation_loss(start, batch)
    up, down = (float(objective.validation_loss(at(h), batch)) for h in (step, -step))
    found = tape.gradient(loss, start.weights, unconnected_gradients="zero")
    assert inner(found, direction) == pytest.approx((up - down) / (2 * step), rel=1e-6)
