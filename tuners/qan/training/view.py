"""A training at the moment of a decision, for the states that observe it."""

from dataclasses import dataclass, field

import keras
import numpy as np


def _unread() -> np.ndarray:
    return np.empty(0)


@dataclass
class View:
    """A training at the moment of a decision; a chunk is the training between two decisions.

    Attributes:
        model: as it is now.
        variables: lists of trainable variables, one for each group that is decided for.
        budget: steps of the whole training.
        start_rate: the learning rate that the model was compiled with.
        every: steps of a full chunk.
        step: steps taken so far.
        steps: of the last chunk.
        rates, momenta: (groups,) of the chunk that comes next, if nothing is changed.
        losses: mean training loss of each chunk so far; first the validation loss before training,
            where it is measured.
        gaps: to the goal, at each decision so far.
        val_losses: of each decision so far; empty without validation data.
        motion: (groups, 4): ‖w‖², ‖Δ‖², ⟨Δ, Δ'⟩ and ‖Δ'‖², with Δ the last chunk's and Δ' the change
            of weights in the chunk before.
    """

    model: keras.Model
    variables: list[list[keras.Variable]]
    budget: int
    start_rate: float
    every: int
    step: int = 0
    steps: int = 0
    rates: np.ndarray = field(default_factory=_unread)
    momenta: np.ndarray = field(default_factory=_unread)
    losses: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    val_losses: list[float] = field(default_factory=list)
    motion: np.ndarray = field(default_factory=_unread)
