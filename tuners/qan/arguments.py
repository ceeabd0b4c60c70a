"""Arguments of `QANOracle`: checked, read, and named in a file."""

import numbers

import numpy as np

from keras_drmad.paths.base import positive_integer
from keras_drmad.tuners.qan.policy import Policy


def schedules(trials):
    """How many of the trials search schedules: less than some thirty find none worth following."""
    return max(min(trials // 3, 36), round(0.15 * trials))


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
        config = {k: plain(v) for k, v in value.get_config().items() if k != "name"}
        return {"class": type(value).__name__} | config
    return repr(value)


def check_numbers(epsilon, random_starts, cut, shaping, updates, **episodes):
    """Refuses what would fail, or do nothing, in the middle of a search.

    Args:
        **episodes: numbers of episodes; None for defaults.
    """
    positive_integer("updates", updates)
    for name, value, least, most in (
        ("random_starts", random_starts, 0, 1),
        ("cut", cut, 1, np.inf),
        ("shaping", shaping, 0, np.inf),
    ):
        if not np.isscalar(value) or not least <= value <= most:
            raise ValueError(f"`{name}` must be from {least} to {most}. Received: {name}={value!r}")
    for name, value in episodes.items():
        if value is not None and (not isinstance(value, numbers.Integral) or value < 0):
            raise ValueError(f"`{name}` must be a whole number, 0 or more. Received: {value!r}")
    if np.shape(epsilon) != (2,) or not all(0 <= e <= 1 for e in epsilon):
        raise ValueError(
            f"`epsilon` must be (first, last), both from 0 to 1. Received: epsilon={epsilon!r}"
        )
