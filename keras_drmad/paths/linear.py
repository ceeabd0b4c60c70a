"""The straight line of DrMAD."""

import tensorflow as tf

from keras_drmad.arguments import positive_integer
from keras_drmad.paths.base import End, Path, Point, Segment
from keras_drmad.typing import Structure, Tensor
from keras_drmad.update_rules.base import Iterate


class Linear(Path):
    """DrMAD as published: the chord `(1 − s) w_0 + s w_T`, `s = t / T`. Memory: 2 × weights.

    For reproduction only. On all but the shortest trainings its hypergradients are far too large, as the
    chord leaves the valley in which training went.

    Args:
        backward_steps: How many of the steps the reverse pass takes, evenly spread. The original
            code took a tenth. Defaults to all.
    """

    def __init__(self, backward_steps: int | None = None) -> None:
        self.backward_steps = positive_integer("backward_steps", backward_steps, optional=True)

    def visited_steps(self, segment: Segment) -> list[int]:
        count = min(self.backward_steps or segment.length, segment.length)
        return [segment.start + i * segment.length // count for i in range(count)]

    def segment_data(
        self,
        segment: Segment,
        segments: list[Segment],
        summaries: list[Structure],
        start: End,
        end: End,
    ) -> dict[str, Iterate]:
        steps = segments[-1].stop
        first, last = (Iterate(at.weights, at.slots) for at in (start, end))
        slope = tf.nest.map_structure(lambda a, b: (b - a) / steps, first, last)
        return {"start": first, "slope": slope}

    def point(self, data: dict[str, Iterate], record: Structure, step: Tensor) -> Point:
        at = tf.nest.map_structure(
            lambda first, slope: first + tf.cast(step, first.dtype) * slope,
            data["start"],
            data["slope"],
        )
        return Point(at.weights, at.slots, arriving=data["slope"].weights)
