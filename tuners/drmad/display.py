"""What a hypergradient search prints of a trial."""

import math
from typing import Protocol

from keras_tuner.engine.trial import Trial

from keras_drmad.words import in_words

from ..distributed.display import SearchDisplay, Searching, duration, metric
from .ledger import Lack, Ledger
from .meta_run import MetaRun
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
from .pruning import epochs_until_pruned

DOES = {
    SCOUT: "a start of",
    LEARN: "learning in",
    DIFFERENTIATE: "",
    RETEST: "a retest of",
}


class MetaSearching(Searching, Protocol):
    gradients_per_step: int
    ledger: Ledger
    lacks: Lack | None
    runs: list[MetaRun]

    def has_choices(self) -> bool: ...


class DrMADDisplay(SearchDisplay):
    """Says where in the search a trial is, its losses, its growth, and what it was trained with."""

    oracle: MetaSearching

    def place(self, trial: Trial) -> str:
        values = trial.hyperparameters.values
        said = f"{DOES[values[STAGE]]} meta-iteration {values[ITERATION]}".lstrip()
        if chosen := configuration(values):
            words = (f"{n}={in_words(v) if isinstance(v, float) else v}" for n, v in chosen.items())
            said += f" of configuration {values[RUN]} ({', '.join(words)})"
        number, count = values[GRADIENT_NUMBER], self.oracle.gradients_per_step
        if values[STAGE] != RETEST and (number or count > 1):
            said += f", training {number + 1} of {count}"
        return said

    def found(self, trial: Trial) -> str:
        numbers = [metric(trial, name) for name in ("hyper_loss", "growth")]
        said = "; ".join(filter(None, [self.score(trial), *numbers]))
        epochs = epochs_until_pruned(trial)
        return f"PRUNED after epoch {epochs}: {said}" if epochs else said

    def left(self) -> str:
        if self.oracle.ledger.budget is None:
            return super().left()
        left = self.time_left()
        about = "" if left is None else f", about {duration(left)} left"
        return f"{self.oracle.ledger.in_words()}{about}"

    def costs(self) -> list[str]:
        ledger, lacks = self.oracle.ledger, self.oracle.lacks
        if not (split := ledger.split()):
            return []
        lines = [f"{ledger.in_words()}, by stage:", *(f"  {line}" for line in split)]
        if lacks and ledger.budget:
            more = ledger.budget.words(math.ceil(lacks.budget))
            guess = ", at a guess" if lacks.is_guess else ""
            lines.append(f"Another trial ({lacks.stage}) takes a budget of {more}{guess}.")
        if self.oracle.has_choices() and len(self.oracle.runs) == 1:
            lines.append(
                "Only one configuration was tried. For others pass `scouts`, raise `max_trials` or "
                "`budget`, or lower `meta_iterations`."
            )
        return lines

    def details(self, trial: Trial) -> list[str]:
        values = trial.hyperparameters.values
        learned = {n: v for n, v in values.items() if n.startswith(LEARNED)}
        return [*(f"{n}: {v}" for n, v in learned.items()), *filter(None, [trial.message])]
