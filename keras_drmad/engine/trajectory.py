"""What is remembered of a training run, for the way back."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from keras_drmad.data import Batches
from keras_drmad.engine.programs import TrainingState
from keras_drmad.paths.base import Segment
from keras_drmad.typing import Structure, Tensor, Tensors, Vectors
from keras_drmad.update_rules.base import Numbers


@dataclass
class Trajectory:
    """A training run as its path remembers it; made by `Engine.begin`, grown by `advance`."""

    start: TrainingState
    hyper: Vectors  # flat values of each kind
    hyper_variables: Tensors
    batches: Batches
    random: list[np.ndarray]  # the seeds that each step saw
    values: Numbers  # of each variable at the first step
    constants: Structure  # of the path's arithmetic
    first: int  # the number that the optimizer gives to the first step
    judge: str  # at which weights the validation loss is taken: one of `judge.JUDGES`
    segments: list[Segment]  # planned; cut off by `Engine.finish` where training ended early
    carry: dict[str, Any]  # of the training loop, at the last step taken
    planned: list[float] = field(
        default_factory=list
    )  # global learning rates, of steps to be taken
    # Of each step, the ones with what a dynamic loss scale made of it.
    rates: list[float] = field(default_factory=list)  # its global learning rate
    iterations: list[int] = field(default_factory=list)  # its number for the optimizer
    taken: list[bool] = field(default_factory=list)  # or left out, as its gradients overflowed
    scales: list[float] = field(default_factory=list)  # of the loss
    losses: list[float] = field(default_factory=list)  # and its training loss
    cuts: list[int] = field(default_factory=list)  # step numbers at which `advance` began
    summaries: list[Structure] = field(default_factory=list)  # what the path keeps of each segment
    # What its arithmetic sets aside of each segment.
    closed: list[dict[int, Tensor]] = field(default_factory=list)
    # Steps of a piece -> what the path stored of them.
    records: dict[tuple[int, ...], Structure] = field(default_factory=dict)
    # Number of a segment -> the loop's carry at its start.
    checkpoints: dict[int, dict[str, Any]] = field(default_factory=dict)
    end: TrainingState = field(init=False)  # set by `Engine.finish`

    @property
    def steps(self) -> int:
        """Steps taken so far."""
        return len(self.rates)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Steps of each segment."""
        return tuple(s.length for s in self.segments)

    def remember(self, steps: list[int], scaled: dict[str, Tensor]) -> None:
        """What the steps of a stack have used under a dynamic loss scale."""
        for values, name in (
            (self.rates, "learning_rate"),
            (self.iterations, "iteration"),
            (self.taken, "taken"),
            (self.scales, "scale"),
        ):
            for step, value in zip(steps, scaled[name].numpy(), strict=False):  # padded
                values[step] = value.item() if name != "learning_rate" else value

    def forget(self) -> None:
        """Drops what only a reverse pass would need; the run can still be advanced."""
        self.records.clear()
        self.checkpoints.clear()
