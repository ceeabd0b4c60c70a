"""The way back over a short window of training that was recorded step by step."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_drmad import sums
from keras_drmad.data import Batch, BufferedBatches, Shares, Signature
from keras_drmad.engine.engine import Engine
from keras_drmad.engine.flat import Flat, Vectors
from keras_drmad.engine.loop import Loop
from keras_drmad.engine.model_variables import value_of
from keras_drmad.engine.programs import Adjoint, Inputs, TrainingState
from keras_drmad.engine.stacks import SIGNATURES
from keras_drmad.paths.exact import Stored
from keras_drmad.tf_function import Program, tf_function
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
    batch: Batch | Shares
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
    """Differentiates recorded windows of up to `capacity` steps.

    Each shape of batches has a program for the way back, as the last batch of an epoch is often
    smaller; where shapes are many, one program serves all (`Engine.see`). `last` is a share: the loss
    is taken at `last · w_T + (1 − last) · mean`, so that one program serves every judge.

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
        programs = engine.programs
        self._validate = Loop(programs.add_validation, lambda *_: (), xla=programs.xla)
        at = engine.variables
        others = (at.slots, at.state)
        self._weights = Flat(at.weights)
        self._others, self._like = Flat(tf.nest.flatten(others)), others
        # In one call each: many small operations would take longer than a step of a small model.
        self._snapshot = tf_function(lambda: self.packed(tf.nest.map_structure(value_of, at)))
        self._values = tf_function(engine.optimizer.hyper_values)
        self._is_relaxed = engine.stacks.is_relaxed
        kind = {"xla": programs.xla, "relaxed": self._is_relaxed}
        self._reverse = Loop(self._step_back, lambda *_: (), reverse=True, **kind)
        # Without XLA the loop over hyper samples is one of Python.
        self._begin = Program(self._judge, jit_compile=True) if programs.xla else self._judge
        self._end = Program(self._found, jit_compile=programs.xla)

    def snapshot(self) -> Snapshot:
        """The state that the model is in."""
        return self._snapshot()

    def packed(self, state: TrainingState) -> Snapshot:
        """A state as a `Snapshot`."""
        others = tf.nest.flatten((state.slots, state.state))
        return Snapshot(self._weights.pack(state.weights), self._others.pack(others), state.random)

    @staticmethod
    def serve(engine: Engine) -> bool:
        """Whether they can be used: the path keeps each step, and each step is taken."""
        return type(engine.path) is Stored and not engine.loss_scale.is_dynamic

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
        batches = BufferedBatches(step.batch for step in steps)
        inputs, share = self._inputs(steps, first), tf.constant(last, "float32")
        length, samples = tf.constant(len(steps)), tf.constant(len(tf.nest.flatten(hyper)[0]))
        before = inputs.record.weights
        try:
            judged = self._begin(constants, before, end, hyper, length, samples, share)
            constants |= {"size": judged["size"], "added": judged["added"]}
            zero = tf.constant(0.0)
            carry = (judged["adjoint"], judged["after"], zero, zero, zero, zero)
            for run, at in self._runs(batches, inputs):
                carry, _ = self._reverse(constants, carry, at, run.stop, run.start)
            found = self._end(
                judged["loss"], judged["size"], carry, before, judged["after"], length
            )
        except tf.errors.InvalidArgumentError as error:
            self._engine.give_up_xla(error)
            again = RecordedWindows.of(self._engine, self._capacity)
            return again.differentiate(steps, end, first, hyper, last)
        loss, judged, growth, *others = map(float, found.numpy())
        finite = np.isfinite([loss, judged, growth]).all()
        growth = growth / max(judged, 1e-30) if finite else math.inf
        return WindowDerivatives(loss, carry[0].hyper, growth, *others)

    def _runs(self, batches: BufferedBatches, inputs: Inputs) -> Iterator[tuple[range, Inputs]]:
        """Steps in a row whose batches are alike, the last ones first: `(their places, inputs)`.

        Batches are where their steps are; another one of their shape fills the places between. Where
        one program takes stacks of all lengths, none holds more than its steps.
        """
        signatures = [batches.signature(step) for step in range(len(batches))]
        groups = itertools.groupby(range(len(signatures)), signatures.__getitem__)
        runs = [range(step, step + 1 + len(others)) for _, (step, *others) in groups]
        if self._is_relaxed:
            for run in reversed(runs):
                part = tf.nest.map_structure(lambda a, at=run: a[at.start : at.stop], inputs)
                yield range(len(run)), part._replace(batch=batches.stack(run, len(run)))
            return

        @functools.lru_cache(SIGNATURES)  # not of all shapes at once, where XLA has to serve many
        def stack(signature: Signature) -> Structure:
            steps = [step for step, of in enumerate(signatures) if of == signature]
            after = np.searchsorted(steps, range(self._capacity)).clip(max=len(steps) - 1)
            return batches.stack([steps[i] for i in after], self._capacity)

        for run in reversed(runs):
            yield run, inputs._replace(batch=stack(signatures[run.start]))

    def _inputs(self, steps: Sequence[Step], first: int) -> Inputs:
        """The steps but for their batches, stacked, and padded with the last one up to the capacity."""
        padded = [*steps, *[steps[-1]] * (self._capacity - len(steps))]
        iterations = first + np.arange(self._capacity)
        before = tf.nest.map_structure(lambda *of: tf.stack(of), *[s.before for s in padded])
        return Inputs(
            batch=(),
            learning_rate=tf.constant([s.learning_rate for s in padded]),
            random=before.random,
            step=tf.range(self._capacity, dtype=tf.float32),
            iteration=tf.constant(iterations),
            position=tf.constant(self._engine.optimizer.positions(iterations)),
            record=before,
        )

    def _judge(
        self,
        constants: dict[str, Any],
        before: Vectors,
        end: TrainingState,
        hyper: Structure,
        length: Tensor,
        batches: Tensor,
        last: Tensor,
    ) -> dict[str, Any]:
        """The loss of the hyper samples, and the adjoint that the way back begins with.

        Also its `size`, and what each step's weights have `added` to theirs, as a part of the mean.
        """
        after = self._weights.pack(end.weights)
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
        return {
            "loss": loss / samples,
            "size": self._norm(dw),
            "added": [g * tf.cast(share, g.dtype) for g in dw],
            "adjoint": adjoint,
            "after": after,
        }

    def _found(
        self,
        loss: Tensor,
        size: Tensor,
        carry: Structure,
        before: Vectors,
        after: Vectors,
        length: Tensor,
    ) -> Tensor:
        """The numbers of `WindowDerivatives`, in one tensor; for growth, two norms of the adjoint."""
        adjoint, _, first, losses, off, way = carry
        begun = [w[0] for w in before.values()]
        moved = [a - b for a, b in zip(after.values(), begun, strict=True)]
        found = [loss, size, self._norm(adjoint.weights)]
        found += [first, losses / tf.cast(length, tf.float32), sums.norm(moved)]
        found += [sums.norm(begun), tf.sqrt(off), tf.sqrt(way)]
        return tf.stack([tf.cast(x, tf.float64) for x in found])

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
