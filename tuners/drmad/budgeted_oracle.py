"""`BudgetedOracle`: hands out trials until its budget is spent."""

from typing import Any

import keras_tuner
from keras_tuner.engine.trial import TrialStatus

from keras_drmad.typing import JsonObject

from ..budget import Budget
from ..distributed.oracle import ResilientOracle
from .ledger import Lack, Ledger
from .project import DrMADProject


class BudgetedOracle(ResilientOracle):
    """An oracle that asks a `Ledger` before it hands out a trial.

    Args:
        objective, max_trials, timeout, seed, **kwargs: as in `ResilientOracle`.
        budget: of the search, or None.

    Attributes:
        ledger: what trials have cost.
        lacks: of a search that is over, the trial that did not fit in what is left.
    """

    project: DrMADProject

    def __init__(
        self,
        objective: str | keras_tuner.Objective | list[str | keras_tuner.Objective],
        max_trials: int | None,
        budget: Budget | None,
        timeout: float | None,
        seed: int | None,
        **kwargs: Any,
    ) -> None:
        super().__init__(objective, max_trials, timeout, seed, **kwargs)
        self.ledger = Ledger(self, budget)
        self.lacks: Lack | None = None

    @property
    def counts_costs(self) -> bool:
        """Whether the budget is in something of which one trial takes more than another."""
        return self.ledger.budget is not None and self.ledger.budget.unit != "trials"

    def affords(self, stage: str) -> bool:
        """Whether a trial of a stage fits in what is left."""
        self.lacks = self.ledger.lack(stage)
        return self.lacks is None

    def no_trial(self) -> JsonObject:
        """What a worker is told: to wait, as those of others may cost less or lead on; or to end."""
        if self.ongoing_trials:
            self.lacks = None  # not yet: else a search that is killed now would seem to be over
            return {"status": TrialStatus.IDLE}
        if self.lacks is not None:
            self.save()  # for who asks later whether it is over
        return {"status": TrialStatus.STOPPED}

    def is_over(self, state: JsonObject) -> bool:
        budget, lacks = self.ledger.budget, _lack(state)
        is_spent = bool(budget and lacks and not budget.allows(lacks.budget))
        return is_spent or super().is_over(state)

    def limits(self) -> list[tuple[float, float]]:
        return super().limits() + self.ledger.limits(self._old_ends)

    def get_state(self) -> JsonObject:
        return super().get_state() | {"lacks": self.lacks}

    def set_state(self, state: JsonObject) -> None:
        super().set_state(state)
        self.lacks = _lack(state)


def _lack(state: JsonObject) -> Lack | None:
    return Lack(*state["lacks"]) if state["lacks"] else None
