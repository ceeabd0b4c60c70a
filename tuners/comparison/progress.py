"""`Progress`: how far a comparison has come, and the time that is left."""

import time
from collections.abc import Sequence

import numpy as np

from ..budget import Budget
from .outcome import Outcome, TrialRecord, best


class Progress:
    """Prints a line after each trial.

    Args:
        units: `(method, seed)`, all there are.
        budget: of each.
        metric, direction: of the objective.
        says: whether it prints anything.
    """

    def __init__(
        self,
        units: Sequence[tuple[str, int]],
        budget: Budget,
        metric: str,
        direction: str,
        says: bool,
    ) -> None:
        self._left = list(units)
        self._total = len(units)
        self._budget, self._metric, self._direction = budget, metric, direction
        self._says = says
        self._seconds: dict[str, list[float]] = {}  # of searches that are done, by method

    def trial(self, method: str, seed: int, records: Sequence[TrialRecord]) -> None:
        """A trial has ended."""
        spent = [r.cost if self._budget.unit == "trainings" else r.seconds for r in records]
        seconds = sum(record.seconds for record in records)
        share = min(1.0, sum(spent) / self._budget.amount)
        self._say(
            f"{self._head(method, seed)}: {sum(spent):.3g} of {self._budget}, "
            f"{self._best(records)}, about {_words(self._time_left(method, seed, seconds, share))} left"
        )

    def done(self, outcome: Outcome) -> None:
        """A search has ended, here or in another process, now or before."""
        unit = (outcome.method, outcome.seed)
        if unit not in self._left:
            return
        self._left.remove(unit)
        self._seconds.setdefault(outcome.method, []).append(outcome.seconds)
        if not outcome.is_complete:
            reason = (outcome.error or "").strip().splitlines()
            self._say(f"{self._head(*unit)}: failed. {reason[-1] if reason else ''}")

    def _time_left(self, method: str, seed: int, seconds: float, share: float) -> float:
        """Searches take as long as those of the same method did, or of all methods."""
        whole = seconds / share if share else seconds
        means = {name: float(np.mean(known)) for name, known in self._seconds.items()}
        means.setdefault(method, whole)
        usual = float(np.mean(list(means.values())))
        others = sum(means.get(m, usual) for m, s in self._left if (m, s) != (method, seed))
        return max(whole - seconds, 0.0) + others

    def _head(self, method: str, seed: int) -> str:
        done = self._total - len(self._left)
        return f"{time.strftime('%H:%M:%S')} [{done}/{self._total}] {method}, seed {seed}"

    def _best(self, records: Sequence[TrialRecord]) -> str:
        index = best([record.score for record in records], self._direction)
        return "no result yet" if index is None else f"{self._metric} {records[index].score:.4g}"

    def _say(self, words: str) -> None:
        if self._says:
            print(words, flush=True)


def _words(seconds: float) -> str:
    """A time, roughly."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
