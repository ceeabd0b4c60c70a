"""`hyperparameters`: what `LearnHyperparameters` has learned, over training."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import keras
import numpy as np

from keras_drmad.arguments import of_kind, wrong
from keras_drmad.plots import figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LINEAR = ("momentum", "beta_1")  # other kinds are drawn on a log scale
HYPER_LOSS = "hyper_loss"


def hyperparameters(
    history: "keras.callbacks.History | dict[str, list[float]]",
    ax: "Axes | Sequence[Axes] | np.ndarray | None" = None,
) -> "list[Axes]":
    """Draws each layer's learned values over epochs, a panel for each kind, and the hyper loss.

    Learning rates, L2 coefficients and weight decays have a log scale.

    Args:
        history: What `fit` returned, or its `history` dictionary. Drawn are the keys
            `<group>/<kind>` that `LearnHyperparameters` adds, and `hyper_loss`.
        ax: Matplotlib axes, one for each panel. Defaults to new ones.

    Returns:
        The axes: one for each kind, in the order of the keys; the last is of the hyper loss.

    Raises:
        ImportError: New axes are needed, and Matplotlib is not installed (extra `plots`).
        ValueError: There are no learned values in `history`.

    Example:

    >>> from keras_drmad import plots
    >>> logs = {"out/learning_rate": [0.1, 0.2], "out/momentum": [0.9, 0.8], "hyper_loss": [1.0, 0.5]}
    >>> [panel.get_ylabel() for panel in plots.hyperparameters(logs)]
    ['learning rate', 'momentum', 'hyper loss']
    """
    what = "what `fit` returned, or its `history` dictionary"
    of_kind("history", history, (keras.callbacks.History, dict), what)
    logs = history.history if isinstance(history, keras.callbacks.History) else history
    kinds = by_kind(logs)
    if not kinds:
        raise ValueError(
            "`history` must hold `<group>/<kind>` keys: train with `LearnHyperparameters`. "
            f"Received: {sorted(map(str, logs))}"
        )
    if HYPER_LOSS in logs:
        kinds[HYPER_LOSS] = {"": logs[HYPER_LOSS]}
    lengths = [{_length(history, values) for values in of.values()} for of in kinds.values()]
    if any(len(of) > 1 for of in lengths):
        raise wrong("history", history, "values of all groups, as many each")
    last = _length(history, next(iter(logs.values())))
    axes = figures.panels(ax, len(kinds))
    for panel, (kind, groups) in zip(axes, kinds.items(), strict=True):
        # Windows that are longer than an epoch have no hyper loss in the first epochs.
        first = last - len(next(iter(groups.values()))) + 1
        draw_kind(panel, kind, groups, range(first, last + 1), "epoch")
    return axes


def _length(history: object, values: object) -> int:
    """How many numbers there are in a list.

    Raises:
        ValueError: It is no list of numbers.
    """
    try:
        numbers = np.asarray(values, "float64")
    except (TypeError, ValueError):
        numbers = np.empty(0)
    if numbers.ndim != 1 or not len(numbers):
        raise wrong("history", history, "lists of numbers by name")
    return len(numbers)


def by_kind(values: dict[str, list[float]]) -> dict[str, dict[str, list[float]]]:
    """`{kind: {group: values}}` of what is named `<group>/<kind>`; other names are left out."""
    kinds: dict[str, dict[str, list[float]]] = {}
    for key, of in values.items():
        group, _, kind = str(key).rpartition("/")
        if group:
            kinds.setdefault(kind, {})[group] = of
    return kinds


def draw_kind(
    panel: "Axes", kind: str, groups: dict[str, list[float]], times: Sequence[int], name: str
) -> None:
    """Draws the values of one kind, a line for each group, at times of such a name."""
    for i, (group, values) in enumerate(groups.items()):
        panel.plot(
            times,
            figures.with_gaps(values, f"{group or kind}"),
            figures.STYLES[i % len(figures.STYLES)],
            color=figures.COLOURS[i % len(figures.COLOURS)],
            marker="o" if len(values) == 1 else None,
            label=figures.words(group) or None,
        )
    if kind not in LINEAR and kind != HYPER_LOSS:
        _log_scale(panel, np.concatenate([np.asarray(v) for v in groups.values()]))
    panel.set(xlabel=name, ylabel=kind.replace("_", " "))
    panel.locator_params(axis="x", integer=True, min_n_ticks=1)
    figures.legend(panel)


def _log_scale(panel: "Axes", values: np.ndarray) -> None:
    positive = values[values > 0]
    if len(positive) == len(values):
        figures.log_scale(panel)
    elif len(positive):  # an L2 coefficient of 0 has no logarithm
        panel.set_yscale("symlog", linthresh=positive.min())
