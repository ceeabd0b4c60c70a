"""Paths through the very points of training: all kept, or made again from checkpoints."""

import math

from keras_drmad.arguments import positive_integer
from keras_drmad.paths.base import Path, Point, Segment


class Stored(Path):
    """Every iterate is kept. Exact; memory: `2 · steps` × weights."""

    exact = True

    def row(self, weights, velocities, state):
        return {"weights": weights, "velocities": velocities, "state": state}

    def point(self, anchors, row, step, rates, momenta):
        return Point(row["weights"], row["velocities"], None, row["state"])


class Checkpointed(Stored):
    """Every `every`-th iterate is kept, and the steps between are trained again.

    Exact; one more forward pass; memory: about `2 · (steps / every + every)` × weights, least for the
    default `every = ⌈√steps⌉`.
    """

    replay = "forward"

    def __init__(self, every=None):
        self.every = positive_integer("every", every, optional=True)

    def segments(self, steps, momenta):
        every = self.every or math.isqrt(steps - 1) + 1
        return [Segment(t, min(t + every, steps)) for t in range(0, steps, every)]
