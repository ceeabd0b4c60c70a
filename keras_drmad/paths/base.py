"""What a training path is: where the reverse pass takes its weights from."""

from typing import Any, NamedTuple

from keras_drmad.paths.arithmetic import Floating


class Point(NamedTuple):
    """One point of a path: what the reverse step at step `t` is evaluated at.

    Lists with one tensor a variable. `gradients` are those that the training step used (with L2,
    clipped); None means that they are evaluated at `weights`. `state` are the model's changing
    non-trainable variables; None means that their last values serve.
    """

    weights: list
    velocities: list
    gradients: list | None = None
    state: list | None = None


class Segment(NamedTuple):
    """A stretch of training between two places where a path keeps something."""

    start: int
    stop: int

    @property
    def length(self):
        return self.stop - self.start

    @property
    def middle(self):
        """The mean of the step numbers in it."""
        return (self.start + self.stop - 1) / 2


class Path:
    """Base class of paths. The methods are called in this order.

    Forward, for each segment of `segments(steps)`: `begin`; at each step, compiled, `row` and then
    `fold`; at the end of the segment `keep`, whose results are collected in the list `kept`.
    Backward, for each of `legs(segments)`, last first: `anchors`, and at each of the steps `visited`,
    compiled, `point`.

    Compiled methods see tensors and must be pure; the others run in Python. Two paths that are equal
    (same class and attributes) share compiled programs.

    Attributes:
        exact: whether the points are those that training went through.
        replay: `None`; or, for paths whose rows are made again in the reverse pass rather than kept,
            `"forward"` (from the state at a segment's start) or `"backward"` (by undoing steps).
        cap: the largest growth of the adjoint's norm on the way back that is let through; None for
            any.
        arithmetic: in which numbers steps are taken (`arithmetic.Floating`).
    """

    exact = False
    replay: str | None = None
    cap: float | None = None
    arithmetic: Any = Floating()

    def check(self, update, momenta):
        """Raises a ValueError if this path cannot follow the given `update.Update`."""

    def segments(self, steps, momenta):
        """The list of segments that `steps` training steps are cut into.

        `momenta`: the momentum of each variable, as Python floats.
        """
        return [Segment(0, steps)]

    def legs(self, segments):
        """The segments that the reverse pass is cut into; by default those of the forward pass."""
        return segments

    def visited(self, leg):
        """The steps of a leg that the reverse pass takes, in training order."""
        return range(leg.start, leg.stop)

    def begin(self, weights):
        """Accumulators at the start of a segment (any structure of tensors)."""
        return ()

    def row(self, weights, velocities, state):
        """What is stored of each step before it is taken; stacked along a new first axis."""
        return ()

    def fold(self, sums, weights, velocities, gradients):
        """The accumulators after a step that starts at `weights`, with the gradients it used."""
        return sums

    def keep(self, sums, segment):
        """What stays of a segment."""
        return None

    def anchors(self, leg, segments, kept, start, end):
        """What `point` needs in a leg: any structure of tensors, the same for all legs.

        `start` and `end` are the `(weights, velocities)` at both ends of training.
        """
        return ()

    def point(self, anchors, row, step, rates, momenta):
        """The `Point` at training step `step` (a float scalar tensor, counted from 0)."""
        raise NotImplementedError

    def temper(self, products, directions, rates):
        """The Hessian-vector products to use instead of `products`, the Hessian times `directions`.

        Compiled. `rates` are the learning rates of the variables.
        """
        return products

    # -- for paths with an arithmetic of their own -------------------------------------------

    def close(self, at, segments, index, momenta):
        """`(at, closed)` at the end of segment `index`: what of `at` is set aside until the way back."""
        return at, None

    def reopen(self, at, closed):
        """`at` as it was before `close`."""
        return at

    def information(self, start, closed, steps):
        """What a path has to report of a run, as a dictionary."""
        return {}

    def get_config(self):
        return {k: v for k, v in vars(self).items() if not k.startswith("_")}

    def __eq__(self, other):
        return type(self) is type(other) and self.get_config() == other.get_config()

    def __hash__(self):
        return hash((type(self), tuple(self.get_config().items())))

    def __repr__(self):
        arguments = ", ".join(f"{k}={v!r}" for k, v in self.get_config().items())
        return f"{type(self).__name__}({arguments})"
