"""`SearchDisplay`: what a search prints of its trials while it runs, and at the end."""

import datetime
from typing import Protocol

import keras_tuner
import numpy as np
from keras_tuner.engine.trial import Trial, TrialStatus

from keras_drmad.words import in_words

from .. import compat


class Searching(Protocol):
    """What is shown of an oracle."""

    @property
    def max_trials(self) -> int | None: ...

    start_order: list[str]
    objective: keras_tuner.Objective

    def get_best_trials(self, num_trials: int = 1) -> list[Trial]: ...
    def limits(self) -> list[tuple[float, float]]: ...


class SearchDisplay(compat.Display):
    """A line where a trial begins, and some where it has ended.

    Takes the place of KerasTuner's display, whose table of values would hold the search's own
    messages. Subclasses say what a trial is (`place`) and what came of it (`found`, `details`).

    Args:
        oracle: the oracle of the search.
    """

    oracle: Searching
    verbose: int
    search_start: datetime.datetime | None
    trial_start: dict[str, datetime.datetime]
    trial_number: dict[str, int]
    word = "Trial"  # what a trial is called

    def on_trial_begin(self, trial: Trial) -> None:
        if self.verbose < 1:
            return
        name, now = trial.trial_id, datetime.datetime.now()
        self.search_start = self.search_start or now
        self.trial_start[name] = now
        self.trial_number[name] = self.oracle.start_order.index(name) + 1
        if self.says_begin():
            print(f"\n{self.title(trial)}: {self.place(trial)}", flush=True)

    def on_trial_end(self, trial: Trial) -> None:
        if self.verbose < 1:
            return
        took = datetime.datetime.now() - self.trial_start[trial.trial_id]
        times = [duration(took), self.left()]
        for line in self.lines(trial, "; ".join(filter(None, times))):
            print(line, flush=True)

    def left(self) -> str:
        """How much of the search is left, in a few words; "" if that is not known."""
        left = self.time_left()
        return "" if left is None else f"at most {duration(left)} left"

    def time_left(self) -> datetime.timedelta | None:
        """If trials go on as they have; None where that is not known, or all have ended."""
        ratios = [left / done for done, left in self.oracle.limits() if done > 0]
        if not ratios or min(ratios) <= 0 or self.search_start is None:
            return None
        return (datetime.datetime.now() - self.search_start) * min(ratios)

    def costs(self) -> list[str]:
        """What the search has cost, in lines."""
        return []

    def lines(self, trial: Trial, *more: str) -> list[str]:
        """What there is to say of an ended trial, and `more`, in lines."""
        said = "; ".join(filter(None, [self.result(trial), *more]))
        is_complete = trial.status == TrialStatus.COMPLETED
        details = self.details(trial) if is_complete else []  # or KerasTuner has said them
        return [f"{self.title(trial)}: {said}", *(f"  {line}" for line in details)]

    def summary(self, trial: Trial) -> list[str]:
        """The lines of a trial long afterwards, with what it was."""
        return self.lines(trial, self.place(trial))

    def result(self, trial: Trial) -> str:
        """How a trial has ended, in a few words."""
        if trial.status != TrialStatus.COMPLETED:
            return f"{trial.status.lower()}: {_last_line(trial.message)}"
        return self.found(trial)

    def title(self, trial: Trial) -> str:
        number = self.oracle.start_order.index(trial.trial_id) + 1
        most = self.oracle.max_trials
        return f"{self.word} {trial.trial_id} ({number}{f' of {most}' if most else ''})"

    def score(self, trial: Trial) -> str:
        """The objective's value, and the best one so far where that is another trial's."""
        best = next(iter(self.oracle.get_best_trials(1)), trial)
        mine, its = (in_words(np.nan if t.score is None else t.score) for t in (trial, best))
        which = f"best: {its}, {self.word.lower()} {best.trial_id}"
        is_best = best.trial_id == trial.trial_id
        return f"{self.oracle.objective.name} {mine} ({'the best' if is_best else which})"

    def says_begin(self) -> bool:
        """Whether a line says that a trial begins."""
        return True

    def place(self, trial: Trial) -> str:
        """What a trial is, in the search."""
        raise NotImplementedError

    def found(self, trial: Trial) -> str:
        """What came of a trial that is complete."""
        return self.score(trial)

    def details(self, trial: Trial) -> list[str]:
        """Further lines of a complete trial."""
        return []


def metric(trial: Trial, name: str) -> str:
    """A metric of a trial, with its name; "" if it has none."""
    return (
        f"{name} {in_words(trial.metrics.get_best_value(name))}"
        if trial.metrics.exists(name)
        else ""
    )


def duration(time: datetime.timedelta) -> str:
    """
    Example:

    >>> duration(datetime.timedelta(seconds=2.345)), duration(datetime.timedelta(seconds=75.2))
    ('2.3 s', '0:01:15')
    """
    seconds = time.total_seconds()
    return f"{seconds:.1f} s" if seconds < 60 else str(datetime.timedelta(seconds=round(seconds)))


def _last_line(message: str | None) -> str:
    return next(reversed((message or "").strip().splitlines()), "why is in the worker's output")
