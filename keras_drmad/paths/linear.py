"""The straight line of DrMAD."""

import tensorflow as tf

from keras_drmad.arguments import positive_integer
from keras_drmad.paths.base import Path, Point


class Linear(Path):
    """DrMAD as published: the chord `(1 − s) w_0 + s w_T`, `s = t / T`. Memory: 1 × weights.

    Kept unmended, for reproduction: on training runs of any length its hypergradients grow without
    bound, since the chord leaves the valley in which training went.

    Args:
        backward_steps: How many of the steps the reverse pass takes, evenly spread. The original
            code took a tenth. Defaults to all.
    """

    def __init__(self, backward_steps=None):
        self.backward_steps = positive_integer("backward_steps", backward_steps, optional=True)

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
