"""State outside of `model.variables`, and variables that are frozen: right or refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from keras_drmad import DrMADSGD, LearnHyperparameters, hypergradient

STEPS_ARE_CHECKED = True

rng = np.random.default_rng(0)
X = rng.normal(size=(48, 6)).astype("float32")
Y = rng.normal(size=(48, 1)).astype("float32")
TRAIN, HYPER = (X[:32], Y[:32]), (X[32:], Y[32:])
QUICK = {"batch_size": 8, "seed": 0, "jit_compile": False, "verbose": 0}


def mlp(*more, **optimizer):
    keras.utils.set_random_seed(0)
    built = keras.Sequential(
        [layers.Input((6,)), *more, layers.Dense(4, "tanh", name="a"), layers.Dense(1, name="b")]
    )
    built.compile(DrMADSGD(**{"learning_rate": 0.05, **optimizer}), "mse", jit_compile=False)
    return built


class CountsByHand(layers.Layer):
    """Keeps a count where Keras does not see it."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.count = tf.Variable(0.0, trainable=False)

    def call(self, x):
        self.count.assign_add(1.0)
        return x


class Nested(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = CountsByHand(name="inner_counter")

    def call(self, x):
        return self.inner(x)


class DrawsByHand(layers.Layer):
    def call(self, x):
        return x + 0.1 * tf.random.normal(tf.shape(x))


class DrawsByGenerator(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.generator = tf.random.Generator.from_seed(1)

    def call(self, x):
        return x + 0.1 * self.generator.normal(tf.shape(x))


class AsksPython(layers.Layer):
    def call(self, x):
        noise = tf.numpy_function(lambda: np.float32(np.random.rand()), [], tf.float32)
        return x + tf.stop_gradient(tf.ensure_shape(noise, ()))


class ReadsByHand(layers.Layer):
    """A constant in a `tf.Variable` that nobody changes is no state."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.shift = tf.Variable(0.5, trainable=False)

    def call(self, x):
        return x + self.shift


HIDDEN = {
    "a variable": (lambda: CountsByHand(name="counter"), "counter"),
    "a variable, nested": (lambda: Nested(name="outer"), "inner_counter|outer"),
    "tf.random": (lambda: DrawsByHand(name="noise"), "noise"),
    "a generator": (lambda: DrawsByGenerator(name="noise"), "noise"),
    "Python": (lambda: AsksPython(name="asks"), "asks"),
}


@pytest.mark.parametrize("case", HIDDEN)
def test_state_that_keras_does_not_know_is_refused(case):
    make, match = HIDDEN[case]
    with pytest.raises(ValueError, match=match):
        hypergradient(mlp(make()), TRAIN, HYPER, **QUICK)


def test_the_callback_refuses_it_before_a_step():
    layer = CountsByHand(name="counter")
    model = mlp(layer)
    before = layer.count.numpy()
    with pytest.raises(ValueError, match="counter"):
        model.fit(*TRAIN, batch_size=8, verbose=0, callbacks=[LearnHyperparameters(HYPER)])
    assert layer.count.numpy() == before


def test_a_variable_that_is_only_read_is_let_through():
    assert not hypergradient(mlp(ReadsByHand()), TRAIN, HYPER, **QUICK).diverged


# -- frozen and unfrozen --------------------------------------------------------------------


def test_a_layer_is_frozen_between_two_fits():
    model = mlp(layers.Dense(5, name="base"))
    learn = LearnHyperparameters(HYPER)
    model.fit(*TRAIN, batch_size=8, verbose=0, callbacks=[learn])
    model.get_layer("base").trainable = False
    model.compile(model.optimizer, "mse", jit_compile=False)
    base = model.get_layer("base").kernel.numpy()
    model.fit(*TRAIN, batch_size=8, epochs=2, verbose=0, callbacks=[learn])
    assert np.array_equal(model.get_layer("base").kernel.numpy(), base)
    assert set(model.optimizer.hyperparameters) == {"base", "a", "b"}
    found = hypergradient(model, TRAIN, HYPER, **QUICK)
    assert len(found.initial_weights) == 4
    assert found.gradients["base"]["learning_rate"] == 0.0


def test_a_frozen_layer_trains_as_keras_trains_it():
    def trained(by_engine):
        keras.utils.set_random_seed(0)
        model = mlp(layers.Dense(5, name="base"), l2=0.01)
        model.optimizer.build(model.trainable_variables)
        model.get_layer("base").trainable = False
        data = tf.data.Dataset.from_tensor_slices(TRAIN).batch(8)
        if by_engine:
            hypergradient(model, data, HYPER, steps=8, jit_compile=False, verbose=0)
        else:
            model.fit(data, epochs=2, shuffle=False, verbose=0)
        return [v.numpy() for v in model.weights]

    for a, b in zip(trained(True), trained(False), strict=True):
        assert np.allclose(a, b, atol=1e-6)


def test_a_layer_that_the_optimizer_does_not_know_is_named():
    model = mlp(layers.Dense(5, name="base"))
    model.get_layer("base").trainable = False
    model.compile(DrMADSGD(0.05), "mse", jit_compile=False)
    model.fit(*TRAIN, batch_size=8, verbose=0, callbacks=[LearnHyperparameters(HYPER)])
    model.get_layer("base").trainable = True
    with pytest.raises(ValueError, match=r"base/kernel.*compile.* again with a new optimizer"):
        hypergradient(model, TRAIN, HYPER, **QUICK)
    with pytest.raises(ValueError, match=r"base/kernel.*compile.* again with a new optimizer"):
        model.fit(*TRAIN, batch_size=8, verbose=0, callbacks=[LearnHyperparameters(HYPER)])
