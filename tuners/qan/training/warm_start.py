"""A training before the first episode: where episodes jump to, what states learn their words from."""

from collections.abc import Sequence

import keras
import numpy as np

from ...storage import files
from .goals import Goal
from .report import DIVERGED, STOP, Decision, Report
from .states import Ratios, State
from .steered_training import SteeredTraining


class WarmStart:
    """Made by the first worker that needs it, and read by the others.

    Args:
        path: of the file.
        states: those that want to be prepared by it.
        jump_start: steps after which the network is kept that episodes begin with; None for none.
    """

    def __init__(self, path: str, states: Sequence[State], jump_start: int | None = None) -> None:
        self._path, self._jump_start = path, jump_start
        self._states = [state for state in states if state.needs_warm_start()]
        self.start: list[np.ndarray] | None = None  # weights of model and optimizer

    @property
    def is_needed(self) -> bool:
        return bool(self._states) or self._jump_start is not None

    def load(self) -> bool:
        """Reads the file; returns whether there is one."""
        saved = files.read_arrays(self._path) if self.is_needed else None
        if saved is None:
            return False
        if self._jump_start is not None:
            self.start = [saved["start"][str(i)] for i in range(len(saved["start"]))]
        for i, state in enumerate(self._states):
            state.codebook = saved["codebooks"][str(i)]
        return True

    def make(self, training: SteeredTraining, seed: int) -> None:
        """Trains with the compiled learning rate, and writes the file.

        Raises:
            ValueError: There is nothing left to learn after `jump_start` steps, or no network.
        """
        if not self.is_needed or self.load():
            return
        seen: list[_Frozen] = []
        start: list[np.ndarray] = []

        def decide(report: Report | None) -> Decision:
            if report is None:
                return None
            if self._states:
                seen.append(_Frozen(training.model))
            if self._jump_start is not None and not start and report.step >= self._jump_start:
                start.extend(training.weights())
                if not self._states:
                    return STOP
            return float(report.rates[0])

        states, training.callback.states = training.callback.states, [Ratios()]
        try:
            reports, _ = training.run(seed, decide)
        finally:
            training.callback.states = states
        if self._jump_start is not None:
            _check_start(self._jump_start, reports, training.callback.goal)
        for state in self._states:
            state.prepare(seen)
        groups = {"start": {str(i): w for i, w in enumerate(start)}}
        if self._states:
            groups["codebooks"] = {
                str(i): np.asarray(s.codebook) for i, s in enumerate(self._states)
            }
        if not self.load():  # another worker was faster
            files.write_arrays(self._path, **groups)
            self.start = start or None


class _Frozen:
    """A model's kernels at one moment, as much of a model as `filters_of` needs."""

    def __init__(self, model: keras.Model) -> None:
        self.layers = [_Layer(layer) for layer in model.layers]

    def get_layer(self, name: str) -> "_Layer":
        return next(layer for layer in self.layers if layer.name == name)


class _Layer:
    def __init__(self, layer: keras.Layer) -> None:
        kernel = getattr(layer, "kernel", None)
        self.name = layer.name
        self.kernel = None if kernel is None else keras.ops.convert_to_numpy(kernel).copy()


def _check_start(jump_start: int, reports: Sequence[Report], goal: Goal) -> None:
    at = next((report for report in reports if report.step >= jump_start), None)
    if at is None or at.ended == DIVERGED:
        raise ValueError(
            f"`jump_start={jump_start}` is not reached: the warm start has ended at step "
            f"{reports[-1].step} ({reports[-1].ended}). Jump to an earlier step."
        )
    if goal.reached(at.metric):
        raise ValueError(
            f"`jump_start={jump_start}` leaves nothing to learn: {goal.metric} is "
            f"{at.metric:.4g} there, and `goal` is {goal}. Jump to an earlier step, or set a "
            "harder goal."
        )
