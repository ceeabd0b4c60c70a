"""Regularization toward the weights of an earlier training."""

import numpy as np
from qan_task import build

from keras_drmad.tuners.qan.training.regressor import Regressor
from keras_drmad.tuners.qan.training.weight_path import WeightPath


def test_the_regressor_pulls_toward_the_path():
    model, regressor = build(), Regressor(strength=0.1, until=0.5)
    before = [w.numpy() for w in model.trainable_variables]
    path = WeightPath([0, 4], [[w + 1 for w in before], [w + 3 for w in before]])
    view = type("View", (), {"step": 2, "steps": 2, "budget": 8})
    regressor.regularize(model, path, view)
    for variable, old in zip(model.trainable_variables, before, strict=True):
        np.testing.assert_allclose(variable, old + (1 - 0.9**2) * 2, rtol=1e-5)
    view.step = 5
    regressor.regularize(model, path, view)
    np.testing.assert_allclose(model.trainable_variables[0], before[0] + 0.19 * 2, rtol=1e-5)
