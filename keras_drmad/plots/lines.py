"""Lines that stand for a recorded path: `Linear`'s chord, and the line of `SegmentMeans`."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from keras_drmad.paths import SegmentMeans
from keras_drmad.plots.recorded_path import RecordedPath, Values, checked


class Line(NamedTuple):
    """A line through the weights (and moving statistics) at some times, straight between them."""

    times: list[float]
    weights: list[Values]
    state: list[Values]

    def at(self, time: float) -> tuple[Values, Values]:
        """`(weights, state)` at a time.

        Before the first and after the last time, weights go straight on. Moving statistics stay at
        those of the nearer end: a variance must not become negative.
        """
        after = int(np.clip(np.searchsorted(self.times, time), 1, len(self.times) - 1))
        before, begin, end = after - 1, self.times[after - 1], self.times[after]
        share = (time - begin) / (end - begin)
        weights = _between(self.weights[before], self.weights[after], share)
        inside = float(np.clip(share, 0, 1))
        return weights, _between(self.state[before], self.state[after], inside)


def chord(path: RecordedPath) -> Line:
    """The straight line from the first to the last weights, as `paths.Linear` has it.

    Raises:
        ValueError: There is one snapshot only.
    """
    checked(path, 2)
    ends = (path.snapshots[0], path.snapshots[-1])
    return Line([float(s.step) for s in ends], [s.weights for s in ends], [s.state for s in ends])


def segment_means(path: RecordedPath, knots: int) -> Line:
    """The line through the means of segments of training, as `paths.SegmentMeans` has it.

    The means are those of the recorded snapshots, each at the mean of their steps. Segments without
    snapshots are left out.
    """
    ends = chord(path)
    first, steps = path.snapshots[0].step, path.snapshots[-1].step - path.snapshots[0].step
    times, weights, state = [ends.times[0]], [ends.weights[0]], [ends.state[0]]
    for start, stop in _segments(steps, knots):
        within = [s for s in path.snapshots if start <= s.step - first < stop]
        time = float(np.mean([s.step for s in within])) if within else times[-1]
        if time > times[-1]:
            times.append(time)
            weights.append(_mean([s.weights for s in within]))
            state.append(_mean([s.state for s in within]))
    return Line([*times, ends.times[1]], [*weights, ends.weights[1]], [*state, ends.state[1]])


def _segments(steps: int, knots: int) -> list[tuple[int, int]]:
    """`[(first step, the step after the last)]` of the segments that `SegmentMeans` takes means of."""
    return [(s.start, s.stop) for s in SegmentMeans(knots).segments(steps)]


def _between(a: Values, b: Values, share: float) -> Values:
    if share in (0, 1):  # exactly an end, whatever the other one is
        return b if share else a
    with np.errstate(invalid="ignore"):  # weights of a training that diverged
        return [(1 - share) * p.astype("float64") + share * q for p, q in zip(a, b, strict=True)]


def _mean(points: Sequence[Values]) -> Values:
    return [np.mean(arrays, axis=0, dtype="float64") for arrays in zip(*points, strict=True)]
