"""AdamW, in the convention of `keras.optimizers.AdamW`: pure, in `fit` as in compiled loops."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import tensorflow as tf

from keras_drmad import compat
from keras_drmad.sums import scaled
from keras_drmad.typing import Slots, Tensor, Tensors
from keras_drmad.update_rules.base import Iterate, UpdateRule, Values


def adamw_step(
    weight: Tensor,
    momentum: Tensor,
    velocity: Tensor,
    gradient: Tensor,
    rate: Tensor,
    decay: Tensor | None,
    beta_1: Tensor,
    beta_2: float,
    epsilon: float,
    iteration: Tensor,
    add: Callable[[Tensor, Tensor], Tensor] = operator.add,
    times: Callable[[Tensor, Tensor], Tensor] = operator.mul,
) -> tuple[Tensor, Tensor, Tensor]:
    """`(w', m', v')`, with t = iteration + 1:

    m' = m + (1 − β₁) (g − m)
    v' = v + (1 − β₂) (g² − v)
    w' = w − α λ w − α c m' / (√v' + ε),   c = √(1 − β₂ᵗ) / (1 − β₁ᵗ)

    `add(a, by)` is the sum: of tensors, or in place, of a variable that it returns. `times(a, by)` is
    the product with a scalar.
    """
    momentum = add(momentum, times(gradient - momentum, 1 - beta_1))
    velocity = second_moment(velocity, gradient, beta_2, add)
    if decay is not None:
        weight = add(weight, times(weight, decay * -rate))
    size = -rate * correction(beta_1, beta_2, iteration)
    return add(weight, times(momentum, size) / (_root(velocity) + epsilon)), momentum, velocity


def second_moment(
    velocity: Tensor,
    gradient: Tensor,
    beta_2: float,
    add: Callable[[Tensor, Tensor], Tensor] = operator.add,
) -> Tensor:
    """The mean of squared gradients after a step."""
    return add(velocity, (tf.square(gradient) - velocity) * (1 - beta_2))


def correction(beta_1: Tensor, beta_2: float, iteration: Tensor) -> Tensor:
    """What makes up for means that begin at zero, of both moments."""
    step = tf.cast(iteration + 1, beta_1.dtype)
    of_second = tf.pow(tf.cast(beta_2, beta_1.dtype), step)
    return tf.sqrt(1 - of_second) / (1 - tf.pow(beta_1, step))


@compat.custom_gradient
def _root(squares: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """A square root whose derivative at 0 is 0.

    A weight whose gradient was always 0 has a second moment of 0, where the derivative of the root is
    infinite and that of the step by it is 0.
    """
    root = tf.sqrt(squares)
    return root, lambda upstream: tf.math.divide_no_nan(0.5 * upstream, root)


@dataclass(frozen=True)
class AdamW(UpdateRule):
    """The `UpdateRule` of AdamW: weight decay is decoupled, and multiplied by the learning rate.

    Attributes:
        beta_2: of the second moment.
        epsilon: beside the root of the second moment that begins at zero, as in Keras.
    """

    slots: ClassVar[tuple[str, ...]] = ("momentum", "velocity")
    kinds: ClassVar[tuple[str, ...]] = ("learning_rate", "weight_decay", "beta_1")
    penalties: ClassVar[tuple[str, ...]] = ("weight_decay",)
    averaged: ClassVar[tuple[str, ...]] = ("velocity",)
    # The second moment keeps steps and adjoints bounded; taking negative curvature out made
    # hypergradients too small, down to a fiftieth.
    adjusted: ClassVar[bool] = False

    beta_2: float = 0.999
    epsilon: float = 1e-7

    def step(
        self,
        weight: Tensor,
        slots: dict[str, Tensor],
        gradient: Tensor,
        values: dict[str, Tensor],
        iteration: Tensor,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        weight, momentum, velocity = adamw_step(
            weight,
            slots["momentum"],
            slots["velocity"],
            gradient,
            values["learning_rate"],
            values["weight_decay"],
            values["beta_1"],
            self.beta_2,
            self.epsilon,
            iteration,
            times=scaled,
        )
        return weight, {"momentum": momentum, "velocity": velocity}

    def along(
        self,
        iterate: Iterate,
        arriving: Tensors,
        leaving: Tensors | None,
        gradients: Tensors,
        values: Values,
        iteration: Tensor,
    ) -> tuple[Slots, Tensors]:
        """The second moment is the path's; the first, that with which the step is the displacement:

        m' = −(Δ + α λ w) (√v' + ε) / (α c),   m = (m' − (1 − β₁) g) / β₁

        The gradients stay those evaluated on the path: the second moment needs them.
        """
        slots: Slots = {"momentum": [], "velocity": []}
        for i, (w, velocity, g, displacement) in enumerate(
            zip(
                iterate.weights,
                iterate.slots["velocity"],
                gradients,
                arriving if leaving is None else leaving,
                strict=True,
            )
        ):
            velocity = tf.maximum(velocity, 0)  # rounding, between knots far apart in size
            rate, decay, beta_1 = (values[kind][i] for kind in self.kinds)
            moved = displacement if decay is None else displacement + rate * decay * w
            after = second_moment(velocity, g, self.beta_2)
            momentum = -moved * self._per_size(after, rate, beta_1, iteration)
            momentum = tf.math.divide_no_nan(momentum - (1 - beta_1) * g, beta_1)
            slots["momentum"].append(momentum)
            slots["velocity"].append(velocity)
        return slots, gradients

    def last_displacements(self, iterate: Iterate) -> Tensors:
        """None is asked for: the slots follow from the displacement after a point."""
        return [tf.zeros_like(w) for w in iterate.weights]

    def unscaled(
        self, directions: Tensors, slots: Slots, values: Values, iteration: Tensor
    ) -> Tensors:
        return [
            d * self._per_size(velocity, rate, beta_1, iteration)
            for d, velocity, rate, beta_1 in zip(
                directions,
                slots["velocity"],
                values["learning_rate"],
                values["beta_1"],
                strict=True,
            )
        ]

    def _per_size(
        self, velocity: Tensor, rate: Tensor, beta_1: Tensor, iteration: Tensor
    ) -> Tensor:
        """`(√v' + ε) / (α c)`: one over the step that a first moment of 1 makes."""
        size = rate * correction(beta_1, self.beta_2, iteration)
        return tf.math.divide_no_nan(tf.sqrt(velocity) + self.epsilon, size)
