"""What a training path is: where the reverse pass takes its weights from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, NamedTuple

from keras_drmad.paths.arithmetic import Arithmetic, Floating
from keras_drmad.typing import Slots, Structure, Tensor, Tensors
from keras_drmad.update_rules.base import Iterate


class Point(NamedTuple):
    """One point of a path: what the reverse step at step `t` is evaluated at.

    Lists with one tensor a variable.

    Attributes:
        weights: the weights.
        slots: what the optimizer keeps beside them, as far as the path knows it.
        state: the model's changing non-trainable variables; None means that their last values serve.
        arriving: the displacement along the path before this step, `w_t − w_{t−1}`. The update rule
            reads its slots off it. None means that `slots` are those of training.
        leaving: the displacement along the path after it, `w_{t+1} − w_t`. The update rule then takes
            the gradient with which it would move so. None means that it is evaluated at `weights`.
    """

    weights: Tensors
    slots: Slots | None = None
    state: Tensors | None = None
    arriving: Tensors | None = None
    leaving: Tensors | None = None


class End(NamedTuple):
    """One end of training, as an approximate path sees it.

    Attributes:
        weights: the weights.
        slots: those whose means the update rule asks for (`UpdateRule.averaged`).
        arriving: the displacement of the weights in the step before, as far as the slots tell it.
    """

    weights: Tensors
    slots: Slots
    arriving: Tensors


class Segment(NamedTuple):
    """A stretch of training between two places where a path keeps something."""

    start: int
    stop: int

    @property
    def length(self) -> int:
        return self.stop - self.start

    @property
    def middle(self) -> float:
        """The mean of the step numbers in it."""
        return (self.start + self.stop - 1) / 2


def cut(segments: list[Segment], longest: int | None) -> list[Segment]:
    """Segments, cut into parts of at most `longest` steps."""
    if longest is None:
        return segments
    return [
        Segment(t, min(t + longest, s.stop))
        for s in segments
        for t in range(s.start, s.stop, longest)
    ]


class Path:
    """Base class of paths. The methods are called in this order.

    Forward, for each segment of `segments(steps)`: `begin`; at each step, compiled, `step_record` and
    then `accumulate`; at the end of the segment `summarize`, whose results are collected in a list.
    Backward, for each of `reverse_segments(segments)`, last first: `segment_data`, and at each of the
    `visited_steps`, compiled, `point` and `adjust_hvp`.

    Compiled methods see tensors and must be pure; the others run in Python. Two paths that are equal
    (same class and attributes) share compiled programs.

    Attributes:
        exact: whether the points are those that training went through.
        replay: `None`; or, for paths whose records are made again in the reverse pass rather than
            kept, `"forward"` (from the state at a segment's start) or `"backward"` (by undoing steps).
        max_adjoint_growth: the largest growth of the adjoint's norm on the way back that is let
            through; None for any.
        arithmetic: in which numbers steps are taken (`arithmetic.Floating`).
    """

    exact: ClassVar[bool] = False
    replay: ClassVar[Literal["forward", "backward"] | None] = None
    max_adjoint_growth: ClassVar[float | None] = None
    arithmetic: ClassVar[Arithmetic] = Floating()

    def segments(self, steps: int) -> list[Segment]:
        """The segments that `steps` training steps are cut into."""
        return [Segment(0, steps)]

    def checkpoints(self, segments: int, others: int = 0) -> Sequence[int]:
        """Of paths that replay forward: at the start of which of so many segments, one after another,
        the place where training stands is kept, the first among them. `others` are kept beside.
        """
        return range(segments)

    def reverse_segments(self, segments: list[Segment]) -> list[Segment]:
        """The segments of the reverse pass; by default those of the forward pass."""
        return segments

    def visited_steps(self, segment: Segment) -> Sequence[int]:
        """The steps of a segment that the reverse pass takes, in training order."""
        return range(segment.start, segment.stop)

    def begin(self, start: Iterate) -> Structure:
        """Accumulators at the start of a segment (any structure of tensors).

        `start` is where training began; only shapes and dtypes matter.
        """
        return ()

    def step_record(self, iterate: Iterate, state: Tensors) -> Structure:
        """What is stored of each step before it is taken; stacked along a new first axis.

        `iterate` has the `weights` and the `slots` of the optimizer, `state` the model's other
        variables that training changes.
        """
        return ()

    def accumulate(self, sums: Structure, iterate: Iterate) -> Structure:
        """The accumulators after a step that starts at `iterate`.

        Of slots it has those whose means the update rule asks for (`UpdateRule.averaged`).
        """
        return sums

    def summarize(self, sums: Structure, segment: Segment) -> Structure:
        """What stays of a segment."""
        return None

    def mean_weights(self, summary: Structure) -> Tensors | None:
        """The mean of the weights over a segment, from what is kept of it; None if that is not kept."""
        return None

    def segment_data(
        self,
        segment: Segment,
        segments: list[Segment],
        summaries: list[Structure],
        start: End,
        end: End,
    ) -> Structure:
        """What `point` needs in a segment of the reverse pass: tensors, in the same structure for all.

        `segments` are those of the forward pass and `summaries` what was kept of them; `start` and
        `end` are both ends of training.
        """
        return ()

    def point(self, data: Structure, record: Structure, step: Tensor) -> Point:
        """The `Point` at training step `step` (a float scalar tensor, counted from 0)."""
        raise NotImplementedError

    def adjust_hvp(self, products: Tensors, directions: Tensors, unscaled: Tensors) -> Tensors:
        """The Hessian-vector products to use instead of `products`, the Hessian times `directions`.

        Compiled, and not called for AdamW. `unscaled` are the directions over the size of a training
        step, `d / α`.
        """
        return products

    def get_config(self) -> dict[str, Any]:
        return {k: v for k, v in vars(self).items() if not k.startswith("_")}

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Path)
            and type(self) is type(other)
            and self.get_config() == other.get_config()
        )

    def __hash__(self) -> int:
        return hash((type(self), tuple(self.get_config().items())))

    def __repr__(self) -> str:
        arguments = ", ".join(f"{k}={v!r}" for k, v in self.get_config().items())
        return f"{type(self).__name__}({arguments})"
