"""What a hypergradient search prints of a trial."""

import math
from typing import Protocol

from keras_tuner.engine.trial import Trial

from keras_drmad.words import in_words

from ..distributed.display import SearchDisplay, Searching, duration, metric
from .ledger import Ledger
from .place import (
    DIFFERENTIATE,
    GRADIENT_NUMBER,
    ITERATION,
    LEARN,
    LEARNED,
    RETEST,
    RUN,
    SCOUT,
    STAGE,
    configuration,
)
from .pruning import PRUNED, is_pruned

DOES = {
    SCOUT: ", trying a start",
    LEARN: ", learning while it trains",
    DIFFERENTIATE: "",
    RETEST: ", once more",
}


class MetaSearching(Searching, Protocol):
    gradients_per_step: int
    ledger: Ledger
    needed: float | None


class DrMADDisplay(SearchDisplay):
    """Says where in the search a trial is, its losses, its growth, and what it was trained with."""

    oracle: MetaSearching

    def place(self, trial: Trial) -> str:
        values = trial.hyperparameters.values
        said = f"meta-iteration {values[ITERATION]}{DOES[values[STAGE]]}"
        if chosen := configuration(values):
            words = (f"{n}={in_words(v) if isinstance(v, float) else v}" for n, v in chosen.items())
            said += f" of configuration {values[RUN]} ({', '.join(words)})"
        if (number := values[GRADIENT_NUMBER]) or self.oracle.gradients_per_step > 1:
            said += f", training {number + 1} of {self.oracle.gradients_per_step}"
        return said

    def found(self, trial: Trial) -> str:
        numbers = [metric(trial, name) for name in ("hyper_loss", "growth")]
        said = "; ".join(filter(None, [self.score(trial), *numbers]))
        if not is_pruned(trial):
            return said
        epochs = int(trial.metrics.get_best_value(PRUNED))
        return f"PRUNED after epoch {epochs}: {said}"

    def left(self) -> str:
        if self.oracle.ledger.budget is None:
            return super().left()
        left = self.time_left()
        about = "" if left is None else f", about {duration(left)} left"
        return f"{self.oracle.ledger.in_words()}{about}"

    def costs(self) -> list[str]:
        ledger, needed = self.oracle.ledger, self.oracle.needed
        if not (split := ledger.split()):
            return []
        lines = [f"{ledger.in_words()}, by stage:", *(f"  {line}" for line in split)]
        if needed is not None and ledger.budget is not None:
            more = ledger.budget.words(math.ceil(needed))
            lines.append(f"Another trial takes a budget of {more}.")
        return lines

    def details(self, trial: Trial) -> list[str]:
        values = trial.hyperparameters.values
        learned = {n: v for n, v in values.items() if n.startswith(LEARNED)}
        return [*(f"{n}: {v}" for n, v in learned.items()), *filter(None, [trial.message])]
