"""The compiled programs of one model: training over a stack of batches, and the way back."""

from typing import NamedTuple

import tensorflow as tf

from keras_drmad.engine.loop import Loop
from keras_drmad.hyperparameters.groups import KINDS


class State(NamedTuple):
    """All that a training step reads and writes, as lists of tensors."""

    weights: list
    velocities: list
    state: list
    random: list


class Adjoint(NamedTuple):
    """Derivatives of the validation loss, summed up on the way back.

    `hyper` is one flat vector a kind; that of the learning rates is with respect to the multipliers.
    """

    weights: list
    velocities: list
    state: list
    hyper: dict
    eta: list


class Inputs(NamedTuple):
    """What changes from step to step; stacked along a first axis."""

    batch: tuple
    learning_rate: object
    random: list  # the seeds that a step saw: replays and the reverse pass use them again
    step: object  # its number, a float
    position: object  # where it stands in a learned schedule
    row: object = ()  # what the path stored of it


class Programs:
    """Forward, reverse and validation programs for an objective, an update rule and a path.

    Args:
        objective: `objective.Objective`.
        update: `update.Update`.
        path: `paths.Path`.
        xla: whether to compile with XLA.
    """

    def __init__(self, objective, update, path, xla):
        self.objective, self.update, self.path = objective, update, path
        stores = path.replay != "forward"
        self.forward = Loop(self._train(stores), self._row(stores), xla)
        # Undoing must use the very program that trained.
        backward = path.replay == "backward"
        self.replay = self.forward if backward else Loop(self._train(True), self._row(True), xla)
        self.reverse = Loop(self._step_back, lambda *_: (), xla, reverse=not backward)
        self.validate = tf.function(self._validate, jit_compile=xla, autograph=False)

    # -- forward -----------------------------------------------------------------------------

    def _row(self, stores):
        def row(constants, carry, inputs):
            weights, velocities = self.path.arithmetic.decode(carry["at"], self.update.dtypes)
            stored = self.path.row(weights, velocities, carry["state"]) if stores else ()
            return {"random": carry["random"], "path": stored, "loss": tf.constant(0.0)}

        return row

    def _train(self, stores):
        """The body of a training loop; its rows hold loss, seeds and, if it `stores`, the path's rows.

        Its constants: `hyper`, `eta`, `arithmetic` (of the path's arithmetic) and the bool
        `replaying`: whether steps are taken again with the seeds that they saw.
        """

        def body(constants, carry, inputs):
            arithmetic, dtypes = self.path.arithmetic, self.update.dtypes
            at, replaying = carry["at"], constants["replaying"]
            hyper = self.update.at(constants["hyper"], inputs.position)
            random = [
                tf.where(replaying, seen, now)
                for seen, now in zip(inputs.random, carry["random"], strict=True)
            ]
            weights = arithmetic.position(at, replaying, dtypes)
            raw, state, next_random, loss = self.objective.gradient(
                weights, carry["state"], random, constants["eta"], inputs.batch
            )
            gradients = self.update.gradients(weights, raw, hyper)
            at, velocities = arithmetic.step(
                at,
                weights,
                gradients,
                self.update,
                hyper,
                inputs.learning_rate,
                constants["arithmetic"],
                replaying,
            )
            stored = self.path.row(weights, velocities, carry["state"]) if stores else ()
            sums = self.path.fold(carry["sums"], weights, velocities, gradients)
            carry = {"at": at, "state": state, "random": next_random, "sums": sums}
            return carry, {"random": random, "path": stored, "loss": tf.cast(loss, "float32")}

        return body

    # -- validation --------------------------------------------------------------------------

    def _validate(self, at, eta, batch, total):
        """Adds a batch's loss (times its samples) and gradients to `total`."""
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch((at.weights, at.state, eta))
            loss = self.objective.validation_loss(at.weights, at.state, at.random, eta, batch)
        samples = tf.shape(tf.nest.flatten(batch)[0])[0]
        gradients = tape.gradient(
            loss,
            (at.weights, at.state, eta),
            output_gradients=tf.cast(samples, loss.dtype),
            unconnected_gradients="zero",
        )
        found = (tf.cast(samples, total[0].dtype), loss * tf.cast(samples, loss.dtype), *gradients)
        return tf.nest.map_structure(lambda a, b: a + tf.cast(b, a.dtype), total, found)

    # -- reverse -----------------------------------------------------------------------------

    def _step_back(self, constants, adjoint, inputs):
        """The adjoint of one training step: the chain rule through `Update` and the loss's gradient.

        One product of the Hessian with a vector, whatever the number of hyperparameters.
        """
        update, objective = self.update, self.objective
        hyper, eta = constants["hyper"], constants["eta"]
        if self.path.cap is not None:
            # Of the adjoint that comes in: scaling then costs no pass over it of its own.
            adjoint = _capped(adjoint, self.path.cap * constants["size"])
        now = update.at(hyper, inputs.position)
        rates = update.rates(now, inputs.learning_rate)
        point = self.path.point(
            constants["anchors"], inputs.row, inputs.step, rates, update.momenta(now)
        )
        weights, velocities = point.weights, point.velocities
        state = constants["state"] if point.state is None else point.state

        def tape():
            return tf.GradientTape(watch_accessed_variables=False)

        raw, _, pull = objective.linearize(weights, state, inputs.random, eta, inputs.batch)
        with tape() as of_gradients:
            of_gradients.watch((weights, raw, hyper["l2"]))
            evaluated = update.gradients(weights, raw, hyper)
        gradients = evaluated if point.gradients is None else point.gradients
        with tape() as of_move:
            of_move.watch((weights, velocities, gradients, hyper))
            now = update.at(hyper, inputs.position)
            moved = update.move(weights, velocities, gradients, now, inputs.learning_rate)

        move_w, velocities, move_g, hyper_part = of_move.gradient(
            moved,
            (weights, velocities, gradients, hyper),
            output_gradients=([*adjoint.weights], [*adjoint.velocities]),
            unconnected_gradients="zero",
        )
        gradients_w, gradients_raw, l2_part = of_gradients.gradient(
            evaluated,
            (weights, raw, hyper["l2"]),
            output_gradients=move_g,
            unconnected_gradients="zero",
        )
        products, state, eta_part = pull(gradients_raw, adjoint.state)
        hyper_part["l2"] += l2_part
        products = self.path.temper(products, gradients_raw, rates)
        weights = [a + b + c for a, b, c in zip(move_w, gradients_w, products, strict=True)]
        return Adjoint(
            weights=weights,
            velocities=velocities,
            state=state,
            hyper={kind: adjoint.hyper[kind] + hyper_part[kind] for kind in KINDS},
            eta=[a + b for a, b in zip(adjoint.eta, eta_part, strict=True)],
        ), ()


def _capped(adjoint, limit):
    """`adjoint` scaled down to where the norm of its weights is `limit`, if it is above."""
    norm = tf.linalg.global_norm(adjoint.weights)
    scale = tf.minimum(tf.math.divide_no_nan(tf.cast(limit, norm.dtype), norm), 1.0)
    scale = tf.where(norm > 0, scale, tf.ones_like(scale))
    return adjoint._replace(
        weights=[w * tf.cast(scale, w.dtype) for w in adjoint.weights],
        velocities=[v * tf.cast(scale, v.dtype) for v in adjoint.velocities],
        state=[s * tf.cast(scale, s.dtype) for s in adjoint.state],
    )
