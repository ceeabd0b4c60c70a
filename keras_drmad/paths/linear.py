"""The straight line of DrMAD, and the line through segment means that mends it."""

import math
from itertools import pairwise

import tensorflow as tf

from keras_drmad.paths.base import Path, Point, Segment, positive_integer


def consistent_gradients(velocities, following, rates, momenta):
    """The gradients with which momentum SGD would turn `velocities` into `following`."""
    return [
        (m * v - n) / r for v, n, r, m in zip(velocities, following, rates, momenta, strict=True)
    ]


class Linear(Path):
    """DrMAD as published: the chord `(1 − s) w_0 + s w_T`, `s = t / T`. Memory: 1 × weights.

    Kept unmended, for reproduction: on training runs of any length its hypergradients grow without
    bound, since the chord leaves the valley in which training went.

    Args:
        backward_steps: How many of the steps the reverse pass takes, evenly spread. The original
            code took a tenth. Defaults to all.
    """

    def __init__(self, backward_steps=None):
        self.backward_steps = (
            None if backward_steps is None else positive_integer("backward_steps", backward_steps)
        )

    def visited(self, segment):
        count = min(self.backward_steps or segment.length, segment.length)
        return [segment.start + i * segment.length // count for i in range(count)]

    def anchors(self, leg, segments, kept, start, end):
        steps = segments[-1].stop
        slope = [(b - a) / steps for a, b in zip(start[0], end[0], strict=True)]
        return {"start": start[0], "slope": slope}

    def point(self, anchors, row, step, rates, momenta):
        weights = [
            w + tf.cast(step, w.dtype) * s
            for w, s in zip(anchors["start"], anchors["slope"], strict=True)
        ]
        return Point(weights, anchors["slope"])


class SegmentMeans(Path):
    """A line through the mean iterates of segments of training. Memory: `knots` × weights.

    Training is cut into `knots` segments, short ones first (their ends at `T · (i / knots)²`). The
    path runs through each segment's mean iterate, at its middle, and through both ends of training.
    A mean of iterates lies inside the valley whose walls the iterates bounce off, so the path stays
    where training was stable, and the reverse pass with it.

    Args:
        knots: Number of segments. Defaults to `16`.
    """

    def __init__(self, knots=16):
        self.knots = positive_integer("knots", knots)

    def segments(self, steps, momenta):
        knots = min(self.knots, steps)
        ends = [0]
        for i in range(1, knots + 1):
            end = round(steps * (i / knots) ** 2)
            ends.append(min(max(end, ends[-1] + 1), steps - (knots - i)))
        return [Segment(a, b) for a, b in pairwise(ends)]

    def begin(self, weights):
        return [tf.zeros_like(w) for w in weights]

    def fold(self, sums, weights, velocities, gradients):
        return [s + w for s, w in zip(sums, weights, strict=True)]

    def keep(self, sums, segment):
        return [s / segment.length for s in sums]

    def legs(self, segments):
        times = [0, *(math.ceil(s.middle) for s in segments), segments[-1].stop]
        return [Segment(a, b) for a, b in pairwise(times) if b > a]

    def anchors(self, leg, segments, kept, start, end):
        times = [0.0, *(s.middle for s in segments), float(segments[-1].stop)]
        knots = [start[0], *kept, end[0]]
        after = next(i for i, time in enumerate(times) if i and time > leg.start)
        begin, duration = times[after - 1], times[after] - times[after - 1]
        slope = [(b - a) / duration for a, b in zip(knots[after - 1], knots[after], strict=True)]
        return {"knot": knots[after - 1], "slope": slope, "time": tf.constant(begin, "float32")}

    def point(self, anchors, row, step, rates, momenta):
        since = step - anchors["time"]
        weights = [
            k + tf.cast(since, k.dtype) * s
            for k, s in zip(anchors["knot"], anchors["slope"], strict=True)
        ]
        velocities = anchors["slope"]
        gradients = consistent_gradients(velocities, velocities, rates, momenta)
        return Point(weights, velocities, gradients)
