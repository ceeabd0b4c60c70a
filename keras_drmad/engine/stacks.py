"""Stacks of steps: how many a compiled program takes at once, and what it is given for them."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from keras_drmad.data import STACK_BYTES, STACK_STEPS, Batches, Signature
from keras_drmad.engine.programs import Inputs
from keras_drmad.engine.trajectory import Trajectory
from keras_drmad.optimizers.learnable import LearnableOptimizer
from keras_drmad.typing import Structure, Tensor

# So many shapes of batches have programs of their own; beyond it one program serves all: to compile
# one for each would take longer than to train on them.
SIGNATURES = 3


class Stacks:
    """Cuts the steps of a run into stacks, and makes their inputs.

    Args:
        optimizer: whose schedules tell where a step stands.
        is_scaled: whether a dynamic loss scale may leave steps out.
        record: what the path stores of a step.

    Attributes:
        is_relaxed: whether one program takes batches of all shapes, and stacks of all lengths.
    """

    def __init__(self, optimizer: LearnableOptimizer, is_scaled: bool, record: Structure) -> None:
        self._optimizer, self._is_scaled = optimizer, is_scaled
        record_bytes = sum(r.dtype.size * int(tf.size(r)) for r in tf.nest.flatten(record))
        self._limit = max(1, min(STACK_STEPS, STACK_BYTES // max(record_bytes, 1)))
        self.is_relaxed = False
        # Of batches to train on, and of those to validate with.
        self._signatures: tuple[set[Signature], set[Signature]] = set(), set()

    def sees_too_many(self, signature: Signature, validating: bool) -> bool:
        """Notes the shapes of a batch; whether it is the first too many."""
        seen = self._signatures[validating]
        seen.add(signature)
        if len(seen) <= SIGNATURES or self.is_relaxed:
            return False
        self.is_relaxed = True
        return True

    def length(self, batches: Batches) -> int:
        """How many steps one program takes at once."""
        return min(batches.capacity(0), self._limit)

    def pieces(self, run: Trajectory, steps: Sequence[int]) -> Iterator[tuple[list[int], int]]:
        """Steps in stacks, none across a cut: on the way back they are those of the way forth."""
        for _, part in itertools.groupby(steps, lambda step: bisect.bisect(run.cuts, step)):
            yield from run.batches.pieces(part, self._limit)

    def capacity(self, steps: Sequence[int], capacity: int) -> int:
        """What a stack is padded to."""
        return len(steps) if self.is_relaxed else capacity

    def inputs(
        self, run: Trajectory, steps: Sequence[int], capacity: int, record: Structure = ()
    ) -> Inputs:
        """What changes from step to step, stacked."""

        def column(values: Sequence[float] | np.ndarray) -> Tensor:
            values = np.asarray(values)
            padding = [(0, capacity - len(steps))] + [(0, 0)] * (values.ndim - 1)
            return tf.convert_to_tensor(np.pad(values, padding))

        iterations = [run.iterations[step] for step in steps]
        scaled = {}
        if self._is_scaled:
            scales = np.array([run.scales[step] for step in steps], "float32")
            scaled = {"taken": column([run.taken[step] for step in steps]), "scale": column(scales)}
        return Inputs(
            batch=run.batches.stack(steps, capacity),
            learning_rate=column([run.rates[step] for step in steps]),
            random=[column(seeds[steps]) for seeds in run.random],
            step=column(np.asarray(steps, "float32")),
            iteration=column(iterations),
            position=column(self._optimizer.positions(iterations)),
            record=record,
            **scaled,
        )

    def ahead(
        self, run: Trajectory, steps: Sequence[int], capacity: int, taken: Tensor
    ) -> dict[str, Structure]:
        """Under a dynamic loss scale: what steps use, by how many of a stack are taken before them."""
        before = sum(run.taken[: steps[0]])
        iterations = run.first + before + np.arange(capacity)
        planned = [run.planned[min(before + i, len(run.planned) - 1)] for i in range(capacity)]
        return {
            "ahead": {
                "learning_rate": tf.constant(planned),
                "iteration": tf.constant(iterations),
                "position": tf.constant(self._optimizer.positions(iterations)),
            },
            "taken": taken,
            "by_iteration": tf.constant(self._optimizer.follows_schedule()),
        }
