"""The agent: a Double DQN."""

import keras
import numpy as np
import tensorflow as tf

from keras_drmad.arguments import number, positive_integer, whole_number

from .q_network import Greedy, uses_xla
from .replay import Replay

PIECE, PIECE_BYTES = 64, 32 * 2**20  # gradient steps a call, and the most that they may read
RANGES = {  # of `number`
    "gamma": {"least": 0, "most": 1},
    "target_rate": {"above": 0, "most": 1},
    "exemplary": {"least": 0, "most": 1},
    "delta": {"above": 0},
    "imitation": {"least": 0},
    "margin": {"least": 0},
}


class DQN:
    """Deep Q-learning with a target network, double targets and n-step returns.

    For a transition of the replay memory, with Q the network and Q' its running average,

        y = R + d · Q'(s', argmax_a Q(s', a))          (double; else argmax_a Q'(s', a))
        ℓ = w · huber(Q(s, a) − y) + λ e (max_b (Q(s, b) + m [b ≠ a]) − Q(s, a))
        θ ← optimizer(θ, ∂/∂θ mean ℓ)
        θ' ← θ' + τ (θ − θ')

    where e is 1 for transitions of the best trajectories so far, which are imitated with a margin: many
    actions of a small set differ little in value, and those never seen must not look better.

    Args:
        network: A `keras.Model` from observations (batch, D) to Q-values (batch, actions).
        optimizer: As in `compile`; a copy is taken. Defaults to `Adam(1e-3, global_clipnorm=10)`.
        gamma: γ, a decision. Defaults to 0.99.
        n_step: n. Defaults to 5.
        batch_size: Transitions a gradient step. Defaults to 64.
        double: See above. Defaults to `True`.
        target_rate: τ. Defaults to 0.005.
        delta: Where the Huber loss turns from square to linear. Defaults to 1.
        imitation: λ. Defaults to 0.
        margin: m. Defaults to 0.8.
        exemplary: The share of compared transitions that are imitated. Defaults to 0.1.
        examples: The least number of them. Defaults to 500.
        prioritized: See `Replay`. Defaults to `False`.
        capacity: Of the replay memory. Defaults to 100 000 transitions.
        jit_compile: Whether XLA compiles the network and its learning, which takes some seconds once.
            Defaults to `"auto"`: unless the network has convolutions.
        seed: Of what is drawn from the memory.

    Raises:
        ValueError: See `check_arguments`.

    References:
        Mnih et al., 2015; van Hasselt et al., Double Q-learning, AAAI 2016; Hessel et al., Rainbow,
        AAAI 2018; Hester et al., Deep Q-learning from demonstrations, AAAI 2018 (the margin).

    Example:

    >>> from keras_drmad.tuners.qan.network import q_network
    >>> agent = DQN(q_network([((1,), None)], actions=2, units=(8,), seed=0), n_step=1)
    >>> for reward in (0.0, 1.0):  # the second action is paid, and ends it
    ...     agent.remember(np.zeros((2, 1)), [int(reward)], [reward], terminated=True)
    >>> logs = agent.learn(updates=200)
    >>> agent.act(np.zeros((1, 1))).tolist()
    [1]
    """

    def __init__(
        self,
        network,
        optimizer=None,
        gamma=0.99,
        n_step=5,
        batch_size=64,
        double=True,
        target_rate=0.005,
        delta=1.0,
        imitation=0.0,
        margin=0.8,
        exemplary=0.1,
        examples=500,
        prioritized=False,
        capacity=100_000,
        jit_compile="auto",
        seed=0,
    ):
        check_arguments(
            optimizer,
            gamma=gamma,
            n_step=n_step,
            batch_size=batch_size,
            capacity=capacity,
            target_rate=target_rate,
            delta=delta,
            imitation=imitation,
            margin=margin,
            exemplary=exemplary,
            examples=examples,
        )
        self.network = network
        self.target = keras.models.clone_model(network)
        self.target.set_weights(network.get_weights())
        optimizer = optimizer or keras.optimizers.Adam(1e-3, global_clipnorm=10.0)
        optimizer = keras.optimizers.get(optimizer)
        # A copy, for an optimizer serves the variables of one network only.
        self.optimizer = type(optimizer).from_config(optimizer.get_config())
        self.optimizer.build(network.trainable_variables)
        self.gamma, self.batch_size, self.seed = gamma, batch_size, seed
        self.double, self.target_rate, self.delta = double, target_rate, delta
        self.imitation, self.margin = imitation, margin
        self.replay = Replay(
            capacity,
            network.input_shape[-1],
            n_step,
            gamma,
            prioritized,
            exemplary=exemplary,
            examples=examples,
        )
        self.jit_compile = uses_xla(network, jit_compile)
        self.actions, self._greedy = network.output_shape[-1], Greedy(network, self.jit_compile)
        self.bursts = 0  # of learning
        size = network.input_shape[-1]
        self._piece = int(np.clip(PIECE_BYTES // (2 * 4 * batch_size * size), 1, PIECE))
        shape = (self._piece, batch_size)
        rows, number = tf.TensorSpec((*shape, size), "float32"), tf.TensorSpec(shape, "float32")
        # One XLA kernel, of one shape: whatever sets TensorFlow's seed makes it prepare everything else
        # anew, which takes longer than some hundred steps and is never given back.
        self._learn = tf.function(
            self._learn_from,
            input_signature=[
                *(rows, tf.TensorSpec(shape, "int32"), number, rows, *[number] * 3),
                tf.TensorSpec((), "int32"),
                *[tf.TensorSpec((), "float32")] * 2,
            ],
            jit_compile=self.jit_compile,
        )

    def act(self, observations, epsilon=0.0, rng=None):
        """(K,) actions for observations (K, D): greedy ones or, with probability ε, any."""
        greedy = self._greedy(observations)
        if not epsilon:
            return greedy
        explore = rng.random(len(greedy)) < epsilon
        return np.where(explore, rng.integers(self.actions, size=len(greedy)), greedy)

    def remember(self, observations, actions, rewards, terminated, **more):
        """Adds a trajectory to the replay memory; see `Replay.add`."""
        self.replay.add(observations, actions, rewards, terminated, **more)

    def learn(self, updates, shaping=0.0, bounds=(-np.inf, np.inf)):
        """Takes so many gradient steps, up to 64 in one compiled call.

        Args:
            updates: their number.
            shaping: κ, see `Replay`.
            bounds: that y is clipped to. Where values are known to lie between some, what the network
                takes for better than possible must not spread (Andrychowicz et al., Hindsight
                experience replay, NeurIPS 2017).

        Returns:
            `{"loss", "q", "error"}`: mean loss, Q-value and absolute error of what was drawn; empty
            while the memory is.
        """
        if not len(self.replay) or not updates:
            return {}
        self.bursts += 1
        rng = np.random.default_rng((self.seed, self.bursts))
        indices, weights = self.replay.draw(rng, updates, self.batch_size)
        low, high = (tf.constant(bound, "float32") for bound in bounds)
        losses, values, errors = [], [], []
        for start in range(0, updates, self._piece):
            taken = min(self._piece, updates - start)
            rows = np.minimum(np.arange(start, start + self._piece), updates - 1)
            batches = self.replay.take(indices[rows], weights[rows], shaping)
            found = self._learn(*map(tf.constant, batches), tf.constant(taken), low, high)
            for of, array in zip((losses, values, errors), found, strict=True):
                of.append(array.numpy()[:taken])
        self._greedy.read()
        errors = np.concatenate(errors)
        if self.replay.prioritized:
            self.replay.update_priorities(indices, errors)
        return {
            "loss": float(np.concatenate(losses).mean()),
            "q": float(np.concatenate(values).mean()),
            "error": float(np.abs(errors).mean()),
        }

    def _learn_from(self, *batches_and_more):
        """The first `taken` batches of a piece."""
        *batches, taken, low, high = batches_and_more
        losses = tf.TensorArray("float32", self._piece, element_shape=())
        values = tf.TensorArray("float32", self._piece, element_shape=())
        errors = tf.TensorArray("float32", self._piece, element_shape=(self.batch_size,))
        i = 0  # not `in tf.range(taken)`: that makes XLA compile anew for each number of steps
        while i < taken:
            loss, value, error = self._update(*[part[i] for part in batches], low, high)
            losses, values = losses.write(i, loss), values.write(i, value)
            errors = errors.write(i, error)
            i += 1
        return losses.stack(), values.stack(), errors.stack()

    def _update(
        self,
        observations,
        actions,
        returns,
        next_observations,
        discounts,
        weights,
        exemplary,
        low,
        high,
    ):
        """One gradient step; returns mean loss, mean Q-value, and errors."""
        target = tf.clip_by_value(self.targets(returns, next_observations, discounts), low, high)
        with tf.GradientTape() as tape:
            values = self.network(observations, training=True)
            chosen = tf.gather(values, actions, batch_dims=1)
            error = chosen - target
            each = weights * _huber(error, self.delta)
            if self.imitation:
                margins = self.margin * (1 - tf.one_hot(actions, self.actions))
                short = tf.reduce_max(values + margins, axis=-1) - chosen
                each += self.imitation * exemplary * short
            mean = tf.reduce_mean(each)
        variables = self.network.trainable_variables
        self.optimizer.apply(tape.gradient(mean, variables), variables)
        # Not all variables: a network may have seeds.
        for slow, fast in zip(self.target.weights, self.network.weights, strict=True):
            slow.assign(slow + self.target_rate * (fast - slow))
        return mean, tf.reduce_mean(chosen), error

    def targets(self, returns, next_observations, discounts):
        """(batch,) y of transitions."""
        slow = self.target(next_observations, training=False)
        by = self.network(next_observations, training=False) if self.double else slow
        best = tf.argmax(by, axis=-1, output_type="int32")
        # Nothing comes after an end, even where what is observed of it is no number.
        return returns + tf.math.multiply_no_nan(tf.gather(slow, best, batch_dims=1), discounts)

    def get_state(self):
        """`{name: array}` of all that learning goes on from, but the trajectories in its memory."""
        state = {
            f"{name}/{i}": variable.numpy()
            for name, of in self._parts().items()
            for i, variable in enumerate(of.variables)
        }
        priorities = self.replay.priorities[: len(self.replay)].copy()
        return state | {"priorities": priorities, "bursts": np.array(self.bursts)}

    def _parts(self):
        return {"network": self.network, "target": self.target, "optimizer": self.optimizer}

    def set_state(self, state):
        """Goes on from there; the memory must have been given the same trajectories before."""
        for name, of in self._parts().items():
            for i, variable in enumerate(of.variables):
                variable.assign(state[f"{name}/{i}"])
        self._greedy.read()
        self.replay.priorities[: len(self.replay)] = state["priorities"]
        self.bursts = int(state["bursts"])


def check_arguments(optimizer=None, **given):
    """Refuses arguments of `DQN` that learning would fail with; others are let through.

    Raises:
        ValueError: Numbers that are none or out of range, an unknown optimizer.
    """
    for name, value in given.items():
        if name in ("n_step", "batch_size", "capacity"):
            positive_integer(name, value)
        elif name == "examples":
            whole_number(name, value)
        elif name in RANGES:
            number(name, value, **RANGES[name])
    keras.optimizers.get(optimizer)


def _huber(error, delta):
    size = tf.abs(error)
    inner = tf.minimum(size, delta)
    return inner * (size - 0.5 * inner)
