"""How much of a score is luck, in words."""

import numpy as np


def in_words(spread: float) -> str:
    """What a summary says of the standard deviation of scores; "" if that is not known (NaN)."""
    if np.isnan(spread):
        return ""
    return (
        f"How much is luck: scores with the same settings and other seeds differ by about {spread:.2g} "
        f"(standard deviation). Two scores that are less than {2 * np.sqrt(2) * spread:.2g} apart are "
        "no clear difference, and the best of many trials was also lucky."
    )
