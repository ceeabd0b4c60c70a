"""What a search by a deep Q-network prints of an episode."""

from typing import Protocol

from keras_tuner.engine.trial import Trial

from keras_drmad.words import in_words

from ..distributed.display import SearchDisplay, Searching, metric
from .decision_channel import KIND
from .search.episode import Episode
from .search.logs import FIRST_RATE, LAST_RATE
from .training.goals import Goal
from .training.report import TRUNCATED


class EpisodeSearching(Searching, Protocol):
    goal: Goal

    def episode(self, trial_id: str) -> Episode: ...


class QANDisplay(SearchDisplay):
    """One line an episode, for there are hundreds."""

    oracle: EpisodeSearching
    word = "Episode"

    def says_begin(self) -> bool:
        return self.verbose > 1  # before what `fit` prints

    def place(self, trial: Trial) -> str:
        return str(trial.hyperparameters.values[KIND])

    def summary(self, trial: Trial) -> list[str]:
        return self.lines(trial)  # its line says that

    def found(self, trial: Trial) -> str:
        ended = self.oracle.episode(trial.trial_id).ended
        # Without a value to reach, all but what diverges is truncated, by the end of its budget.
        how = "missed" if ended == TRUNCATED and self.oracle.goal.value is not None else ended
        said = [f"{self.place(trial)}, {how}", self.score(trial), *self._numbers(trial)]
        return "; ".join(filter(None, said))

    def _numbers(self, trial: Trial) -> list[str]:
        goal, metrics = self.oracle.goal, trial.metrics
        rates = [metrics.get_best_value(n) for n in (FIRST_RATE, LAST_RATE) if metrics.exists(n)]
        return [
            metric(trial, goal.metric) if goal.value is not None else "",
            f"learning rate {' → '.join(map(in_words, rates))}" if rates else "",
            metric(trial, "epsilon"),
            metric(trial, "agent_loss"),
        ]

    def details(self, trial: Trial) -> list[str]:
        return list(filter(None, [trial.message]))
