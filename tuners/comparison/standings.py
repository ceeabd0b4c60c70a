"""`Standings`: the numbers of a comparison."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import keras_tuner
import numpy as np

from keras_drmad.arguments import choice
from keras_drmad.typing import JsonObject

from .. import luck
from ..budget import ROUNDING, Budget
from . import statistics, verdict
from .curve import Curve, curve
from .outcome import Outcome
from .statistics import Difference

TOLERATED = 0.05  # of a budget: what overspends more is said to


class Row(NamedTuple):
    """A method within a budget; means are over the seeds that have a result.

    Attributes:
        method: its name.
        values: the metric on the test data, by seed.
        mean, error: of them, and the standard error; NaN where there are too few.
        rank: the mean over seeds; 1 is best.
        trials: the mean number of trials that the budget has paid for.
        spent: the mean, in the budget's unit.
        unused, overspent: of the budget; one of them is 0.
        seconds: the mean of what these trials have taken.
        missing: seeds without a result.
    """

    method: str
    values: dict[int, float]
    mean: float
    error: float
    rank: float
    trials: float
    spent: float
    unused: float
    overspent: float
    seconds: float
    missing: list[int]


class Standings:
    """What can be said of outcomes; its attributes are those of `Comparison`."""

    def __init__(
        self,
        methods: Sequence[str],
        seeds: Sequence[int],
        budget: Budget,
        objective: keras_tuner.Objective,
        metric: keras_tuner.Objective,
        outcomes: Sequence[Outcome],
        warnings: Sequence[str],
        settings: JsonObject,
    ) -> None:
        self.methods, self.seeds, self.budget = list(methods), list(seeds), budget
        self.objective, self.metric = objective, metric
        self.outcomes, self.warnings = list(outcomes), list(warnings)
        self.settings = settings

    # -- numbers -----------------------------------------------------------------------------

    def rows(self, budget: float | None = None) -> list[Row]:
        """A `Row` for each method, best first, within a budget (by default all of it).

        Raises:
            ValueError: There is no such budget.
        """
        amount = self._amount(budget)
        results = self._results(amount)
        ranks = statistics.ranks({n: of for n, of in results.items() if of}, self.metric.direction)
        rows = [self._row(name, results[name], ranks, amount) for name in self.methods]
        sign = 1 if self.metric.direction == "min" else -1
        return sorted(rows, key=lambda r: math.inf if math.isnan(r.mean) else sign * r.mean)

    def differences(self, budget: float | None = None) -> list[Difference]:
        """A `Difference` for each pair of methods: on the same seeds, with bootstrap intervals.

        Raises:
            ImportError: There is no SciPy (extra `compare`).
            ValueError: There is no such budget.
        """
        return statistics.differences(self._results(self._amount(budget)), self.metric.direction)

    def verdict(self, budget: float | None = None) -> str:
        """What can be said, in words. It raises what `differences` does."""
        rows = self.rows(budget)
        means = {row.method: row.mean for row in rows if row.values}
        missing = {row.method: len(row.missing) for row in rows if row.missing}
        pairs = self.differences(budget)
        more = {
            row.method: self.budget.words(row.overspent)
            for row in rows
            if row.values and row.overspent > TOLERATED * self._amount(budget)
        }
        return verdict.verdict(means, pairs, self.metric.name, len(self.seeds), missing, more)

    def expected_best(self, method: str) -> Curve | None:
        """The expected best objective on the validation data, over what was spent.

        Of random search it is the expectation over the order of the trials (Dodge et al., 2019); of
        other tuners the best so far. Its band is the standard error over seeds. None if no trial has
        a score.

        Raises:
            ValueError: There is no such method.
        """
        choice("method", method, self.methods)
        outcomes = [outcome for outcome in self.outcomes if outcome.method == method]
        is_random = self.settings["methods"][method]["is_random"]
        direction = self.objective.direction
        return curve(outcomes, self.budget.unit, self.budget.amount, direction, is_random)

    def _amount(self, budget: float | None) -> float:
        amount = self.budget.amount if budget is None else float(budget)
        if amount not in self.budget.amounts:
            raise ValueError(
                f"`budget` must be one of {self.budget.amounts}. Received: budget={budget!r}"
            )
        return amount

    def _results(self, amount: float) -> dict[str, dict[int, float]]:
        """`{method: {seed: the metric on the test data}}`."""
        results: dict[str, dict[int, float]] = {name: {} for name in self.methods}
        for outcome in self.outcomes:
            choice = outcome.choices.get(str(amount))
            value = choice.test.get(self.metric.name, math.nan) if choice else math.nan
            if np.isfinite(value):
                results[outcome.method][outcome.seed] = value
        return results

    def _row(
        self, name: str, values: dict[int, float], ranks: dict[str, float], amount: float
    ) -> Row:
        counts, spent, seconds = [], [], []
        for outcome in self.outcomes:
            if outcome.method == name and (choice := outcome.choices.get(str(amount))):
                counts.append(choice.trials)
                spent.append(sum(outcome.spent(self.budget.unit)[: choice.trials]))
                seconds.append(sum(trial.seconds for trial in outcome.trials[: choice.trials]))
        total = _mean(spent)
        return Row(
            name,
            values,
            _mean(list(values.values())),
            luck.standard_error(list(values.values())),
            ranks.get(name, math.nan),
            _mean(counts),
            total,
            _beyond(amount, total),
            _beyond(total, amount),
            _mean(seconds),
            [seed for seed in self.seeds if seed not in values],
        )


def _beyond(one: float, other: float) -> float:
    """How much one is above the other; rounding is nothing."""
    return max(0.0, one - other) if one - other > ROUNDING else 0.0


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else math.nan
