"""`path_loss`: the loss along training, along the chord, and along the line of segment means."""

from typing import TYPE_CHECKING

import keras
import numpy as np

from keras_drmad.arguments import positive_integer, suggesting
from keras_drmad.plots import figures
from keras_drmad.plots.evaluation import Evaluation
from keras_drmad.plots.lines import chord, segment_means
from keras_drmad.plots.recorded_path import RecordedPath
from keras_drmad.typing import Structure

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@suggesting
def path_loss(
    model: keras.Model,
    path: RecordedPath,
    data: Structure,
    knots: int = 16,
    points: int = 50,
    statistics: str = "interpolated",
    batch_size: int = 256,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draws the loss over training steps: of training, and where approximate paths would be then.

    At step t, `paths.Linear` is at `(1 − t / T) w_0 + t / T · w_T`, and `paths.SegmentMeans` on its
    line through the means of segments of training (here, of the recorded snapshots).

    Args:
        model: The compiled model that `path` was recorded with. It keeps its weights and metrics.
        path: A `RecordedPath` of two snapshots or more.
        data: A data set as `fit` takes it, arrays as a tuple `(x, y)`. Of a dictionary of several, the
            first.
        knots: Of `SegmentMeans`. Defaults to `16`.
        points: The largest number of snapshots that are evaluated. Defaults to `50`.
        statistics: Of batch normalization. `"interpolated"` (the default): moving means and variances
            are recorded, or interpolated like the weights. `"recomputed"`: at each point, they are
            the means over the batches of `data`.
        batch_size: Of arrays. Defaults to 256.
        ax: Matplotlib axes. Defaults to new ones.

    Returns:
        The axes, with a log scale if all losses are positive.

    Raises:
        ImportError: New axes are needed, and Matplotlib is not installed (extra `plots`).
        ValueError: An argument has a wrong value, or `path` is of another model, or too short.

    Example:

    >>> from keras_drmad import plots
    >>> x, y = np.random.rand(64, 4), np.random.rand(64, 1)
    >>> model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(optimizer="sgd", loss="mse")
    >>> record = plots.RecordPath()
    >>> history = model.fit(x, y, epochs=2, verbose=0, callbacks=[record])
    >>> ax = plots.path_loss(model, record.path, (x, y))
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('training step', 'loss')
    """
    straight, means = chord(path), segment_means(path, positive_integer("knots", knots))
    if isinstance(data, dict):
        data = dict(list(data.items())[:1])
    evaluate = Evaluation(model, path, data, batch_size, statistics)
    panel = figures.panel(ax)

    number = min(positive_integer("points", points, least=2), len(path))
    chosen = [path.snapshots[round(i)] for i in np.linspace(0, len(path) - 1, number)]
    drawn = {
        "training": [(s.weights, s.state) for s in chosen],
        "Linear": [straight.at(s.step) for s in chosen],
        "SegmentMeans": [means.at(s.step) for s in chosen],
    }
    for (label, places), colour, style in zip(
        drawn.items(), figures.COLOURS, figures.STYLES, strict=False
    ):
        losses = [next(iter(evaluate(*place).values()))["loss"] for place in places]
        values = figures.with_gaps(losses, f"The loss along {label}")
        panel.plot([s.step for s in chosen], values, style, color=colour, label=label)
    values = np.concatenate([line.get_ydata() for line in panel.get_lines()])
    if np.all(values[np.isfinite(values)] > 0):
        figures.log_scale(panel)
    panel.set(xlabel="training step", ylabel="loss")
    figures.legend(panel, columns=3)
    return panel
