"""`trajectory`: the way of the weights from above, over contours of the loss."""

from typing import TYPE_CHECKING

import keras
import numpy as np

from keras_drmad.arguments import number, positive_integer, suggesting
from keras_drmad.plots import figures
from keras_drmad.plots.evaluation import Evaluation
from keras_drmad.plots.lines import Line, chord, segment_means
from keras_drmad.plots.plane import Plane
from keras_drmad.plots.recorded_path import RecordedPath
from keras_drmad.typing import Structure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LEVELS = 12  # of the contours


@suggesting
def trajectory(
    model: keras.Model,
    path: RecordedPath,
    data: Structure,
    knots: int = 16,
    points: int = 21,
    margin: float = 0.2,
    statistics: str = "interpolated",
    batch_size: int = 256,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draws training in the plane of its two main directions, with contours of the loss.

    The plane is that of the principal component analysis of the snapshots. Drawn into it are the
    snapshots, the chord of `paths.Linear`, and the line of `paths.SegmentMeans`, whose knots are the
    means of the snapshots in each segment. Contours are of the loss *in* the plane; the path itself
    may lie above or below it, and the labels of the axes say how much of its variance they show.

    Args:
        model: The compiled model that `path` was recorded with. It keeps its weights and metrics.
        path: A `RecordedPath` of three snapshots or more.
        data: A data set as `fit` takes it, arrays as a tuple `(x, y)`. Of a dictionary of several, the
            first.
        knots: Of `SegmentMeans`. Defaults to `16`.
        points: The loss is evaluated at `points` × `points` places. Defaults to `21`.
        margin: What is shown beyond the lines, as a part of their extent. Defaults to `0.2`.
        statistics: Of batch normalization. `"interpolated"` (the default): moving means and variances
            are those of the snapshot that is nearest in the plane. `"recomputed"`: at each place, they
            are the means over the batches of `data`.
        batch_size: Of arrays. Defaults to 256.
        ax: Matplotlib axes. Defaults to new ones.

    Returns:
        The axes.

    Raises:
        ImportError: New axes are needed, and Matplotlib is not installed (extra `plots`).
        ValueError: An argument has a wrong value; `path` is of another model, too short, or straight.

    Example:

    >>> from keras_drmad import plots
    >>> x, y = np.random.rand(64, 4), np.random.rand(64, 1)
    >>> model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(optimizer="sgd", loss="mse")
    >>> record = plots.RecordPath()
    >>> history = model.fit(x, y, epochs=4, verbose=0, callbacks=[record])
    >>> ax = plots.trajectory(model, record.path, (x, y), points=3)
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['training', 'Linear', 'SegmentMeans']
    """
    plane = Plane.of(path)
    knots, points = positive_integer("knots", knots), positive_integer("points", points, least=2)
    number("margin", margin, least=0)
    if isinstance(data, dict):
        data = dict(list(data.items())[:1])
    evaluate = Evaluation(model, path, data, batch_size, statistics)
    panel = figures.panel(ax)

    def seen(line: Line) -> np.ndarray:
        return np.array([plane.coordinates(weights) for weights in line.weights])

    trained = np.array([plane.coordinates(weights) for weights in path.weights])
    lines = {"Linear": seen(chord(path)), "SegmentMeans": seen(segment_means(path, knots))}
    drawn = np.concatenate([trained, *lines.values()])
    low, high = drawn.min(0), drawn.max(0)
    grid = np.linspace(low - margin * (high - low), high + margin * (high - low), points)

    losses = np.empty((points, points))
    for i, b in enumerate(grid[:, 1]):
        for j, a in enumerate(grid[:, 0]):
            nearest = int(np.square(trained - (a, b)).sum(1).argmin())
            logs = evaluate(plane.point(a, b), path.snapshots[nearest].state)
            losses[i, j] = next(iter(logs.values()))["loss"]
    _contours(panel, grid, figures.with_gaps(losses, "The loss"))

    blue, red, green = figures.COLOURS[:3]
    panel.plot(*trained.T, ".-", color=blue, linewidth=1.2, markersize=4, label="training")
    panel.plot(*lines["Linear"].T, "--", color=red, linewidth=2, label="Linear")
    panel.plot(*lines["SegmentMeans"].T, ":s", color=green, markersize=5, label="SegmentMeans")
    for text, place, offset in (("start", trained[0], (-10, -14)), ("end", trained[-1], (6, 6))):
        panel.annotate(text, (place[0], place[1]), xytext=offset, textcoords="offset points")
    panel.set(
        xlabel=f"first direction ({plane.shares[0]:.0%} of the variance)",
        ylabel=f"second direction ({plane.shares[1]:.0%} of the variance)",
    )
    figures.legend(panel, columns=3)
    return panel


def _contours(panel: "Axes", grid: np.ndarray, losses: np.ndarray) -> None:
    """Grey areas, darker where the loss is larger; on a log scale if it is positive."""
    known = losses[np.isfinite(losses)]
    if not known.size or known.min() == known.max():
        return
    low, high = known.min(), known.max()
    levels = np.geomspace(low, high, LEVELS) if low > 0 else np.linspace(low, high, LEVELS)
    shown = np.log(losses) if low > 0 else losses
    heights = np.log(levels) if low > 0 else levels
    areas = panel.contourf(
        grid[:, 0],
        grid[:, 1],
        np.ma.masked_invalid(shown),
        heights,
        cmap="Greys",
        vmin=heights[0],
        vmax=2 * heights[-1] - heights[0],  # no area is darker than the lines
    )
    bar = panel.figure.colorbar(areas, ax=panel, label="loss")
    bar.set_ticks(heights[::2].tolist(), labels=figures.apart(levels[::2]))
