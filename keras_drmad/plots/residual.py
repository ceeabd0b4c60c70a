"""`residual`: how far training strays from the straight line between its ends."""

from typing import TYPE_CHECKING

import numpy as np

from keras_drmad.arguments import of_kind, suggesting
from keras_drmad.plots import figures
from keras_drmad.plots.lines import chord
from keras_drmad.plots.recorded_path import RecordedPath, difference, inner, norm

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@suggesting
def residual(path: RecordedPath, label: str | None = None, ax: "Axes | None" = None) -> "Axes":
    """Draws the way of the weights along the chord, and its distance from it.

    With the chord `c = w_T − w_0`, each snapshot `w` is drawn at

        along = ⟨w − w_0, c⟩ / ‖c‖²          away = ‖w − w_0 − along · c‖ / ‖c‖

    Training begins at (0, 0) and ends at (1, 0). On the chord itself, `away` would be 0. Dots mark a
    quarter, a half and three quarters of the steps.

    Args:
        path: A `RecordedPath` of two snapshots or more.
        label: Its name in the legend. To compare paths, draw them on the same axes.
        ax: Matplotlib axes. Defaults to new ones.

    Returns:
        The axes.

    Raises:
        ImportError: New axes are needed, and Matplotlib is not installed (extra `plots`).
        ValueError: There is one snapshot only, or training ends where it began.

    Reference: Goodfellow et al., https://arxiv.org/abs/1412.6544, the figures of projection and
    residual.

    Example:

    >>> from keras_drmad import plots
    >>> places = np.array([[0.0, 0.0], [0.5, 0.5], [1.0, 0.0]])
    >>> snapshots = [plots.Snapshot(i, 1.0, [w], []) for i, w in enumerate(places)]
    >>> path = plots.RecordedPath(snapshots)
    >>> plots.residual(path).get_lines()[-1].get_ydata().tolist()
    [0.0, 0.5, 0.0]
    """
    if label is not None:
        of_kind("label", label, str, "text")
    start, end = chord(path).weights
    direction = difference(end, start)
    length = norm(direction)
    if length == 0:
        raise ValueError(f"`path` must end elsewhere than it begins. Received: {path}")
    along, away = [], []
    for weights in path.weights:
        moved = difference(weights, start)
        share = inner(moved, direction) / length**2
        along.append(share)
        away.append(norm([m - share * d for m, d in zip(moved, direction, strict=True)]) / length)

    panel = figures.panel(ax)
    quarters = path.steps[0] + np.array([1, 2, 3]) / 4 * np.ptp(path.steps)
    path_number = figures.drawn(panel)
    if path_number == 0:
        panel.axhline(0, color="0.7", linewidth=0.8, zorder=0)
        panel.plot([], [], "o", color="0.5", label="each quarter of the steps")
    panel.plot(
        along,
        away,
        figures.STYLES[path_number % len(figures.STYLES)],
        color=figures.COLOURS[path_number],
        marker="o",
        markevery=[int(np.abs(path.steps - step).argmin()) for step in quarters],
        label=label and figures.words(label),
    )
    panel.set(xlabel="along the chord / its length", ylabel="distance from the chord / its length")
    figures.legend(panel)
    return panel
