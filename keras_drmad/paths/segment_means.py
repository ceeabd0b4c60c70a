"""The line through the mean iterates of segments of training: DrMAD's chord, mended."""

import math
from itertools import pairwise
from typing import Any

import tensorflow as tf

from keras_drmad.arguments import flag, positive_integer, suggesting
from keras_drmad.paths.base import End, Path, Point, Segment
from keras_drmad.sums import inner
from keras_drmad.typing import Structure, Tensor, Tensors
from keras_drmad.update_rules.base import Iterate

SHORTEST = 4  # steps a segment, on average: fewer knots for shorter training


@suggesting
class SegmentMeans(Path):
    """A line through the mean iterates of segments of training. Memory: `knots + 4` × weights.

    Training is cut into `knots` segments, short ones first (their ends at `T · (i / knots)^1.5`).
    The path runs through each segment's mean iterate, at its middle, and through both ends of
    training. SGD settles in valleys whose walls just fit its learning rate; a mean of iterates lies
    inside the valley, where the reverse pass is as stable as training was. The optimizer's slots are
    read off the path's own displacements, and so are the gradients. For momentum SGD:

        v_t = w_t − w_{t−1}        g_t = (μ v_t − v_{t+1}) / α

    Two guards keep the adjoint of a stable training from growing:

    - `floor`: negative curvature along the adjoint is taken out of each Hessian-vector product. With
      `d` the adjoint of the gradient and `h = H d`: where `κ = ⟨d, h⟩ / ⟨d, d / α⟩` is negative,
      `h ← h − κ d / α`, which leaves `⟨d, h⟩ = 0`. Not with AdamW, whose steps are bounded by its
      second moment.
    - Where the norm of the adjoint of the weights has grown beyond twice that at the end of training,
      the adjoint is scaled back to that.

    Args:
        knots: Number of segments, at most a quarter of the number of steps. Defaults to `16`.
        floor: Whether negative curvature is taken out. Defaults to `True`.
    """

    max_adjoint_growth = 2.0

    def __init__(self, knots: int = 16, floor: bool = True) -> None:
        self.knots = positive_integer("knots", knots)
        self.floor = flag("floor", floor)

    def segments(self, steps: int) -> list[Segment]:
        knots = max(min(self.knots, steps // SHORTEST), 1)
        ends = {round(steps * (i / knots) ** 1.5) for i in range(1, knots + 1)} - {0}
        return [Segment(a, b) for a, b in pairwise([0, *sorted(ends)])]

    def reverse_segments(self, segments: list[Segment]) -> list[Segment]:
        times = [0, *(math.ceil(s.middle) for s in segments), segments[-1].stop]
        return [Segment(a, b) for a, b in pairwise(times) if b > a]

    def begin(self, start: Iterate) -> Iterate:
        return tf.nest.map_structure(tf.zeros_like, start)

    def accumulate(self, sums: Iterate, iterate: Iterate) -> Iterate:
        return tf.nest.map_structure(lambda s, w: s + w, sums, iterate)

    def summarize(self, sums: Iterate, segment: Segment) -> Iterate:
        return tf.nest.map_structure(lambda s: s / segment.length, sums)

    def mean_weights(self, summary: Iterate) -> Tensors:
        return summary.weights

    def segment_data(
        self,
        segment: Segment,
        segments: list[Segment],
        summaries: list[Iterate],
        start: End,
        end: End,
    ) -> dict[str, Any]:
        times = [0.0, *(s.middle for s in segments), float(segments[-1].stop)]
        first, last = (Iterate(at.weights, at.slots) for at in (start, end))
        knots = [first, *summaries, last]
        # A first segment of one step has its middle at 0, where the path begins.
        if times[1] == 0.0:
            del times[1], knots[1]
        after = next(i for i, time in enumerate(times) if time > segment.start)

        def slope(i: int) -> Iterate:
            duration = times[i] - times[i - 1]
            return tf.nest.map_structure(lambda a, b: (b - a) / duration, knots[i - 1], knots[i])

        return {
            "knot": knots[after - 1],
            "time": tf.constant(times[after - 1], "float32"),
            "first": tf.constant(segment.start, "float32"),
            "slope": slope(after),
            "slope_before": slope(after - 1).weights if after > 1 else start.arriving,
        }

    def point(self, data: dict[str, Any], record: Structure, step: Tensor) -> Point:
        since = step - data["time"]
        at = tf.nest.map_structure(
            lambda knot, slope: knot + tf.cast(since, knot.dtype) * slope,
            data["knot"],
            data["slope"],
        )
        # At its first step a segment is arrived at from the one before.
        turning = tf.equal(step, data["first"])
        leaving = data["slope"].weights
        arriving = [
            tf.where(turning, before, after)
            for before, after in zip(data["slope_before"], leaving, strict=True)
        ]
        return Point(at.weights, at.slots, arriving=arriving, leaving=leaving)

    def adjust_hvp(self, products: Tensors, directions: Tensors, unscaled: Tensors) -> Tensors:
        if not self.floor:
            return products
        curvature = inner(directions, products)
        share = tf.math.divide_no_nan(tf.minimum(curvature, 0.0), inner(directions, unscaled))
        return [h - tf.cast(share, h.dtype) * u for h, u in zip(products, unscaled, strict=True)]
