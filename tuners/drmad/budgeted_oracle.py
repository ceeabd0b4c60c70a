"""`BudgetedOracle`: hands out trials until its budget is spent."""

from typing import Any

import keras_tuner
from keras_tuner.engine.trial import TrialStatus

from keras_drmad.typing import JsonObject

from ..budget import Budget
from ..distributed.oracle import ResilientOracle
from .ledger import Ledger
from .project import DrMADProject


class BudgetedOracle(ResilientOracle):
    """An oracle that asks a `Ledger` before it hands out a trial.

    Args:
        objective, max_trials, timeout, seed, **kwargs: as in `ResilientOracle`.
        budget: of the search, or None.

    Attributes:
        ledger: what trials have cost.
        needed: the least budget with which a search that is over would go on; None if it is not.
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
        self.needed: float | None = None

    @property
    def counts_costs(self) -> bool:
        """Whether the budget is in something of which one trial takes more than another."""
        return self.ledger.budget is not None and self.ledger.budget.unit != "trials"

    def affords(self, stage: str) -> bool:
        """Whether a trial of a stage fits in what is left."""
        self.needed = self.ledger.needs(stage)
        return self.needed is None

    def no_trial(self) -> JsonObject:
        """What a worker is told: to wait, as those of others may cost less or lead on; or to end."""
        if self.ongoing_trials:
            return {"status": TrialStatus.IDLE}
        if self.needed is not None:
            self.save()  # for who asks later whether it is over
        return {"status": TrialStatus.STOPPED}

    def is_over(self, state: JsonObject) -> bool:
        budget, needed = self.ledger.budget, state["needed"]
        is_spent = budget is not None and needed is not None and not budget.allows(needed)
        return is_spent or super().is_over(state)

    def limits(self) -> list[tuple[float, float]]:
        return super().limits() + self.ledger.limits(self._old_ends)

    def get_state(self) -> JsonObject:
        return super().get_state() | {"needed": self.needed}

    def set_state(self, state: JsonObject) -> None:
        super().set_state(state)
        self.needed = state["needed"]
