"""What every update rule shares: all between a raw gradient and the next weights but the step itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, TypeAlias

import tensorflow as tf

from keras_drmad.hyperparameters.groups import Layout
from keras_drmad.sums import scaled
from keras_drmad.typing import Slots, Tensor, Tensors, Vectors

# Of each kind of hyperparameter one tensor a variable; None where the kind does not act.
Values: TypeAlias = dict[str, Tensors]
Numbers: TypeAlias = dict[str, list[float]]  # the same of kinds that act on all variables

# Slots that every optimizer may have beside those of its rule, as Keras keeps them: the sum of the
# gradients that wait for their step, and averages of weights that are assigned to them.
ACCUMULATED, AVERAGES = "accumulated", "averages"


class Iterate(NamedTuple):
    """What a training step moves: the weights, and the slots that the rule keeps beside them."""

    weights: Tensors
    slots: Slots


@dataclass(frozen=True)
class UpdateRule:
    """The training step of an optimizer as pure functions of tensors, for one model's variables.

    In Keras's order: L2, accumulation, clipping, decoupled weight decay, the step itself, averages,
    constraint. A subclass names its slots and its hyperparameters and writes the four methods below.

    `hyper` are flat vectors, one for each kind: the hyperparameters in force at the step, as `at`
    gives them.

    Attributes:
        slots: names of the tensors that the rule keeps beside each weight. All begin as zeros.
        kinds: names of its hyperparameters; `"learning_rate"` is among them, a multiplier of the
            global learning rate. `"l2"` needs nothing of the subclass.
        penalties: those of `kinds` that shrink weights. Variables can be excluded from them, and
            with `per="unit"` they have one value for each input unit.
        averaged: those of `slots` that cannot be read off the movement of the weights, so that an
            approximate path keeps means of them.
        adjusted: whether an approximate path corrects products with the Hessian (`Path.adjust_hvp`).
        idle: of each variable, whether no gradient reaches it. As in Keras, such a variable and its
            slots stay as they are: no L2, no weight decay, no momentum, no share in the global
            norm, no constraint.
        accumulation: the gradients of so many batches, one after another, make one step.
        ema_momentum: of averages of weights.
        has_averages: whether averages have a part in where training leads, and so are a slot.
        overwriting: after so many steps each weight is replaced by its average; None for never.
    """

    slots: ClassVar[tuple[str, ...]]
    kinds: ClassVar[tuple[str, ...]]
    penalties: ClassVar[tuple[str, ...]] = ()
    averaged: ClassVar[tuple[str, ...]] = ()
    adjusted: ClassVar[bool] = True

    layout: Layout
    dtypes: tuple[str, ...]
    clipnorm: float | None = None
    clipvalue: float | None = None
    global_clipnorm: float | None = None
    decays: tuple[float, ...] = ()  # the decoupled weight decay of each variable, 0 for none
    constraints: tuple[Callable[[Tensor], Tensor] | None, ...] = ()  # one a variable
    idle: tuple[bool, ...] = ()  # one a variable; none is idle if empty
    accumulation: int = 1
    ema_momentum: float = 0.0
    has_averages: bool = False
    overwriting: int | None = None

    # -- for subclasses ----------------------------------------------------------------------

    def step(
        self,
        weight: Tensor,
        slots: dict[str, Tensor],
        gradient: Tensor,
        values: dict[str, Tensor],
        iteration: Tensor,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """One variable's `(weight, slots)` after the step.

        `values` are its hyperparameters, its effective learning rate among them; `iteration` is the
        number of steps that the optimizer took before.
        """
        raise NotImplementedError

    def along(
        self,
        iterate: Iterate,
        arriving: Tensors,
        leaving: Tensors | None,
        gradients: Tensors,
        values: Values,
        iteration: Tensor,
    ) -> tuple[Slots, Tensors]:
        """`(slots, gradients)` with which the rule would move as an approximate path does.

        `iterate` is the point of the path; of slots it has the means of the `averaged` ones.
        `arriving` and `leaving` are the displacements of the weights before and after it (no
        `leaving`: the gradients stay those evaluated there, `gradients`).
        """
        raise NotImplementedError

    def last_displacements(self, iterate: Iterate) -> Tensors:
        """The displacements of the weights in the step before `iterate`, as far as its slots tell it."""
        raise NotImplementedError

    def unscaled(
        self, directions: Tensors, slots: Slots, values: Values, iteration: Tensor
    ) -> Tensors:
        """`directions` over the size of the step that a gradient makes, `d / α` in plain SGD.

        The metric in which negative curvature is measured along them. `slots` are those after the
        step.
        """
        raise NotImplementedError

    # -- the same for all rules --------------------------------------------------------------

    def means(self, iterate: Iterate) -> Iterate:
        """What an approximate path keeps means of."""
        return Iterate(iterate.weights, {name: iterate.slots[name] for name in self.averaged})

    def at(self, hyper: Vectors, position: Tensor) -> Vectors:
        """The hyperparameters in force at a position of a learned schedule (`Knots.positions`)."""
        return {kind: self.layout.at(kind, vector, position) for kind, vector in hyper.items()}

    def values(self, hyper: Vectors, learning_rate: Tensor) -> Values:
        """The hyperparameters of each variable; learning rates are effective ones:

        the global rate times a learned multiplier.
        """
        values = {kind: self.layout.spread(kind, hyper[kind], self.dtypes) for kind in self.kinds}
        values["learning_rate"] = [
            m * tf.cast(learning_rate, m.dtype) for m in values["learning_rate"]
        ]
        return values

    def numbers(self, hyper: Vectors) -> Numbers:
        """`values` at the beginning of a schedule; learning rates are multipliers."""
        values = self.values(self.at(hyper, tf.constant(0.0)), tf.constant(1.0))
        return {
            kind: [float(v) for v in of]
            for kind, of in values.items()
            if kind not in self.penalties
        }

    def gradients(self, weights: Tensors, raw: Tensors, hyper: Vectors) -> Tensors:
        """The gradients that the step uses: the raw ones plus λ·w, clipped (unless they accumulate).

        Of idle variables they are the raw ones.
        """
        grads = list(raw)
        if "l2" in self.kinds:
            l2 = self.layout.spread("l2", hyper["l2"], self.dtypes)
            for i in self._moving(raw):
                grads[i] = raw[i] if l2[i] is None else raw[i] + scaled(weights[i], l2[i])
        return grads if self.accumulation > 1 else self._clipped(grads)

    def _moving(self, tensors: Tensors) -> list[int]:
        """The places of the variables that are not idle."""
        return [i for i in range(len(tensors)) if not self._is_idle(i)]

    def _clipped(self, grads: Tensors) -> Tensors:
        grads, moving = list(grads), self._moving(grads)
        for i, clipped in zip(
            moving, self._clipped_as_one([grads[i] for i in moving]), strict=True
        ):
            grads[i] = clipped
        return grads

    def _clipped_as_one(self, grads: Tensors) -> Tensors:
        """As Keras clips: a norm or value of 0 means that it does not."""
        if self.clipnorm and self.clipnorm > 0:
            return [tf.clip_by_norm(g, self.clipnorm) for g in grads]
        if self.global_clipnorm and self.global_clipnorm > 0:
            norm = _norm_or(self.global_clipnorm, grads)
            return tf.clip_by_global_norm(grads, self.global_clipnorm, norm)[0]
        if self.clipvalue and self.clipvalue > 0:
            return [tf.clip_by_value(g, -self.clipvalue, self.clipvalue) for g in grads]
        return grads

    def _is_idle(self, index: int) -> bool:
        return bool(self.idle) and self.idle[index]

    def move(
        self,
        iterate: Iterate,
        gradients: Tensors,
        hyper: Vectors,
        learning_rate: Tensor,
        iteration: Tensor,
    ) -> Iterate:
        """The `Iterate` after a batch with `gradients`, as `self.gradients` gives them.

        `iteration` counts the batches before it.
        """
        if self.accumulation > 1:
            after = self._accumulated(iterate, gradients, hyper, learning_rate, iteration)
        else:
            after = self._stepped(iterate, gradients, hyper, learning_rate, iteration)
        weights, slots = list(after.weights), after.slots
        if self.has_averages:
            averages = self.averages_after(iterate.slots[AVERAGES], weights, iteration)
            slots = slots | {AVERAGES: averages}
            if self.overwriting:
                is_due = (self._steps(iteration) + 1) % self.overwriting == 0
                weights = [tf.where(is_due, a, w) for a, w in zip(averages, weights, strict=True)]
        for i in self._moving(weights) if self.constraints else ():
            constraint = self.constraints[i]
            weights[i] = weights[i] if constraint is None else constraint(weights[i])
        return Iterate(weights, slots)

    def averages_after(self, averages: Tensors, weights: Tensors, iteration: Tensor) -> Tensors:
        """The averages of weights after a batch, as Keras takes them: the first is the weights."""
        found, is_later = [], self._steps(iteration) != 0
        for average, weight in zip(averages, weights, strict=True):
            momentum = tf.cast(is_later, weight.dtype) * tf.cast(self.ema_momentum, weight.dtype)
            found.append(momentum * average + (1 - momentum) * weight)
        return found

    def _steps(self, iteration: Tensor) -> Tensor:
        """How many steps were taken before a batch."""
        return iteration // self.accumulation if self.accumulation > 1 else iteration

    def _accumulated(
        self,
        iterate: Iterate,
        gradients: Tensors,
        hyper: Vectors,
        learning_rate: Tensor,
        iteration: Tensor,
    ) -> Iterate:
        """Adds gradients up; with the last batch of a step, the step by their mean."""
        totals = [a + g for a, g in zip(iterate.slots[ACCUMULATED], gradients, strict=True)]
        means = self._clipped([total / self.accumulation for total in totals])
        moved = self._stepped(iterate, means, hyper, learning_rate, self._steps(iteration))
        moved.slots[ACCUMULATED] = [tf.zeros_like(total) for total in totals]
        waiting = {name: iterate.slots[name] for name in self.slots} | {ACCUMULATED: totals}
        is_last = (iteration + 1) % self.accumulation == 0
        return tf.nest.map_structure(
            lambda a, b: tf.where(is_last, a, b), moved, Iterate(iterate.weights, waiting)
        )

    def _stepped(
        self,
        iterate: Iterate,
        gradients: Tensors,
        hyper: Vectors,
        learning_rate: Tensor,
        iteration: Tensor,
    ) -> Iterate:
        """The step itself. `iteration` counts the steps before it."""
        values = self.values(hyper, learning_rate)
        weights: Tensors = []
        slots: Slots = {name: [] for name in self.slots}
        for i, (w, g) in enumerate(zip(iterate.weights, gradients, strict=True)):
            if self._is_idle(i):
                weights.append(w)
                for name in self.slots:
                    slots[name].append(iterate.slots[name][i])
                continue
            if self.decays and self.decays[i]:
                w = w - w * self.decays[i] * tf.cast(learning_rate, w.dtype)
            w, moved = self.step(
                w,
                {name: iterate.slots[name][i] for name in self.slots},
                g,
                {kind: values[kind][i] for kind in self.kinds},
                iteration,
            )
            weights.append(w)
            for name in self.slots:
                slots[name].append(moved[name])
        return Iterate(weights, slots)


def _norm_or(instead: float, tensors: Tensors) -> Tensor:
    """`tf.linalg.global_norm`; `instead` where it is 0, and has no derivative."""
    square = 2.0 * tf.reduce_sum(tf.stack([tf.nn.l2_loss(t) for t in tensors]))
    is_zero = tf.equal(square, 0)
    root = tf.sqrt(tf.where(is_zero, tf.ones_like(square), square))
    return tf.where(is_zero, tf.cast(instead, root.dtype), root)
