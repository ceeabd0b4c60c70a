"""The global learning rate of `DrMADSGD`: schedules as Keras calls them, and rates of 0."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_drmad import DrMADSGD

schedules = keras.optimizers.schedules


class Noam(schedules.LearningRateSchedule):
    def __call__(self, step):
        assert step.dtype is not None and step.shape is not None
        return 0.05 * (keras.ops.cast(step, "float32") + 1) ** -0.5


class NotCompiled(schedules.LearningRateSchedule):
    def __call__(self, step):
        return 0.1 if int(step) < 3 else 0.05

    def __repr__(self):
        return "NotCompiled()"


SCHEDULES = [
    Noam(),
    schedules.PiecewiseConstantDecay([2, 4], [0.05, 0.02, 0.01]),
    schedules.CosineDecay(0.05, 6, warmup_steps=2, warmup_target=0.1),
    schedules.ExponentialDecay(0.05, 3, 0.5, staircase=True),
    schedules.PolynomialDecay(0.05, 5, 0.0),
]


def built(learning_rate, steps=0, **arguments):
    optimizer = DrMADSGD(learning_rate, **arguments)
    optimizer.build([keras.Variable([1.0], name="w")])
    optimizer._iterations.assign(steps)
    return optimizer


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
def test_a_schedule_has_the_values_that_keras_gives_it(schedule):
    optimizer, keras_own = built(schedule, steps=2), keras.optimizers.SGD(schedule)
    expected = []
    for step in range(2, 12):
        keras_own.iterations.assign(step)
        expected.append(float(keras_own.learning_rate))
    assert optimizer.learning_rates(10) == pytest.approx(expected, rel=1e-6)
    assert optimizer.steps_taken() == 2


def test_a_schedule_is_traced_once_for_all_numbers_of_steps():
    calls = []

    class Spied(schedules.CosineDecay):
        def __call__(self, step):
            calls.append(step)
            return super().__call__(step)

    optimizer = built(Spied(0.05, 1000))
    rates = optimizer.learning_rates(1000)
    traced = len(calls)
    assert traced <= 2
    assert rates[500] == pytest.approx(float(schedules.CosineDecay(0.05, 1000)(500)), rel=1e-6)
    np.testing.assert_array_equal(optimizer.learning_rates(7), rates[:7])
    assert len(calls) == traced
    optimizer.learning_rate = schedules.ExponentialDecay(0.05, 3, 0.5)
    assert optimizer.learning_rates(4)[3] == pytest.approx(0.025)


def test_a_schedule_that_cannot_be_compiled_is_named():
    with pytest.raises(ValueError, match=r"NotCompiled\(\) cannot be compiled"):
        built(NotCompiled()).learning_rates(3)
    # What a strategy refuses to enter its scope with, and leaves it half entered.
    assert tf.compat.v1.get_variable_scope().caching_device is None


@pytest.mark.parametrize(
    ("schedule", "steps", "reference"),
    [
        (schedules.PolynomialDecay(0.05, 4, 0.0), 8, 0.0125),
        (schedules.PolynomialDecay(0.05, 4, 0.0), 2, 0.025),
        (schedules.CosineDecay(0.0, 8, warmup_steps=4, warmup_target=0.1), 0, 0.025),
        (schedules.PiecewiseConstantDecay([2, 4], [0.05, 0.0, 0.01]), 3, 0.05),
    ],
    ids=["ended at 0", "above 0", "begins at 0", "pauses at 0"],
)
def test_learned_rates_stay_learned_where_a_schedule_is_zero(schedule, steps, reference):
    optimizer = built(schedule, steps)
    assert optimizer.hyperparameters["w"]["learning_rate"] == pytest.approx(reference, rel=1e-5)
    down = {"w": {"learning_rate": 1.0}}
    optimizer.move_hyperparameters(down, keras.optimizers.SGD(0.1))
    moved = optimizer.displacements["learning_rate"].numpy()
    assert moved == pytest.approx([-0.1 * reference], rel=1e-4)
    optimizer.set_hyperparameters({"w": {"learning_rate": 0.02}})
    assert optimizer.hyperparameters["w"]["learning_rate"] == pytest.approx(0.02, rel=1e-5)


def test_a_rate_that_was_set_to_zero_is_measured_by_the_compiled_one():
    optimizer = built(0.05)
    optimizer.learning_rate = 0.0
    assert optimizer.hyperparameters["w"]["learning_rate"] == pytest.approx(0.05)
    optimizer.set_hyperparameters({"w": {"learning_rate": 0.1}})
    optimizer.learning_rate = 0.01
    assert optimizer.hyperparameters["w"]["learning_rate"] == pytest.approx(0.02)


@pytest.mark.parametrize("rate", [0.0, schedules.PiecewiseConstantDecay([2], [0.0, 0.0])])
def test_rates_that_are_always_zero_cannot_be_set(rate):
    optimizer = built(rate)
    assert optimizer.hyperparameters["w"]["learning_rate"] == 0
    optimizer.set_hyperparameters({"w": {"momentum": 0.5}})
    with pytest.raises(ValueError, match=r"learning rate, which is 0.*Compile the model"):
        optimizer.set_hyperparameters({"w": {"learning_rate": 0.1}})
    with pytest.raises(ValueError, match="which is 0"):
        optimizer.move_hyperparameters({"w": {"learning_rate": 1.0}}, keras.optimizers.SGD(0.1))
