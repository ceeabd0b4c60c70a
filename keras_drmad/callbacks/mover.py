"""Moves the hyperparameters of an optimizer along hypergradients, within what a window can see."""

from __future__ import annotations

import json

import keras
import numpy as np
import tensorflow as tf

from keras_drmad.engine.model_variables import value_of
from keras_drmad.hyperparameters import meta
from keras_drmad.hyperparameters.scales import Logit
from keras_drmad.optimizers.learnable import LearnableOptimizer
from keras_drmad.tf_function import tf_function
from keras_drmad.typing import Arrays, Tensor, Tensors, Vectors


class Mover:
    """A meta-optimizer and the displacements that it moves.

    All knots of a learned schedule are moved alike: a window sees two of them, and what it says is
    said of those that lie ahead.

    Args:
        optimizer: a built optimizer, whose hyperparameters are moved.
        meta_optimizer: a pattern: a fresh one with its settings is made.
    """

    def __init__(
        self, optimizer: LearnableOptimizer, meta_optimizer: keras.optimizers.Optimizer
    ) -> None:
        self.optimizer = optimizer
        self._learned = {k: d for k, d in optimizer.displacements.items() if k in optimizer.learn}
        # A meta-optimizer moves variables of its own: those of a distributed model have a copy for
        # each replica.
        self._moved = {
            kind: keras.Variable(d.numpy().reshape(self._knots(kind), -1)[0], dtype=d.dtype)
            for kind, d in self._learned.items()
        }
        self._meta = meta.copy(meta_optimizer)
        self._meta.build(list(self._moved.values()))
        self._ceilings = {kind: tf.constant(np.inf, d.dtype) for kind, d in self._learned.items()}
        # In one call each: many small operations would take longer than a window.
        self._compiled = tf_function(self._move)
        self._reading = tf_function(
            lambda: tf.nest.map_structure(value_of, (self._learned, self._meta.variables))
        )

    def limit_memory(self, steps: int) -> None:
        """Lets no momentum remember more steps than these, or than the compiled one.

        A window does not see what becomes of a velocity after its end. `1 / (1 − μ)` are the steps
        that a momentum of μ remembers.
        """
        for kind, displacement in self._learned.items():
            scale = self.optimizer.scales[kind]
            if isinstance(scale, Logit):
                ceiling = scale.displacement(1 - 1 / steps)
                self._ceilings[kind] = tf.constant(max(float(ceiling), 0.0), displacement.dtype)

    def move(self, gradients: Vectors, boldness: float) -> None:
        """One step of the meta-optimizer, times `boldness`, from derivatives by the values."""
        gradients = {kind: gradients[kind] for kind in self._learned}
        now = {kind: tf.convert_to_tensor(d.value) for kind, d in self._learned.items()}
        self.displace(self._compiled(gradients, now, self._ceilings, tf.constant(boldness)))

    def _move(
        self, gradients: Vectors, now: Vectors, ceilings: Vectors, boldness: Tensor
    ) -> Vectors:
        slopes, first = {}, {}
        for kind, d in now.items():
            slope = tf.cast(gradients[kind], d.dtype) * self.optimizer.scales[kind].slope(d)
            slopes[kind] = tf.reduce_sum(tf.reshape(slope, (self._knots(kind), -1)), 0)
            first[kind] = tf.reshape(d, (self._knots(kind), -1))[0]
            self._moved[kind].assign(first[kind])
        self._meta.apply(list(slopes.values()), list(self._moved.values()))
        found = {}
        for kind, variable in self._moved.items():
            push = tf.cast(boldness, variable.dtype) * (variable.value - first[kind])
            moved = now[kind] + tf.tile(push, [self._knots(kind)])
            found[kind] = self.optimizer.scales[kind].clip(tf.minimum(moved, ceilings[kind]))
        return found

    def _knots(self, kind: str) -> int:
        return self.optimizer.layout.knots.get(kind, 1)

    def divide_rates(self, divisor: float) -> None:
        """Divides all learning rates that may be learned."""
        if "learning_rate" in self._learned:
            rates, scale = self._learned["learning_rate"], self.optimizer.scales["learning_rate"]
            rates.assign(scale.clip(rates.value - float(np.log(divisor))))

    # -- the state ---------------------------------------------------------------------------

    def fingerprint(self) -> np.ndarray:
        """What must be the same for the state of another one to be put back, as bytes."""
        sizes = {kind: tuple(d.shape) for kind, d in self._learned.items()}
        said = json.dumps([meta.settings(self._meta), sizes], sort_keys=True)
        return np.frombuffer(said.encode(), "uint8")

    def read(self) -> tuple[Vectors, Tensors]:
        """`{kind: vector}` of what is learned, and the variables of the meta-optimizer."""
        return self._reading()

    def displace(self, values: Vectors | Arrays) -> None:
        """Puts vectors of displacements back."""
        for kind, displacement in self._learned.items():
            displacement.assign(values[kind])

    def put_back(self, meta: Tensors | list[np.ndarray]) -> None:
        """Puts variables of the meta-optimizer back."""
        for variable, value in zip(self._meta.variables, meta, strict=True):
            variable.assign(value)
