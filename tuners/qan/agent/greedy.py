"""`Greedy`: the action that a Q-network values most."""

import functools
from collections.abc import Callable
from typing import Any, TypeAlias

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from keras import layers

from keras_drmad import compat

from .q_network import Dueling, sizes

ArrayFunction: TypeAlias = Callable[[np.ndarray], np.ndarray]


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

    def __init__(self, network: keras.Model, jit_compile: bool | None = None) -> None:
        self.network = network
        self._jit_compile = uses_xla(network) if jit_compile is None else jit_compile
        self.read()

    def read(self) -> None:
        """Takes over the network's present weights."""
        self.__dict__.pop("_chain", None)  # they are read when they are needed

    def __call__(self, observations: npt.ArrayLike) -> np.ndarray:
        if self._chain is None:
            return self._best(tf.constant(observations, "float32")).numpy()
        values = np.asarray(observations, "float32")
        for function in self._chain:
            values = function(values)
        return values.argmax(-1)

    def __getstate__(self) -> dict[str, Any]:  # what is compiled cannot be copied
        return {"network": self.network, "_jit_compile": self._jit_compile}

    @functools.cached_property
    def _chain(self) -> list[ArrayFunction] | None:
        return dense_chain(self.network)

    @functools.cached_property
    def _best(self) -> Callable[..., tf.Tensor]:
        # A concrete function skips what `tf.function` does at each call; a single XLA kernel is quick.
        return tf.function(
            lambda x: tf.argmax(self.network(x, training=False), -1),
            input_signature=[tf.TensorSpec((None, sizes(self.network)[0]), "float32")],
            jit_compile=self._jit_compile,
        ).get_concrete_function()


def dense_chain(network: keras.Model) -> list[ArrayFunction] | None:
    """The layers of a network as functions of arrays, with their present weights.

    None if they are no chain, or others than `Dense` (with ReLU or without activation), `Dueling` and
    `Rescaling`, in float32.
    """
    inputs, outputs = (getattr(network, name, None) or [] for name in ("inputs", "outputs"))
    if len(inputs) != 1:
        return None
    tensor, functions = inputs[0], []
    for layer in network.layers:
        if isinstance(layer, layers.InputLayer):
            continue
        make = _IN_NUMPY.get(type(layer))
        function = make and layer.compute_dtype == "float32" and make(layer)
        if not function or layer.input is not tensor:
            return None
        functions.append(function)
        tensor = layer.output
    return functions if tensor is outputs[0] else None


def _dense(layer: layers.Dense) -> ArrayFunction | None:
    of = {keras.activations.relu: lambda x: np.maximum(x, 0), keras.activations.linear: lambda x: x}
    activation = of.get(layer.activation)
    if activation is None:
        return None
    kernel, bias = layer.kernel.numpy(), 0 if layer.bias is None else layer.bias.numpy()
    return lambda x: activation(x @ kernel + bias)


def _dueling(layer: Dueling) -> ArrayFunction:
    def function(x: np.ndarray) -> np.ndarray:
        value, advantage = x[:, :1], x[:, 1:]
        return layer.scale * (value + advantage - advantage.mean(-1, keepdims=True))

    return function


_IN_NUMPY: dict[type[layers.Layer], Callable[[Any], ArrayFunction | None]] = {
    layers.Dense: _dense,
    Dueling: _dueling,
    layers.Rescaling: lambda layer: lambda x: layer.scale * x + layer.offset,
}


def uses_xla(network: keras.Model, jit_compile: bool | str = "auto") -> bool:
    """Whether a network is compiled by XLA; with "auto", if that makes it faster."""
    if jit_compile != "auto":
        return bool(jit_compile)
    # Convolutions are slow under XLA on CPUs.
    return not any("Conv" in type(layer).__name__ for layer in compat.all_layers(network))
