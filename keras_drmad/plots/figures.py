"""What all pictures share: axes, colours, line styles, legends, gaps."""

import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from keras_drmad.arguments import wrong
from keras_drmad.plots.extras import load

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's palette, which colour-blind people can tell apart (without its yellow).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLES = ("-", "--", ":", "-.")
MARKERS = ("None", "o", "s", "^", "D", "v", "x")
LONGEST = 40  # characters of a name
WRITTEN_OUT = (1e-4, 1e5)  # the numbers beside a logarithmic axis between these
ACROSS = 3  # the most panels in one row


def panels(ax: "Axes | Sequence[Axes] | np.ndarray | None", number: int) -> "list[Axes]":
    """`number` axes: those given, or those of a new figure.

    Raises:
        ImportError: New ones are needed, and Matplotlib is not installed.
        ValueError: Too few are given, or something else.
    """
    if ax is None:
        pyplot = load("matplotlib.pyplot")
        columns = number if number <= ACROSS else 2
        rows = math.ceil(number / columns)
        figure = pyplot.figure(figsize=(5.5 * columns, 4 * rows), layout="constrained")
        return [figure.add_subplot(rows, columns, i + 1) for i in range(number)]
    given = list(np.ravel(np.asarray(ax, dtype=object)))
    if not all(hasattr(one, "get_legend_handles_labels") for one in given):
        raise wrong("ax", ax, "Matplotlib axes")
    if len(given) < number:
        raise ValueError(f"`ax` must be {number} axes, one for each panel. Received: {len(given)}")
    return given[:number]


def panel(ax: "Axes | None") -> "Axes":
    """One axes: that given, or a new one."""
    return panels(ax, 1)[0]


def drawn(ax: "Axes") -> int:
    """How many colours of the palette lines have already: the number of the next one."""
    return len({line.get_color() for line in ax.get_lines()} & set(COLOURS)) % len(COLOURS)


def words(name: str) -> str:
    """A name as Matplotlib is to show it: not as a formula, in the legend, and in one short line."""
    short = name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"
    shown = " ".join(short.split()).replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown  # legends leave out what begins with it


def apart(values: np.ndarray) -> list[str]:
    """Numbers with as few digits as tell neighbours apart, two at least.

    >>> apart(np.array([0.6301, 0.6352, 0.6404]))
    ['0.63', '0.635', '0.64']
    """
    for digits in range(2, 9):
        shown = [f"{value:.{digits}g}" for value in values]
        if len(set(shown)) == len(shown):
            break
    return shown


def legend(ax: "Axes", columns: int = 2) -> None:
    """Puts the legend above the axes, where it covers nothing."""
    if ax.get_legend_handles_labels()[1]:
        ax.legend(
            loc="lower left",
            bbox_to_anchor=(0, 1),
            ncols=columns,
            frameon=False,
            fontsize="small",
            borderaxespad=0.2,
        )


def log_scale(ax: "Axes") -> None:
    """Makes the y axis a logarithmic one, with numbers beside it that are read at a glance."""
    from matplotlib.ticker import LogFormatterSciNotation

    class LogLabels(LogFormatterSciNotation):
        """Those that Matplotlib would show, as 0.65 instead of 6.5 × 10⁻¹."""

        def __call__(self, x: float, pos: int | None = None) -> str:
            shown = super().__call__(x, pos)
            return f"{x:g}" if shown and WRITTEN_OUT[0] <= x < WRITTEN_OUT[1] else shown

    ax.set_yscale("log")
    ax.yaxis.set_major_formatter(LogLabels())
    ax.yaxis.set_minor_formatter(LogLabels(labelOnlyBase=False, minor_thresholds=(1, 0.4)))


def with_gaps(values: Sequence[float] | np.ndarray, what: str) -> np.ndarray:
    """The values; what is not finite becomes NaN, which Matplotlib leaves out, with a warning."""
    array = np.array(values, "float64")
    lost = ~np.isfinite(array)
    if lost.any():
        warnings.warn(
            f"{what} is not finite at {lost.sum()} of {lost.size} points, which are left out.",
            stacklevel=4,
        )
        array[lost] = np.nan
    return array
