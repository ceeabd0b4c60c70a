"""The compiled programs of one model: training over a stack of batches, and the way back."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_drmad import sums
from keras_drmad.data import Batches
from keras_drmad.engine.loop import Loop
from keras_drmad.engine.loss_scale import DynamicScale, all_finite
from keras_drmad.engine.objective import ModelValues, Objective
from keras_drmad.paths.base import Path, Point
from keras_drmad.tf_function import tf_function
from keras_drmad.typing import Slots, Structure, Tensor, Tensors, Vectors
from keras_drmad.update_rules.base import Iterate, UpdateRule, Values


class TrainingState(NamedTuple):
    """All that a training step reads and writes."""

    weights: Tensors
    slots: Slots
    state: Tensors
    random: Tensors
    averages: Tensors  # of the weights, with `use_ema`, unless they are slots; else empty
    scale: Tensors  # of a dynamic loss scale its variables; else empty

    @property
    def iterate(self) -> Iterate:
        """The part that the update rule moves."""
        return Iterate(self.weights, self.slots)


class Adjoint(NamedTuple):
    """Derivatives of the validation loss, summed up on the way back.

    `hyper` is one flat vector a kind; that of the learning rates is with respect to the multipliers.
    """

    weights: Tensors
    slots: Slots
    state: Tensors
    hyper: Vectors
    hyper_variables: Tensors


class Inputs(NamedTuple):
    """What changes from step to step; stacked along a first axis."""

    batch: Structure
    learning_rate: Tensor
    random: Tensors  # the seeds that a step saw: replays and the reverse pass use them again
    step: Tensor  # its number in this run, a float
    iteration: Tensor  # its number for the optimizer
    position: Tensor  # where it stands in a learned schedule
    record: Structure = ()  # what the path stored of it
    # Under a dynamic loss scale, else empty: whether the step was taken, and with which scale.
    taken: Tensor = ()
    scale: Tensor = ()


class Programs:
    """Forward, reverse and validation programs for an objective, an update rule and a path.

    Args:
        objective, rule, path: what they are made of.
        xla: whether to compile with XLA.
        relaxed: whether one program serves batches of many shapes; without XLA.
    """

    def __init__(
        self,
        objective: Objective,
        rule: UpdateRule,
        path: Path,
        xla: bool,
        relaxed: bool = False,
    ) -> None:
        self.objective, self.rule, self.path = objective, rule, path
        stores = path.replay != "forward"
        kind = {"xla": xla, "relaxed": relaxed}
        self.forward = Loop(self._train(stores), self._outputs(stores), **kind)
        # Undoing must use the very program that trained.
        backward = path.replay == "backward"
        self.replay = (
            self.forward if backward else Loop(self._train(True), self._outputs(True), **kind)
        )
        self.xla = xla
        self.reverse = Loop(self._back, lambda *_: (), reverse=not backward, **kind)
        self.validate = Loop(self.add_validation, lambda *_: (), **kind)
        # Not with XLA: it is called now and then only, with batches of several shapes.
        self.loss = tf_function(self._loss, reduce_retracing=True)

    @contextlib.contextmanager
    def interpreted(self) -> Iterator[None]:
        """Takes steps forward without XLA, where compiling would take longer than the steps."""
        compiled = self.forward
        stores = self.path.replay != "forward"
        self.forward = Loop(self._train(stores), self._outputs(stores), xla=False)
        try:
            yield
        finally:
            self.forward = compiled

    # -- forward -----------------------------------------------------------------------------

    def _outputs(self, stores: bool) -> Callable[..., dict[str, Structure]]:
        """What has the shapes of a step's outputs; `stores`: whether the path's records are in it."""

        def outputs(
            constants: Structure, carry: dict[str, Any], inputs: Inputs
        ) -> dict[str, Structure]:
            iterate = self.path.arithmetic.decode(carry["at"], self.rule.dtypes)
            record = self.path.step_record(iterate, carry["state"]) if stores else ()
            outputs = {"random": carry["random"], "record": record, "loss": tf.constant(0.0)}
            if self.objective.loss_scale.is_dynamic:
                outputs["scaled"] = _scaled(inputs)
            return outputs

        return outputs

    def _train(self, stores: bool) -> Callable[..., tuple[dict[str, Any], dict[str, Structure]]]:
        """The body of a training loop; it returns loss, seeds and, if it `stores`, the path's record.

        Its constants: `hyper`, `hyper_variables`, `arithmetic` (of the path's arithmetic) and the
        bool `replaying`: whether steps are taken again with the seeds that they saw. Under a dynamic
        loss scale also `ahead`, the `Inputs` of the next steps by how many are taken before them,
        `taken`, how many were before this call, and `by_iteration`: whether the learning rate follows
        them, too.
        """
        loss_scale = self.objective.loss_scale

        def body(
            constants: dict[str, Any], carry: dict[str, Any], inputs: Inputs
        ) -> tuple[dict[str, Any], dict[str, Structure]]:
            arithmetic, rule = self.path.arithmetic, self.rule
            at, replaying = carry["at"], constants["replaying"]
            if loss_scale.is_dynamic:
                inputs = _follow(constants, carry, inputs)
            hyper = rule.at(constants["hyper"], inputs.position)
            random = [
                tf.where(replaying, seen, now)
                for seen, now in zip(inputs.random, carry["random"], strict=True)
            ]
            weights = arithmetic.position(at, replaying, rule.dtypes)
            raw, state, next_random, loss = self.objective.gradient(
                ModelValues(weights, carry["state"], random, constants["hyper_variables"]),
                inputs.batch,
                inputs.scale,
            )
            gradients = rule.gradients(weights, raw, hyper)
            after, slots = arithmetic.step(
                at,
                weights,
                gradients,
                rule,
                hyper,
                inputs.learning_rate,
                inputs.iteration,
                constants["arithmetic"],
                replaying,
            )
            outputs = {"random": random, "loss": tf.cast(loss, "float32")}
            averages, scale, number = carry["averages"], carry["scale"], carry["taken"]
            if averages:
                moved = arithmetic.decode(after, rule.dtypes).weights
                averages = self.rule.averages_after(averages, moved, inputs.iteration)
            if isinstance(loss_scale, DynamicScale):
                taken = tf.where(replaying, inputs.taken, all_finite(raw))
                outputs["scaled"] = _scaled(inputs._replace(taken=taken))
                after = _where(taken, after, at)
                averages = _where(taken, averages, carry["averages"])
                scale = loss_scale.after(scale, taken)
                number = number + tf.cast(taken, number.dtype)
            # Empty unless the mean of the weights is asked for (`judge.totals`).
            total = [t + tf.cast(w, t.dtype) for t, w in zip(carry["total"], weights, strict=False)]
            before = Iterate(weights, slots)
            outputs["record"] = self.path.step_record(before, carry["state"]) if stores else ()
            sums = self.path.accumulate(carry["sums"], rule.means(before))
            carry = {"at": after, "state": state, "random": next_random, "sums": sums}
            carry |= {"averages": averages, "scale": scale, "taken": number, "total": total}
            return carry, outputs

        return body

    # -- validation --------------------------------------------------------------------------

    def add_validation(
        self, constants: tuple[TrainingState, Tensors], total: Structure, batch: Structure
    ) -> tuple[Structure, tuple[()]]:
        """Adds a batch's loss (times its samples) and gradients to `total`; see `no_losses`."""
        at, hyper_variables = constants
        with _tape() as tape:
            tape.watch((at.weights, at.state, hyper_variables))
            loss = self._loss(at, hyper_variables, batch)
        samples = tf.shape(tf.nest.flatten(batch)[0])[0]
        gradients = tape.gradient(
            loss,
            (at.weights, at.state, hyper_variables),
            output_gradients=tf.cast(samples, loss.dtype),
            unconnected_gradients="zero",
        )
        found = (tf.cast(samples, total[0].dtype), loss * tf.cast(samples, loss.dtype), *gradients)
        return tf.nest.map_structure(lambda a, b: a + tf.cast(b, a.dtype), total, found), ()

    @staticmethod
    def no_losses(at: TrainingState, hyper_variables: Tensors) -> Structure:
        """What `validate` begins with: no samples, no loss, and gradients of 0."""
        zeros = tf.nest.map_structure(tf.zeros_like, (at.weights, at.state, hyper_variables))
        return (tf.constant(0.0, "float64"), tf.constant(0.0, "float64"), *zeros)

    def _loss(self, at: TrainingState, hyper_variables: Tensors, batch: Structure) -> Tensor:
        values = ModelValues(at.weights, at.state, at.random, hyper_variables)
        return self.objective.validation_loss(values, batch)

    def validation_loss(self, at: TrainingState, validation: Batches) -> float:
        """The loss of a validation set, without derivatives."""
        losses, sizes = [], []
        assert validation.epoch_steps is not None  # `as_validation` has seen to it
        for step in range(validation.epoch_steps):
            batch = tf.nest.map_structure(tf.convert_to_tensor, validation.batch(step))
            sizes.append(len(tf.nest.flatten(batch)[0]))
            losses.append(self.loss(at, [], batch))
        return float(np.average(tf.stack(losses), weights=sizes))

    # -- reverse -----------------------------------------------------------------------------

    def _back(
        self, constants: dict[str, Any], adjoint: Adjoint, inputs: Inputs
    ) -> tuple[Adjoint, tuple[()]]:
        return self.step_back(constants, adjoint, inputs)[0], ()

    def step_back(
        self, constants: dict[str, Any], adjoint: Adjoint, inputs: Inputs
    ) -> tuple[Adjoint, Tensors, Tensor]:
        """The adjoint of one training step: the chain rule through the update rule and the gradient.

        And the weights to which the step leads, and its training loss. One product of the Hessian
        with a vector, whatever the number of hyperparameters.
        """
        rule, hyper = self.rule, constants["hyper"]
        if self.path.max_adjoint_growth is not None:
            # Of the adjoint that comes in: scaling then costs no pass over it of its own.
            adjoint = _limited(adjoint, self.path.max_adjoint_growth * constants["size"])
        if constants["added"]:  # the weights after this step have a share in those that are judged
            shared = zip(adjoint.weights, constants["added"], strict=True)
            adjoint = adjoint._replace(weights=[a + b for a, b in shared])
        with _tape() as of_schedule:
            of_schedule.watch(hyper)
            now = rule.at(hyper, inputs.position)
        values = rule.values(now, inputs.learning_rate)
        point = self.path.point(constants["segment_data"], inputs.record, inputs.step)
        weights = point.weights

        state = constants["state"] if point.state is None else point.state
        at = ModelValues(weights, state, inputs.random, constants["hyper_variables"])
        raw, _, loss, vjp = self.objective.vjp(at, inputs.batch, inputs.scale)
        l2 = {kind: vector for kind, vector in now.items() if kind == "l2"}
        with _tape() as of_gradients:
            of_gradients.watch((weights, raw, l2))
            evaluated = rule.gradients(weights, raw, now)
        slots, gradients = self._on_path(point, evaluated, values, inputs.iteration)
        with _tape() as of_move:
            iterate = Iterate(weights, slots)
            of_move.watch((iterate, gradients, now))
            moved = rule.move(iterate, gradients, now, inputs.learning_rate, inputs.iteration)

        move_w, slots_before, gradients_part, hyper_part = of_move.gradient(
            moved,
            (weights, slots, gradients, now),
            output_gradients=Iterate(adjoint.weights, adjoint.slots),
            unconnected_gradients="zero",
        )
        gradients_w, directions, l2_part = of_gradients.gradient(
            evaluated,
            (weights, raw, l2),
            output_gradients=gradients_part,
            unconnected_gradients="zero",
        )
        hyper_part |= {kind: hyper_part[kind] + part for kind, part in l2_part.items()}
        hyper_part = of_schedule.gradient(
            now, hyper, output_gradients=hyper_part, unconnected_gradients="zero"
        )
        products, state_part, variables_part = vjp(directions, adjoint.state)
        if rule.adjusted:
            unscaled = rule.unscaled(directions, moved.slots, values, inputs.iteration)
            products = self.path.adjust_hvp(products, directions, unscaled)
        back = Adjoint(
            weights=[a + b + c for a, b, c in zip(move_w, gradients_w, products, strict=True)],
            slots=slots_before,
            state=state_part,
            hyper={kind: adjoint.hyper[kind] + hyper_part[kind] for kind in hyper},
            hyper_variables=[
                a + b for a, b in zip(adjoint.hyper_variables, variables_part, strict=True)
            ],
        )
        if self.objective.loss_scale.is_dynamic:  # a step that was left out changed nothing
            back = _where(inputs.taken, back, adjoint)
        return back, moved.weights, loss

    def _on_path(
        self, point: Point, evaluated: Tensors, values: Values, iteration: Tensor
    ) -> tuple[Slots, Tensors]:
        """`(slots, gradients)` of the step at a point: those of training, or those of the path."""
        slots = {} if point.slots is None else point.slots
        if point.arriving is None:
            return slots, evaluated
        if missing := [name for name in self.rule.averaged if name not in slots]:
            raise ValueError(
                f"The points of {self.path!r} have no {missing} in their `slots`, which the update rule "
                f"{type(self.rule).__name__} cannot read off displacements. Keep means of "
                "`iterate.slots` in `accumulate`, as of the weights."
            )
        iterate = Iterate(point.weights, slots)
        return self.rule.along(iterate, point.arriving, point.leaving, evaluated, values, iteration)


def _follow(constants: dict[str, Any], carry: dict[str, Any], inputs: Inputs) -> Inputs:
    """Under a dynamic loss scale: the inputs of a step, after those that were taken before it."""
    replaying, ahead = constants["replaying"], constants["ahead"]
    index = carry["taken"] - constants["taken"]
    by_iteration = {
        "iteration": ~replaying,
        "position": ~replaying,
        "learning_rate": ~replaying & constants["by_iteration"],
    }
    followed = {
        name: tf.where(follows, ahead[name][index], getattr(inputs, name))
        for name, follows in by_iteration.items()
    }
    return inputs._replace(scale=tf.where(replaying, inputs.scale, carry["scale"][0]), **followed)


def _scaled(inputs: Inputs) -> dict[str, Tensor]:
    """What is remembered of a step under a dynamic loss scale."""
    names = ("taken", "scale", "learning_rate", "iteration", "position")
    return {name: getattr(inputs, name) for name in names}


def _where(condition: Tensor, a: Structure, b: Structure) -> Structure:
    return tf.nest.map_structure(lambda p, q: tf.where(condition, p, q), a, b)


def _tape() -> tf.GradientTape:
    return tf.GradientTape(watch_accessed_variables=False)


def _limited(adjoint: Adjoint, limit: Tensor) -> Adjoint:
    """`adjoint` scaled down to where the norm of its weights is `limit`, if it is above."""
    norm = sums.norm(adjoint.weights)
    scale = tf.minimum(tf.math.divide_no_nan(tf.cast(limit, norm.dtype), norm), 1.0)
    scale = tf.where(norm > 0, scale, tf.ones_like(scale))

    def scaled(part: Structure) -> Structure:
        return tf.nest.map_structure(lambda a: a * tf.cast(scale, a.dtype), part)

    return adjoint._replace(
        weights=scaled(adjoint.weights), slots=scaled(adjoint.slots), state=scaled(adjoint.state)
    )
