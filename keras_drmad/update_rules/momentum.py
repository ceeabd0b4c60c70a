"""The update of one training step, as pure functions of tensors.

Every compiled training loop calls these. The Keras optimizer has the same step as one fused kernel of
TensorFlow's; tests hold both to `keras.optimizers.SGD`.
"""

from typing import NamedTuple

import tensorflow as tf


def momentum_step(weight, velocity, gradient, rate, momentum, nesterov):
    """Momentum SGD, in the convention of `keras.optimizers.SGD`.

        v' = μ v − α g
        w' = w + v'              (plain)
        w' = w + μ v' − α g      (Nesterov)

    Returns `(w', v')`.
    """
    push = gradient * rate
    velocity = velocity * momentum - push
    if nesterov:
        return weight + (velocity * momentum - push), velocity
    return weight + velocity, velocity


class Update(NamedTuple):
    """Everything between a raw gradient and the next weights, for the variables of one model.

    `hyper` are the hyperparameters in force at the step, as `at` gives them.

    Same order as Keras: L2, clipping, decoupled weight decay, momentum step, constraint.
    """

    layout: object  # hyperparameters.Layout
    dtypes: tuple
    nesterov: bool = False
    clipnorm: float | None = None
    clipvalue: float | None = None
    global_clipnorm: float | None = None
    decays: tuple = ()  # the decoupled weight decay of each variable, 0 for none
    constraints: tuple = ()  # one a variable, None for none

    def at(self, hyper, position):
        """The hyperparameters in force at a position of a learned schedule (`Knots.positions`)."""
        return {kind: self.layout.at(kind, vector, position) for kind, vector in hyper.items()}

    def gradients(self, weights, raw, hyper):
        """The gradients that the step uses: the raw ones plus λ·w, clipped."""
        l2 = self.layout.spread("l2", hyper["l2"], self.dtypes)
        grads = [g if c is None else g + c * w for g, c, w in zip(raw, l2, weights, strict=True)]
        if self.clipnorm is not None:
            return [tf.clip_by_norm(g, self.clipnorm) for g in grads]
        if self.global_clipnorm is not None:
            return tf.clip_by_global_norm(grads, self.global_clipnorm)[0]
        if self.clipvalue is not None:
            return [tf.clip_by_value(g, -self.clipvalue, self.clipvalue) for g in grads]
        return grads

    def rates(self, hyper, learning_rate):
        """Effective learning rate α of each variable: global rate × learned multiplier."""
        multipliers = self.layout.spread("learning_rate", hyper["learning_rate"], self.dtypes)
        return [m * tf.cast(learning_rate, m.dtype) for m in multipliers]

    def momenta(self, hyper):
        """Momentum μ of each variable."""
        return self.layout.spread("momentum", hyper["momentum"], self.dtypes)

    def move(self, weights, velocities, gradients, hyper, learning_rate):
        """`(weights, velocities)` after the step with `gradients`, as `self.gradients` gives them."""
        rates, momenta = self.rates(hyper, learning_rate), self.momenta(hyper)
        new_weights, new_velocities = [], []
        for i, (w, v, g) in enumerate(zip(weights, velocities, gradients, strict=True)):
            if self.decays and self.decays[i]:
                w = w - w * self.decays[i] * tf.cast(learning_rate, w.dtype)
            w, v = momentum_step(w, v, g, rates[i], momenta[i], self.nesterov)
            if self.constraints and self.constraints[i] is not None:
                w = self.constraints[i](w)
            new_weights.append(w)
            new_velocities.append(v)
        return new_weights, new_velocities
