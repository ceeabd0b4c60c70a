"""The line through the mean iterates of segments of training: DrMAD's chord, mended."""

import math
from itertools import pairwise

import tensorflow as tf

from keras_drmad.arguments import positive_integer
from keras_drmad.paths.base import Path, Point, Segment

SHORTEST = 4  # steps a segment, on average: fewer knots for shorter training


class SegmentMeans(Path):
    """A line through the mean iterates of segments of training. Memory: `knots` × weights.

    Training is cut into `knots` segments, short ones first (their ends at `T · (i / knots)^1.5`).
    The path runs through each segment's mean iterate, at its middle, and through both ends of
    training. SGD settles in valleys whose walls just fit its learning rate; a mean of iterates lies
    inside the valley, where the reverse pass is as stable as training was. Velocities are the path's
    own displacements, and gradients those that would make momentum SGD follow them:

        v_t = w_t − w_{t−1}        g_t = (μ v_t − v_{t+1}) / α

    Two guards keep the adjoint of a stable training run from growing, which it must not:

    - `floor`: negative curvature along the adjoint is taken out of each Hessian-vector product. With
      `d` the adjoint of the gradient and `h = H d`: where `κ = ⟨d, h⟩ / ⟨d, d / α⟩` is negative,
      `h ← h − κ d / α`, which leaves `⟨d, h⟩ = 0`.
    - Where the norm of the adjoint of the weights has grown beyond twice that at the end of training,
      the adjoint is scaled back to that.

    Args:
        knots: Number of segments; at most a quarter of the steps are used. Defaults to `16`.
        floor: Whether negative curvature is taken out. Defaults to `True`.
    """

    cap = 2.0

    def __init__(self, knots=16, floor=True):
        self.knots = positive_integer("knots", knots)
        self.floor = bool(floor)

    def segments(self, steps, momenta):
        knots = max(min(self.knots, steps // SHORTEST), 1)
        ends = {round(steps * (i / knots) ** 1.5) for i in range(1, knots + 1)} - {0}
        return [Segment(a, b) for a, b in pairwise([0, *sorted(ends)])]

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
        # A first segment of one step has its middle at 0, where the path begins.
        if times[1] == 0.0:
            del times[1], knots[1]
        after = next(i for i, time in enumerate(times) if time > leg.start)

        def slope(i):
            duration = times[i] - times[i - 1]
            return [(b - a) / duration for a, b in zip(knots[i - 1], knots[i], strict=True)]

        return {
            "knot": knots[after - 1],
            "time": tf.constant(times[after - 1], "float32"),
            "first": tf.constant(leg.start, "float32"),
            "slope": slope(after),
            "slope_before": slope(after - 1) if after > 1 else start[1],
        }

    def point(self, anchors, row, step, rates, momenta):
        since = step - anchors["time"]
        turning = tf.equal(step, anchors["first"])  # the velocity is still that of the leg before
        weights, velocities, gradients = [], [], []
        for k, new, old, r, m in zip(
            anchors["knot"], anchors["slope"], anchors["slope_before"], rates, momenta, strict=True
        ):
            velocity = tf.where(turning, old, new)
            weights.append(k + tf.cast(since, k.dtype) * new)
            velocities.append(velocity)
            gradients.append(tf.math.divide_no_nan(m * velocity - new, r))
        return Point(weights, velocities, gradients)

    def temper(self, products, directions, rates):
        if not self.floor:
            return products
        steps = [tf.math.divide_no_nan(d, r) for d, r in zip(directions, rates, strict=True)]
        curvature = _inner(directions, products)
        share = tf.math.divide_no_nan(tf.minimum(curvature, 0.0), _inner(directions, steps))
        return [h - tf.cast(share, h.dtype) * s for h, s in zip(products, steps, strict=True)]


def _inner(a, b):
    """The inner product of two lists of tensors, in the widest of their dtypes."""
    terms = [tf.reduce_sum(p * q) for p, q in zip(a, b, strict=True)]
    widest = "float64" if any(t.dtype == tf.float64 for t in terms) else "float32"
    return tf.add_n([tf.cast(t, widest) for t in terms])
