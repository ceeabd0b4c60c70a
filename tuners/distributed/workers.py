"""When workers were last heard of, and which trainings were given to them."""

import time

TIMEOUT = 60.0
LONG_AGO = float("-inf")


class Workers:
    """Clocks of an oracle's workers, and what they hold.

    A worker is alive while it says so, however long its training takes: its own thread does (see
    `Link.alive`), and so does each call. Where nobody was heard, the chief or its network was away: no
    worker is taken for dead by that.

    Args:
        timeout: seconds of silence, after which a worker is taken for dead; None for 60.
    """

    def __init__(self, timeout: float | None = None) -> None:
        self.timeout = TIMEOUT if timeout is None else timeout
        self._seen: dict[str, float] = {}  # by worker
        self._heard = LONG_AGO  # any of them
        self._given: dict[str, set[str]] = {}  # by trial: workers that may bring it

    def lives(self, worker: str) -> None:
        now = time.monotonic()
        if now - self._heard > self.timeout / 2:
            for other, seen in dict(self._seen).items():
                if seen > LONG_AGO:
                    self._seen[other] = now
        self._heard = self._seen[worker] = now

    def dies(self, worker: str) -> None:
        self._seen[worker] = LONG_AGO

    def is_silent(self, worker: str) -> bool:
        return time.monotonic() - self._seen.get(worker, LONG_AGO) > self.timeout

    def takes(self, worker: str, trial_id: str) -> None:
        """A training is handed out; to a second worker too, where the first has been silent."""
        self._given.setdefault(trial_id, set()).add(worker)

    def brings(self, trial_id: str) -> None:
        """A training has come back."""
        self._given.pop(trial_id, None)

    def has(self, worker: str, trial_id: str) -> bool:
        """Whether a training was given to a worker, and has not come back."""
        return worker in self._given.get(trial_id, ())
