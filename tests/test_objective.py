"""The losses that are differentiated."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_drmad import DrMADSGD
from keras_drmad.engine.objective import Objective

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
