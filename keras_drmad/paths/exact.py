"""Paths through the very points of training: all kept, or made again from checkpoints."""

import math
from typing import Any

from keras_drmad.arguments import positive_integer
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


class Checkpointed(Stored):
    """Every `every`-th iterate is kept, and the steps between are trained again.

    Exact; one more forward pass; memory: about `steps / every + every` times the weights and the
    optimizer's slots, least for the default `every = ⌈√steps⌉`.
    """

    replay = "forward"

    def __init__(self, every: int | None = None) -> None:
        self.every = positive_integer("every", every, optional=True)

    def segments(self, steps: int) -> list[Segment]:
        every = self.every or math.isqrt(steps - 1) + 1
        return [Segment(t, min(t + every, steps)) for t in range(0, steps, every)]
