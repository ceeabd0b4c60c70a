"""Arguments of `QANOracle`: checked, read, and named in a file."""

import keras_tuner
import numpy as np

from keras_drmad.arguments import number, positive_integer, whole_number

from .policy import Policy
from .training.actions import Actions
from .training.goals import Goal
from .training.states import State


def goal_of(goal, objective):
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
    if goal is None and isinstance(objective, str | None):
        goal = Goal(objective or "val_loss")
    return Goal.of(objective if goal is None else goal)


def loaded(policy, states, actions):
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


def named(network):
    """What tells networks apart in a file."""
    if callable(network):
        return getattr(network, "__qualname__", type(network).__qualname__)
    return {name: repr(value) for name, value in network.items()}


def plain(value):
    """What tells values apart in a file; addresses of objects do not."""
    if hasattr(value, "get_config"):
        config = {k: plain(v) for k, v in nameless(value.get_config()).items()}
        return {"class": type(value).__name__} | config
    return repr(value)


def nameless(config):
    """Nested dictionaries without names, which Keras numbers in each process."""
    if not isinstance(config, dict):
        return config
    return {key: nameless(value) for key, value in config.items() if key != "name"}


def check_kind(name, given, of, or_function=False):
    """Refuses what is neither a dictionary of arguments nor, where that will do, a function."""
    if not isinstance(given, dict) and not (or_function and callable(given)):
        function = ", or a function like it" if or_function else ""
        raise ValueError(
            f"`{name}` must be a dictionary of arguments of `{of}`{function}. Received: {name}={given!r}"
        )


def check_kinds(states, actions):
    """Refuses what are no states, or no actions."""
    are_states = isinstance(states, list | tuple) and all(isinstance(s, State) for s in states)
    if not are_states or not states:
        raise ValueError(
            f"`states` must be a list of `State`s, and not empty. Received: states={states!r}"
        )
    if not isinstance(actions, Actions):
        raise ValueError(f"`actions` must be an `Actions(...)`. Received: actions={actions!r}")


def check_numbers(epsilon, random_starts, early_stop_factor, shaping, gradient_steps, **episodes):
    """Refuses what would fail, or do nothing, in the middle of a search.

    Args:
        **episodes: numbers of episodes; None for defaults.
    """
    positive_integer("gradient_steps", gradient_steps)
    number("random_starts", random_starts, 0, 1)
    number("early_stop_factor", early_stop_factor, 1)
    number("shaping", shaping, 0)
    for name, value in episodes.items():
        if value is not None:
            whole_number(name, value)
    if np.shape(epsilon) != (2,):
        raise ValueError(f"`epsilon` must be (first, last). Received: epsilon={epsilon!r}")
    for value in epsilon:
        number("epsilon", value, 0, 1)
