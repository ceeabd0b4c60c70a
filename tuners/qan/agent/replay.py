"""The replay memory: n-step transitions of whole trajectories."""

from typing import NamedTuple

import numpy as np


class Batches(NamedTuple):
    """Sampled transitions, each array (batches, batch size, …)."""

    observations: np.ndarray
    actions: np.ndarray
    returns: np.ndarray
    next_observations: np.ndarray
    discounts: np.ndarray
    weights: np.ndarray
    exemplary: np.ndarray


class Replay:
    """A ring of n-step transitions.

    Of a trajectory of T decisions it keeps, with m = min(n, T − t),

        (s_t, a_t, R_t = Σ_{i<m} γ^i r_{t+i}, s_{t+m}, γ^m)

    and 0 instead of γ^m where s_{t+m} is the end of a *terminated* trajectory; a truncated one might
    have gone on, so its end is worth what the network says. States may have a potential Φ (0 at a
    terminated end): what is drawn has R_t + κ (γ^m Φ(s_{t+m}) − Φ(s_t)), with the κ of the draw, however
    old it is.

    Args:
        capacity: the most transitions; the oldest give way.
        size: D of an observation.
        n_step: n.
        gamma: γ.
        prioritized: whether transitions are drawn in proportion to p^α of their last error p, with
            weights (N P)^−β, the largest of a draw being 1 (Schaul et al., 2016); otherwise uniformly.
            Priorities follow after each draw, of hundreds of batches, not after each batch.
        alpha, beta: α, β.
        exemplary, examples: how many transitions with a score, those of the highest ones, are
            examples: this share of them, and at least this many.

    References:
        Schaul et al., Prioritized experience replay, ICLR 2016; Hessel et al., Rainbow, AAAI 2018
        (n-step returns). Potentials weighted by the draw's κ, and examples by score, are our own.

    Example:

    >>> memory = Replay(capacity=100, size=1, n_step=2, gamma=0.5)
    >>> memory.add(np.zeros((4, 1)), [0, 1, 0], [-1.0, -1.0, -1.0], terminated=True)
    >>> len(memory), memory.returns[:3].tolist(), memory.discounts[:3].tolist()
    (3, [-1.5, -1.5, -1.0], [0.25, 0.0, 0.0])
    """

    def __init__(
        self,
        capacity,
        size,
        n_step,
        gamma,
        prioritized=False,
        alpha=0.6,
        beta=0.4,
        exemplary=0.1,
        examples=500,
    ):
        self.capacity, self.n_step, self.gamma = capacity, n_step, gamma
        self.prioritized, self.alpha, self.beta = prioritized, alpha, beta
        self.share, self.examples = exemplary, examples
        self.observations = np.zeros((capacity, size), "float32")
        self.next_observations = np.zeros((capacity, size), "float32")
        self.actions = np.zeros(capacity, "int32")
        self.returns = np.zeros(capacity, "float32")
        self.discounts = np.zeros(capacity, "float32")
        self.gains = np.zeros(capacity, "float32")  # of potential
        self.priorities = np.zeros(capacity, "float32")
        self.scores = np.full(capacity, -np.inf, "float32")
        self.filled, self._next = 0, 0

    def __len__(self):
        return self.filled

    def add(
        self, observations, actions, rewards, terminated, usable=None, score=None, potentials=None
    ):
        """Adds a trajectory.

        Args:
            observations: (T + 1, D), the end included.
            actions: (T,).
            rewards: (T,).
            terminated: whether nothing comes after its end.
            usable: (T,) whether each action was one of the agent's; those that were not are left out,
                though their rewards count in the returns before them.
            score: how good the trajectory was; None if it cannot be compared.
            potentials: (T + 1,) Φ; 0 by default.
        """
        steps = len(actions)
        potentials = np.zeros(steps + 1) if potentials is None else potentials
        usable = np.ones(steps, bool) if usable is None else np.asarray(usable)
        for t in np.flatnonzero(usable):
            m = min(self.n_step, steps - t)
            powers = self.gamma ** np.arange(m + 1)
            i = self._next
            self.observations[i] = observations[t]
            self.actions[i] = actions[t]
            self.returns[i] = np.dot(powers[:m], rewards[t : t + m])
            self.next_observations[i] = observations[t + m]
            self.discounts[i] = 0.0 if terminated and t + m == steps else powers[m]
            self.gains[i] = -potentials[t]
            if self.discounts[i]:
                self.gains[i] += self.discounts[i] * potentials[t + m]
            self.priorities[i] = self.priorities[: self.filled].max() if self.filled else 1.0
            self.scores[i] = -np.inf if score is None else score
            self.filled = max(self.filled, i + 1)
            self._next = (i + 1) % self.capacity

    def draw(self, rng, batches, batch_size):
        """Which to learn from, by a NumPy generator: (batches, batch size) indices, their weights."""
        shape = (batches, batch_size)
        if self.prioritized:
            p = self.priorities[: self.filled].astype("float64") ** self.alpha
            p /= p.sum()
            indices = rng.choice(self.filled, size=shape, p=p)
            weights = (self.filled * p[indices]) ** -self.beta
            weights /= weights.max()
        else:
            indices = rng.integers(self.filled, size=shape)
            weights = np.ones(shape)
        return indices, weights

    def take(self, indices, weights, shaping=0.0):
        """`Batches` of those that were drawn, with κ = `shaping`."""
        return Batches(
            self.observations[indices],
            self.actions[indices],
            self.returns[indices] + np.float32(shaping) * self.gains[indices],
            self.next_observations[indices],
            self.discounts[indices],
            weights.astype("float32"),
            (self.scores[indices] >= self._least_score()).astype("float32"),
        )

    def _least_score(self):
        """Of an example."""
        scores = self.scores[: self.filled]
        scores = scores[scores > -np.inf]
        if not len(scores):
            return np.inf
        share = max(self.share, self.examples / len(scores))
        return np.quantile(scores, max(1 - share, 0.0))

    def update_priorities(self, indices, errors):
        """Absolute errors of transitions, as they were learned from."""
        self.priorities[np.ravel(indices)] = np.abs(np.ravel(errors)) + 1e-6
