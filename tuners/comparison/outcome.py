"""What a search of one method with one seed has given, as its file has it."""

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from keras_drmad.typing import JsonObject, Logs

from ..storage import files


@dataclass(frozen=True)
class TrialRecord:
    """A trial.

    Attributes:
        trial_id: KerasTuner's.
        score: the objective, on the validation data; None if it has failed.
        cost: trainings, with hypergradients.
        seconds: of it all, evaluation and compiling too.
        values: hyperparameters.
    """

    trial_id: str
    score: float | None
    cost: float
    seconds: float
    values: JsonObject


@dataclass(frozen=True)
class Choice:
    """What validation data have chosen within a budget, and what test data say of it.

    Attributes:
        trials: how many the budget has paid for.
        trial_id: the chosen one.
        score: its objective.
        test: its metrics on the test data.
    """

    trials: int
    trial_id: str
    score: float
    test: Logs


@dataclass
class Outcome:
    """A search, as far as it has come.

    Attributes:
        method, seed: which one.
        prices: trainings that a training costs, with hypergradients; for each stage of a search.
        trials: in the order in which they ended.
        choices: by budget, as text; those within which no trial has ended are left out.
        error: why there is no choice, or why the search ended early.
    """

    method: str
    seed: int
    prices: dict[str, float] = field(default_factory=dict)
    trials: list[TrialRecord] = field(default_factory=list)
    choices: dict[str, Choice] = field(default_factory=dict)
    error: str | None = None

    @property
    def is_complete(self) -> bool:
        """Whether there is something to compare."""
        return bool(self.choices)

    def has(self, metric: str) -> bool:
        """Whether that is known of each choice; a comparison may go on with another metric."""
        return self.is_complete and all(metric in one.test for one in self.choices.values())

    @property
    def cost(self) -> float:
        """Trainings."""
        return sum(trial.cost for trial in self.trials)

    @property
    def seconds(self) -> float:
        return sum(trial.seconds for trial in self.trials)

    def spent(self, unit: str) -> list[float]:
        """By each trial, in trainings or seconds."""
        return [trial.cost if unit == "trainings" else trial.seconds for trial in self.trials]

    def write(self, path: str) -> None:
        """Writes the file, all or nothing."""
        files.write_json(path, asdict(self))

    @classmethod
    def read(cls, path: str) -> "Outcome | None":
        """What the file has; None if there is none."""
        found: dict[str, Any] | None = files.read_json(path)
        if found is None:
            return None
        found["trials"] = [TrialRecord(**trial) for trial in found["trials"]]
        found["choices"] = {key: Choice(**choice) for key, choice in found["choices"].items()}
        return cls(**found)


def best(scores: list[float | None], direction: str) -> int | None:
    """Where the best of some scores is; None if there is none that is a finite number."""
    sign = 1.0 if direction == "min" else -1.0
    finite = [np.inf if s is None or not np.isfinite(s) else sign * s for s in scores]
    if not finite or not np.isfinite(min(finite)):
        return None
    return int(np.argmin(finite))
