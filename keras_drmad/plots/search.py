"""`search`: what a search has found, and how."""

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def search(tuner: object, ax: "Axes | Sequence[Axes] | np.ndarray | None" = None) -> "list[Axes]":
    """Draws a search that has ended, or is still going on.

    Of a `DrMADTuner`: the objective and the hyper loss of each trial, with the best so far as a line.
    Marks say what a trial did: it scouted, learned, was refined or retested; empty ones were pruned.
    Then the learned values of each group over the meta-iterations of the best configuration, a panel
    for each kind.

    Of a `QANTuner`: what each episode has cost; learning rates in the contest; actions over decisions
    and episodes. They are the pictures of `keras_drmad.tuners.qan.plots`.

    Args:
        tuner: A `DrMADTuner` or a `QANTuner`.
        ax: Matplotlib axes, one for each panel. Defaults to new ones.

    Returns:
        The axes.

    Raises:
        ImportError: New axes are needed, and Matplotlib is not installed (extra `plots`).
        ValueError: Another tuner, too few axes, or a search in which no trial has ended.

    Example, after `tuner.search(...)`:

        axes = plots.search(tuner)
        axes[0].figure.savefig("search.png")
    """
    return draw(tuner, ax)


@functools.singledispatch
def draw(tuner: object, ax: "Axes | Sequence[Axes] | np.ndarray | None") -> "list[Axes]":
    """What draws each kind of tuner, which `keras_drmad.tuners` registers."""
    raise ValueError(
        "`tuner` must be a `DrMADTuner` or a `QANTuner` of `keras_drmad.tuners`. Received: "
        f"tuner={tuner!r}"
    )
