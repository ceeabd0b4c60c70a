"""`Budget`: what each method may spend, and when a search ends."""

import itertools
from collections.abc import Sequence
from typing import Literal

from keras_drmad.arguments import number

Unit = Literal["trainings", "seconds"]
UNITS = ("trainings", "seconds")
ROUNDING = 1e-6


class Budget:
    """The same amount for each method and seed.

    Args:
        amount: a number, or an increasing list: searches spend the last, and smaller ones are their
            beginnings.
        unit: `"trainings"` or `"seconds"`.

    Raises:
        ValueError: An argument is none of these.
    """

    def __init__(self, amount: float | Sequence[float], unit: Unit) -> None:
        if unit not in UNITS:
            raise ValueError(f'`unit` must be "trainings" or "seconds". Received: unit={unit!r}')
        amounts = list(amount) if isinstance(amount, Sequence) else [amount]
        least = {"least": 1.0} if unit == "trainings" else {"above": 0.0}
        for one in amounts:
            number("budget", one, **least)
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

    def allows_another(self, spent: Sequence[float], amount: float | None = None) -> bool:
        """Whether another trial may begin: the first, and then those that fit in what is left.

        A trial is expected to take what those before took in the mean.

        Args:
            spent: by each trial so far.
            amount: of the budget. Defaults to all of it.
        """
        if not spent:
            return True
        total = sum(spent)
        most = self.amount if amount is None else amount
        return total + total / len(spent) <= most + ROUNDING and total < most

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
        return f"{amount:.3g} {self.unit if amount != 1 else self.unit.removesuffix('s')}"

    def __str__(self) -> str:
        return self.words(self.amount)
