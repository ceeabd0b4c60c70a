"""TensorFlow warns of retracing where something is wrong, and not where there are many models."""

import keras
import pytest
import tensorflow as tf

from keras_drmad.tf_function import tf_function
from keras_drmad.tuners import retracing


class Program:
    def __init__(self, function) -> None:
        self.run = function(self.add)

    def add(self, a):
        return a + 1


@pytest.mark.parametrize("function, warned", [(tf.function, True), (tf_function, False)])
def test_programs_of_many_models_are_no_retracing(function, warned, caplog):
    for _ in range(6):
        assert Program(function).run(tf.ones(2)).shape == (2,)
    assert ("retracing" in caplog.text) == warned


def test_a_program_that_is_traced_again_and_again_is(caplog):
    program = Program(tf_function)
    for size in range(1, 7):
        program.run(tf.ones(size))
    assert "retracing" in caplog.text


def test_functions_of_keras_may_be_traced_in_a_search(caplog):
    def say(name):
        tf.get_logger().warning(
            "5 out of the last 5 calls to %s triggered tf.function retracing", name
        )

    keras_own = "<function TensorFlowTrainer.make_test_function.<locals>.test_function>"
    with retracing.expected():
        say(keras_own)
        assert not caplog.text
        say("<function mine>")
        assert "mine" in caplog.text
    say(keras_own)
    assert "TensorFlowTrainer" in caplog.text


def test_keras_still_names_its_functions_so():
    model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    model.make_test_function()
    assert "TensorFlowTrainer" in repr(model.test_function)
