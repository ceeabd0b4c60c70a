"""The Q-network."""

import functools
import math

import keras
import tensorflow as tf
from keras import layers


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
    """argmax_a Q(s, a) of a network, whose weights may change.

    Called with observations (K, D), it returns (K,) actions. `jit_compile`: see `uses_xla`.
    """

    def __init__(self, network, jit_compile="auto"):
        self.network, self._jit_compile = network, jit_compile

    def __call__(self, observations):
        return self._best(tf.constant(observations, "float32")).numpy()

    def __getstate__(self):  # what is compiled cannot be copied
        return {"network": self.network, "_jit_compile": self._jit_compile}

    @functools.cached_property
    def _best(self):
        # A concrete function skips what `tf.function` does at each call; a single XLA kernel is quick.
        return tf.function(
            lambda x: tf.argmax(self.network(x, training=False), -1),
            input_signature=[tf.TensorSpec((None, self.network.input_shape[-1]), "float32")],
            jit_compile=uses_xla(self.network, self._jit_compile),
        ).get_concrete_function()


def uses_xla(network, jit_compile):
    """Whether a network is compiled by XLA; with "auto", if that makes it faster."""
    if jit_compile != "auto":
        return jit_compile
    # Convolutions are slow under XLA on CPUs.
    return not any("Conv" in type(layer).__name__ for layer in network.layers)


def q_network(parts, actions, units=(64, 64), dueling=True, scale=1.0, seed=None):
    """A `keras.Model` from flat observations (batch, D) to Q-values (batch, actions).

    Args:
        parts: `[(shape, encode)]` of the observation's parts, in their order; `encode` makes features
            of a part as a Keras tensor of that shape, or is None.
        actions: their number.
        units: of the hidden layers.
        dueling: whether value and advantages are separate (Wang et al., 2016).
        scale: about the size of the Q-values.
        seed: of initial weights.

    Returns:
        A functional model, which saves as any other.

    Example:

    >>> network = q_network([((7,), None)], actions=5, units=(16,), scale=10.0, seed=0)
    >>> network.input_shape, network.output_shape
    ((None, 7), (None, 5))
    """
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
    for number in units:
        x = layers.Dense(number, "relu", kernel_initializer=_initializer("he_normal", seeds))(x)
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
