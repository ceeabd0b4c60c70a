"""`DQN`: the agent, a Double DQN."""

from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from keras_drmad.arguments import flag, number, positive_integer, whole_number
from keras_drmad.typing import Arrays, Logs

from .greedy import Greedy, uses_xla
from .q_network import sizes
from .replay import ReplayBuffer, Transitions

CALL_STEPS, CALL_BYTES = 64, 32 * 2**20  # gradient steps a compiled call, and what they may read
RANGES = {  # of `number`
    "gamma": {"least": 0.0, "most": 1.0},
    "tau": {"above": 0.0, "most": 1.0},
    "demo_fraction": {"least": 0.0, "most": 1.0},
    "delta": {"above": 0.0},
    "margin_loss_weight": {"least": 0.0},
    "margin": {"least": 0.0},
}


class DQN:
    """Deep Q-learning with a target network, double targets and n-step returns.

    For a transition of the replay buffer, with Q the network and Q' its running average,

        y = R + d · Q'(s', argmax_a Q(s', a))          (double; else argmax_a Q'(s', a))
        ℓ = w · huber(Q(s, a) − y) + λ e (max_b (Q(s, b) + m [b ≠ a]) − Q(s, a))
        θ ← optimizer(θ, ∂/∂θ mean ℓ)
        θ' ← θ' + τ (θ − θ')

    where e is 1 for demonstrations: transitions of the best trajectories so far, which are imitated with
    a margin. Many actions of a small set differ little in value, and those never seen must not look
    better.

    Args:
        network: A `keras.Model` from observations (batch, D) to Q-values (batch, actions).
        optimizer: As in `compile`; a copy is taken. Defaults to `Adam(1e-3, global_clipnorm=10)`.
        gamma: γ, a decision. Defaults to 0.99.
        n_step: n. Defaults to 5.
        batch_size: Transitions a gradient step. Defaults to 64.
        double: See above. Defaults to `True`.
        tau: τ. Defaults to 0.005.
        delta: Where the Huber loss turns from square to linear. Defaults to 1.
        margin_loss_weight: λ. Defaults to 0.
        margin: m. Defaults to 0.8.
        demo_fraction: The share of transitions with a score that are demonstrations. Defaults to 0.1.
        min_demos: The least number of them. Defaults to 500.
        prioritized: See `ReplayBuffer`. Defaults to `False`.
        capacity: Of the replay buffer. Defaults to 100 000 transitions.
        jit_compile: Whether XLA compiles the network and its learning, which takes some seconds once.
            Defaults to `"auto"`: unless the network has convolutions.
        seed: Of what is sampled from the replay buffer.

    Raises:
        ValueError: See `check_arguments`.

    References:
        Mnih et al., 2015; van Hasselt et al., Double Q-learning, AAAI 2016; Hessel et al., Rainbow,
        AAAI 2018; Hester et al., Deep Q-learning from demonstrations, AAAI 2018 (the margin).

    Example:

    >>> from keras_drmad.tuners.qan.agent.q_network import q_network
    >>> agent = DQN(q_network([((1,), None)], actions=2, units=(8,), seed=0), n_step=1)
    >>> for reward in (0.0, 1.0):  # the second action is paid, and ends it
    ...     agent.replay.add(np.zeros((2, 1)), [int(reward)], [reward], terminated=True)
    >>> logs = agent.learn(gradient_steps=200)
    >>> agent.act(np.zeros((1, 1))).tolist()
    [1]
    """

    def __init__(
        self,
        network: keras.Model,
        optimizer: keras.optimizers.Optimizer | str | dict[str, Any] | None = None,
        gamma: float = 0.99,
        n_step: int = 5,
        batch_size: int = 64,
        double: bool = True,
        tau: float = 0.005,
        delta: float = 1.0,
        margin_loss_weight: float = 0.0,
        margin: float = 0.8,
        demo_fraction: float = 0.1,
        min_demos: int = 500,
        prioritized: bool = False,
        capacity: int = 100_000,
        jit_compile: bool | str = "auto",
        seed: int = 0,
    ) -> None:
        check_arguments(
            optimizer,
            gamma=gamma,
            n_step=n_step,
            batch_size=batch_size,
            capacity=capacity,
            tau=tau,
            delta=delta,
            margin_loss_weight=margin_loss_weight,
            margin=margin,
            demo_fraction=demo_fraction,
            min_demos=min_demos,
            double=double,
            prioritized=prioritized,
            jit_compile=jit_compile,
        )
        whole_number("seed", seed)
        self.network = network
        self.target: keras.Model = keras.models.clone_model(network)
        self.target.set_weights(network.get_weights())
        default = keras.optimizers.Adam(1e-3, global_clipnorm=10.0)
        given: keras.optimizers.Optimizer = keras.optimizers.get(optimizer or default)
        # A copy, for an optimizer serves the variables of one network only.
        self.optimizer: keras.optimizers.Optimizer = type(given).from_config(given.get_config())
        self.optimizer.build(network.trainable_variables)
        self.gamma, self.batch_size, self.seed = gamma, batch_size, seed
        self.double, self.tau, self.delta = double, tau, delta
        self.margin_loss_weight, self.margin = margin_loss_weight, margin
        size, self.actions = sizes(network)
        self.replay = ReplayBuffer(
            capacity,
            size,
            n_step,
            gamma,
            prioritized,
            demo_fraction=demo_fraction,
            min_demos=min_demos,
        )
        self.jit_compile = uses_xla(network, jit_compile)
        self._greedy = Greedy(network, self.jit_compile)
        self.learn_calls = 0
        self._call_steps = int(np.clip(CALL_BYTES // (2 * 4 * batch_size * size), 1, CALL_STEPS))
        shape = (self._call_steps, batch_size)
        rows, number = tf.TensorSpec((*shape, size), "float32"), tf.TensorSpec(shape, "float32")
        # One XLA kernel, of one shape: whatever sets TensorFlow's seed makes it prepare everything else
        # anew, which takes longer than some hundred steps and is never given back.
        self._compiled_steps = tf.function(
            self._gradient_steps,
            input_signature=[
                Transitions(rows, tf.TensorSpec(shape, "int32"), number, rows, *[number] * 3),
                tf.TensorSpec((), "int32"),
                *[tf.TensorSpec((), "float32")] * 2,
            ],
            jit_compile=self.jit_compile,
        )

    def act(
        self,
        observations: npt.ArrayLike,
        epsilon: float = 0.0,
        rng: np.random.Generator | None = None,
    ) -> np.ndarray:
        """(K,) actions for observations (K, D): greedy ones or, with probability ε, any."""
        greedy = self._greedy(observations)
        if not epsilon:
            return greedy
        if rng is None:
            raise ValueError(f"`epsilon={epsilon}` needs `rng`: pass `np.random.default_rng(...)`.")
        explore = rng.random(len(greedy)) < epsilon
        return np.where(explore, rng.integers(self.actions, size=len(greedy)), greedy)

    def learn(
        self,
        gradient_steps: int,
        shaping: float = 0.0,
        bounds: tuple[float, float] = (-np.inf, np.inf),
    ) -> Logs:
        """Takes gradient steps on samples of the replay buffer, up to 64 in one compiled call.

        Args:
            gradient_steps: their number.
            shaping: κ, see `ReplayBuffer`.
            bounds: that y is clipped to. Where values are known to lie between some, what the network
                takes for better than possible must not spread (Andrychowicz et al., Hindsight
                experience replay, NeurIPS 2017).

        Returns:
            `{"loss", "q", "error"}`: mean loss, Q-value and absolute error of the samples; empty while
            the replay buffer is.
        """
        if not len(self.replay) or not gradient_steps:
            return {}
        self.learn_calls += 1
        rng = np.random.default_rng((self.seed, self.learn_calls))
        indices, weights = self.replay.sample(rng, gradient_steps, self.batch_size)
        low, high = (tf.constant(bound, "float32") for bound in bounds)
        found = []
        for start in range(0, gradient_steps, self._call_steps):
            steps = min(self._call_steps, gradient_steps - start)
            rows = np.minimum(np.arange(start, start + self._call_steps), gradient_steps - 1)
            batches = self.replay.transitions(indices[rows], weights[rows], shaping)
            batches = Transitions(*map(tf.constant, batches))
            results = self._compiled_steps(batches, tf.constant(steps), low, high)
            found.append([result.numpy()[:steps] for result in results])
        self._greedy.read()
        losses, values, errors = map(np.concatenate, zip(*found, strict=True))
        if self.replay.prioritized:
            self.replay.update_priorities(indices, errors)
        return {
            "loss": float(losses.mean()),
            "q": float(values.mean()),
            "error": float(np.abs(errors).mean()),
        }

    def _gradient_steps(
        self, batches: Transitions, steps: tf.Tensor, low: tf.Tensor, high: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """One for each of the first `steps` batches; returns losses, Q-values and errors."""
        losses = tf.TensorArray("float32", self._call_steps, element_shape=())
        values = tf.TensorArray("float32", self._call_steps, element_shape=())
        errors = tf.TensorArray("float32", self._call_steps, element_shape=(self.batch_size,))
        i = 0  # not `in tf.range(steps)`: that makes XLA compile anew for each number of steps
        while tf.less(i, steps):
            batch = Transitions(*[part[i] for part in batches])
            loss, value, error = self._gradient_step(batch, low, high)
            losses, values = losses.write(i, loss), values.write(i, value)
            errors = errors.write(i, error)
            i += 1
        return losses.stack(), values.stack(), errors.stack()

    def _gradient_step(
        self, batch: Transitions, low: tf.Tensor, high: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns mean loss, mean Q-value, and errors."""
        y = self.targets(batch.returns, batch.next_observations, batch.discounts)
        y = tf.clip_by_value(y, low, high)
        with tf.GradientTape() as tape:
            values = self.network(batch.observations, training=True)
            chosen = tf.gather(values, batch.actions, axis=1, batch_dims=1)
            error = chosen - y
            loss = batch.weights * _huber(error, self.delta)
            if self.margin_loss_weight:
                others = tf.one_hot(batch.actions, self.actions, on_value=0.0, off_value=1.0)
                short = tf.reduce_max(values + self.margin * others, axis=-1) - chosen
                loss += self.margin_loss_weight * batch.is_demo * short
            mean = tf.reduce_mean(loss)
        variables = self.network.trainable_variables
        self.optimizer.apply(tape.gradient(mean, variables), variables)
        # Not all variables: a network may have seeds.
        for slow, fast in zip(self.target.weights, self.network.weights, strict=True):
            slow.assign(slow + self.tau * (fast - slow))
        return mean, tf.reduce_mean(chosen), error

    def targets(
        self, returns: np.ndarray, next_observations: np.ndarray, discounts: np.ndarray
    ) -> tf.Tensor:
        """(batch,) y of transitions."""
        slow = self.target(next_observations, training=False)
        by = self.network(next_observations, training=False) if self.double else slow
        best = tf.argmax(by, axis=-1, output_type="int32")
        # Nothing comes after an end, even where what is observed of it is no number.
        value = tf.gather(slow, best, axis=1, batch_dims=1)
        return returns + tf.math.multiply_no_nan(value, discounts)

    def get_state(self) -> Arrays:
        """`{name: array}` of all that learning goes on from, but the trajectories."""
        state = {
            f"{name}/{i}": variable.numpy()
            for name, of in self._parts().items()
            for i, variable in enumerate(of.variables)
        }
        priorities = self.replay.priorities[: len(self.replay)].copy()
        return state | {"priorities": priorities, "learn_calls": np.array(self.learn_calls)}

    def _parts(self) -> dict[str, keras.Model | keras.optimizers.Optimizer]:
        return {"network": self.network, "target": self.target, "optimizer": self.optimizer}

    def set_state(self, state: Arrays) -> None:
        """Goes on from there; the replay buffer must have been given the same trajectories before."""
        for name, of in self._parts().items():
            for i, variable in enumerate(of.variables):
                variable.assign(state[f"{name}/{i}"])
        self._greedy.read()
        self.replay.priorities[: len(self.replay)] = state["priorities"]
        self.learn_calls = int(state["learn_calls"])


def check_arguments(
    optimizer: keras.optimizers.Optimizer | str | dict[str, Any] | None = None, **given: Any
) -> None:
    """Refuses arguments of `DQN` that learning would fail with; others are let through.

    Raises:
        ValueError: Numbers that are none or out of range, flags that are none, an unknown optimizer.
    """
    for name, value in given.items():
        if name in ("n_step", "batch_size", "capacity"):
            positive_integer(name, value)
        elif name == "min_demos":
            whole_number(name, value)
        elif name in ("double", "prioritized", "jit_compile"):
            flag(name, value, auto=name == "jit_compile")
        elif name in RANGES:
            number(name, value, **RANGES[name])
    keras.optimizers.get(optimizer)


def _huber(error: tf.Tensor, delta: float) -> tf.Tensor:
    size = tf.abs(error)
    inner = tf.minimum(size, delta)
    return inner * (size - 0.5 * inner)
