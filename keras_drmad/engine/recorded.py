"""The way back over a short window of training that was recorded step by step, as one program."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_drmad import sums
from keras_drmad.data import Batch, Batches, Signature
from keras_drmad.engine.engine import Engine
from keras_drmad.engine.flat import Flat, Vectors
from keras_drmad.engine.loop import Loop
from keras_drmad.engine.model_variables import value_of
from keras_drmad.engine.programs import Adjoint, Inputs, TrainingState
from keras_drmad.paths.exact import Stored
from keras_drmad.tf_function import tf_function
from keras_drmad.typing import Structure, Tensor, Tensors
from keras_drmad.update_rules.base import Iterate


class Snapshot(NamedTuple):
    """The state that a step begins in: its numbers as vectors (`Flat`), and seeds."""

    weights: Vectors
    others: Vectors
    random: Tensors


class Step(NamedTuple):
    """One training step as it was taken.

    Attributes:
        before: what `RecordedWindows.snapshot` returned before it.
        batch: its batch.
        learning_rate: the global learning rate.
    """

    before: Snapshot
    batch: Batch
    learning_rate: float


class WindowDerivatives(NamedTuple):
    """What the way back over a window finds.

    Attributes:
        loss: the validation loss at the weights that were judged.
        hyper: its derivatives, a flat vector a kind; of learning rates by the multipliers.
        growth: of the adjoint on the way back, as in `Derivatives`; infinite if it is not finite.
        first_loss: the training loss of its first step.
        training_loss: the mean of the training losses of its steps.
        moved: the norm of the way that the weights went.
        size: the norm of the weights before.
        off: how far the recorded steps are from those of the engine, over all: a norm.
        way: how long the recorded steps are, likewise.
    """

    loss: float
    hyper: Vectors
    growth: float
    first_loss: float
    training_loss: float
    moved: float
    size: float
    off: float
    way: float


class RecordedWindows:
    """Differentiates recorded windows of up to `capacity` steps, of which all batches are alike.

    Where the engine uses XLA, validation and the way back are one program. `last` is a share:
    the loss is taken at `last · w_T + (1 − last) · mean`, so that one program serves every judge.

    Args:
        engine: of the model that is trained, with a `Stored` path.
        capacity: steps in the longest window.
    """

    @classmethod
    def of(cls, engine: Engine, capacity: int) -> RecordedWindows:
        """Those of an engine, with their compiled programs, made at the first call."""
        if capacity not in engine.further:
            engine.further[capacity] = cls(engine, capacity)
        return engine.further[capacity]

    def __init__(self, engine: Engine, capacity: int) -> None:
        self._engine, self._programs, self._capacity = engine, engine.programs, capacity
        self._signature: Signature | None = None
        programs = engine.programs
        self._validate = Loop(programs.add_validation, lambda *_: (), xla=programs.xla)
        at = engine.variables
        others = (at.slots, at.state)
        self._weights = Flat(at.weights)
        self._others, self._like = Flat(tf.nest.flatten(others)), others
        # In one call each: many small operations would take longer than a step of a small model.
        self._snapshot = tf_function(lambda: self.packed(tf.nest.map_structure(value_of, at)))
        self._values = tf_function(engine.optimizer.hyper_values)
        self._reverse = Loop(self._step_back, lambda *_: (), xla=programs.xla, reverse=True)
        self._program = tf_function(self._back, jit_compile=True) if programs.xla else self._back

    def snapshot(self) -> Snapshot:
        """The state that the model is in."""
        return self._snapshot()

    def packed(self, state: TrainingState) -> Snapshot:
        """A state as a `Snapshot`."""
        others = tf.nest.flatten((state.slots, state.state))
        return Snapshot(self._weights.pack(state.weights), self._others.pack(others), state.random)

    def takes(self, batches: Batches, step: int) -> bool:
        """Whether a step can be a part of these windows: its batch has the shape of the first."""
        engine = self._engine
        if type(engine.path) is not Stored or engine.loss_scale.is_dynamic:
            return False
        signature = batches.signature(step)
        self._signature = self._signature or signature
        return signature == self._signature

    def differentiate(
        self, steps: Sequence[Step], end: TrainingState, first: int, hyper: Batch, last: float
    ) -> WindowDerivatives:
        """Walks back over a window.

        Args:
            steps: at least one, at most `capacity`.
            end: the state after them.
            first: the number that the optimizer gives to the first of them.
            hyper: batches to take the validation loss of, stacked along a first axis.
            last: the share of the last weights in those that are judged; the mean has the rest.
        """
        constants = {
            "hyper": self._values(),
            "hyper_variables": [],
            "state": end.state,
            "segment_data": (),
        }
        numbers = tf.constant([len(steps), tf.nest.flatten(hyper)[0].shape[0]])
        inputs, share = self._inputs(steps, first), tf.constant(last, "float32")
        try:
            found = self._program(constants, inputs, end, hyper, numbers, share)
        except tf.errors.InvalidArgumentError as error:
            self._engine.give_up_xla(error)
            again = RecordedWindows.of(self._engine, self._capacity)
            return again.differentiate(steps, end, first, hyper, last)
        loss, judged, growth, *others = map(float, found["numbers"].numpy())
        finite = np.isfinite([loss, judged, growth]).all()
        growth = growth / max(judged, 1e-30) if finite else math.inf
        return WindowDerivatives(loss, found["hyper"], growth, *others)

    def _inputs(self, steps: Sequence[Step], first: int) -> Inputs:
        """The steps, stacked, and padded with the last one up to the capacity."""
        padded = [*steps, *[steps[-1]] * (self._capacity - len(steps))]
        iterations = first + np.arange(self._capacity)

        def stack(*leaves: Any) -> Tensor:
            return tf.stack(leaves) if tf.is_tensor(leaves[0]) else tf.constant(np.stack(leaves))

        before = tf.nest.map_structure(stack, *[s.before for s in padded])
        return Inputs(
            batch=tf.nest.map_structure(stack, *[s.batch for s in padded]),
            learning_rate=tf.constant([s.learning_rate for s in padded]),
            random=before.random,
            step=tf.range(self._capacity, dtype=tf.float32),
            iteration=tf.constant(iterations),
            position=tf.constant(self._engine.optimizer.positions(iterations)),
            record=before,
        )

    def _back(
        self,
        constants: dict[str, Any],
        inputs: Inputs,
        end: TrainingState,
        hyper: Structure,
        numbers: Tensor,
        last: Tensor,
    ) -> dict[str, Any]:
        length, batches = numbers[0], numbers[1]
        before, after = inputs.record.weights, self._weights.pack(end.weights)
        mean = {dtype: self._mean(before[dtype], w, length) for dtype, w in after.items()}
        judged = {
            dtype: w + tf.cast(last, w.dtype) * (after[dtype] - w) for dtype, w in mean.items()
        }
        at = end._replace(weights=self._weights.unpack(judged))
        total = self._programs.no_losses(at, [])
        (samples, loss, *gradients), _ = self._validate((at, []), total, hyper, batches)
        dw, state, _ = tf.nest.map_structure(lambda g: g / tf.cast(samples, g.dtype), gradients)
        share = (1 - last) / tf.cast(length, tf.float32)
        adjoint = Adjoint(
            weights=[g * tf.cast(last, g.dtype) for g in dw],
            slots=tf.nest.map_structure(tf.zeros_like, end.slots),
            state=state,
            hyper=tf.nest.map_structure(tf.zeros_like, constants["hyper"]),
            hyper_variables=[],
        )
        size = self._norm(dw)
        constants = constants | {"size": size, "added": [g * tf.cast(share, g.dtype) for g in dw]}
        zero = tf.constant(0.0)
        carry = (adjoint, after, zero, zero, zero, zero)
        (adjoint, _, first, losses, off, way), _ = self._reverse(constants, carry, inputs, length)
        found = [loss / samples, size, self._norm(adjoint.weights)]
        begun = [w[0] for w in before.values()]
        moved = [a - b for a, b in zip(after.values(), begun, strict=True)]
        found += [first, losses / tf.cast(length, tf.float32), sums.norm(moved)]
        found += [sums.norm(begun), tf.sqrt(off), tf.sqrt(way)]
        return {
            "numbers": tf.stack([tf.cast(x, tf.float64) for x in found]),
            "hyper": adjoint.hyper,
        }

    def _record(self, at: Snapshot) -> Structure:
        """What the path keeps of a step."""
        slots, state = tf.nest.pack_sequence_as(self._like, self._others.unpack(at.others))
        return self._programs.path.step_record(
            Iterate(self._weights.unpack(at.weights), slots), state
        )

    def _norm(self, tensors: Tensors) -> Tensor:
        return sums.norm(list(self._weights.pack(tensors).values()))

    @staticmethod
    def _mean(before: Tensor, end: Tensor, length: Tensor) -> Tensor:
        """Of the weights after each step: those before the next one, and at the end."""
        number = tf.range(before.shape[0])
        inside = tf.cast((number > 0) & (number < length), before.dtype)
        return (tf.tensordot(inside, before, 1) + end) / tf.cast(length, before.dtype)

    def _step_back(
        self, constants: dict[str, Any], carry: Structure, inputs: Inputs
    ) -> tuple[Structure, tuple[()]]:
        adjoint, after, _, losses, off, way = carry
        before = inputs.record.weights
        record = self._record(inputs.record)
        adjoint, moved, loss = self._programs.step_back(
            constants, adjoint, inputs._replace(record=record)
        )
        off += _squares(self._weights.pack(moved), after)
        way += _squares(after, before)
        loss = tf.cast(loss, losses.dtype)
        return (adjoint, before, loss, losses + loss, off, way), ()


def _squares(a: Vectors, b: Vectors) -> Tensor:
    return tf.cast(sums.norm([a[dtype] - b[dtype] for dtype in a]) ** 2, tf.float32)
