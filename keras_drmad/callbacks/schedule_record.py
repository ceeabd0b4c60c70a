"""What was in force while a training learned, and the learned schedule (`Knots`) that it leaves."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from keras_drmad.typing import Arrays, Vectors


class ScheduleRecord:
    """Notes displacements while they are moved, and writes them into knots.

    A knot gets the mean of what was in force near it, weighted as the knot counts there:

        δ_i = Σ_t h_i(t) δ(t) / Σ_t h_i(t),   h_i(t) = max(0, 1 − |position(t) − i|)

    So the noise of single windows is not a part of the schedule. What varies over training but has
    no knots (L2, weight decay) gets its mean over training.

    Args:
        positions: gives where steps stand, in units of knots.
        knots: `{kind: number of knots}` of the kinds that have some.
    """

    def __init__(
        self, positions: Callable[[np.ndarray], np.ndarray], knots: dict[str, int]
    ) -> None:
        self._positions, self._knots = positions, knots
        self._steps: list[int] = []
        self._seen: list[Arrays] = []

    def __len__(self) -> int:
        return len(self._steps)

    def add(self, step: int, displacements: Arrays | Vectors) -> None:
        """Notes `{kind: flat vector}`, in force from a step on, until the next one that is noted."""
        self._steps.append(step)
        self._seen.append({kind: np.asarray(d) for kind, d in displacements.items()})

    def written(self, end: int) -> Arrays:
        """`{kind: flat vector}` of the schedule, for a training that ended before step `end`.

        Knots that training did not reach have what was in force at last.
        """
        ends = [*self._steps[1:], max(end, self._steps[-1] + 1)]
        lengths = np.subtract(ends, self._steps)
        found = {}
        for kind, last in self._seen[-1].items():
            if kind not in self._knots:
                mean = np.average([at[kind] for at in self._seen], axis=0, weights=lengths)
                found[kind] = mean.astype(last.dtype)
                continue
            knots = np.reshape(last, (self._knots[kind], -1)).astype("float64")
            total, weight = np.zeros_like(knots), np.zeros((len(knots), 1))
            for begin, stop, at in zip(self._steps, ends, self._seen, strict=True):
                positions = self._positions(np.arange(begin, stop))
                near = np.maximum(1 - np.abs(positions[:, None] - np.arange(len(knots))), 0)
                total += near.T @ (near @ np.reshape(at[kind], knots.shape))
                weight += near.sum(0)[:, None]
            np.divide(total, weight, out=knots, where=weight > 0)
            found[kind] = knots.astype(last.dtype).ravel()
        return found

    # -- for a training that is broken off ---------------------------------------------------

    def arrays(self) -> Arrays:
        """All that it is, in arrays."""
        if not self._steps:
            return {}
        seen = {kind: np.stack([at[kind] for at in self._seen]) for kind in self._seen[0]}
        return {f"recorded_{kind}": v for kind, v in seen.items()} | {
            "recorded": np.array(self._steps)
        }

    def restore(self, arrays: Arrays) -> None:
        """Goes on from the `arrays` of another one."""
        self._steps = list(map(int, arrays.get("recorded", ())))
        kinds = [name for name in arrays if name.startswith("recorded_")]
        self._seen = [
            {name.removeprefix("recorded_"): arrays[name][i] for name in kinds}
            for i in range(len(self._steps))
        ]
