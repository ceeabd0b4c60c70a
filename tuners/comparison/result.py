"""`Comparison`: the result of `compare`."""

import os
from typing import TYPE_CHECKING

from . import figure, report, table
from .standings import Standings

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Comparison(Standings):
    """What `compare` has found. `str` of it is its table.

    Attributes:
        methods: names, in the order they were given.
        seeds: a list.
        budget: amounts and unit.
        objective: what trials were chosen by, a `keras_tuner.Objective`.
        metric: what is compared on the test data, another one.
        outcomes: all searches, one for each method and seed.
        warnings: why the comparison is unfair, if it is.
        settings: what it was made with.
    """

    def __str__(self) -> str:
        return table.text(self)

    def table(self) -> None:
        """Prints a table for each budget, the verdict, and the warnings."""
        print(self)

    def plot(self, path: str | None = None) -> "Figure":
        """Draws the results on the test data, and the expected best over what was spent.

        Args:
            path: Of a file to write. Defaults to none.

        Returns:
            The Matplotlib figure.

        Raises:
            ImportError: There is no Matplotlib (extra `compare`).
        """
        drawn = figure.draw(self)
        if path is not None:
            os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
            drawn.savefig(path, dpi=150)
        return drawn

    def report(self, path: str) -> None:
        """Writes one HTML file that needs no others: tables, pictures, settings, how to repeat it.

        Raises:
            ImportError: There is no Matplotlib or SciPy (extra `compare`).
        """
        report.write(self, path)
