"""`Data`: the three sets of a comparison, and whether they are three."""

import collections
import hashlib
from collections.abc import Callable, Iterator

import keras
import numpy as np

from keras_drmad.typing import JsonObject, Structure

Part = tuple[Structure, ...]
NAMES = ("train", "validation", "test")
ROWS_COMPARED = 2000
SUSPICIOUS = 0.2  # the share of test samples that are validation samples, beyond chance


class Data:
    """Training, validation and test data, for each seed.

    Args:
        train, validation, test: arrays `(x, y)` or `(x, y, sample_weight)`, or functions of the seed
            that return them.

    Raises:
        ValueError: One is none of these, or of another length than its targets.
    """

    def __init__(
        self,
        train: Part | Callable[[int], Part],
        validation: Part | Callable[[int], Part],
        test: Part | Callable[[int], Part],
    ) -> None:
        self._parts = dict(zip(NAMES, (train, validation, test), strict=True))

    def of(self, seed: int) -> tuple[Part, Part, Part]:
        """The three sets of a seed."""
        train, validation, test = (
            _checked(name, part(seed) if callable(part) else part)
            for name, part in self._parts.items()
        )
        return train, validation, test

    def settings(self, seed: int) -> JsonObject:
        """What tells data apart: shapes, and a digest of the values."""
        return dict(zip(NAMES, map(_description, self.of(seed)), strict=True))


def overlap(one: Part, other: Part) -> float:
    """The share of the first samples of `other` that are in `one`, too, beyond what is by chance.

    Only inputs are compared. Small discrete inputs repeat themselves: by chance as often in two sets
    as in one.
    """
    known = collections.Counter(_rows(one[0], None))
    some = list(_rows(other[0], ROWS_COMPARED))
    both = sum(row in known for row in some) / len(some)
    repeated = sum(count for count in known.values() if count > 1) / max(sum(known.values()), 1)
    is_same = len(known) and one[0] is other[0]
    return 1.0 if is_same else max(0.0, both - repeated)


def samples(part: Part) -> int:
    """How many there are."""
    return len(keras.tree.flatten(part[0])[0])


def _checked(name: str, part: object) -> Part:
    if not isinstance(part, tuple | list) or len(part) not in (2, 3):
        raise ValueError(
            f"`{name}` must be arrays `(x, y)` or `(x, y, sample_weight)`, or a function of the seed "
            f"that returns them. Received: {type(part).__name__}"
            + (f" of {len(part)}" if isinstance(part, tuple | list) else "")
        )
    leaves = keras.tree.flatten(tuple(part))
    others = [type(leaf).__name__ for leaf in leaves if not hasattr(leaf, "shape")]
    if others:
        raise ValueError(
            f"`{name}` must hold arrays: read lists by `numpy.array`, and data sets into arrays. "
            f"Received: values of type {others[0]}"
        )
    lengths = {leaf.shape[0] if len(leaf.shape) else None for leaf in leaves}
    if len(lengths) != 1 or not all(lengths):
        raise ValueError(
            f"`{name}` must hold arrays with as many samples each, and at least one. Received: "
            f"lengths {sorted(map(str, lengths))}"
        )
    return tuple(part)


def _description(part: Part) -> list[str]:
    leaves = [np.ascontiguousarray(leaf) for leaf in keras.tree.flatten(part)]
    seen = hashlib.sha256()
    for leaf in leaves:
        seen.update(str(leaf.tolist()).encode() if leaf.dtype.hasobject else leaf.tobytes())
    return [*(f"{leaf.dtype} {leaf.shape}" for leaf in leaves), seen.hexdigest()[:16]]


def _rows(x: Structure, most: int | None) -> Iterator[int]:
    """A hash of each sample's inputs."""
    leaves = [np.asarray(leaf) for leaf in keras.tree.flatten(x)]
    for i in range(len(leaves[0]) if most is None else min(most, len(leaves[0]))):
        yield hash(tuple(_value(leaf[i]) for leaf in leaves))


def _value(sample: np.ndarray | object) -> bytes | str:
    """What tells a sample apart; of texts, their words and not where they are in memory."""
    array = np.asarray(sample)
    return repr(array.tolist()) if array.dtype.hasobject else array.tobytes()
