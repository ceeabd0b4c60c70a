"""What is read at each decision: motion of weights, and validation beside it."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from qan_task import VAL, X, build

from keras_drmad import DrMADSGD
from keras_drmad.tuners import Actions
from keras_drmad.tuners.qan.training.evaluation import Validation
from keras_drmad.tuners.qan.training.optimizer_control import OptimizerControl
from keras_drmad.tuners.qan.training.probes import Probes

KINDS = ("learning_rate", "momentum")


def control(optimizer, **actions):
    model = build(optimizer=optimizer)
    optimizer.build(model.trainable_variables)
    return model, OptimizerControl(optimizer, Actions(**actions))


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
def test_probes_are_read_once_beside_a_validation(data):
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


def test_probes_are_of_what_is_trained():
    model, of = control(keras.optimizers.SGD(0.25))
    probes = Probes(of, model)
    assert probes.are_of(OptimizerControl(model.optimizer, Actions()), model)
    model.layers[0].trainable = False
    assert not probes.are_of(of, model)
    model.layers[0].trainable = True
    model.compile("sgd", model.loss)
    model.fit(X[:8], np.zeros(8), verbose=0)
    assert not probes.are_of(OptimizerControl(model.optimizer, Actions()), model)
