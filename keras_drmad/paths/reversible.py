"""RMAD: the training run itself, undone step by step in exact arithmetic."""

import tensorflow as tf

from keras_drmad.paths import fixed_point
from keras_drmad.paths.arithmetic import FixedPoint
from keras_drmad.paths.base import Segment
from keras_drmad.paths.exact import Stored


class Reversible(Stored):
    """Training in fixed point, undone on the way back, bit for bit (Maclaurin et al. 2015).

    Exact; each step costs one more gradient on the way back. Memory: 64 bits a weight, and
    log₂(1/μ) bits a weight and step (0.15 at μ = 0.9), see `keras_drmad.paths.fixed_point`.

    Momenta are rounded to fractions with denominators up to 32768. Momentum below 0.05 keeps too
    little of the velocity to be undone. Nesterov momentum cannot be undone at all: its step takes the
    gradient at a point that can only be found from the next one by solving `x − α ∇L(x) = y`, which
    has several solutions where α times the curvature exceeds 1. The same holds for weight decay and
    constraints, which lose bits of the weights.
    """

    replay = "backward"
    arithmetic = FixedPoint()

    def segments(self, steps, momenta):
        longest = fixed_point.longest_segment(momenta)
        return [Segment(t, min(t + longest, steps)) for t in range(0, steps, longest)]

    def check(self, update, momenta):
        reasons = {
            "nesterov=True": update.nesterov,
            "weight_decay": any(update.decays),
            "constraints of variables": any(c is not None for c in update.constraints),
            "a momentum that varies over training": "momentum" in update.layout.knots,
            "a momentum below 0.05": min(momenta) < 0.05,
        }
        for what, given in reasons.items():
            if given:
                raise ValueError(
                    f"`Reversible()` cannot undo a training step with {what}. Use `Checkpointed()`, "
                    "which is as exact."
                )

    def close(self, at, segments, index, momenta):
        """Sets the lower bits of the buffers aside where they could overflow in the next segment."""
        lengths = tuple(s.length for s in segments)
        buffers, words = list(at["buffers"]), {}
        for i, momentum in enumerate(momenta):
            if fixed_point.flushes(lengths, momentum)[index]:
                buffers[i], words[i] = fixed_point.flush(buffers[i])
        return {**at, "buffers": buffers}, words

    def reopen(self, at, words):
        buffers = [
            fixed_point.unflush(b, words[i]) if i in words else b
            for i, b in enumerate(at["buffers"])
        ]
        return {**at, "buffers": buffers}

    def information(self, start, closed, steps):
        weights = sum(int(tf.size(w)) for w in start.weights)
        words = sum(int(tf.size(word)) for words in closed for word in words.values())
        buffer_bits = 64 * weights + fixed_point.WORD_BITS * words
        return {"buffer_bits_per_weight_per_step": buffer_bits / (weights * steps)}
