"""`Budget`: what a search may spend, and whether another trial fits in it."""

import itertools
from collections.abc import Sequence
from typing import Literal

import numpy as np

from keras_drmad.arguments import choice, number, positive_integer, wrong

Unit = Literal["trainings", "steps", "seconds", "trials"]
UNITS = ("trainings", "steps", "seconds", "trials")
ROUNDING = 1e-6


class Budget:
    """An amount of a unit.

    Args:
        amount: a number, or an increasing list: searches spend the last, and smaller ones are their
            beginnings.
        unit: one of `units`.
        units: that may be meant.

    Raises:
        ValueError: An argument is none of these.
    """

    def __init__(
        self, amount: float | Sequence[float], unit: Unit, units: Sequence[str] = UNITS
    ) -> None:
        choice("unit", unit, units)
        if isinstance(amount, np.ndarray):
            amount = amount.tolist()
        if isinstance(amount, str):  # a sequence, too
            raise wrong("budget", amount, "a number")
        amounts = list(amount) if isinstance(amount, Sequence) else [amount]
        for one in amounts:
            if unit == "trials":
                positive_integer("budget", one)
            elif unit == "seconds":
                number("budget", one, above=0.0)
            else:
                number("budget", one, least=1.0)
        if not amounts or any(a >= b for a, b in itertools.pairwise(amounts)):
            raise ValueError(
                "`budget` must be a number, or a list of numbers of which each is larger than the one "
                f"before. Received: budget={amount!r}"
            )
        self.amounts, self.unit = [float(a) for a in amounts], unit

    @property
    def amount(self) -> float:
        """What is spent at most."""
        return self.amounts[-1]

    def allows(self, total: float, amount: float | None = None) -> bool:
        """Whether so much in all is within the budget, or within a smaller `amount`."""
        return total <= (self.amount if amount is None else amount) + ROUNDING

    def allows_another(self, spent: Sequence[float], amount: float | None = None) -> bool:
        """Whether another trial may begin: the first, and then those that fit in what is left.

        A trial is expected to take what those before took in the mean.

        Args:
            spent: by each trial so far.
            amount: of the budget. Defaults to all of it.
        """
        total = sum(spent)
        most = self.amount if amount is None else amount
        return not spent or (total < most and self.allows(total + total / len(spent), most))

    def trials_within(self, spent: Sequence[float], amount: float) -> int:
        """How many trials of a search would have begun with a smaller budget."""
        count = 0
        while count < len(spent) and self.allows_another(spent[:count], amount):
            count += 1
        return count

    def words(self, amount: float) -> str:
        """An amount, with its unit.

        >>> Budget(3, "trainings").words(1)
        '1 training'
        """
        shown = f"{amount:.3g}" if amount < 1000 else f"{amount:.0f}"
        return f"{shown} {self.unit if amount != 1 else self.unit.removesuffix('s')}"

    def __str__(self) -> str:
        return self.words(self.amount)
