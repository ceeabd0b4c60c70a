"""When workers were last heard of, and when a training that they have is overdue."""

import time

LEAST_TIMEOUT, TIMEOUT_BEFORE_ANY, TIMEOUT_FACTOR = 60.0, 900.0, 4.0
GONE = 30.0  # an idle worker asks twenty times a second
LONG_AGO = float("-inf")


class Workers:
    """Clocks of an oracle's workers and of the trainings they have; all in seconds.

    Args:
        timeout: of silence, after which a training is overdue; None for four times the longest so far
            of a training that has come back.
    """

    def __init__(self, timeout: float | None = None) -> None:
        self.timeout = timeout
        self.slowest: float | None = None  # the longest silence of a training that has come back
        # By trial: when it was handed out, or last gave a sign of life; its longest silence.
        self._begun: dict[str, float] = {}
        self._longest: dict[str, float] = {}
        self._seen: dict[str, float] = {}  # by worker: when it last asked

    def asks(self, worker: str) -> None:
        self._seen[worker] = time.monotonic()

    def takes(self, trial_id: str, again: bool = False) -> None:
        """A training is handed out; `again`: once more, and begins now."""
        if again or trial_id not in self._begun:
            self._begun[trial_id] = time.monotonic()

    def abandoned(self, trial_id: str) -> None:
        """Whoever had this training is no more."""
        self._begun[trial_id] = LONG_AGO

    def lives(self, trial_id: str) -> None:
        """A training gives a sign of life."""
        now, begun = time.monotonic(), self._begun.get(trial_id, LONG_AGO)
        if begun > LONG_AGO:
            self._longest[trial_id] = max(self._longest.get(trial_id, 0.0), now - begun)
        self._begun[trial_id] = now

    def brings(self, trial_id: str) -> None:
        """A training comes back."""
        if self._begun.get(trial_id, LONG_AGO) > LONG_AGO:
            self.lives(trial_id)
            self.slowest = max(self.slowest or 0.0, self._longest[trial_id])
        self._begun.pop(trial_id, None)
        self._longest.pop(trial_id, None)

    def is_overdue(self, trial_id: str) -> bool:
        return time.monotonic() - self._begun.get(trial_id, time.monotonic()) > self._timeout()

    def _timeout(self) -> float:
        if self.timeout is not None:
            return self.timeout
        if self.slowest is None:
            return TIMEOUT_BEFORE_ANY
        return max(LEAST_TIMEOUT, TIMEOUT_FACTOR * self.slowest)

    def is_gone(self, worker: str) -> bool:
        """Whether a worker that has nothing to do has stopped asking."""
        return time.monotonic() - self._seen.get(worker, LONG_AGO) > GONE
