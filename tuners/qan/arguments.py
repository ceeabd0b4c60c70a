"""Arguments of `QANOracle`: checked, read, and named in a file."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import keras_tuner
import numpy as np

from keras_drmad.arguments import number, positive_integer, whole_number

from .policy import Policy
from .training.actions import Actions
from .training.goals import Goal, GoalLike
from .training.states import State


def goal_of(goal: GoalLike | None, objective: str | keras_tuner.Objective | None) -> Goal:
    """The `Goal` of a search."""
    if goal is not None and objective is not None:
        raise ValueError(
            "`goal` and `objective` exclude each other: leave one of them out. Received: "
            f"goal={goal!r}, objective={objective!r}"
        )
    if not isinstance(objective, str | keras_tuner.Objective | None):
        raise ValueError(
            "`objective` must be the name of a metric, or a `keras_tuner.Objective`; a value to "
            f"reach is a `goal`. Received: objective={objective!r}"
        )
    if goal is not None:
        return Goal.of(goal)
    if isinstance(objective, keras_tuner.Objective):
        return Goal.of(objective)
    return Goal(objective or "val_loss")


def loaded(policy: Policy | str | None, states: Sequence[State], actions: Actions) -> Policy | None:
    """The `Policy` that learning begins with."""
    if policy is None:
        return None
    policy = policy if isinstance(policy, Policy) else Policy.load(policy)
    differences = policy.differences(states, actions)
    if policy.network is None:
        differences.append("it is a schedule, and has no network")
    if differences:
        raise ValueError(f"`policy` does not fit this search. {'; '.join(differences)}")
    return policy


def named(network: dict[str, Any] | Callable[..., keras.Model]) -> str | dict[str, str]:
    """What tells networks apart in a file."""
    if callable(network):
        return getattr(network, "__qualname__", type(network).__qualname__)
    return {name: repr(value) for name, value in network.items()}


def plain(value: Any) -> str | dict[str, Any]:
    """What tells values apart in a file; addresses of objects do not."""
    if hasattr(value, "get_config"):
        config = {k: plain(v) for k, v in nameless(value.get_config()).items()}
        return {"class": type(value).__name__} | config
    return repr(value)


def nameless(config: Any) -> Any:
    """Nested dictionaries without names, which Keras numbers in each process."""
    if not isinstance(config, dict):
        return config
    return {key: nameless(value) for key, value in config.items() if key != "name"}


def check_kind(name: str, given: object, of: str, or_function: bool = False) -> None:
    """Refuses what is neither a dictionary of arguments nor, where that will do, a function."""
    if not isinstance(given, dict) and not (or_function and callable(given)):
        function = ", or a function like it" if or_function else ""
        raise ValueError(
            f"`{name}` must be a dictionary of arguments of `{of}`{function}. Received: {name}={given!r}"
        )


def check_kinds(states: object, actions: object) -> None:
    """Refuses what are no states, or no actions."""
    are_states = isinstance(states, list | tuple) and all(isinstance(s, State) for s in states)
    if not are_states or not states:
        raise ValueError(
            f"`states` must be a list of `State`s, and not empty. Received: states={states!r}"
        )
    if not isinstance(actions, Actions):
        raise ValueError(f"`actions` must be an `Actions(...)`. Received: actions={actions!r}")


def check_numbers(
    epsilon: tuple[float, float],
    random_starts: float,
    cut: float,
    shaping: float,
    updates: int,
    **episodes: int | None,
) -> None:
    """Refuses what would fail, or do nothing, in the middle of a search.

    Args:
        **episodes: numbers of episodes; None for defaults.
    """
    positive_integer("updates", updates)
    number("random_starts", random_starts, 0, 1)
    number("cut", cut, 1)
    number("shaping", shaping, 0)
    for name, count in episodes.items():
        if count is not None:
            whole_number(name, count)
    if np.shape(epsilon) != (2,):
        raise ValueError(f"`epsilon` must be (first, last). Received: epsilon={epsilon!r}")
    for value in epsilon:
        number("epsilon", value, 0, 1)
