"""What is printed can be read: summaries instead of arrays, four digits instead of seventeen."""

import re

import numpy as np

from keras_drmad import Hypergradient, paths
from keras_drmad.tuners import Actions, Goal, Policy
from keras_drmad.tuners.qan.agent.q_network import q_network
from keras_drmad.tuners.qan.search.schedules import Schedule
from keras_drmad.tuners.qan.training.states import Ratios
from keras_drmad.words import GROUPS_SHOWN, in_words, table

THIRD = 1 / 3


def found(**more) -> Hypergradient:
    given = {"validation_loss": THIRD, "hyper_variables": [], "diverged": False, "growth": 1.0}
    given |= {"gradients": {"out": {"learning_rate": THIRD, "l2": np.linspace(0, 1, 784)}}}
    given |= {"initial_weights": [np.full((784, 50), THIRD)], "steps": 20, "path": paths.Linear()}
    return Hypergradient(**(given | more))


def test_a_hypergradient_is_printed_as_a_summary():
    printed = str(found(information={"bits": 2 * THIRD}))
    assert printed == repr(found(information={"bits": 2 * THIRD}))
    assert len(printed.splitlines()) < 12
    assert "0.3333" in printed and "0.5 (0 – 1, 784 values)" in printed and "0.6667" in printed
    assert not re.search(r"\d\.\d{5}", printed)
    assert "of 20 steps through Linear(" in printed
    assert "not to be used" not in printed and "not to be used" in str(found(diverged=True))


def test_of_many_groups_the_first_are_shown():
    groups = {f"layer_{i}": {"l2": THIRD} for i in range(3 + GROUPS_SHOWN)}
    lines = table(groups)
    assert len(lines) == GROUPS_SHOWN + 2 and lines[-1] == "… and 3 more groups"


def test_kinds_that_a_group_does_not_have_are_left_out():
    assert table({"a": {"l2": 1.0, "momentum": 0.5}, "b": {"momentum": THIRD}}) == [
        "   l2  momentum",
        "a  1   0.5",
        "b      0.3333",
    ]


def test_numbers_have_four_digits():
    assert [in_words(v) for v in (THIRD, np.array([THIRD]), np.array([]))] == [
        "0.3333",
        "0.3333",
        "no values",
    ]


def test_a_goal_says_what_it_is():
    goal = Goal("val_accuracy", 0.965)
    assert repr(goal) == "Goal('val_accuracy', 0.965, direction='max', unit='steps')"
    assert repr(eval(repr(goal))) == repr(goal)


def test_a_policy_says_what_it_does():
    network = q_network([((7,), None)], actions=5, seed=0)
    common = ([Ratios()], Actions(), ("val_loss", 0.1), 2, 0.1 * THIRD, 8)
    assert str(Policy(*common, network=network)) == (
        "<Policy: a network over Ratios, of 5 actions every 2 steps; learned for val_loss of 0.1, "
        "from a learning rate of 0.03333, within 8 steps>"
    )
    said = str(Policy(*common, learning_rate=Schedule("cosine", 0.1 * THIRD, 8)))
    assert said.startswith("<Policy: the schedule cosine 0.0333 over 8 steps; learned for val_loss")
