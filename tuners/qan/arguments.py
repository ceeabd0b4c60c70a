"""Arguments of `QANOracle`: checked, read, and named in a file."""

import os
from collections.abc import Sequence
from typing import Any

import keras_tuner

from keras_drmad.arguments import number, of_kind, pair, wrong

from .policy import Policy
from .training.actions import Actions
from .training.goals import Goal, GoalLike
from .training.states import State, check_kinds_of


def goal_of(goal: GoalLike | None, objective: str | keras_tuner.Objective | None) -> Goal:
    """The `Goal` of a search."""
    if goal is not None and objective is not None:
        raise ValueError(
            "`goal` and `objective` exclude each other: leave one of them out. Received: "
            f"goal={goal!r}, objective={objective!r}"
        )
    if not isinstance(objective, str | keras_tuner.Objective | None) or (
        isinstance(objective, str) and not objective
    ):
        raise ValueError(
            "`objective` must be the name of a metric, or a `keras_tuner.Objective`; a value to "
            f"reach is a `goal`. Received: objective={objective!r}"
        )
    if goal is not None:
        return Goal.of(goal)
    if isinstance(objective, keras_tuner.Objective):
        return Goal.of(objective)
    return Goal(objective or "val_loss")


def objective_of(goal: Goal) -> keras_tuner.Objective:
    """What KerasTuner compares episodes by."""
    if goal.value is None:
        return keras_tuner.Objective(goal.metric, goal.direction)
    return keras_tuner.Objective(f"{goal.unit}_to_goal", "min")


def loaded(
    policy: Policy | str | os.PathLike[str] | None, states: Sequence[State], actions: Actions
) -> Policy | None:
    """The `Policy` that learning begins with."""
    if policy is None:
        return None
    if not isinstance(policy, Policy):
        kinds = (str, os.PathLike)
        policy = Policy.load(of_kind("policy", policy, kinds, "a `Policy`, or the file of one"))
    differences = policy.differences(states, actions)
    if policy.network is None:
        differences.append("it is a schedule, and has no network")
    if differences:
        raise ValueError(f"`policy` does not fit this search. {'; '.join(differences)}")
    return policy


def check_kinds(states: object, actions: object, agent: object = None) -> None:
    """Refuses what are no states, no actions, or no arguments of an agent."""
    if not states:
        raise wrong("states", states, "a list of `State`s, and not empty")
    check_kinds_of(states)
    of_kind("actions", actions, Actions, "an `Actions(...)`")
    if agent is not None:
        of_kind("agent", agent, dict, "a dictionary of arguments of `DQN`")


def check_epsilon(epsilon: Any) -> None:
    """Refuses what would fail in the middle of a search."""
    for value in pair("epsilon", epsilon, "(first, last)"):
        number("epsilon", value, 0, 1)
