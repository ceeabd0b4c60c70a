"""A window: a stretch of `fit`, recorded step by step, and its derivatives."""

from __future__ import annotations

import math

import keras
import numpy as np
import tensorflow as tf

from keras_drmad import sums
from keras_drmad.callbacks.guard import LEAST_SIZE, Outcome
from keras_drmad.callbacks.hyper_samples import HyperSamples
from keras_drmad.data import Batch, BufferedBatches, Shares
from keras_drmad.engine import step_check
from keras_drmad.engine.engine import Engine
from keras_drmad.engine.recorded import RecordedWindows, Snapshot, Step, WindowDerivatives
from keras_drmad.optimizers.learnable import LearnableOptimizer
from keras_drmad.paths import Checkpointed, Path, SegmentMeans, Stored
from keras_drmad.typing import Tensors

# Windows are kept step by step if the weights and slots of all their steps take no more bytes.
STORED_BYTES = 2**28
# A step that ends further than this from where it should (relative to its length) was trained in
# another way than the compiled loss and optimizer say. A window that is trained again gathers the
# rounding of its steps; a path that only comes near is less easily misled.
TOLERANCE, OF_NEAR_PATHS, OF_HALF_PRECISION = 0.01, 0.05, 0.2
# Of the size of the weights: what rounding alone may move.
ROUNDING = 8.0


def path_for(model: keras.Model, optimizer: LearnableOptimizer, steps: int) -> Path:
    """The path that serves windows of so many steps best."""
    further = optimizer.further_slots
    arrays = 1 + len(optimizer.rule.slots) + len(further)
    weights = sum(tf.as_dtype(v.dtype).size * math.prod(v.shape) for v in model.trainable_variables)
    if steps * weights * arrays <= STORED_BYTES:
        return Stored()
    return Checkpointed() if further else SegmentMeans()  # which does not follow them


class Window:
    """Steps that `fit` takes, of up to `capacity`, beginning where the model is.

    Args:
        engine: of the model.
        capacity: steps in the longest window.

    Attributes:
        start, end: the states before the first and after the last step.
    """

    def __init__(self, engine: Engine, capacity: int) -> None:
        self._engine, self._capacity = engine, capacity
        self.start, self._first = engine.read(), engine.optimizer.steps_taken()
        self._batches = BufferedBatches()
        self._rates: list[float] = []
        self._is_recorded, self._states = RecordedWindows.serve(engine), list[Snapshot]()
        self.end = self.start

    def __len__(self) -> int:
        return len(self._rates)

    @property
    def is_full(self) -> bool:
        """Whether it has all its steps, or the last of which no gradient waits for another."""
        optimizer = self._engine.optimizer
        most = len(self) > self._capacity - optimizer.accumulation
        return most and not optimizer.is_accumulating()

    def add(self, batch: Batch | Shares) -> None:
        """Notes the step that is taken next."""
        self._batches.append(batch)
        if self._is_recorded:
            self._engine.see(self._batches.signature(len(self)))
            self._states.append(self._recorded.snapshot())
        optimizer = self._engine.optimizer
        if optimizer.follows_schedule():  # as far as the loss scale leaves no step out
            self._rates.extend(optimizer.learning_rates(1, self._first + len(self)))
        else:
            self._rates.extend(optimizer.learning_rates(1))

    @property
    def _recorded(self) -> RecordedWindows:
        return RecordedWindows.of(self._engine, self._capacity)

    def close(self) -> None:
        """Notes that its last step was taken."""
        self.end = self._engine.read()

    def differentiate(self, hyper: HyperSamples, draw: int, last: float) -> WindowDerivatives:
        """The derivatives of the loss of a draw of hyper samples.

        `last` is 1 for the loss of the last weights, 0 for that of the mean of the weights.
        """
        samples = hyper.draw(draw)
        if self._is_recorded:
            steps = [
                Step(state, self._batches.batch(i), rate)
                for i, (state, rate) in enumerate(zip(self._states, self._rates, strict=True))
            ]
            return self._recorded.differentiate(steps, self.end, self._first, samples, last)
        judge = "last" if last else "mean"
        run = self._engine.train(
            self.start, self._batches, self._rates, first=self._first, judge=judge
        )
        found = self._engine.differentiate(run, hyper.as_batches(samples))
        return WindowDerivatives(
            loss=found.validation_loss,
            hyper=found.adjoint.hyper,
            growth=found.growth if found.finite else math.inf,
            first_loss=float(run.losses[0]),
            training_loss=float(np.mean(run.losses)),
            moved=_distance(self.start.weights, self.end.weights),
            size=float(sums.norm(self.start.weights)),
            off=_distance(run.end.weights, self.end.weights),
            way=_distance(self.start.weights, self.end.weights),
        )

    def outcome(self, found: WindowDerivatives) -> Outcome:
        """What the guard looks at."""
        entries = sum(math.prod(w.shape) for w in self.start.weights)
        return Outcome(
            loss=float(np.maximum(found.loss, found.training_loss)),
            moved=found.moved,
            size=max(found.size, LEAST_SIZE * math.sqrt(entries)),
        )

    def is_followed(self, found: WindowDerivatives) -> bool:
        """Whether the steps of `fit` were those that were differentiated."""
        precision = step_check.precision(self._engine)
        tolerance = TOLERANCE if self._engine.path.exact else OF_NEAR_PATHS
        if precision > 1e-6:
            tolerance = OF_HALF_PRECISION
        rounding = ROUNDING * precision * (found.size + found.moved)
        return not found.off > tolerance * found.way + rounding  # a NaN is the guard's to judge


def _distance(a: Tensors, b: Tensors) -> float:
    return float(sums.norm([p - q for p, q in zip(a, b, strict=True)]))
