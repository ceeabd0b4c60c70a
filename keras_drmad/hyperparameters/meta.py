"""Moving hyperparameters along their hypergradients, on the scale on which they are learned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import keras
import tensorflow as tf

from keras_drmad import compat
from keras_drmad.arguments import number, of_kind, suggesting
from keras_drmad.checked_optimizer import CheckedOptimizer
from keras_drmad.hyperparameters.scales import Log
from keras_drmad.typing import JsonObject, Tensor, Vectors

# Derivatives by a small L2 coefficient's logarithm are small themselves.
EPSILON = 1e-12


@keras.saving.register_keras_serializable(package="keras_drmad")
@suggesting
class Sign(CheckedOptimizer):
    r"""Moves every variable by a fixed step against the sign of its gradient.

        w ← w − learning_rate · sign(g)

    The meta-optimizer of the DrMAD paper (https://arxiv.org/abs/1601.00917): it minds neither the
    size of a hypergradient nor how far it has grown on the way back.

    Args:
        learning_rate: Float, a schedule or a callable: the step. On the log scale of `DrMADSGD` a
            step of 0.1 multiplies or divides a learning rate by 1.105. Defaults to `0.1`.
        **kwargs: As in `keras.optimizers.Optimizer`.

    Raises:
        ValueError: A learning rate that is negative, or no number.

    Example:

    >>> variable = keras.Variable([1.0, 1.0, 1.0])
    >>> Sign(0.1).apply([np.array([5.0, -0.001, 0.0], "float32")], [variable])
    >>> [round(float(value), 6) for value in variable.numpy()]
    [0.9, 1.1, 1.0]
    """

    def __init__(
        self, learning_rate: compat.LearningRate | float = 0.1, name: str = "sign", **kwargs: Any
    ) -> None:
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)

    def update_step(
        self, gradient: Tensor, variable: keras.Variable, learning_rate: Tensor
    ) -> None:
        push = keras.ops.cast(learning_rate, variable.dtype) * keras.ops.sign(
            keras.ops.cast(gradient, variable.dtype)
        )
        self.assign_sub(variable, push)


@keras.saving.register_keras_serializable(package="keras_drmad")
@suggesting
class Rprop(CheckedOptimizer):
    r"""Moves each entry against the sign of its gradient, by a step of its own.

        step ← step · grow      where the sign is that of the time before
        step ← step · shrink    where it is the other one
        w    ← w − step · sign(g)

    Resilient backpropagation (Riedmiller & Braun 1993): bold while the signs agree, careful as soon
    as they do not, whatever the size of the gradients. The default of
    `keras_drmad.LearnHyperparameters`.

    Args:
        learning_rate: Float, a schedule or a callable: the first step, and the largest. On the log
            scale of `DrMADSGD` a step of 0.5 multiplies or divides a learning rate by 1.65. Defaults
            to `0.5`.
        smallest: Float: the smallest step, as a share of the first. Defaults to `0.1`.
        grow, shrink: Floats: factors of the steps. Default to `1.5` and `0.5`.
        **kwargs: As in `keras.optimizers.Optimizer`.

    Example:

    >>> variable, rprop = keras.Variable([1.0]), Rprop(0.4, grow=1.5, shrink=0.5)
    >>> for gradient in (2.0, -1.0, -0.1):
    ...     rprop.apply([np.array([gradient], "float32")], [variable])
    ...     print(round(float(variable[0]), 3))
    0.6
    0.8
    1.1
    """

    def __init__(
        self,
        learning_rate: compat.LearningRate | float = 0.5,
        smallest: float = 0.1,
        grow: float = 1.5,
        shrink: float = 0.5,
        name: str = "rprop",
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)
        self.smallest, self.grow, self.shrink = smallest, grow, shrink

    def _checked(self, name: str, value: Any) -> Any:
        if name == "smallest":
            return number(name, value, least=0, most=1)
        if name == "grow":
            return number(name, value, least=1)
        if name == "shrink":
            return number(name, value, above=0, most=1)
        return super()._checked(name, value)

    def build(self, variables: Sequence[keras.Variable]) -> None:
        if self.built:
            return
        super().build(variables)
        self._shares = self.add_optimizer_variables(variables, "share", initializer="ones")
        self._signs = self.add_optimizer_variables(variables, "sign")

    def update_step(
        self, gradient: Tensor, variable: keras.Variable, learning_rate: Tensor
    ) -> None:
        index = compat.variable_index(self, variable)
        share, before = self._shares[index], self._signs[index]
        sign = keras.ops.sign(keras.ops.cast(gradient, variable.dtype))
        agreement = sign * before
        factor = keras.ops.where(
            agreement > 0, self.grow, keras.ops.where(agreement < 0, self.shrink, 1.0)
        )
        self.assign(share, keras.ops.clip(share * factor, self.smallest, 1.0))
        self.assign(before, sign)
        self.assign_sub(variable, keras.ops.cast(learning_rate, variable.dtype) * share * sign)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        return config | {"smallest": self.smallest, "grow": self.grow, "shrink": self.shrink}


class Learned(Protocol):
    """What is read of an optimizer that has hyperparameters to learn."""

    scales: dict[str, Log]
    displacements: dict[str, keras.Variable]
    learn: tuple[str, ...]


def settings(optimizer: keras.optimizers.Optimizer) -> JsonObject:
    """What a meta-optimizer is, in JSON; a schedule is another setting than a learning rate."""
    config = optimizer.get_config() | {"name": None}  # Keras counts them
    if not isinstance(config["learning_rate"], float):
        config["learning_rate_schedule"] = config.pop("learning_rate")
    return {"class": type(optimizer).__name__, **config}


def copy(meta_optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """A fresh optimizer with the same settings: one serves the variables that it was built with."""
    return meta_optimizer.from_config(meta_optimizer.get_config())


def check(meta_optimizer: object) -> None:
    """Raises a ValueError if `meta_optimizer` is not an optimizer."""
    kind = keras.optimizers.Optimizer
    of_kind("meta_optimizer", meta_optimizer, kind, "a `keras.optimizers.Optimizer`")


def by_displacement(optimizer: Learned, gradients: Vectors) -> Vectors:
    """`{kind: ∂L/∂δ}` of what an optimizer learns, from `{kind: ∂L/∂value}` in flat vectors."""
    return {
        kind: tf.cast(gradients[kind], d.dtype) * optimizer.scales[kind].slope(d.value)
        for kind, d in optimizer.displacements.items()
        if kind in optimizer.learn
    }


def move(
    optimizer: Learned,
    gradients: Vectors,
    meta_optimizer: keras.optimizers.Optimizer,
) -> None:
    """`δ ← meta_optimizer(δ, ∂L/∂δ)` for the gradients of `by_displacement`, cut to its range."""
    moved = {kind: optimizer.displacements[kind] for kind in gradients}
    meta_optimizer.apply(list(gradients.values()), list(moved.values()))
    for kind, displacement in moved.items():
        displacement.assign(optimizer.scales[kind].clip(displacement.value))
