"""What is read at each decision: settings, motion of weights, and validation beside them."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from qan_task import VAL, X, build

from keras_drmad import DrMADSGD, Knots
from keras_drmad.tuners import Actions
from keras_drmad.tuners.qan.training.evaluation import Validation
from keras_drmad.tuners.qan.training.optimizer_control import OptimizerControl
from keras_drmad.tuners.qan.training.probes import Probes

KINDS = ("learning_rate", "momentum")


def control(optimizer, **actions):
    model = build(optimizer=optimizer)
    optimizer.build(model.trainable_variables)
    return model, OptimizerControl(optimizer, Actions(**actions))


@pytest.mark.parametrize(
    ("optimizer", "momentum"),
    [
        (keras.optimizers.SGD, 0.0),
        (lambda rate: keras.optimizers.SGD(rate, momentum=0.7), 0.7),
        (lambda rate: keras.optimizers.Adam(rate, beta_1=0.8), 0.8),
        (keras.optimizers.Adagrad, 0.0),
        (lambda rate: DrMADSGD(rate, momentum=0.7), 0.7),
    ],
)
def test_settings_of_the_whole_model(optimizer, momentum):
    _, of = control(optimizer(0.25))
    (rate,), (found,) = of.read()
    assert rate == 0.25
    assert found == pytest.approx(momentum, rel=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"per": "layer"},
        {"per": "variable"},
        {"per": "layer", "schedule": Knots(3, steps=9)},
    ],
)
def test_settings_of_each_group(options):
    optimizer = DrMADSGD(0.25, momentum=0.7, **options)
    _, of = control(optimizer, per="layer")
    group = of.groups[-1]
    optimizer.set_hyperparameters({group: {"learning_rate": 0.5, "momentum": 0.6}})
    values = optimizer.hyperparameters
    expected = [[np.mean(values[group][kind]) for group in values] for kind in KINDS]
    assert expected[0][-1] == pytest.approx(0.5)
    np.testing.assert_allclose(of.read(), expected, rtol=1e-6)


def test_motion_is_from_one_reading_to_the_next():
    optimizer = DrMADSGD(0.25, per="layer")
    model, of = control(optimizer, per="layer")
    probes, layers = Probes(of, model), model.layers

    def flat():
        return [
            np.concatenate([w.numpy().ravel() for w in of.trainable_variables]) for of in layers
        ]

    at = [flat()]
    for _ in range(2):
        for variable in model.trainable_variables:
            variable.assign_add(keras.random.normal(variable.shape, seed=1))
        at.append(flat())
        _, found = probes()
        change = [b - a for a, b in zip(at[-2], at[-1], strict=True)]
        before = [b - a for a, b in zip(*at[:2], strict=True)]
        before = before if len(at) == 3 else [0 * d for d in change]
        pairs = zip(at[-1], change, before, strict=True)
        expected = [[w @ w, d @ d, d @ last, last @ last] for w, d, last in pairs]
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    probes.restart()
    assert not probes()[1].numpy()[:, 1:].any()


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 2

    def __getitem__(self, i):
        return tuple(part[16 * i : 16 * i + 16] for part in VAL)


@pytest.mark.parametrize(
    "data", [VAL, tf.data.Dataset.from_tensor_slices(VAL).batch(16), Batches()]
)
def test_gauges_are_read_once_beside_a_validation(data):
    model, of = control(keras.optimizers.SGD(0.25, momentum=0.7))
    probes, validation = Probes(of, model), Validation(data)
    for moved in (0.0, 1.0, 2.0):
        model.layers[0].bias.assign_add([moved, 0, 0, 0])
        metrics, (settings, motion) = validation.beside(model, probes)
        assert metrics["val_loss"] == pytest.approx(model.evaluate(*VAL, verbose=0), rel=1e-5)
        np.testing.assert_allclose(settings, [[0.25], [0.7]])
        assert motion[0, 1] == pytest.approx(moved**2)
    assert set(validation(model)) == {"val_loss"}
    assert motion[0, 2] == pytest.approx(2.0)  # along the move before


def test_gauges_are_of_what_is_trained():
    model, of = control(keras.optimizers.SGD(0.25))
    probes = Probes(of, model)
    assert probes.are_of(OptimizerControl(model.optimizer, Actions()), model)
    model.layers[0].trainable = False
    assert not probes.are_of(of, model)
    model.layers[0].trainable = True
    model.compile("sgd", model.loss)
    model.fit(X[:8], np.zeros(8), verbose=0)
    assert not probes.are_of(OptimizerControl(model.optimizer, Actions()), model)
