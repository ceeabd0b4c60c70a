"""A first run: where episodes jump to, and what states learn their words from."""

import keras

from ...storage import files
from .report import DIVERGED, STOP
from .states import Ratios


class FirstRun:
    """Made by the first worker that needs it, and read by the others.

    Args:
        path: of the file.
        states: those that want to be prepared by it.
        jump_start: steps after which the network is kept that episodes begin with; None for none.
    """

    def __init__(self, path, states, jump_start=None):
        self._path, self._jump_start = path, jump_start
        self._states = [state for state in states if state.needs_first_run()]
        self.start = None  # weights of model and optimizer

    @property
    def is_needed(self):
        return bool(self._states) or self._jump_start is not None

    def load(self):
        """Reads the file; returns whether there is one."""
        saved = files.read_arrays(self._path) if self.is_needed else None
        if saved is None:
            return False
        if self._jump_start is not None:
            self.start = [saved["start"][str(i)] for i in range(len(saved["start"]))]
        for i, state in enumerate(self._states):
            state.codebook = saved["codebooks"][str(i)]
        return True

    def make(self, subject, seed):
        """Trains with the compiled learning rate, and writes the file.

        Raises:
            ValueError: There is nothing left to learn after `jump_start` steps, or no network.
        """
        if not self.is_needed or self.load():
            return
        seen, start = [], []

        def decide(report):
            if report is None:
                return None
            if self._states:
                seen.append(_Frozen(subject.model))
            if self._jump_start is not None and not start and report.step >= self._jump_start:
                start.extend(subject.weights())
                if not self._states:
                    return STOP
            return float(report.rates[0])

        states, subject.steering.states = subject.steering.states, [Ratios()]
        try:
            reports, _ = subject.run(seed, decide)
        finally:
            subject.steering.states = states
        if self._jump_start is not None:
            self._check_start(reports, subject.steering.goal)
        for state in self._states:
            state.prepare(seen)
        groups = {"start": {str(i): w for i, w in enumerate(start)}}
        if self._states:
            groups["codebooks"] = {str(i): s.codebook for i, s in enumerate(self._states)}
        if not self.load():  # another worker was faster
            files.write_arrays(self._path, **groups)
            self.start = start or None

    def _check_start(self, reports, goal):
        at = next((report for report in reports if report.step >= self._jump_start), None)
        if at is None or at.ended == DIVERGED:
            raise ValueError(
                f"`jump_start={self._jump_start}` is not reached: a first run has ended at step "
                f"{reports[-1].step} ({reports[-1].ended}). Jump to an earlier step."
            )
        if goal.reached(at.metric):
            raise ValueError(
                f"`jump_start={self._jump_start}` leaves nothing to learn: {goal.metric} is "
                f"{at.metric:.4g} there, and `goal` is {goal}. Jump to an earlier step, or set a "
                "harder goal."
            )


class _Frozen:
    """A model's kernels at one moment, as much of a model as `filters_of` needs."""

    def __init__(self, model):
        self.layers = [_Layer(layer) for layer in model.layers]

    def get_layer(self, name):
        return next(layer for layer in self.layers if layer.name == name)


class _Layer:
    def __init__(self, layer):
        kernel = getattr(layer, "kernel", None)
        self.name = layer.name
        self.kernel = None if kernel is None else keras.ops.convert_to_numpy(kernel).copy()
