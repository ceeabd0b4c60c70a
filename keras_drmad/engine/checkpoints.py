"""Where training stood at the start of a segment, of a path that keeps it of some segments only."""

from collections.abc import Callable
from typing import Any

from keras_drmad.paths.base import Path

Carry = dict[str, Any]  # of the training loop


def carry_at(
    index: int, kept: dict[int, Carry], path: Path, train: Callable[[int, Carry], tuple[Carry, Any]]
) -> Carry:
    """The training loop's carry at the start of segment `index`, on the way back.

    Args:
        index: the segments after this one were walked back already.
        kept: carries by segment. Those of segments that were walked back are dropped, and the path
            says which of the segments that are trained again take their places.
        path: whose `checkpoints` these are.
        train: `train(i, carry)` has the carry after segment `i` as the first of two results.
    """
    for later in [i for i in kept if i > index]:
        del kept[later]
    start = max(kept)
    places = path.checkpoints(index - start + 1, others=len(kept) - 1)
    carry = kept[start]
    for i in range(start, index):
        carry, _ = train(i, carry)
        if i + 1 - start in places:
            kept[i + 1] = carry
    return carry
