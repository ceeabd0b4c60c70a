"""How much of a score is luck: what would be another one with another seed."""

from collections.abc import Sequence

import numpy as np


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
