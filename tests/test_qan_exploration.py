"""When the agent explores, and how."""

import numpy as np
import pytest

from keras_drmad.tuners import Actions
from keras_drmad.tuners.qan.agent.exploration import Exploration
from keras_drmad.tuners.qan.search.schedules import Schedule


def test_random_actions_are_sticky():
    """Stretches of 1 to 30 / 3 = 10 decisions, or to a tenth of the rate; their logarithm uniform."""
    exploration = Exploration(Actions(), epsilon=1.0, decisions=30, seed=3)
    chosen = np.array([exploration.choose(0, np.ones(1))[0] for _ in range(20_000)])
    ends = np.flatnonzero(np.diff(chosen)) + 1
    lengths, of = np.diff(ends), chosen[ends[:-1]]
    for action, longest in enumerate((np.log(10) / np.log(2), 10, 10, 10, np.log(10) / np.log(2))):
        logs = np.linspace(0, np.log(longest), 10_000, endpoint=False)
        # One in five is followed by another of the same action.
        expected = np.mean(np.exp(logs).astype(int)) / 0.8
        assert np.mean(lengths[of == action]) == pytest.approx(expected, rel=0.1)


def test_without_epsilon_nothing_is_explored():
    exploration = Exploration(Actions(), epsilon=0.0, decisions=30, seed=3)
    assert all(exploration.choose(0, np.ones(1)) is None for _ in range(100))


def test_layers_explore_together_and_each_for_itself():
    exploration = Exploration(Actions(), epsilon=1.0, decisions=30, seed=3)
    chosen = np.array([exploration.choose(0, np.ones(3)) for _ in range(20_000)])
    alike = (chosen == chosen[:, :1]).all(axis=1)
    assert 0.3 < alike.mean() < 0.7
    for layer in chosen[~alike].T:
        assert set(layer) == set(range(5))


def test_guided_stretches_draw_a_sample_selection():
    """They do what a schedule says of the rate; of samples it says nothing."""
    selections = ("uniform", "hardest", "newest")
    actions = Actions((0.5, 1.0, 2.0), sample_selection=selections)
    guide = Schedule("constant", 0.02)
    exploration = Exploration(actions, 1.0, 30, seed=3, guide=guide, guided_share=1.0)
    rates = np.full(1, 0.011)
    done = [actions.all[exploration.choose(0, rates)[0]] for _ in range(2000)]
    assert {rate for rate, *_ in done} == {2.0}
    drawn = np.array([selection for *_, selection in done])
    assert all(0.2 < np.mean(drawn == selection) < 0.5 for selection in selections)
    assert np.mean(drawn[1:] == drawn[:-1]) > 0.7  # a stretch has one
