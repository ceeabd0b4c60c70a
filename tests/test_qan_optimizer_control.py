"""What is read of an optimizer, and what actions change in it."""

import keras
import numpy as np
import pytest
from qan_task import build, training

from keras_drmad import DrMADAdamW, DrMADSGD, Knots
from keras_drmad.tuners import Actions
from keras_drmad.tuners.qan.training.optimizer_control import OptimizerControl
from keras_drmad.tuners.qan.training.states import Ratios


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
        (lambda rate: DrMADAdamW(rate, beta_1=0.7), 0.7),
    ],
)
def test_settings_of_the_whole_model(optimizer, momentum):
    _, of = control(optimizer(0.25))
    (rate,), (found,) = of.read()
    assert rate == 0.25
    assert found == pytest.approx(momentum, rel=1e-6)


@pytest.mark.parametrize(
    ("make", "momentum", "options"),
    [
        (DrMADSGD, "momentum", {"per": "layer"}),
        (DrMADSGD, "momentum", {"per": "variable"}),
        (DrMADSGD, "momentum", {"per": "layer", "schedule": Knots(3, steps=9)}),
        (DrMADAdamW, "beta_1", {"per": "layer"}),
    ],
)
def test_settings_of_each_group(make, momentum, options):
    optimizer = make(0.25, **{momentum: 0.7}, **options)
    _, of = control(optimizer, per="layer")
    group = of.groups[-1]
    optimizer.set_hyperparameters({group: {"learning_rate": 0.5, momentum: 0.6}})
    values, kinds = optimizer.hyperparameters, ("learning_rate", momentum)
    expected = [[np.mean(values[group][kind]) for group in values] for kind in kinds]
    assert expected[0][-1] == pytest.approx(0.5)
    np.testing.assert_allclose(of.read(), expected, rtol=1e-6)


def test_actions_multiply_within_bounds():
    task = training(actions=Actions((0.5, 2.0), bounds=(0.01, 0.1)))
    reports, _ = task.run(0, lambda report: [1])
    np.testing.assert_allclose(
        [r.rates[0] for r in reports[:4]], [0.02, 0.04, 0.08, 0.1], rtol=1e-6
    )


def test_layers_have_actions_of_their_own():
    actions = Actions((0.5, 1.0, 2.0), per="layer")
    task = training(actions=actions, build=lambda: build(optimizer=DrMADSGD(0.02, learn=())))
    reports, _ = task.run(0, lambda report: [0, 2])
    np.testing.assert_allclose(reports[2].rates, [0.005, 0.08], rtol=1e-5)
    assert reports[2].observation.shape == (2, len(Ratios.FEW))


def test_momentum_moves():
    actions = Actions((1.0,), momentum=(0.5, 1.0))
    task = training(actions=actions, build=lambda: build(optimizer=DrMADSGD(0.02, learn=())))
    task.run(0, lambda report: [0] if report.step == 0 else [1])
    np.testing.assert_allclose(task.callback.control.read()[1], [0.95], rtol=1e-5)


def test_scaled_losses_are_looked_through():
    scaled, decay = keras.optimizers.LossScaleOptimizer, keras.optimizers.schedules.CosineDecay
    control = OptimizerControl(scaled(keras.optimizers.SGD(0.1, momentum=0.9)), Actions())
    assert control.read()[1] == [0.9]
    control.apply([4], *control.read())
    assert control.read()[0] == pytest.approx([0.2])
    with pytest.raises(ValueError, match="cannot be set"):
        OptimizerControl(scaled(keras.optimizers.SGD(decay(0.1, 10))), Actions())


def test_momentum_moves_under_a_scaled_loss():
    optimizer = keras.optimizers.LossScaleOptimizer(DrMADSGD(0.1, momentum=0.9))
    task = training(
        build=lambda: build(optimizer=optimizer.from_config(optimizer.get_config())),
        actions=Actions(momentum=(0.5, 1.0)),
    )
    task.run(0, lambda report: [0])
    inner = task.model.optimizer.inner_optimizer
    assert inner.hyperparameters["a"]["momentum"] > 0.9
