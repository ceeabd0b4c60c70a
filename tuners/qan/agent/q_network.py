"""The Q-network."""

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import keras
import numpy as np
from keras import layers

from keras_drmad.arguments import flag, number, positive_integer, whole_number

from ..training.actions import Actions
from ..training.states import State

# Of an observation: the shape of a part, and what makes features of it.
Part: TypeAlias = tuple[tuple[int, ...], Callable[[keras.KerasTensor], keras.KerasTensor] | None]


@keras.saving.register_keras_serializable(package="keras_drmad")
class Dueling(layers.Layer):
    """Q(s, a) = scale · (V(s) + A(s, a) − mean_a A(s, a)); takes (batch, 1 + actions)."""

    def __init__(self, scale: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scale = scale

    def call(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        value, advantage = inputs[:, :1], inputs[:, 1:]
        centred = advantage - keras.ops.mean(advantage, axis=-1, keepdims=True)
        return self.scale * (value + centred)

    def compute_output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        return (*input_shape[:-1], input_shape[-1] - 1)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"scale": self.scale}


def sizes(network: keras.Model) -> tuple[int, int]:
    """How many numbers a network takes and gives."""
    # Functional and sequential models have these attributes; a `keras.Model` itself has none.
    takes, gives = (getattr(network, f"{end}_shape") for end in ("input", "output"))
    return takes[-1], gives[-1]


def check_sizes(network: keras.Model, states: Sequence[State], actions: Actions) -> None:
    """Raises a ValueError unless a network takes what the states give, and values each action."""
    size, number = sum(state.size for state in states), len(actions)
    takes, gives = (getattr(network, f"{end}_shape", None) for end in ("input", "output"))
    if takes != (None, size) or gives != (None, number):
        parts = ", ".join(f"{type(state).__name__}: {state.size}" for state in states)
        raise ValueError(
            f"`network` must take (batch, {size}), what the states give ({parts}), and return (batch, "
            f"{number}), a value for each action. Received: from {takes} to {gives}"
        )


def q_network(
    parts: Sequence[Part],
    actions: int,
    units: Sequence[int] = (64, 64),
    dueling: bool = True,
    scale: float = 1.0,
    seed: int | None = None,
) -> keras.Model:
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
        ValueError: A number that is not positive, or a flag that is none.

    References:
        Wang et al., Dueling network architectures for deep reinforcement learning, ICML 2016. The size
        of the layers is our own.

    Example:

    >>> network = q_network([((7,), None)], actions=5, units=(16,), scale=10.0, seed=0)
    >>> network.input_shape, network.output_shape
    ((None, 7), (None, 5))
    """
    actions, seed = positive_integer("actions", actions), whole_number("seed", seed, optional=True)
    dueling, scale = flag("dueling", dueling), number("scale", scale, above=0)
    if not isinstance(units, list | tuple | np.ndarray):
        raise ValueError(f"`units` must hold sizes of layers. Received: units={units!r}")
    sizes = [math.prod(shape) for shape, _ in parts]
    inputs = layers.Input((sum(sizes),), name="observation")
    features, start = [], 0
    for (shape, encode), size in zip(parts, sizes, strict=True):
        part = inputs if len(parts) == 1 else _slice(inputs, start, size, sum(sizes))
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


def _slice(inputs: keras.KerasTensor, start: int, size: int, total: int) -> keras.KerasTensor:
    # By layers alone: slices of Keras tensors are not loaded by every version.
    column = layers.Reshape((total, 1))(inputs)
    return layers.Reshape((size,))(layers.Cropping1D((start, total - start - size))(column))


def _draw(seeds: keras.random.SeedGenerator) -> np.ndarray:
    return keras.ops.convert_to_numpy(keras.random.randint((), 0, 2**31 - 1, seed=seeds))


def _initializer(name: str, seeds: keras.random.SeedGenerator) -> keras.initializers.Initializer:
    initializer = keras.initializers.get(name)
    return type(initializer)(seed=int(_draw(seeds)))
