"""In which numbers a training step is taken: floating point, or fixed point that can be undone."""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

from keras_drmad.paths import fixed_point
from keras_drmad.typing import Slots, Structure, Tensor, Tensors, Vectors
from keras_drmad.update_rules.base import Iterate, Numbers, UpdateRule
from keras_drmad.update_rules.momentum import Momentum


class Arithmetic:
    """The numbers of training steps. `at` is the place where training stands, in these numbers."""

    def check(self, rule: UpdateRule, values: Numbers) -> None:
        """Raises a ValueError if steps of `rule` cannot be taken in these numbers."""

    def longest_segment(self, values: Numbers) -> int | None:
        """How many steps can be taken between two calls of `close`; None for any number."""
        return None

    def constants(self, values: Numbers) -> Structure:
        """What `step` needs beside the hyperparameters (Python side, once a run)."""
        return ()

    def encode(self, iterate: Iterate) -> Structure:
        """The numbers that training is continued in."""
        raise NotImplementedError

    def decode(self, at: Structure, dtypes: tuple[str, ...]) -> Iterate:
        """The same in floating point."""
        raise NotImplementedError

    def position(self, at: Structure, replaying: Tensor, dtypes: tuple[str, ...]) -> Tensors:
        """The weights at which a step takes its gradient."""
        raise NotImplementedError

    def step(
        self,
        at: Structure,
        weights: Tensors,
        gradients: Tensors,
        rule: UpdateRule,
        hyper: Vectors,
        learning_rate: Tensor,
        iteration: Tensor,
        constants: Structure,
        replaying: Tensor,
    ) -> tuple[Structure, Slots]:
        """`(at, slots)`: after the step, and the slots before it."""
        raise NotImplementedError

    def close(
        self, at: Structure, lengths: tuple[int, ...], index: int, values: Numbers
    ) -> tuple[Structure, dict[int, Tensor]]:
        """`(at, words)` at the end of segment `index`: what is set aside until the way back.

        `lengths` are those of all segments.
        """
        return at, {}

    def reopen(self, at: Structure, words: dict[int, Tensor]) -> Structure:
        """`at` as it was before `close`."""
        return at

    def information(
        self, weights: Tensors, closed: list[dict[int, Tensor]], steps: int
    ) -> dict[str, Any]:
        """What there is to report of a run."""
        return {}


class Floating(Arithmetic):
    """Floating point, as Keras trains."""

    def encode(self, iterate: Iterate) -> Iterate:
        return iterate

    def decode(self, at: Iterate, dtypes: tuple[str, ...]) -> Iterate:
        return at

    def position(self, at: Iterate, replaying: Tensor, dtypes: tuple[str, ...]) -> Tensors:
        return at.weights

    def step(
        self,
        at: Iterate,
        weights: Tensors,
        gradients: Tensors,
        rule: UpdateRule,
        hyper: Vectors,
        learning_rate: Tensor,
        iteration: Tensor,
        constants: Structure,
        replaying: Tensor,
    ) -> tuple[Iterate, Slots]:
        moved = rule.move(Iterate(weights, at.slots), gradients, hyper, learning_rate, iteration)
        return moved, at.slots


class FixedPoint(Arithmetic):
    """Momentum SGD in fixed-point integers. While `replaying`, a step is undone instead of taken.

    Both directions are one program: the way back needs the gradients to the last bit, and two
    programs that compute the same gradient may round it differently.

    Beside the integers `at` has their unit: 2⁻⁴⁸, or NaN once a number has left the range.
    """

    def check(self, rule: UpdateRule, values: Numbers) -> None:
        if not isinstance(rule, Momentum):
            reasons = {f"the update rule {type(rule).__name__}": True}
        else:
            reasons = {
                "nesterov=True": rule.nesterov,
                "weight_decay": any(rule.decays),
                "constraints of variables": any(c is not None for c in rule.constraints),
                "a variable that no gradient reaches": any(rule.idle),
                "a momentum that varies over training": "momentum" in rule.layout.knots,
                "a momentum below 0.05": min(values["momentum"]) < 0.05,
            }
        for what, given in reasons.items():
            if given:
                raise ValueError(
                    f"`Reversible()` cannot undo a training step with {what}. Use `Checkpointed()`, "
                    "which is as exact."
                )

    def longest_segment(self, values: Numbers) -> int:
        return fixed_point.longest_segment(values["momentum"])

    def constants(self, values: Numbers) -> list[tuple[Tensor, Tensor]]:
        fractions = [fixed_point.rational(m) for m in values["momentum"]]
        return [
            (tf.constant(f.numerator, tf.int64), tf.constant(f.denominator, tf.int64))
            for f in fractions
        ]

    def encode(self, iterate: Iterate) -> dict[str, Structure]:
        """Raises a ValueError if a number is beyond the range; one that is not finite has diverged."""
        weights, velocities = iterate.weights, iterate.slots["velocity"]
        sizes = [float(tf.reduce_max(tf.abs(v))) for v in (*weights, *velocities)]
        largest = max((size for size in sizes if math.isfinite(size)), default=0.0)
        if largest >= fixed_point.LARGEST:
            raise ValueError(
                "`Reversible()` trains in fixed point, in which weights and velocities must be "
                f"smaller than {fixed_point.LARGEST:g}. Received: one of size {largest:g}. Use "
                "`Checkpointed()`, which is as exact."
            )
        unit = tf.constant(fixed_point.UNIT, "float64")
        integers = fixed_point.encode(velocities)
        return {
            "weights": fixed_point.encode(weights),
            "velocities": integers,
            "buffers": [tf.zeros_like(v) for v in integers],
            "unit": _checked(unit, weights, velocities),
        }

    def decode(self, at: dict[str, Structure], dtypes: tuple[str, ...]) -> Iterate:
        weights, velocities = (
            fixed_point.decode(at[name], dtypes) for name in ("weights", "velocities")
        )
        unit = _checked(at["unit"], weights, velocities)
        return Iterate(
            fixed_point.decode(at["weights"], dtypes, unit),
            {"velocity": fixed_point.decode(at["velocities"], dtypes, unit)},
        )

    def position(
        self, at: dict[str, Structure], replaying: Tensor, dtypes: tuple[str, ...]
    ) -> Tensors:
        back = tf.cast(replaying, tf.int64)
        before = [w - back * v for w, v in zip(at["weights"], at["velocities"], strict=True)]
        return fixed_point.decode(before, dtypes, at["unit"])

    def step(
        self,
        at: dict[str, Structure],
        weights: Tensors,
        gradients: Tensors,
        rule: UpdateRule,
        hyper: Vectors,
        learning_rate: Tensor,
        iteration: Tensor,
        constants: list[tuple[Tensor, Tensor]],
        replaying: Tensor,
    ) -> tuple[dict[str, Structure], Slots]:
        rates = rule.values(hyper, learning_rate)["learning_rate"]
        floats = [r * g for r, g in zip(rates, gradients, strict=True)]
        pushes = fixed_point.encode(floats)
        after: dict[str, Tensors] = {"weights": [], "velocities": [], "buffers": []}
        before = []  # the velocities before the step, in either direction
        for w, v, b, push, (n, d) in zip(
            at["weights"], at["velocities"], at["buffers"], pushes, constants, strict=True
        ):
            # Undoing is multiplying by the inverse fraction, after the push is taken back.
            moving = tf.where(replaying, v + push, v)
            n, d = tf.where(replaying, d, n), tf.where(replaying, n, d)
            scaled, b = fixed_point.multiply(moving, b, n, d)
            new = tf.where(replaying, scaled, scaled - push)
            before.append(tf.where(replaying, new, v))
            after["weights"].append(tf.where(replaying, w - v, w + new))
            after["velocities"].append(new)
            after["buffers"].append(b)
        velocities = fixed_point.decode(before, rule.dtypes, at["unit"])
        unit = _checked(at["unit"], weights, velocities, floats)
        return {**after, "unit": unit}, {"velocity": velocities}

    def close(
        self, at: dict[str, Structure], lengths: tuple[int, ...], index: int, values: Numbers
    ) -> tuple[dict[str, Structure], dict[int, Tensor]]:
        """Sets the lower bits of the buffers aside where they could overflow in the next segment."""
        buffers, words = list(at["buffers"]), {}
        for i, momentum in enumerate(values["momentum"]):
            if fixed_point.flushes(lengths, momentum)[index]:
                buffers[i], words[i] = fixed_point.flush(buffers[i])
        return {**at, "buffers": buffers}, words

    def reopen(self, at: dict[str, Structure], words: dict[int, Tensor]) -> dict[str, Structure]:
        buffers = [
            fixed_point.unflush(b, words[i]) if i in words else b
            for i, b in enumerate(at["buffers"])
        ]
        return {**at, "buffers": buffers}

    def information(
        self, weights: Tensors, closed: list[dict[int, Tensor]], steps: int
    ) -> dict[str, Any]:
        size = sum(int(tf.size(w)) for w in weights)
        words = sum(int(tf.size(word)) for words in closed for word in words.values())
        buffer_bits = 64 * size + fixed_point.WORD_BITS * words
        return {"buffer_bits_per_weight_per_step": buffer_bits / (size * steps)}


def _checked(unit: Tensor, *floats: Tensors) -> Tensor:
    """The unit, or NaN if one of the numbers is beyond the range."""
    return tf.where(fixed_point.fits(*floats), unit, tf.constant(math.nan, unit.dtype))
