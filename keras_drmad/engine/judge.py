"""Where the validation loss of a run is taken: at its last weights, or at the mean of all."""

from __future__ import annotations

import tensorflow as tf

from keras_drmad.engine.programs import Adjoint
from keras_drmad.engine.trajectory import Trajectory
from keras_drmad.typing import Tensors

# "mean" is that of the weights after each step.
JUDGES = ("last", "mean")


def totals(judge: str, weights: Tensors) -> Tensors:
    """What the weights before each step are added to, in numbers wide enough; nothing for "last"."""
    if judge == "last":
        return []
    return [tf.zeros_like(w, tf.float32 if w.dtype.size < 4 else w.dtype) for w in weights]


def weights(run: Trajectory) -> Tensors:
    """The weights of a finished run at which its validation loss is taken."""
    first, last = run.start.weights, run.end.weights
    if run.judge == "last":
        return last
    # The total is of the weights before each step, which cost nothing to read.
    return [
        tf.cast((total + tf.cast(b - a, total.dtype)) / run.steps, b.dtype)
        for total, a, b in zip(run.carry["total"], first, last, strict=True)
    ]


def shares(run: Trajectory, adjoint: Adjoint, visited: int) -> tuple[Adjoint, Tensors]:
    """The adjoint at the end of a run, and what each of `visited` steps back adds to it.

    Given the adjoint of the weights that are judged. In a mean every step has the same share.
    """
    if run.judge == "last":
        return adjoint, []
    added = [g / tf.cast(visited, g.dtype) for g in adjoint.weights]
    return adjoint._replace(weights=[tf.zeros_like(g) for g in added]), added
