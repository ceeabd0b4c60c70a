"""One step of the meta-optimizer: from the hyperparameters of a meta-iteration to those of the next."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import keras
import numpy as np
import numpy.typing as npt

from keras_drmad.hyperparameters import meta
from keras_drmad.typing import Arrays

Bounds = Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]]  # (low, high) by name

# By how much a diverging meta-iteration lowers the learning rates where none was good before.
BACK_OFF = np.log(4.0)


@dataclass
class MetaState:
    """Where a meta-optimization stands; dictionaries hold arrays by name.

    Attributes:
        values: what the next training uses: displacements of the optimizer's hyperparameters by kind,
            and hyper variables.
        good: the last values under which training gave a usable hypergradient; empty if there were none.
        best: the values of the best meta-iteration so far; empty before the first has ended.
        slots: the variables of the meta-optimizer, by their number; empty before its first step.
        rate: the share of the meta-optimizer's learning rate that steps have; empty for all of it.
    """

    values: Arrays
    good: Arrays = field(default_factory=dict)
    best: Arrays = field(default_factory=dict)
    slots: Arrays = field(default_factory=dict)
    rate: Arrays = field(default_factory=dict)


def step(
    state: MetaState,
    gradients: Sequence[Arrays],
    bounds: Bounds,
    meta_optimizer: keras.optimizers.Optimizer,
) -> MetaState:
    """The `MetaState` after a meta-iteration.

    With usable gradients, their mean g moves the values:

        values ← meta_optimizer(values, g), cut to their bounds

    With none (every training diverged), it backs off: half the way to the last good values or, where
    there are none, to a quarter of the learning rates.

    Args:
        state: the `MetaState` of the meta-iteration.
        gradients: a list of `{name: array}`, one for each training whose hypergradient can be used.
        bounds: of the values.
        meta_optimizer: a `keras.optimizers.Optimizer`; its settings only are used.
    """
    if not gradients:
        return _backed_off(state, bounds)
    mean = {name: np.mean([g[name] for g in gradients], axis=0) for name in state.values}
    optimizer, variables = _restored(state, meta_optimizer)
    optimizer.apply([mean[name] for name in state.values], variables)
    values = {
        name: np.clip(variable.numpy(), *bounds[name])
        for name, variable in zip(state.values, variables, strict=True)
    }
    return MetaState(values, state.values, state.best, _slots(optimizer), state.rate)


def back_to_best(state: MetaState) -> MetaState:
    """The `MetaState` at the best values so far, with half the step from now on.

    The meta-optimizer's learning rate is halved unless it has a schedule.
    """
    rate = {"share": np.asarray(_share(state) / 2)}
    return MetaState(state.best, state.good, state.best, state.slots, rate)


def _restored(
    state: MetaState, meta_optimizer: keras.optimizers.Optimizer
) -> tuple[keras.optimizers.Optimizer, list[keras.Variable]]:
    """A meta-optimizer as a state has it, and the variables it moves."""
    optimizer = meta.copy(meta_optimizer)
    variables = [
        keras.Variable(value, dtype=str(value.dtype), name=f"value_{i}")
        for i, value in enumerate(state.values.values())
    ]
    optimizer.build(variables)
    for name, value in state.slots.items():
        optimizer.variables[int(name)].assign(value)
    rate = meta_optimizer.get_config()["learning_rate"]
    if isinstance(rate, float):  # that of now, which may be another one than when the search began
        optimizer.learning_rate = rate * _share(state)
    return optimizer, variables


def _share(state: MetaState) -> float:
    return float(state.rate.get("share", 1.0))


def _slots(optimizer: keras.optimizers.Optimizer) -> Arrays:
    return {str(i): v.numpy() for i, v in enumerate(optimizer.variables)}


def _backed_off(state: MetaState, bounds: Bounds) -> MetaState:
    if state.good:
        values = {name: (value + state.good[name]) / 2 for name, value in state.values.items()}
    else:
        values = dict(state.values)
        if "learning_rate" in values:
            values["learning_rate"] = values["learning_rate"] - BACK_OFF
    values = {
        name: np.clip(value, *bounds[name]).astype(state.values[name].dtype)
        for name, value in values.items()
    }
    return MetaState(values, state.good, state.best, state.slots, state.rate)
