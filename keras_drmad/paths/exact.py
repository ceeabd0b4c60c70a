"""Paths through the very points of training: all kept, or made again from checkpoints."""

import math
from collections.abc import Sequence
from typing import Any

from keras_drmad.arguments import positive_integer, suggesting
from keras_drmad.paths import binomial
from keras_drmad.paths.base import Path, Point, Segment
from keras_drmad.typing import Structure, Tensor, Tensors
from keras_drmad.update_rules.base import Iterate


class Stored(Path):
    """Every iterate is kept. Exact; memory: weights and optimizer's slots of every step."""

    exact = True

    def step_record(self, iterate: Iterate, state: Tensors) -> dict[str, Any]:
        return {"weights": iterate.weights, "slots": iterate.slots, "state": state}

    def point(self, data: Structure, record: dict[str, Any], step: Tensor) -> Point:
        return Point(record["weights"], record["slots"], record["state"])


@suggesting
class Checkpointed(Stored):
    """Some iterates are kept, and the steps between are trained again. Exact.

    Kept are, by default, every `every`-th iterate, and on the way back the `every` iterates from one of
    them to the next. That is one more forward pass, and a memory of about `steps / every + every` times
    the weights and the optimizer's slots.

    With `slots` no more than that many checkpoints (and the last) are kept by the forward pass, and as
    many on the way back, `2 · slots + every` iterates in all. Where one is missing, training is repeated
    from the last one before, and checkpoints that are done with make room for others, such that the
    fewest steps are repeated (binomial checkpointing). For `n = steps / every` stretches and
    `slots = log₂ n`, that is less than `log₂ n` times for each.

    Args:
        every: Steps from one checkpoint to the next. Defaults to `⌈√steps⌉`, or to `slots` if that is
            given.
        slots: The most checkpoints at a time; `None` (the default) for as many as there are.

    References:
        Griewank and Walther, Algorithm 799: Revolve, ACM TOMS 26, 2000.
    """

    replay = "forward"

    def __init__(self, every: int | None = None, slots: int | None = None) -> None:
        self.every = positive_integer("every", every, optional=True)
        self.slots = positive_integer("slots", slots, optional=True)

    def segments(self, steps: int) -> list[Segment]:
        every = self.every or self.slots or math.isqrt(steps - 1) + 1
        return [Segment(t, min(t + every, steps)) for t in range(0, steps, every)]

    def checkpoints(self, segments: int, others: int = 0) -> Sequence[int]:
        if self.slots is None:
            return range(segments)
        return binomial.places(segments, self.slots - others)
