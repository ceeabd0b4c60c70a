"""Q-networks, and their greedy choices."""

import keras
import numpy as np
import pytest
from qan_task import make, search

from keras_drmad.tuners.qan.agent.greedy import Greedy, dense_chain
from keras_drmad.tuners.qan.agent.q_network import Dueling, q_network


def test_advantages_are_zero_on_average():
    network = q_network([((5,), None)], 3, units=(8,), scale=7.0, seed=0)
    x = np.random.default_rng(0).normal(size=(20, 5)).astype("float32")
    network.layers[-2].set_weights([w + 0.3 for w in network.layers[-2].get_weights()])
    raw = keras.Model(network.input, network.layers[-2].output)(x).numpy()
    values = network(x).numpy()
    assert raw.shape == (20, 4) and values.shape == (20, 3)
    np.testing.assert_allclose(values.mean(-1), 7 * raw[:, 0], rtol=1e-4)
    advantages = raw[:, 1:] - raw[:, 1:].mean(-1, keepdims=True)
    np.testing.assert_allclose(values - 7 * raw[:, :1], 7 * advantages, rtol=1e-3, atol=1e-5)


def test_dueling_says_its_shape_and_settings():
    layer = Dueling(3.0)
    assert layer.compute_output_shape((None, 5)) == (None, 4)
    assert Dueling.from_config(layer.get_config()).scale == 3.0


@pytest.mark.parametrize("dueling", [True, False])
def test_a_network_begins_near_zero_and_is_its_seeds(dueling):
    a, b, c = (q_network([((4,), None)], 2, (8,), dueling, 10.0, seed) for seed in (1, 1, 2))
    x = np.random.default_rng(0).normal(size=(50, 4)).astype("float32")
    np.testing.assert_array_equal(a(x), b(x))
    assert np.abs(a(x) - c(x)).max() > 0
    assert np.abs(a(x)).max() < 0.1 * 10


def test_parts_are_encoded_apart():
    def doubled(tensor):
        assert tensor.shape == (None, 3, 2)
        return keras.layers.Flatten()(keras.layers.Rescaling(2.0)(tensor))

    network = q_network([((2,), None), ((3, 2), doubled)], 2, units=(4,), seed=0)
    features = next(x for x in network.layers if isinstance(x, keras.layers.Concatenate))
    x = np.arange(8, dtype="float32")[None]
    found = keras.Model(network.input, features.output)(x).numpy()
    np.testing.assert_array_equal(found, x * [1, 1, 2, 2, 2, 2, 2, 2])


def one_layer(parts, actions, seed=None):
    (shape, _), *_ = parts
    return keras.Sequential([keras.layers.Input(shape), keras.layers.Dense(actions)])


def test_a_network_of_ones_own(tmp_path):
    tuner = search(make(tmp_path, network=one_layer))
    policy = tuner.oracle.learner.network()
    assert [type(layer).__name__ for layer in policy.layers] == ["Dense"]
    with pytest.raises(ValueError, match=r"network.*one_layer"):
        search(make(tmp_path))


# -- choosing by NumPy and by TensorFlow --------------------------------------------------------


def chains():
    yield "dueling", q_network([((3,), None)], 4, units=(8, 8), scale=10.0, seed=0)
    yield "without dueling", q_network([((3,), None)], 4, units=(8,), dueling=False, seed=1)
    without = keras.layers.Dense(2, use_bias=False)
    yield "no bias", keras.Sequential([keras.Input((2,)), without])
    layers = [keras.layers.Dense(8, "relu"), keras.layers.Rescaling(-2.0, 0.5)]
    yield "sequential", keras.Sequential([keras.Input((3,)), *layers, keras.layers.Dense(4)])


def no_chains():
    yield "tanh", keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, "tanh")])
    yield "two parts", q_network([((2,), None), ((1,), None)], 4, units=(8,), seed=0)
    inputs = keras.Input((3,))
    layer = keras.layers.Dense(3, "relu")
    yield "one layer twice", keras.Model(inputs, layer(layer(inputs)))
    x = keras.layers.Dense(4)(inputs)
    yield "an output in between", keras.Model(inputs, [x, keras.layers.Dense(4)(x)])
    half = keras.layers.Dense(4, dtype="mixed_float16")
    yield "half precision", keras.Sequential([keras.Input((3,)), half])


@pytest.mark.parametrize("network", [pytest.param(n, id=name) for name, n in chains()])
def test_numpy_evaluates_a_chain_of_dense_layers(network):
    for weight in network.weights:
        weight.assign(np.random.default_rng(0).normal(size=weight.shape))
    observations = np.random.default_rng(1).normal(size=(64, *network.input_shape[1:]))
    expected = network(observations.astype("float32"))
    values = observations.astype("float32")
    for function in dense_chain(network):
        values = function(values)
    np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(Greedy(network)(observations), np.argmax(expected, -1))


@pytest.mark.parametrize("network", [pytest.param(n, id=name) for name, n in no_chains()])
def test_other_networks_are_none(network):
    assert dense_chain(network) is None


@pytest.mark.parametrize(
    "network", [q_network([((3,), None)], 2, units=(8,), seed=0), next(no_chains())[1]]
)
def test_greedy_choices_follow_the_weights_that_were_read(network):
    greedy, observations = Greedy(network), np.random.default_rng(2).normal(size=(64, 3))
    before = greedy(observations)
    for weight in network.weights:
        weight.assign(np.random.default_rng(3).normal(size=weight.shape))
    greedy.read()
    expected = np.argmax(network(observations.astype("float32")), -1)
    np.testing.assert_array_equal(greedy(observations), expected)
    assert (before != expected).any()
