"""Numbers as people read them: four digits, and of many the median and the range."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from keras_drmad.typing import Hyperparameters

GROUPS_SHOWN = 20


def in_words(values: npt.ArrayLike) -> str:
    """A number, or the median of several (and the least and the greatest).

    Example:

    >>> in_words(1 / 3), in_words([1.0, 2.0, 4.0])
    ('0.3333', '2 (1 – 4, 3 values)')
    """
    flat = np.ravel(values)
    if len(flat) == 1:
        return f"{flat[0]:.4g}"
    if not len(flat):
        return "no values"
    low, middle, high = (f"{value:.4g}" for value in np.quantile(flat, [0, 0.5, 1]))
    if low == high:
        return f"{middle} (all {len(flat)} values)"
    return f"{middle} ({low} – {high}, {len(flat)} values)"


def table(groups: Hyperparameters) -> list[str]:
    """Lines: a row for each group, a column for each kind; of many groups the first.

    Example:

    >>> print("\\n".join(table({"out": {"learning_rate": 0.0123456, "l2": np.array([1.0, 3.0])}})))
         learning_rate  l2
    out  0.01235        2 (1 – 3, 2 values)
    """
    kinds = list(dict.fromkeys(kind for entries in groups.values() for kind in entries))
    shown = dict(list(groups.items())[:GROUPS_SHOWN])
    rows = [["", *kinds]] + [[group, *_cells(of, kinds)] for group, of in shown.items()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    if len(groups) > len(shown):
        lines.append(f"… and {len(groups) - len(shown)} more groups")
    return lines


def _cells(entries: Mapping[str, npt.ArrayLike], kinds: list[str]) -> list[str]:
    return [in_words(entries[kind]) if kind in entries else "" for kind in kinds]
