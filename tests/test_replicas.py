"""What each of two replicas trains on, and what becomes of it: as in Keras."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from test_learn import HYPER, X, Y, _without_xla, arrays, mlp  # noqa: F401  (a fixture)

from keras_drmad import DrMADSGD, LearnHyperparameters, hypergradient, paths
from keras_drmad.callbacks import window
from keras_drmad.data import ArrayBatches, as_validation
from keras_drmad.engine.engine import Engine


def test_parts_of_other_sizes_are_followed(two_replicas, monkeypatch, caplog):
    """Of a last batch of 10, TensorFlow gives all to one replica; Keras adds up mean losses."""
    monkeypatch.setattr(window, "TOLERANCE", 1e-4)
    with two_replicas.scope():
        model = mlp()
    learn = LearnHyperparameters(HYPER, horizon=4)
    arrays(model, X[:70], Y[:70], epochs=2, verbose=0, callbacks=[learn])
    assert "skipped" not in caplog.text
    assert any(np.any(d.numpy()) for d in model.optimizer.displacements.values())


def test_moving_statistics(two_replicas, float64):
    """Each replica has its own; Keras reads, and saves, those of the first one."""
    with two_replicas.scope():
        normalized = keras.layers.BatchNormalization(momentum=0.5)
        model = keras.Sequential([keras.Input((5,)), normalized, keras.layers.Dense(1)])
        model.compile(DrMADSGD(0.1, momentum=0.5), "mse", jit_compile=False)
    batches, hyper = ArrayBatches((X[:20], Y[:20]), 20), as_validation(HYPER)
    engine = Engine.of(model, batches.batch(0), paths.Stored(), jit_compile=False)
    start, losses, step = engine.read(), [], 1e-5
    for factor in (1 - step, 1 + step, 1.0):
        run = engine.train(start, batches, np.full(2, 0.1 * factor))
        losses.append(engine.programs.validation_loss(run.end, hyper))
    found = engine.differentiate(run, hyper).adjoint.hyper["learning_rate"]
    slope = (losses[1] - losses[0]) / (2 * step)
    assert float(tf.reduce_sum(found)) == pytest.approx(slope, rel=1e-6)
    arrays(model, X[:20], Y[:20], epochs=2, verbose=0)
    for ours, theirs in zip(
        tf.nest.flatten((run.end.weights, run.end.state)),
        tf.nest.flatten((engine.read().weights, engine.read().state)),
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def number(targets, predictions):
    return keras.ops.mean((targets - predictions) ** 2)


@pytest.mark.parametrize(
    ("loss", "samples"),
    # Of a sum, parts may have any size.
    [(keras.losses.MeanSquaredError(reduction="sum"), 11), (number, 12)],
)
def test_losses_that_keras_does_not_divide(two_replicas, loss, samples):
    with two_replicas.scope():
        model = keras.Sequential(
            [keras.Input((5,)), keras.layers.Dense(1, kernel_regularizer="l2")]
        )
        model.compile(DrMADSGD(0.02, momentum=0.5, learn=()), loss, jit_compile=False)
    data, start = (X[:samples], Y[:samples]), model.get_weights()
    options = {"path": paths.Stored(), "shuffle": False, "jit_compile": False, "verbose": 0}
    hypergradient(model, data, HYPER, batch_size=4, **options)
    found = model.get_weights()
    model.set_weights(start)
    model.optimizer.reset()
    model.fit(*data, batch_size=4, shuffle=False, verbose=0)
    for ours, theirs in zip(found, model.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)
