"""What `LearnHyperparameters` saves beside the optimizer, for a training that is broken off."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import tensorflow as tf

from keras_drmad.callbacks.guard import Anchor, Guard
from keras_drmad.callbacks.mover import Mover
from keras_drmad.engine.programs import TrainingState
from keras_drmad.typing import Arrays


def numbered(name: str, values: Iterable[Any]) -> Arrays:
    """`values` as the arrays `<name>_0`, `<name>_1` and so on."""
    return {f"{name}_{i}": np.asarray(value) for i, value in enumerate(values)}


def listed(name: str, state: Arrays) -> list[np.ndarray]:
    """What `numbered` was given."""
    count = sum(key.rpartition("_")[0] == name for key in state)
    return [state[f"{name}_{i}"] for i in range(count)]


def of_guard(guard: Guard) -> Arrays:
    """A guard and its anchor, in arrays."""
    anchor = guard.anchor
    displaced = anchor.displacements.items()
    return (
        {"guard": guard.numbers()}
        | numbered("anchor", tf.nest.flatten(anchor.state))
        | numbered("anchor_meta", anchor.meta)
        | {f"displaced_{kind}": np.asarray(value) for kind, value in displaced}
    )


def guard_from(state: Arrays, like: TrainingState, mover: Mover) -> Guard | None:
    """The guard of `of_guard`, if there is one; its anchor has the structure of `like`."""
    if "guard" not in state:
        return None
    flat = [tf.constant(array) for array in listed("anchor", state)]
    anchor = Anchor(
        tf.nest.pack_sequence_as(like, flat),
        {kind: state[f"displaced_{kind}"] for kind in mover.read()[0]},
        listed("anchor_meta", state),
    )
    guard = Guard(0.0, anchor)
    guard.restore(state["guard"])
    return guard
