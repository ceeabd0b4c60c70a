"""What Keras does around an optimizer's steps: accumulated gradients, weights overwritten by averages."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_mlp import STEPS, XH, YH, X, Y, mlp, restorable, run, slope

from keras_drmad import DrMADAdamW, DrMADSGD, LearnHyperparameters, hypergradient, paths
from keras_drmad.callbacks.mover import Mover

STEPS_ARE_CHECKED = True

ACCUMULATES = {"gradient_accumulation_steps": 3}
OVERWRITES = {"use_ema": True, "ema_momentum": 0.6, "ema_overwrite_frequency": 2}
DECAYING = keras.optimizers.schedules.ExponentialDecay(0.1, 5, 0.5)
KINDS = [
    (DrMADSGD, ACCUMULATES | {"clipnorm": 0.05}),
    (DrMADSGD, OVERWRITES | {"weight_decay": 0.1}),
    (DrMADAdamW, ACCUMULATES | {"learning_rate": DECAYING}),
    (DrMADAdamW, ACCUMULATES | OVERWRITES),
]
IDS = ["SGD, accumulates", "SGD, overwrites", "AdamW, accumulates", "AdamW, both"]
cases = pytest.mark.parametrize(("make", "arguments"), KINDS, ids=IDS)


@cases
def test_derivatives_are_exact(float64, make, arguments):
    """To 1e-6 of finite differences; 12 steps of which the third to the last one are incomplete."""
    model = mlp(make, **arguments)
    optimizer, restore = model.optimizer, restorable(model)
    steps = {"steps": STEPS - 1}
    found = []
    for path in (paths.Stored(), paths.Checkpointed(every=4)):
        found.append(run(model, path, **steps))
        restore()
    mean = "momentum" if make is DrMADSGD else "beta_1"
    rate = optimizer.learning_rates(STEPS - 1)[-1]
    # Through the logit, and the logarithm.
    for kind, slope_of_scale in ((mean, 0.8 * 0.2), ("learning_rate", rate)):
        displacement = optimizer.displacements[kind]
        expected = slope(
            model,
            restore,
            paths.Stored(),
            lambda s, of=displacement: of.assign(of + s),
            1e-4,
            **steps,
        )
        for each in found:
            ours = sum(g[kind] * slope_of_scale for g in each.gradients.values())
            assert ours == pytest.approx(expected, rel=1e-6), kind
    kernel, gradient = model.trainable_variables[0], found[0].initial_weights[0]
    d = np.random.default_rng(0).normal(size=kernel.shape)
    bump = lambda s: kernel.assign(kernel + s * d)  # noqa: E731
    expected = slope(model, restore, paths.Stored(), bump, 1e-4, **steps)
    assert np.sum(gradient * d) == pytest.approx(expected, rel=1e-6)
