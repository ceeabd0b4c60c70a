"""One training after another: as `fit` trains, compiled once, and nothing is left of the one before."""

import gc

import keras
import numpy as np
import pytest
import tensorflow as tf
from qan_task import TRAIN, X, Y, build, make, training

from keras_drmad.tuners import Actions, Goal
from keras_drmad.tuners.qan.training.report import STOP
from keras_drmad.tuners.qan.training.states import Ratios
from keras_drmad.tuners.qan.training.steered_training import SteeredTraining

pytestmark = pytest.mark.slow


class Batch(keras.utils.PyDataset):
    def __len__(self):
        return 8

    def __getitem__(self, index):
        return X[:8], Y[:8]


L = keras.layers


def of_batches(read):
    """A dataset of 8 batches, which counts what is read."""

    def batches():
        for start in range(0, 64, 8):
            read.append(start)
            yield X[start : start + 8], Y[start : start + 8]

    of = (tf.TensorSpec((8, 6)), tf.TensorSpec((8,), "int64"))
    return tf.data.Dataset.from_generator(batches, output_signature=of)


class Named(keras.Model):
    def __init__(self):
        super().__init__()
        self.out = L.Dense(3)

    def call(self, inputs):
        return self.out(keras.ops.concatenate([inputs["a"], inputs["b"]], axis=-1))


def test_steered_constant_rates_train_as_fit_does():
    """A rate that is set again and again changes nothing, nor does validation in between."""
    steered = training()
    steered.run(5, lambda report: 0.02)
    plain = training()
    plain.restart(5)
    tf.random.set_seed(5)  # of the order
    plain.model.fit(*TRAIN, batch_size=8, epochs=2, verbose=0)
    for a, b in zip(steered.model.weights, plain.model.weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_a_stopped_episode_leaves_no_iterator_of_keras():
    """Each of many takes up to a minute to end, and searches stop most of their episodes."""
    task = SteeredTraining(
        build, Batch(), every=3, states=[Ratios()], actions=Actions(), goal=Goal.of(("loss", 1e-9))
    )
    gc.disable()
    try:
        for _ in range(2):
            task.run(0, lambda report: report and STOP)
        left = [o for o in gc.get_objects() if isinstance(o, tf.data.Iterator)]
    finally:
        gc.enable()
    assert not left


def test_nothing_is_compiled_again_in_a_later_episode():
    task = training()
    task.run(0, lambda report: 0.02)
    functions = [task.model.train_function, task.callback.probes._read]
    task.run(1, lambda report: 0.05)
    assert functions[0] is task.model.train_function
    assert functions[1] is task.callback.probes._read


def test_an_episode_does_not_set_tensorflows_seed():
    """After which all functions are prepared anew."""
    task = training()
    tf.random.set_seed(1)
    expected = [tf.random.uniform(()).numpy() for _ in range(2)]
    tf.random.set_seed(1)
    found = [tf.random.uniform(()).numpy()]
    task.run(0, lambda report: 0.02)
    assert [*found, tf.random.uniform(()).numpy()] == expected


def test_an_episode_repeats_with_its_seed():
    def build():
        layers = [keras.layers.Input((6,)), keras.layers.Dropout(0.5), keras.layers.Dense(3)]
        model = keras.Sequential(layers)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(0.02), loss, jit_compile=False)
        return model

    def trained(seed):
        task.run(seed, lambda report: 0.02)
        return task.model.get_weights()[0]

    task = training(build=build)
    kernel = trained(1)
    assert (kernel != trained(2)).any()
    np.testing.assert_array_equal(kernel, trained(1))


def test_datasets_are_not_read_before_training(tmp_path):
    read = []
    known = of_batches(read).apply(tf.data.experimental.assert_cardinality(8))
    callback = {"states": [Ratios()], "actions": Actions(), "goal": Goal.of(("loss", 1e-9))}
    task = SteeredTraining(build, known, epochs=1, every=3, **callback)
    task.check()
    assert len(read) <= 2
    reports, _ = task.run(0, lambda report: None)
    assert reports[-1].step == 8
    tuner = make(tmp_path, goal=("loss", 1e-9))
    with pytest.raises(ValueError, match="length of the training data is not known"):
        tuner.search(of_batches(read))


def test_subclassed_models_take_dictionaries():
    def made():
        model = Named()
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        return model

    x = {"a": X[:, :3], "b": X[:, 3:]}
    goal = Goal.of(("loss", 1e-9))
    task = SteeredTraining(
        made, x, Y, batch_size=8, every=6, states=[Ratios()], actions=Actions(), goal=goal
    )
    reports, _ = task.run(0, lambda report: 0.01)
    assert reports[-1].step == 12
