"""`Ledger`: what the trials of a search have cost, and whether another one fits in the budget."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from keras_tuner.engine.trial import Trial

from ..budget import Budget
from .costs import COST
from .place import DIFFERENTIATE, LEARN, RETEST, SCOUT, STAGE
from .project import DrMADProject
from .pruning import is_pruned

# Trainings that a trial is taken to cost before one of its stage has ended.
GUESSES = {SCOUT: 1.0, LEARN: 3.0, DIFFERENTIATE: 3.0, RETEST: 1.0}
STAGES = {SCOUT: "scouting", LEARN: "learning", DIFFERENTIATE: "refining", RETEST: "retesting"}


class Keeping(Protocol):
    """What of an oracle its ledger looks at."""

    trials: dict[str, Trial]
    end_order: list[str]
    project: DrMADProject


class Ledger:
    """Adds up what trials have cost, as they have measured it themselves.

    A trial that is going on, and one that has failed, count as much as those of their stage have cost
    in the mean. One whose configuration was refused has cost nothing.

    Args:
        oracle: of the search.
        budget: of the search, or None.
    """

    def __init__(self, oracle: Keeping, budget: Budget | None) -> None:
        self._oracle, self.budget = oracle, budget
        self._unit = Budget(1, "trainings") if budget is None else budget

    # -- what it was ----------------------------------------------------------------------------

    def spent(self, trial_ids: Sequence[str] | None = None) -> float:
        """By trials that have ended, or by some of them."""
        names = self._oracle.end_order if trial_ids is None else trial_ids
        return sum(self.cost(self._oracle.trials[name]) for name in names)

    def cost(self, trial: Trial) -> float:
        """Of a trial that has ended, or that goes on."""
        measured = self._measured(trial)
        if measured is not None:
            return measured
        is_refused = self._oracle.project.why_refused(trial.trial_id) is not None
        return 0.0 if is_refused else self.expected(_stage(trial))

    def _measured(self, trial: Trial) -> float | None:
        if self._unit.unit == "trials":
            return 1.0
        name = COST + self._unit.unit
        return float(trial.metrics.get_best_value(name)) if trial.metrics.exists(name) else None

    def _known(self) -> list[tuple[Trial, float]]:
        """Trials that have said what they cost."""
        ended = [self._oracle.trials[name] for name in self._oracle.end_order]
        measured = [(trial, self._measured(trial)) for trial in ended]
        return [(trial, cost) for trial, cost in measured if cost is not None]

    # -- what it will be ------------------------------------------------------------------------

    def expected(self, stage: str) -> float:
        """What a trial will cost: the mean of its stage.

        Of a stage of which none has ended it is a guess, by what whole trials of others have cost. In
        steps and seconds nothing can be guessed before a first trial has ended: 0.
        """
        if self._unit.unit == "trials":
            return 1.0
        known = self._known()
        costs = [cost for trial, cost in known if _stage(trial) == stage]
        if costs:
            return float(np.mean(costs))
        whole = [(cost, GUESSES[_stage(trial)]) for trial, cost in known if not is_pruned(trial)]
        if not whole:
            return GUESSES[stage] if self._unit.unit == "trainings" else 0.0
        found, guessed = np.sum(whole, 0)
        return float(GUESSES[stage] * found / guessed)

    def needs(self, stage: str) -> float | None:
        """The least budget that another trial would fit in; None if it fits in this one.

        The first trial fits in any.
        """
        if self.budget is None or not self._oracle.trials:
            return None
        taken = sum(self.cost(trial) for trial in self._oracle.trials.values())
        total = taken + self.expected(stage)
        return None if self.budget.allows(total) else total

    def limits(self, before: int) -> list[tuple[float, float]]:
        """As in `ResilientOracle`: what was spent since so many trials had ended, and what is left."""
        if self.budget is None:
            return []
        spent = self.spent()
        earlier = self.spent(self._oracle.end_order[:before])
        return [(spent - earlier, self.budget.amount - spent)]

    # -- in words -------------------------------------------------------------------------------

    def in_words(self) -> str:
        """What was spent, and of how much."""
        spent = self.spent()
        if self.budget is None:
            return f"{self._unit.words(spent)} spent"
        return f"{spent:.3g} of {self.budget} spent"

    def split(self) -> list[str]:
        """What each stage has cost, in lines."""
        ended = [self._oracle.trials[name] for name in self._oracle.end_order]
        lines = []
        for stage, name in STAGES.items():
            if not (own := [trial for trial in ended if _stage(trial) == stage]):
                continue
            count = f"{len(own)} trial{'s' if len(own) > 1 else ''}"
            if pruned := sum(map(is_pruned, own)):
                count += f", {pruned} PRUNED"
            cost = self._unit.words(self.spent([trial.trial_id for trial in own]))
            lines.append(f"{name}: {cost} ({count})")
        return lines


def _stage(trial: Trial) -> str:
    return trial.hyperparameters.values[STAGE]
