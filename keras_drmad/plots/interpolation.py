"""`interpolation`: losses on the straight line through the first and the last weights."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import keras
import numpy as np

from keras_drmad.arguments import number, of_kind, pair, positive_integer, suggesting
from keras_drmad.plots import figures
from keras_drmad.plots.evaluation import Evaluation, metric_of
from keras_drmad.plots.lines import chord
from keras_drmad.plots.recorded_path import RecordedPath
from keras_drmad.typing import Structure

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@suggesting
def interpolation(
    model: keras.Model,
    path: RecordedPath,
    data: Structure,
    range: tuple[float, float] = (-0.25, 1.25),
    points: int = 31,
    metric: str | None = None,
    statistics: str = "interpolated",
    batch_size: int = 256,
    label: str | None = None,
    ax: "Axes | Sequence[Axes] | np.ndarray | None" = None,
) -> "list[Axes]":
    """Draws loss and accuracy at `(1 − α) w_0 + α w_T`, over α.

    `w_0` are the first recorded weights, `w_T` the last. Losses are those that `model.evaluate`
    would report, penalties included. The model keeps its weights and metrics.

    Args:
        model: The compiled model that `path` was recorded with.
        path: A `RecordedPath`.
        data: A data set as `fit` takes it, arrays as a tuple `(x, y)`; or several as a dictionary,
            such as `{"training": (x, y), "hyper": (x_hyper, y_hyper)}`, with a line style each.
        range: The first and the last α. Defaults to `(-0.25, 1.25)`.
        points: How many α, beside 0 and 1. Defaults to `31`.
        metric: Name of the metric in the second panel. Defaults to the first that was compiled.
        statistics: Of batch normalization. `"interpolated"` (the default): moving means and variances
            are interpolated like the weights, and stay as they are beyond the ends. `"recomputed"`:
            at each α, they are the means over the batches of the first data set.
        batch_size: Of arrays. Defaults to 256.
        label: The model's name in the legend. To compare models, draw them on the same axes:
            `ax=` what the first call returned.
        ax: Matplotlib axes, one for each panel. Defaults to new ones.

    Returns:
        The axes: loss and, if the model reports any, the metric.

    Raises:
        ImportError: New axes are needed, and Matplotlib is not installed (extra `plots`).
        ValueError: An argument has a wrong value, or `path` is of another model.

    Reference: Goodfellow et al., Qualitatively characterizing neural network optimization problems,
    https://arxiv.org/abs/1412.6544, figure 1.

    Example:

    >>> from keras_drmad import plots
    >>> x, y = np.random.rand(64, 4), np.random.rand(64, 1)
    >>> model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(optimizer="sgd", loss="mse")
    >>> record = plots.RecordPath()
    >>> history = model.fit(x, y, epochs=2, verbose=0, callbacks=[record])
    >>> (loss,) = plots.interpolation(model, record.path, (x, y), points=5)
    >>> loss.get_xlabel()
    'α'
    """
    low, high = (number("range", end) for end in pair("range", range, "(low, high)"))
    if low >= high:
        raise ValueError(f"`range` must be (low, high), low < high. Received: range={range}")
    ends = [end for end in (0.0, 1.0) if low <= end <= high]
    shares = np.union1d(np.linspace(low, high, positive_integer("points", points)), ends)
    if label is not None:
        of_kind("label", label, str, "text")
    line = chord(path)
    evaluate = Evaluation(model, path, data, batch_size, statistics)
    shown = metric_of(evaluate, metric)
    axes = figures.panels(ax, 1 + (shown is not None))

    first, last = line.times
    found = [evaluate(*line.at(first + share * (last - first))) for share in shares]
    model_number = figures.drawn(axes[0])
    for panel, key in zip(axes, ["loss", *([shown] if shown else [])], strict=True):
        for i, name in enumerate(evaluate.sets):
            values = figures.with_gaps([logs[name][key] for logs in found], f"The {key} of {name}")
            style = figures.STYLES[i % len(figures.STYLES)]
            named = ", ".join(map(figures.words, filter(None, [label, name])))
            panel.plot(
                shares,
                values,
                linestyle=style,
                color=figures.COLOURS[model_number],
                marker=figures.MARKERS[model_number],
                markersize=4,
                markevery=3,
                label=named,
            )
        if not panel.get_xlabel():  # the first model on these axes
            for end in ends:
                panel.axvline(end, color="0.7", linewidth=0.8, zorder=0)
        panel.set(xlabel="α", ylabel=key.replace("_", " "))
        figures.legend(panel)
    return axes
