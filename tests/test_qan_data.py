"""The batches that episodes are trained on."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_drmad.tuners.qan.training.data import are_arrays, as_tensors, shuffled, untuned

N = 10
X, Y, W = np.arange(2.0 * N).reshape(N, 2), np.arange(N), np.arange(N) / 2


def batches(x=X, y=Y, sample_weight=None, batch_size=4, seed=0):
    return shuffled(*as_tensors((x, y, sample_weight)), batch_size, seed)


@pytest.mark.parametrize(("batch_size", "sizes"), [(4, [4, 4, 2]), (5, [5, 5]), (32, [10])])
def test_an_epoch_has_each_sample_once(batch_size, sizes):
    dataset = batches(batch_size=batch_size)
    assert dataset.cardinality() == len(sizes)
    for _ in range(2):
        read = [y.numpy() for _, y in dataset]
        assert [len(y) for y in read] == sizes
        assert sorted(np.concatenate(read)) == list(range(N))


def test_the_order_is_that_of_the_seed():
    def order(seed):
        return [int(i) for _, y in batches(seed=seed) for i in y]

    assert order(0) == order(0) != order(1)
    assert order(0) != list(range(N))


def test_the_order_is_that_of_fit():
    class Reader(keras.Model):
        def train_step(self, data):
            self.read += [int(i) for i in data[1]]
            return {"loss": 0.0}

    model, model.read = (model := Reader()), []
    model.compile(run_eagerly=True)
    keras.utils.set_random_seed(3)
    model.fit(X, Y, batch_size=4, epochs=2, verbose=0)
    assert model.read == 2 * [int(i) for _, y in batches(seed=3) for i in y]


def test_parts_of_any_structure_stay_together():
    x, y = [X, {"a": Y}], {"b": X, "c": Y}
    for (first, second), targets, weights in batches(x, y, sample_weight=W):
        np.testing.assert_array_equal(first[:, 0] / 2, tf.cast(second["a"], "float32"))
        np.testing.assert_array_equal(targets["b"], first)
        np.testing.assert_array_equal(targets["c"], second["a"])
        for name in ("b", "c"):  # one weight for all outputs
            np.testing.assert_array_equal(weights[name], first[:, 0] / 4)


def test_without_targets_a_batch_is_what_the_model_takes():
    assert [tuple(x.shape) for x in batches(y=None)] == [(4, 2), (4, 2), (2, 2)]


def test_floats_are_those_of_keras():
    x, y, missing = as_tensors((X, Y, None))
    assert (x.dtype, y.dtype, missing) == (tf.float32, tf.int64, None)


def test_what_keras_must_read_itself_is_left_to_it():
    dense, sparse = tf.constant(X), tf.sparse.from_dense(X)
    assert are_arrays((X, {"a": [dense]}, None))
    for other in (sparse, tf.ragged.constant([[1.0]]), tf.data.Dataset.range(2)):
        assert not are_arrays((other, None))


@pytest.mark.parametrize("weighted", [False, True])
def test_fit_learns_from_them_as_from_arrays(weighted):
    def trained(data):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        # One batch an epoch, so that the order does not matter.
        model.fit(**data(), epochs=3, verbose=0)
        return model.get_weights()

    weight = {"sample_weight": W} if weighted else {}
    own = trained(lambda: {"x": batches(X / 20, Y / 10, batch_size=N, **weight), "shuffle": False})
    arrays = trained(lambda: {"x": X / 20, "y": Y / 10, "batch_size": N, **weight})
    for a, b in zip(own, arrays, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


@pytest.mark.parametrize("chosen", [None, True, False])
def test_data_are_the_same_untuned_and_what_a_user_has_chosen_stays(chosen):
    options = tf.data.Options()
    if chosen is not None:
        options.autotune.enabled = chosen
    options.deterministic = True
    dataset = tf.data.Dataset.range(N).batch(4).with_options(options)
    found = untuned(dataset)
    assert [b.numpy().tolist() for b in found] == [b.numpy().tolist() for b in dataset]
    assert found.cardinality() == 3
    assert found.options().autotune.enabled is bool(chosen)
    assert found.options().deterministic
