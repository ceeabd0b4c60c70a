"""Momentum SGD, in the convention of `keras.optimizers.SGD`: pure, and as TensorFlow's fused kernel.

Every compiled training loop calls the pure step, `fit` the kernel. Tests hold both to Keras's SGD.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import keras
import tensorflow as tf

from keras_drmad import compat
from keras_drmad.sums import scaled
from keras_drmad.typing import Slots, Tensor, Tensors
from keras_drmad.update_rules.base import Iterate, UpdateRule, Values


def momentum_step(
    weight: Tensor,
    velocity: Tensor,
    gradient: Tensor,
    rate: Tensor,
    momentum: Tensor,
    nesterov: bool,
) -> tuple[Tensor, Tensor]:
    """`(w', v')`:

    v' = μ v − α g
    w' = w + v'              (plain)
    w' = w + μ v' − α g      (Nesterov)
    """
    push = scaled(gradient, rate)
    velocity = scaled(velocity, momentum) - push
    if nesterov:
        return weight + (scaled(velocity, momentum) - push), velocity
    return weight + velocity, velocity


def apply_momentum(
    weight: keras.Variable | tf.Variable,
    velocity: keras.Variable,
    gradient: Tensor,
    rate: Tensor,
    momentum: Tensor,
    nesterov: bool,
) -> None:
    """`momentum_step` on variables, in place: one operation instead of seven."""
    tf.raw_ops.ResourceApplyKerasMomentum(
        var=compat.handle(weight),
        accum=compat.handle(velocity),
        lr=rate,
        grad=tf.cast(tf.convert_to_tensor(gradient), weight.dtype),
        momentum=momentum,
        use_nesterov=nesterov,
    )


@dataclass(frozen=True)
class Momentum(UpdateRule):
    """The `UpdateRule` of momentum SGD."""

    slots: ClassVar[tuple[str, ...]] = ("velocity",)
    kinds: ClassVar[tuple[str, ...]] = ("learning_rate", "momentum", "l2")
    penalties: ClassVar[tuple[str, ...]] = ("l2",)

    nesterov: bool = False

    def step(
        self,
        weight: Tensor,
        slots: dict[str, Tensor],
        gradient: Tensor,
        values: dict[str, Tensor],
        iteration: Tensor,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        weight, velocity = momentum_step(
            weight,
            slots["velocity"],
            gradient,
            values["learning_rate"],
            values["momentum"],
            self.nesterov,
        )
        return weight, {"velocity": velocity}

    def along(
        self,
        iterate: Iterate,
        arriving: Tensors,
        leaving: Tensors | None,
        gradients: Tensors,
        values: Values,
        iteration: Tensor,
    ) -> tuple[Slots, Tensors]:
        """The velocity is the displacement; the gradient `g_t = (μ v_t − v_{t+1}) / α`."""
        if leaving is not None:
            rates, momenta = values["learning_rate"], values["momentum"]
            gradients = [
                tf.math.divide_no_nan(m * v - after, r)
                for v, after, r, m in zip(arriving, leaving, rates, momenta, strict=True)
            ]
        return {"velocity": arriving}, gradients

    def last_displacements(self, iterate: Iterate) -> Tensors:
        return iterate.slots["velocity"]

    def unscaled(
        self, directions: Tensors, slots: Slots, values: Values, iteration: Tensor
    ) -> Tensors:
        rates = values["learning_rate"]
        return [tf.math.divide_no_nan(d, r) for d, r in zip(directions, rates, strict=True)]
