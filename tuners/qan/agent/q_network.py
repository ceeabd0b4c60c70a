"""The Q-network."""

import functools
import math

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from keras_drmad.arguments import positive_integer

from ..training.steered_training import all_layers


@keras.saving.register_keras_serializable(package="keras_drmad")
class Dueling(layers.Layer):
    """Q(s, a) = scale · (V(s) + A(s, a) − mean_a A(s, a)); takes (batch, 1 + actions)."""

    def __init__(self, scale=1.0, **kwargs):
        super().__init__(**kwargs)
        self.scale = scale

    def call(self, inputs):
        value, advantage = inputs[:, :1], inputs[:, 1:]
        centred = advantage - keras.ops.mean(advantage, axis=-1, keepdims=True)
        return self.scale * (value + centred)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], input_shape[-1] - 1)

    def get_config(self):
        return super().get_config() | {"scale": self.scale}


class Greedy:
    """argmax_a Q(s, a) of a network.

    Called with observations (K, D), it returns (K,) actions. Once the network's weights have changed,
    `read` must be called.

    A chain of dense layers is evaluated by NumPy: between two chunks of training a call of TensorFlow
    takes longer to begin than a decision may last (`benchmarks/decisions.py`). Others are compiled.

    Args:
        network: a Keras model.
        jit_compile: whether XLA compiles those. Defaults to None: as `uses_xla` finds.
    """

    def __init__(self, network, jit_compile=None):
        self.network = network
        self._jit_compile = uses_xla(network) if jit_compile is None else jit_compile
        self.read()

    def read(self):
        """Takes over the network's present weights."""
        self.__dict__.pop("_chain", None)  # they are read when they are needed

    def __call__(self, observations):
        if self._chain is None:
            return self._best(tf.constant(observations, "float32")).numpy()
        values = np.asarray(observations, "float32")
        for function in self._chain:
            values = function(values)
        return values.argmax(-1)

    def __getstate__(self):  # what is compiled cannot be copied
        return {"network": self.network, "_jit_compile": self._jit_compile}

    @functools.cached_property
    def _chain(self):
        return dense_chain(self.network)

    @functools.cached_property
    def _best(self):
        # A concrete function skips what `tf.function` does at each call; a single XLA kernel is quick.
        return tf.function(
            lambda x: tf.argmax(self.network(x, training=False), -1),
            input_signature=[tf.TensorSpec((None, self.network.input_shape[-1]), "float32")],
            jit_compile=self._jit_compile,
        ).get_concrete_function()


def dense_chain(network):
    """The layers of a network as functions of arrays, with their present weights.

    None if they are no chain, or others than `Dense` (with ReLU or without activation), `Dueling` and
    `Rescaling`, in float32.
    """
    tensors = getattr(network, "inputs", None) or ()
    if len(tensors) != 1:
        return None
    tensor, functions = tensors[0], []
    for layer in network.layers:
        if isinstance(layer, layers.InputLayer):
            continue
        make = _IN_NUMPY.get(type(layer))
        function = make and layer.compute_dtype == "float32" and make(layer)
        if not function or layer.input is not tensor:
            return None
        functions.append(function)
        tensor = layer.output
    return functions if tensor is network.outputs[0] else None


def _dense(layer):
    of = {keras.activations.relu: lambda x: np.maximum(x, 0), keras.activations.linear: lambda x: x}
    activation = of.get(layer.activation)
    if activation is None:
        return None
    kernel, bias = layer.kernel.numpy(), 0 if layer.bias is None else layer.bias.numpy()
    return lambda x: activation(x @ kernel + bias)


def _dueling(layer):
    def function(x):
        value, advantage = x[:, :1], x[:, 1:]
        return layer.scale * (value + advantage - advantage.mean(-1, keepdims=True))

    return function


_IN_NUMPY = {
    layers.Dense: _dense,
    Dueling: _dueling,
    layers.Rescaling: lambda layer: lambda x: layer.scale * x + layer.offset,
}


def uses_xla(network, jit_compile="auto"):
    """Whether a network is compiled by XLA; with "auto", if that makes it faster."""
    if jit_compile != "auto":
        return jit_compile
    # Convolutions are slow under XLA on CPUs.
    return not any("Conv" in type(layer).__name__ for layer in all_layers(network))


def check_sizes(network, states, actions):
    """Raises a ValueError unless a network takes what the states give, and values each action."""
    size, number = sum(state.size for state in states), len(actions)
    takes, gives = (getattr(network, f"{end}_shape", None) for end in ("input", "output"))
    if takes != (None, size) or gives != (None, number):
        parts = ", ".join(f"{type(state).__name__}: {state.size}" for state in states)
        raise ValueError(
            f"`network` must take (batch, {size}), what the states give ({parts}), and return (batch, "
            f"{number}), a value for each action. Received: from {takes} to {gives}"
        )


def q_network(parts, actions, units=(64, 64), dueling=True, scale=1.0, seed=None):
    """A `keras.Model` from flat observations (batch, D) to Q-values (batch, actions).

    With h the last of the hidden layers (ReLU), which begin with the encoded parts side by side,

        Q(s, a) = scale · (V(h) + A(h, a) − mean_b A(h, b))          (dueling; else scale · A(h, a))

    V and A are linear, and small at first.

    Args:
        parts: `[(shape, encode)]` of the observation's parts, in their order, whose sizes add up to D;
            `encode` makes features of a part as a Keras tensor of that shape, or is None.
        actions: Their number.
        units: Of the hidden layers. Defaults to `(64, 64)`.
        dueling: Whether value and advantages are separate. Defaults to `True`.
        scale: About the size of the Q-values. Defaults to 1 (in a search: to 10).
        seed: Of initial weights. Defaults to None: by Keras's global generator.

    Returns:
        A functional model, which saves as any other.

    Raises:
        ValueError: A number of units that is not positive.

    References:
        Wang et al., Dueling network architectures for deep reinforcement learning, ICML 2016. The size
        of the layers is our own.

    Example:

    >>> network = q_network([((7,), None)], actions=5, units=(16,), scale=10.0, seed=0)
    >>> network.input_shape, network.output_shape
    ((None, 7), (None, 5))
    """
    if np.ndim(units) != 1:
        raise ValueError(f"`units` must hold sizes of layers. Received: units={units!r}")
    sizes = [math.prod(shape) for shape, _ in parts]
    inputs = layers.Input((sum(sizes),), name="observation")
    features, start = [], 0
    for (shape, encode), size in zip(parts, sizes, strict=True):
        part = inputs if len(parts) == 1 else _cut(inputs, start, size, sum(sizes))
        if len(shape) != 1:
            part = layers.Reshape(shape)(part)
        features.append(part if encode is None else encode(part))
        start += size
    x = features[0] if len(features) == 1 else layers.Concatenate()(features)
    seeds = keras.random.SeedGenerator(seed)
    for unit in units:
        neurons = positive_integer("units", unit)
        x = layers.Dense(neurons, "relu", kernel_initializer=_initializer("he_normal", seeds))(x)
    small = keras.initializers.RandomUniform(-1e-2, 1e-2, seed=int(_draw(seeds)))
    if dueling:
        outputs = Dueling(scale)(layers.Dense(1 + actions, kernel_initializer=small)(x))
    else:
        outputs = layers.Dense(actions, kernel_initializer=small)(x)
        outputs = layers.Rescaling(scale)(outputs)
    return keras.Model(inputs, outputs, name="q_network")


def _cut(inputs, start, size, total):
    # By layers alone: slices of Keras tensors are not loaded by every version.
    column = layers.Reshape((total, 1))(inputs)
    return layers.Reshape((size,))(layers.Cropping1D((start, total - start - size))(column))


def _draw(seeds):
    return keras.ops.convert_to_numpy(keras.random.randint((), 0, 2**31 - 1, seed=seeds))


def _initializer(name, seeds):
    initializer = keras.initializers.get(name)
    return type(initializer)(seed=int(_draw(seeds)))
