"""`DQN`: targets and losses by hand, and problems whose solution is known."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_drmad.tuners.qan.agent.dqn import DQN, _huber
from keras_drmad.tuners.qan.agent.greedy import Greedy
from keras_drmad.tuners.qan.agent.q_network import q_network

pytestmark = pytest.mark.slow


def linear(weights):
    """Q(s, a) = (s W)_a."""
    inputs = keras.Input((len(weights),))
    model = keras.Model(inputs, keras.layers.Dense(len(weights[0]), use_bias=False)(inputs))
    model.set_weights([np.array(weights, "float32")])
    return model


def filled(agent, trajectories=4, steps=6, seed=0):
    """The agent, with random trajectories to learn from."""
    rng = np.random.default_rng(seed)
    size, actions = agent.network.input_shape[-1], agent.actions
    for number in range(trajectories):
        agent.replay.add(
            rng.normal(size=(steps + 1, size)),
            rng.integers(actions, size=steps),
            3 * rng.normal(size=steps),
            terminated=number % 2 == 0,
            score=float(number),
        )
    return agent


def learner(seed=0, network_seed=0, **arguments):
    network = q_network([((3,), None)], 2, units=(8,), seed=network_seed)
    arguments = {"batch_size": 8, "prioritized": True, "margin_loss_weight": 0.5} | arguments
    arguments = {"jit_compile": False} | arguments  # XLA takes seconds; others are compiled by it
    return DQN(network, seed=seed, **arguments)


def assert_same_state(a, b):
    a, b = a.get_state(), b.get_state()
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


# -- targets and losses ---------------------------------------------------------------------


@pytest.mark.parametrize("double", [True, False])
def test_targets_by_hand(double):
    agent = DQN(linear([[1.0, 5.0]]), double=double)
    agent.target.set_weights([np.array([[3.0, 2.0]], "float32")])
    # Q' = (3, 2) s', and Q = (1, 5) s' would choose the other action where s' is positive.
    following = np.array([[1.0], [2.0], [-1.0], [4.0]], "float32")
    discounts = np.array([0.5, 0.25, 0.5, 0.0], "float32")
    found = agent.targets(np.array([1, 1, 1, 7], "float32"), following, discounts)
    chosen = [2, 4, -3] if double else [3, 6, -2]
    expected = [1 + d * q for d, q in zip(discounts[:3], chosen, strict=True)]
    np.testing.assert_allclose(found, [*expected, 7], rtol=1e-6)


def test_nothing_comes_after_an_end_even_one_that_is_no_number():
    """What is seen of a training that has diverged may be NaN."""
    agent = DQN(linear([[1.0, 5.0]]), n_step=1)
    agent.replay.add([[1.0], [np.nan]], [0], [-3.0], terminated=True)
    assert np.isfinite(agent.learn(3)["loss"])
    assert np.isfinite(agent.network.get_weights()[0]).all()


def test_huber():
    error = np.array([-3, -1, -0.5, 0, 0.5, 2, 10.0])
    for delta in (1.0, 2.0):
        expected = [e * e / 2 if abs(e) <= delta else delta * (abs(e) - delta / 2) for e in error]
        np.testing.assert_allclose(_huber(tf.constant(error), np.float64(delta)), expected)


class Reference:
    """The rule of `DQN` in NumPy, float64, for a linear network and SGD."""

    def __init__(self, agent, rate, bounds):
        self.agent, self.rate, self.bounds = agent, rate, bounds
        self.fast, self.slow = (
            model.get_weights()[0].astype("float64") for model in (agent.network, agent.target)
        )

    def learn(self, batches):
        """Mean loss, Q-value and the errors of batches."""
        each = [self._step(*[a[i] for a in batches]) for i in range(len(batches.actions))]
        losses, values, errors = zip(*each, strict=True)
        return np.mean(losses), np.mean(values), np.array(errors)

    def _step(self, s, a, returns, after, discounts, weights, is_demo):
        agent, rows = self.agent, np.arange(len(a))
        slow = after @ self.slow
        best = ((after @ self.fast) if agent.double else slow).argmax(-1)
        q = s @ self.fast
        chosen = q[rows, a]
        error = chosen - np.clip(returns + discounts * slow[rows, best], *self.bounds)
        size = np.abs(error)
        huber = np.where(size <= agent.delta, error**2 / 2, agent.delta * (size - agent.delta / 2))
        raised = q + agent.margin * (np.arange(agent.actions) != a[:, None])
        short = raised.max(-1) - chosen
        loss = weights * huber + agent.margin_loss_weight * is_demo * short
        slope = np.zeros_like(q)
        slope[rows, a] += weights * np.clip(error, -agent.delta, agent.delta)
        slope[rows, raised.argmax(-1)] += agent.margin_loss_weight * is_demo
        slope[rows, a] -= agent.margin_loss_weight * is_demo
        self.fast = self.fast - self.rate * s.T @ slope / len(a)
        self.slow = self.slow + agent.tau * (self.fast - self.slow)
        return loss.mean(), chosen.mean(), error


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"double": False, "delta": 0.5, "tau": 1.0},
        {"margin_loss_weight": 0.7, "margin": 0.4, "demo_fraction": 0.5},
        {"margin_loss_weight": 0.7, "demo_fraction": 0.5, "prioritized": True},
        {"bounds": (-3.0, 1.0)},
    ],
)
def test_learning_is_what_it_says(arguments):
    """Losses, gradients, the target's average and priorities, against NumPy."""
    weights = np.random.default_rng(1).normal(size=(3, 4))
    arguments = {"gamma": 0.9, "n_step": 2, "batch_size": 16, "tau": 0.1} | arguments
    bounds = arguments.pop("bounds", (-np.inf, np.inf))
    agent = DQN(linear(weights), keras.optimizers.SGD(0.05), seed=3, **arguments)
    agent.target.set_weights([agent.network.get_weights()[0][:, ::-1]])
    filled(agent)
    reference = Reference(agent, 0.05, bounds)
    for call in (1, 2):
        indices, sampled = agent.replay.sample(np.random.default_rng((3, call)), 5, 16)
        batches = agent.replay.transitions(indices, sampled)
        logs = agent.learn(5, bounds=bounds)
        loss, q, errors = reference.learn(batches)
        found = [logs["loss"], logs["q"], logs["error"]]
        np.testing.assert_allclose(found, [loss, q, np.abs(errors).mean()], rtol=1e-4)
        np.testing.assert_allclose(agent.network.get_weights()[0], reference.fast, rtol=1e-4)
        np.testing.assert_allclose(agent.target.get_weights()[0], reference.slow, rtol=1e-4)
        if agent.replay.prioritized:
            last = dict(zip(indices.ravel(), np.abs(errors).ravel(), strict=True))
            np.testing.assert_allclose(
                agent.replay.priorities[list(last)], list(last.values()), rtol=1e-3, atol=1e-4
            )
            assert len(set(batches.weights.ravel())) > 1 or call == 1


def test_large_observations_are_learned_from_in_several_calls(monkeypatch):
    agents, logs = [], []
    for size in (2**25, 2 * 4 * 16 * 3 * 2):  # all in one call; two gradient steps in each
        monkeypatch.setattr("keras_drmad.tuners.qan.agent.dqn.CALL_BYTES", size)
        weights = np.random.default_rng(1).normal(size=(3, 4))
        agent = DQN(linear(weights), keras.optimizers.SGD(0.05), batch_size=16, prioritized=True)
        filled(agent)
        calls, learn = [], agent._compiled_steps
        agent._compiled_steps = lambda *args, calls=calls, learn=learn: (
            calls.append(0) or learn(*args)
        )
        logs.append(agent.learn(5))
        assert len(calls) == (1 if size == 2**25 else 3)
        agents.append(agent)
    assert logs[0] == pytest.approx(logs[1], rel=1e-5)
    for one, other in zip(*(agent.get_state().values() for agent in agents), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


def test_there_is_nothing_to_learn_from_nothing():
    agent = DQN(linear([[1.0, 2.0]]))
    before = agent.get_state()
    assert agent.learn(5) == {}
    filled(agent)
    assert agent.learn(0) == {}
    assert agent.learn_calls == before["learn_calls"] == 0


def test_exploring():
    agent = DQN(linear([[1.0, 2.0, 3.0, 0.0]]))
    observations = np.ones((4000, 1))
    np.testing.assert_array_equal(agent.act(observations), 2)
    np.testing.assert_array_equal(agent.act(-observations), 3)
    drawn = [agent.act(observations, 0.4, np.random.default_rng(0)) for _ in range(2)]
    np.testing.assert_array_equal(*drawn)
    share = np.bincount(drawn[0], minlength=4) / 4000
    np.testing.assert_allclose(share, [0.1, 0.1, 0.7, 0.1], atol=0.03)


def test_the_agent_acts_by_what_it_has_learned():
    one, other = filled(learner()), filled(learner(network_seed=4))
    observations = np.random.default_rng(5).normal(size=(256, 3)).astype("float32")
    before = one.act(observations)
    one.learn(60)
    expected = np.argmax(one.network(observations), -1)
    assert (before != expected).any()
    np.testing.assert_array_equal(one.act(observations), expected)
    assert (other.act(observations) != expected).any()
    other.set_state(one.get_state())
    np.testing.assert_array_equal(other.act(observations), expected)


# -- reproducible, resumable, compiled once ---------------------------------------------------


def test_the_same_seed_gives_the_same_run():
    one, same, other = (filled(learner(seed)) for seed in (1, 1, 2))
    logs = [agent.learn(20) for agent in (one, same, other)]
    assert logs[0] == logs[1] != logs[2]
    assert_same_state(one, same)


def test_learning_goes_on_as_if_it_had_not_been_interrupted(tmp_path):
    one = filled(learner())
    one.learn(10)
    np.savez(tmp_path / "state.npz", **one.get_state())
    other = filled(learner(network_seed=9))  # which has learned something else by now
    for _ in range(3):
        other.learn(3)
    with np.load(tmp_path / "state.npz") as state:
        other.set_state(dict(state))
    assert_same_state(one, other)
    logs = []
    for agent in (one, other):
        filled(agent, seed=7)
        logs.append([agent.learn(6), agent.learn(9)])
    assert logs[0] == logs[1]
    assert_same_state(one, other)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_network_may_have_seeds_and_statistics(jit_compile):
    def made():
        inputs = keras.Input((3,))
        x = keras.layers.BatchNormalization()(keras.layers.Dense(8, "relu")(inputs))
        x = keras.layers.Dropout(0.5, seed=3)(x)
        network = keras.Model(inputs, keras.layers.Dense(2)(x))
        return DQN(network, batch_size=8, n_step=1, jit_compile=jit_compile)

    keras.utils.set_random_seed(0)
    one, other = filled(made()), filled(made())
    one.learn(4)
    other.set_state(one.get_state())
    assert one.learn(3) == other.learn(3)
    assert_same_state(one, other)


def test_nothing_is_traced_again():
    agent, traced = filled(learner(jit_compile=True)), []
    for gradient_steps in (2, 7, 1):
        agent.learn(gradient_steps)
    assert agent._compiled_steps.experimental_get_tracing_count() == 1
    inputs = keras.Input((3,))
    outputs = keras.layers.Lambda(lambda x: traced.append(x) or x)(inputs)
    greedy = Greedy(keras.Model(inputs, outputs))
    traced.clear()
    for number in (2, 7, 1):
        greedy.read()
        assert len(greedy(np.zeros((number, 3)))) == number
    assert len(traced) == 1


def test_xla_compiles_one_program_for_any_number_of_steps():
    agent = filled(learner(jit_compile=True))

    def lowered(steps):
        signature = agent._compiled_steps.input_signature
        batches, _, low, high = tf.nest.map_structure(
            lambda s: tf.zeros(s.shape, s.dtype), signature
        )
        arguments = (batches, tf.constant(steps), low, high)
        return agent._compiled_steps.experimental_get_compiler_ir(*arguments)(stage="hlo")

    assert lowered(2) == lowered(7)


# -- problems whose solution is known -------------------------------------------------------


def test_the_action_to_take_is_what_is_observed():
    rng, actions = np.random.default_rng(0), 4
    network = q_network([((actions,), None)], actions, units=(16,), seed=0)
    agent = DQN(network, keras.optimizers.Adam(1e-2), n_step=1, gamma=0.0)
    for episode in range(30):
        seen = rng.integers(actions, size=11)
        observations = np.eye(actions)[seen]
        taken = agent.act(observations[:-1], max(0.1, 1 - episode / 15), rng)
        agent.replay.add(observations, taken, (taken == seen[:-1]).astype("float32"), False)
        agent.learn(20)
    np.testing.assert_array_equal(agent.act(np.eye(actions)), np.arange(actions))
    values = network(np.eye(actions, dtype="float32")).numpy()
    np.testing.assert_allclose(np.diag(values), 1, atol=0.1)


LENGTH, GAMMA = 5, 0.8


def move(state, action):
    """Action 1 goes right, 0 left; each step right at the end, which goes on for ever, pays 1."""
    if action == 0:
        return max(state - 1, 0), 0.0
    return min(state + 1, LENGTH - 1), float(state == LENGTH - 1)


def optimal_values():
    """Q* of the chain, by value iteration."""
    values = np.zeros((LENGTH, 2))
    for _ in range(200):
        for state in range(LENGTH):
            for action in range(2):
                after, reward = move(state, action)
                values[state, action] = reward + GAMMA * values[after].max()
    return values


def walk(agent, choose, start, steps):
    """Remembers a trajectory that is truncated, in the middle of nothing."""
    path, actions, rewards = [start], [], []
    for _ in range(steps):
        actions.append(choose())
        after, reward = move(path[-1], actions[-1])
        path.append(after)
        rewards.append(reward)
    agent.replay.add(np.eye(LENGTH)[path], actions, rewards, terminated=False)


def tabular(n_step, double=True):
    return DQN(
        linear(np.zeros((LENGTH, 2))),
        keras.optimizers.Adam(0.05),
        gamma=GAMMA,
        n_step=n_step,
        double=double,
        batch_size=32,
        tau=0.05,
    )


def test_the_chains_values_are_known():
    values = optimal_values()
    np.testing.assert_allclose(values[:, 1], 0.8 ** np.arange(4, -1, -1) / 0.2)
    np.testing.assert_array_equal(values.argmax(-1), 1)


@pytest.mark.parametrize("double", [True, False])
def test_values_of_a_chain_from_random_steps(double):
    """Bootstrapping alone, through trajectories too short to see one end from the other."""
    agent, rng = tabular(1, double), np.random.default_rng(0)
    for number in range(200):
        walk(agent, lambda: int(rng.integers(2)), number % LENGTH, 3)
    agent.learn(2000)
    np.testing.assert_allclose(agent.network.get_weights()[0], optimal_values(), atol=0.05)


def test_values_of_a_chain_from_steps_of_its_best_policy():
    """n-step returns, and what lies behind a truncated end, which no return has seen."""
    agent = tabular(3)
    for start in range(LENGTH):
        walk(agent, lambda: 1, start, 7)
    agent.learn(1500)
    found = agent.network.get_weights()[0][:, 1]
    np.testing.assert_allclose(found, optimal_values()[:, 1], rtol=0.02)


def test_a_truncated_end_taken_for_a_terminated_one_would_be_seen():
    """The control of the test above: then values are lower, by what lies behind."""
    agent = tabular(3)
    agent.replay.add(np.eye(LENGTH)[[4, 4, 4, 4]], [1, 1, 1], [1.0, 1.0, 1.0], terminated=True)
    agent.learn(1500)
    seen = np.mean([1, 1 + 0.8, 1 + 0.8 + 0.64])  # of three different ends
    assert agent.network.get_weights()[0][4, 1] == pytest.approx(seen, rel=0.05)
