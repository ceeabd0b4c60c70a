"""What a hypergradient search prints of a trial."""

from typing import Protocol

from keras_tuner.engine.trial import Trial

from keras_drmad.words import in_words

from ..distributed.display import SearchDisplay, Searching, metric
from .place import (
    DIFFERENTIATE,
    GRADIENT_NUMBER,
    ITERATION,
    LEARN,
    LEARNED,
    RUN,
    SCOUT,
    STAGE,
    configuration,
)

DOES = {SCOUT: ", trying a start", LEARN: ", learning while it trains", DIFFERENTIATE: ""}


class MetaSearching(Searching, Protocol):
    gradients_per_step: int


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
        return "; ".join(filter(None, [self.score(trial), *numbers]))

    def details(self, trial: Trial) -> list[str]:
        values = trial.hyperparameters.values
        learned = {n: v for n, v in values.items() if n.startswith(LEARNED)}
        return [*(f"{n}: {v}" for n, v in learned.items()), *filter(None, [trial.message])]
