"""What a trial brings: one file, which its worker writes and the oracle reads."""

from dataclasses import dataclass

import keras
import numpy as np

from keras_drmad.engine.derivatives import GROWTH_LIMIT
from keras_drmad.hyperparameters import meta
from keras_drmad.typing import Arrays
from keras_drmad.words import in_words

from ..storage import files


@dataclass
class TrialResult:
    """The hypergradient of a trial, and what it was trained with; or what it has learned.

    Attributes:
        values: displacements of the hyperparameters, and hyper variables; of a trial that learned
            while it trained, those that it has found.
        gradients: the derivatives by them, the mean over the executions; empty if it learned.
        low, high: their bounds.
        effective: the values that the training used, all of a kind in one array.
        steps: training steps.
        growth: how many times the adjoint grew on the way back, at most.
        finite: whether loss, adjoint and derivatives were.
    """

    values: Arrays
    gradients: Arrays
    low: Arrays
    high: Arrays
    effective: Arrays
    steps: int
    growth: float
    finite: bool

    def write(self, path: str) -> None:
        """Writes the file, all or nothing."""
        files.write_arrays(
            path,
            values=self.values,
            gradients=self.gradients,
            low=self.low,
            high=self.high,
            effective=self.effective,
            training={"steps": self.steps, "growth": self.growth, "finite": self.finite},
        )

    @classmethod
    def read(cls, path: str) -> "TrialResult":
        """Reads the file, and waits for one that is late.

        Raises:
            FileNotFoundError: It is not there after ten seconds.
        """
        groups = files.read_late_arrays(path)
        training = groups.pop("training")
        return cls(
            **{"gradients": {}, **groups},
            steps=int(training["steps"]),
            growth=float(training["growth"]),
            finite=bool(training["finite"]),
        )

    def is_usable(self, meta_optimizer: keras.optimizers.Optimizer) -> bool:
        """Whether the hypergradient may move the hyperparameters."""
        return self.finite and (
            isinstance(meta_optimizer, meta.Sign) or self.growth <= GROWTH_LIMIT
        )

    def bounds(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """`{name: (low, high)}` of the values."""
        return {name: (self.low[name], self.high[name]) for name in self.values}

    def divergence(self) -> str:
        """How the training has diverged, in words."""
        if not self.finite:
            return "the loss or the hypergradient is not finite"
        return f"the adjoint grew {self.growth:.1e}-fold on the way back"

    def in_words(self) -> dict[str, str]:
        """Of each kind of effective values the median (least – greatest), for summaries."""
        return {kind: in_words(values) for kind, values in self.effective.items()}
