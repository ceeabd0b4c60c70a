"""How weights have moved through a training: recorded, kept in files, and read again."""

from collections.abc import Sequence

import keras
import numpy as np

from keras_drmad.typing import Arrays

from ...storage import files

KNOTS = 17


class WeightPath:
    """Weights over a training, linear between a few of its decisions.

    Args:
        steps: of the knots, ascending.
        weights: lists of arrays, one a knot.
    """

    def __init__(self, steps: Sequence[int], weights: Sequence[list[np.ndarray]]) -> None:
        self.steps, self.weights = list(steps), list(weights)

    @classmethod
    def distilled(cls, steps: Sequence[int], weights: Sequence[list[np.ndarray]]) -> "WeightPath":
        """Of all decisions: `KNOTS` of them, evenly spread."""
        chosen = np.unique(np.linspace(0, len(steps) - 1, KNOTS).round().astype(int))
        return cls([steps[i] for i in chosen], [weights[i] for i in chosen])

    def at(self, step: int) -> list[np.ndarray]:
        """The weights at a step; after the end, the last ones."""
        after = int(np.searchsorted(self.steps, step))
        if after == 0 or after == len(self.steps):
            return self.weights[min(after, len(self.steps) - 1)]
        low, high = self.steps[after - 1], self.steps[after]
        f = (step - low) / (high - low)
        pairs = zip(self.weights[after - 1], self.weights[after], strict=True)
        return [(1 - f) * a + f * b for a, b in pairs]

    def as_arrays(self) -> dict[str, Arrays]:
        arrays = {f"{k}_{i}": w for k, of in enumerate(self.weights) for i, w in enumerate(of)}
        return {"weights": arrays, "steps": {"steps": np.array(self.steps)}}

    @classmethod
    def from_arrays(cls, saved: dict[str, Arrays]) -> "WeightPath":
        steps = saved["steps"]["steps"]
        number = len(saved["weights"]) // len(steps)
        weights = [[saved["weights"][f"{k}_{i}"] for i in range(number)] for k in range(len(steps))]
        return cls(list(steps), weights)


class WeightPathRecorder:
    """Collects a training's `WeightPath`."""

    def __init__(self) -> None:
        self._steps: list[int] = []
        self._weights: list[list[np.ndarray]] = []

    def add(self, step: int, model: keras.Model) -> None:
        if len(self._steps) == 8 * KNOTS:  # more than enough to take knots from
            self._steps, self._weights = self._steps[::2], self._weights[::2]
        self._steps.append(step)
        self._weights.append([v.numpy() for v in model.trainable_variables])

    def write(self, path: str) -> None:
        """As `WeightPath.from_arrays` reads it; a training without a decision has none."""
        if self._steps:
            found = WeightPath.distilled(self._steps, self._weights)
            files.write_arrays(path, **found.as_arrays())
