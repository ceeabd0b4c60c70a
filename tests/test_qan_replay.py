"""The replay buffer, by hand."""

import numpy as np
import pytest

from keras_drmad.tuners.qan.agent.replay import ReplayBuffer

REWARDS = np.array([1.0, 2.0, 4.0, 8.0])


def states(steps, size=2, first=0.0):
    """(steps + 1, size) observations, each of its own number."""
    return np.repeat(first + np.arange(steps + 1.0)[:, None], size, axis=1)


def observed(replay, next=False):
    """Observations of all transitions, or the ones after."""
    transitions = replay.transitions(np.arange(len(replay)), np.ones(len(replay)))
    return transitions.next_observations if next else transitions.observations


@pytest.mark.parametrize("terminated", [True, False])
def test_n_step_returns_by_hand(terminated):
    replay = ReplayBuffer(10, 2, n_step=3, gamma=0.5)
    replay.add(states(4), [0, 1, 2, 3], REWARDS, terminated)
    assert len(replay) == 4
    np.testing.assert_array_equal(replay.actions[:4], [0, 1, 2, 3])
    np.testing.assert_array_equal(observed(replay)[:4], states(3))
    # 1 + 2/2 + 4/4, 2 + 4/2 + 8/4, 4 + 8/2, 8: with m = 3, 3, 2, 1 rewards.
    np.testing.assert_array_equal(replay.returns[:4], [3, 6, 8, 8])
    np.testing.assert_array_equal(observed(replay, next=True)[:4, 0], [3, 4, 4, 4])
    ends = [0, 0, 0] if terminated else [0.125, 0.25, 0.5]
    np.testing.assert_array_equal(replay.discounts[:4], [0.125, *ends])


@pytest.mark.parametrize("terminated", [True, False])
def test_shaping_telescopes_whatever_n_is(terminated):
    """Σ γ^i κ (γ Φ_{i+1} − Φ_i) by hand, with the κ of the sampling."""
    potentials, gamma, kappa = np.array([3.0, 1.0, -2.0, 5.0, 7.0]), 0.5, 2.0
    ends = potentials.copy()
    ends[-1] *= not terminated
    single = kappa * (gamma * ends[1:] - potentials[:-1])
    for n in (1, 3):
        shaped, plain = ReplayBuffer(10, 2, n, gamma), ReplayBuffer(10, 2, n, gamma)
        shaped.add(states(4), range(4), REWARDS, terminated, potentials=potentials)
        plain.add(states(4), range(4), REWARDS + single, terminated)
        drawn = shaped.sample(np.random.default_rng(0), 1, 50)
        returns = shaped.transitions(*drawn, shaping=kappa).returns
        np.testing.assert_allclose(returns, plain.returns[drawn[0]])
        np.testing.assert_array_equal(shaped.transitions(*drawn).returns, shaped.returns[drawn[0]])


def test_a_trajectory_shorter_than_n():
    replay = ReplayBuffer(10, 1, n_step=5, gamma=0.5)
    replay.add(states(2, 1), [0, 0], [1.0, 1.0], terminated=False)
    np.testing.assert_array_equal(replay.returns[:2], [1.5, 1.0])
    np.testing.assert_array_equal(replay.discounts[:2], [0.25, 0.5])


def test_actions_of_others_are_left_out_but_their_rewards_count():
    replay = ReplayBuffer(10, 2, n_step=2, gamma=0.5)
    usable = [True, False, False, True]
    replay.add(states(4), [0, 1, 2, 3], REWARDS, True, usable=usable)
    assert len(replay) == 2
    np.testing.assert_array_equal(replay.actions[:2], [0, 3])
    np.testing.assert_array_equal(replay.returns[:2], [2, 8])
    np.testing.assert_array_equal(observed(replay, next=True)[:2, 0], [2, 4])


def test_the_oldest_give_way():
    replay = ReplayBuffer(3, 1, n_step=1, gamma=0.5)
    replay.add(states(2, 1), [0, 1], [0.0, 1.0], terminated=True, score=1.0)
    replay.add(states(2, 1, 10), [2, 3], [2.0, 3.0], terminated=False, score=2.0)
    assert len(replay) == 3
    np.testing.assert_array_equal(replay.actions, [3, 1, 2])
    np.testing.assert_array_equal(observed(replay)[:, 0], [11, 1, 10])
    np.testing.assert_array_equal(observed(replay, next=True)[:, 0], [12, 2, 11])
    np.testing.assert_array_equal(replay.discounts, [0.5, 0, 0.5])
    np.testing.assert_array_equal(replay.scores, [2, 1, 2])
    replay.add(states(5, 1), range(5), np.zeros(5), terminated=True)  # more than there is room for
    np.testing.assert_array_equal(np.sort(replay.actions), [2, 3, 4])


def test_each_observation_is_stored_once():
    """Whatever is left out between, and however often old ones are replaced."""
    replay, rng = ReplayBuffer(20, 1, n_step=3, gamma=0.5), np.random.default_rng(0)
    pairs = []
    for number in range(200):
        steps = int(rng.integers(1, 9))
        usable = rng.random(steps) < (0.2 if number < 100 else 0.9)
        first = 100.0 * number
        replay.add(states(steps, 1, first), np.zeros(steps), np.zeros(steps), True, usable=usable)
        pairs += [(first + t, first + min(t + 3, steps)) for t in np.flatnonzero(usable)]
        found = zip(observed(replay)[:, 0], observed(replay, next=True)[:, 0], strict=True)
        assert set(found) == set(pairs[-20:])


def test_what_is_drawn_belongs_together():
    replay = ReplayBuffer(50, 2, n_step=1, gamma=0.5)
    replay.add(states(40), np.arange(40), np.arange(40.0), terminated=True)
    indices, weights = replay.sample(np.random.default_rng(0), 30, 20)
    drawn = replay.transitions(indices, weights)
    assert drawn.observations.shape == (30, 20, 2) and drawn.actions.shape == (30, 20)
    np.testing.assert_array_equal(drawn.observations[..., 0], drawn.actions)
    np.testing.assert_array_equal(drawn.next_observations[..., 0], drawn.actions + 1)
    np.testing.assert_array_equal(drawn.returns, drawn.actions)
    np.testing.assert_array_equal(drawn.discounts, np.where(drawn.actions == 39, 0, 0.5))
    np.testing.assert_array_equal(indices, drawn.actions)
    np.testing.assert_array_equal(drawn.weights, 1)
    counts = np.bincount(drawn.actions.ravel(), minlength=40)  # 600 draws, 15 each
    assert len(counts) == 40 and np.abs(counts - 15).max() < 5 * np.sqrt(15)


def test_priorities_are_probabilities_and_weights_make_up_for_them():
    replay = ReplayBuffer(10, 1, 1, 0.5, prioritized=True, alpha=0.6, beta=0.4)
    replay.add(states(4, 1), range(4), np.zeros(4), terminated=True)
    errors = np.array([0.5, -1, 2, 8])
    replay.update_priorities(np.arange(4), errors)
    p = (np.abs(errors) + 1e-6) ** 0.6
    p /= p.sum()
    n = 40_000
    indices, drawn = replay.sample(np.random.default_rng(0), n // 100, 100)
    share = np.bincount(indices.ravel(), minlength=4) / n
    assert np.all(np.abs(share - p) < 5 * np.sqrt(p * (1 - p) / n))
    weights = (4 * p) ** -0.4
    np.testing.assert_allclose(drawn, (weights / weights.max())[indices], rtol=1e-5)
    np.testing.assert_allclose(replay.transitions(indices, drawn).weights, drawn, rtol=1e-6)
    # What they are for: with β = 1, the mean of anything is that of uniform draws.
    replay.beta = 1.0
    indices, drawn = replay.sample(np.random.default_rng(1), n // 100, 100)
    mean = np.average(errors[indices], weights=drawn)
    assert mean == pytest.approx(errors.mean(), abs=0.15)


def test_what_has_not_been_learned_from_is_drawn_first():
    """New transitions are as likely as the one with the largest error, those of the first, too."""
    replay = ReplayBuffer(100, 1, 1, 0.5, prioritized=True)
    replay.add(states(3, 1), range(3), np.zeros(3), terminated=True)
    np.testing.assert_array_equal(replay.priorities[:3], 1)
    replay.update_priorities([0, 1], [0.1, 5.0])
    replay.add(states(2, 1), range(2), np.zeros(2), terminated=True)
    np.testing.assert_allclose(replay.priorities[:5], [0.1, 5, 1, 5, 5], rtol=1e-4)


def test_demonstrations_are_of_the_best_trajectories_that_can_be_compared():
    replay = ReplayBuffer(100, 1, 1, 0.5, demo_fraction=0.25, min_demos=1)
    for score in (3.0, None, 1.0, 4.0, 2.0):
        replay.add(states(5, 1), range(5), np.zeros(5), True, score=score)
    drawn = replay.sample(np.random.default_rng(0), 1, 400)
    scores = replay.scores[drawn[0]]
    np.testing.assert_array_equal(replay.transitions(*drawn).is_demo, scores == 4)
    replay.min_demos = 7  # the 5 of score 4, and some of 3
    np.testing.assert_array_equal(replay.transitions(*drawn).is_demo, scores >= 3)
    alone = ReplayBuffer(100, 1, 1, 0.5)
    alone.add(states(5, 1), range(5), np.zeros(5), True)
    assert not alone.transitions(*alone.sample(np.random.default_rng(0), 1, 50)).is_demo.any()
