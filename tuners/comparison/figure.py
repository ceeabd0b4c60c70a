"""The picture of a standings."""

from typing import TYPE_CHECKING

import numpy as np

from keras_drmad.plots import figures
from keras_drmad.plots.extras import load

from .standings import Standings
from .statistics import EXTRA

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS = "osD^vPX*"


def draw(standings: Standings) -> "Figure":
    """Left each seed's result on the test data; right what the validation data say over the budget."""
    pyplot = load("matplotlib.pyplot", EXTRA)
    height = max(4.0, 0.5 * len(standings.methods) + 2.0)
    figure = pyplot.figure(figsize=(12, height), layout="constrained")
    left, right = figure.subplots(1, 2)
    _results(standings, left)
    _curves(standings, right)
    return figure


def _look(standings: Standings, method: str) -> tuple[str, str, str]:
    """Colour, line style and marker of a method, the same in both panels."""
    i = standings.methods.index(method)
    return (
        figures.COLOURS[i % len(figures.COLOURS)],
        figures.STYLES[i % len(figures.STYLES)],
        MARKERS[i % len(MARKERS)],
    )


def _results(standings: Standings, ax: "Axes") -> None:
    rows = standings.rows()
    for height, row in enumerate(rows):
        colour, _, marker = _look(standings, row.method)
        values = list(row.values.values())
        ax.plot(values, [height] * len(values), marker, color=colour, alpha=0.4, markersize=5)
        if values:
            error = None if np.isnan(row.error) else row.error
            ax.errorbar(
                row.mean, height, xerr=error, fmt=marker, color=colour, capsize=4, markersize=9
            )
    names = [figures.words(row.method) + "\n(no result)" * (not row.values) for row in rows]
    ax.set_yticks(range(len(rows)), names)
    ax.set_ylim(len(rows) - 0.5, -0.5)  # the best one above
    better = "higher" if standings.metric.direction == "max" else "lower"
    ax.set_xlabel(
        f"test {standings.metric.name} ({better} is better): seeds, mean ± standard error"
    )
    ax.grid(axis="x", alpha=0.3)


def _curves(standings: Standings, ax: "Axes") -> None:
    for method in standings.methods:
        found = standings.expected_best(method)
        if found is None:
            continue
        colour, style, marker = _look(standings, method)
        # A search of one trial is a point, whose value stays.
        label = figures.words(method)
        ax.plot(found.spent, found.mean, style, color=colour, label=label, drawstyle="steps-post")
        ax.plot(found.spent[:1], found.mean[:1], marker, color=colour)
        if not np.isnan(found.error).any():
            low, high = found.mean - found.error, found.mean + found.error
            ax.fill_between(found.spent, low, high, color=colour, alpha=0.2, step="post", lw=0)
    ax.set_xlabel(f"spent, {standings.budget.unit}")
    ax.set_ylabel(f"expected best {standings.objective.name}")
    ax.grid(alpha=0.3)
    figures.legend(ax)
