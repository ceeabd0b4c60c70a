"""In which numbers a training step is taken: floating point, or fixed point that can be undone."""

import tensorflow as tf

from keras_drmad.paths import fixed_point


class Floating:
    """Floating point, as Keras trains."""

    def constants(self, update, hyper):
        """What `step` needs beside the hyperparameters (Python side, once a run)."""
        return ()

    def encode(self, weights, velocities):
        """The numbers that training is continued in."""
        return {"weights": weights, "velocities": velocities}

    def decode(self, at, dtypes):
        """`(weights, velocities)` in floating point."""
        return at["weights"], at["velocities"]

    def position(self, at, replaying, dtypes):
        """The weights at which a step takes its gradient."""
        return at["weights"]

    def step(self, at, weights, gradients, update, hyper, learning_rate, constants, replaying):
        """`(at, velocities)`: after the step, and the velocities before it."""
        moved = update.move(weights, at["velocities"], gradients, hyper, learning_rate)
        return self.encode(*moved), at["velocities"]


class FixedPoint:
    """Fixed-point integers. While `replaying`, a step is undone instead of taken.

    Both directions are one program: the way back needs the gradients to the last bit, and two
    programs that compute the same gradient may round it differently.
    """

    def constants(self, update, hyper):
        fractions = [fixed_point.rational(float(m)) for m in update.momenta(hyper)]
        return [
            (tf.constant(f.numerator, tf.int64), tf.constant(f.denominator, tf.int64))
            for f in fractions
        ]

    def encode(self, weights, velocities):
        velocities = fixed_point.encode(velocities)
        return {
            "weights": fixed_point.encode(weights),
            "velocities": velocities,
            "buffers": [tf.zeros_like(v) for v in velocities],
        }

    def decode(self, at, dtypes):
        return tuple(fixed_point.decode(at[k], dtypes) for k in ("weights", "velocities"))

    def position(self, at, replaying, dtypes):
        back = tf.cast(replaying, tf.int64)
        before = [w - back * v for w, v in zip(at["weights"], at["velocities"], strict=True)]
        return fixed_point.decode(before, dtypes)

    def step(self, at, weights, gradients, update, hyper, learning_rate, constants, replaying):
        rates = update.rates(hyper, learning_rate)
        pushes = fixed_point.encode([r * g for r, g in zip(rates, gradients, strict=True)])
        after = {"weights": [], "velocities": [], "buffers": []}
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
        return after, fixed_point.decode(before, update.dtypes)
