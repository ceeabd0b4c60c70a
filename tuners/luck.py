"""How much of a score is luck: what would be another one with another seed."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

NEIGHBOURS, PRIOR = 3, 2.0  # how many on each side tell of a group, and as how many scores


class Estimate(NamedTuple):
    """The shrunken mean of a group, and how far the true one may be from it."""

    mean: float
    bound: float


def shrunken(groups: Sequence[Sequence[float]]) -> list[Estimate]:
    """Means of groups that change smoothly from one to the next, each drawn to those beside it.

    Of a group with n scores,

        mean = (sum of scores + 2 · mean of its neighbours' scores) / (n + 2),   bound = s / √(n + 2)

    where its neighbours are the three groups before it, the three after it, and itself, and s is the
    standard deviation of scores around the means of their groups.

    Example:

    >>> shrunken([[1.0, 3.0], [2.0, 2.0]])[0].mean
    2.0
    """
    around = spread(groups)
    if not np.isfinite(around):  # no group has two
        around = float(np.std([value for of in groups for value in of] or [0.0]))
    found = []
    for place, group in enumerate(groups):
        near = groups[max(place - NEIGHBOURS, 0) : place + NEIGHBOURS + 1]
        beside = np.mean([value for of in near for value in of])
        count = len(group) + PRIOR
        mean = float((sum(group) + PRIOR * beside) / count)
        found.append(Estimate(mean, float(around / np.sqrt(count))))
    return found


def standard_error(values: Sequence[float] | np.ndarray) -> float:
    """Of the mean; NaN of one value.

    Example:

    >>> standard_error([1.0, 2.0, 3.0])
    0.5773502691896258
    """
    if len(values) < 2:
        return np.nan
    return float(np.std(values, ddof=1) / np.sqrt(len(values)))


def spread(groups: Sequence[Sequence[float]]) -> float:
    """The standard deviation around the means of groups; NaN if no group has two.

    Example:

    >>> spread([[1.0, 3.0], [10.0, 12.0], [5.0]])
    1.4142135623730951
    """
    off = [value - np.mean(of) for of in groups if len(of) > 1 for value in of]
    freedom = len(off) - sum(len(of) > 1 for of in groups)
    return float(np.sqrt(np.sum(np.square(off)) / freedom)) if freedom else np.nan


def roughness(series: Sequence[Sequence[float]]) -> float:
    """The standard deviation of noise on what changes smoothly; NaN if no series has five values.

    Of second differences, whose variance is six times that of the noise, the median: where a series
    bends, they are larger.

    Example:

    >>> roughness([[1.0, 2.0, 3.0, 4.0, 5.0]])  # straight
    0.0
    """
    found = [np.abs(np.diff(of, 2)) for of in series if len(of) >= 5]
    # 0.6745: of the normal distribution, the median of |x| / σ
    return float(np.median(np.concatenate(found)) / (0.6745 * np.sqrt(6))) if found else np.nan


def in_words(spread: float) -> str:
    """What a summary says of the standard deviation of scores; "" if that is not known (NaN).

    Example:

    >>> print(in_words(0.0391)[:76])
    How much is luck: scores with the same settings and other seeds differ by ab
    """
    if np.isnan(spread):
        return ""
    rounded, apart = (f"{float(f'{number:.2g}'):g}" for number in (spread, 2 * np.sqrt(2) * spread))
    return (
        f"How much is luck: scores with the same settings and other seeds differ by about {rounded} "
        f"(standard deviation). Two scores that are less than {apart} apart are no clear difference, "
        "and the best of many trials was also lucky."
    )
