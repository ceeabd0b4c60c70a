"""Starts of a search: one learning rate, momentum and L2 or weight decay, the same for all groups."""

from collections.abc import Mapping, Sequence

import keras_tuner
import numpy as np

from keras_drmad.arguments import number, wrong
from keras_drmad.hyperparameters.scales import Logit
from keras_drmad.optimizers.learnable import LearnableOptimizer
from keras_drmad.typing import Arrays, JsonObject

from .place import PLACE

KINDS = ("learning_rate", "momentum", "l2", "weight_decay")
START = PLACE + "start/"
# Ranges: of rates and penalties factors of the compiled values, of 1 − momentum the values.
FACTORS = {"learning_rate": 30.0, "l2": 100.0, "weight_decay": 100.0}
FORGOTTEN = (0.01, 0.5)
FROM_ZERO = (1e-6, 1e-2)  # of a penalty that was compiled as 0

Ranges = Mapping[str, Sequence[float]]


def check_ranges(ranges: Ranges | None) -> dict[str, tuple[float, float]]:
    """The ranges that a user gave.

    Raises:
        ValueError: no dictionary of increasing pairs of numbers above 0, for kinds that there are.
    """
    what = f"a dictionary {{kind: (low, high)}} with kinds of {KINDS}, 0 < low < high"
    if ranges is None:
        return {}
    if not isinstance(ranges, Mapping):
        raise wrong("starts", ranges, what)
    found = {}
    for kind, pair in ranges.items():
        if kind not in KINDS or not isinstance(pair, tuple | list) or len(pair) != 2:
            raise wrong("starts", ranges, what)
        low, high = (number(f"starts[{kind!r}]", value, above=0) for value in pair)
        if not low < high or (kind == "momentum" and high >= 1):
            raise wrong("starts", ranges, what + ", of momenta below 1")
        found[kind] = (low, high)
    return found


def ask(
    oracle: keras_tuner.Oracle,
    optimizer: LearnableOptimizer,
    ranges: Mapping[str, tuple[float, float]],
) -> None:
    """Adds a start to the space of an oracle; its default is what the optimizer was compiled with.

    Args:
        oracle: of the search.
        optimizer: of a model.
        ranges: `{kind: (low, high)}`; other kinds that are learned have a range about the compiled
            value.

    Raises:
        ValueError: a range for a kind that is not learned, or nothing that can be added.
    """
    space = oracle.get_space()
    for kind in ranges:
        if kind not in optimizer.learn:
            raise ValueError(
                f"`starts` has a range for {kind!r}, which the optimizer does not learn. Received: "
                f"starts={dict(ranges)}, learn={optimizer.learn}"
            )
    for kind in (kind for kind in KINDS if kind in optimizer.learn):
        low, high, compiled = _range(kind, optimizer, ranges.get(kind))
        default = float(np.clip(compiled, low, high))
        space.Float(START + kind, low, high, sampling="log", default=default)
    oracle.update_space(space)
    if not any(name.startswith(START) for name in oracle.get_space().values):
        raise ValueError(
            "`scouts` needs a space to which starts can be added, and an optimizer that learns any of "
            f"{KINDS}. Leave `allow_new_entries` and `tune_new_entries` out."
        )


def displacements(values: JsonObject, optimizer: LearnableOptimizer) -> dict[str, float]:
    """`{kind: displacement}` of the start among the values of a trial."""
    found = {}
    for name, value in values.items():
        if name.startswith(START):
            kind = name.removeprefix(START)
            scale = optimizer.scales[kind]
            value = 1 - value if isinstance(scale, Logit) else value
            if kind == "learning_rate":
                value = value / optimizer.reference_rate()
            found[kind] = float(scale.clip(scale.displacement(value).astype("float32")))
    return found


def moved(values: Arrays, start: Mapping[str, float]) -> Arrays:
    """Displacements of groups, all of a kind moved alike."""
    return {
        name: value + np.asarray(start.get(name, 0.0), value.dtype)
        for name, value in values.items()
    }


def _range(
    kind: str, optimizer: LearnableOptimizer, given: tuple[float, float] | None
) -> tuple[float, float, float]:
    """`(low, high, compiled)` as they are asked for: of a momentum what is missing to 1."""
    scale = optimizer.scales[kind]
    if isinstance(scale, Logit):
        low, high = FORGOTTEN if given is None else (1 - given[1], 1 - given[0])
        return low, high, 1 - scale.base
    compiled = optimizer.reference_rate() if kind == "learning_rate" else scale.base
    if given is not None:
        return *given, compiled
    if compiled <= 0:
        return *FROM_ZERO, FROM_ZERO[0]
    return compiled / FACTORS[kind], compiled * FACTORS[kind], compiled
