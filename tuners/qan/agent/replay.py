"""`ReplayBuffer`: n-step transitions of whole trajectories."""

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Part: TypeAlias = Any  # an array; in a compiled function a tensor, in its signature a `TensorSpec`


class Transitions(NamedTuple):
    """Sampled transitions, each part (batches, batch size, …)."""

    observations: Part
    actions: Part
    returns: Part
    next_observations: Part
    discounts: Part
    weights: Part
    is_demo: Part


class ReplayBuffer:
    """A ring of n-step transitions.

    Of a trajectory of T decisions it holds, with m = min(n, T − t),

        (s_t, a_t, R_t = Σ_{i<m} γ^i r_{t+i}, s_{t+m}, γ^m)

    and 0 instead of γ^m where s_{t+m} is the end of a *terminated* trajectory; a truncated one might
    have gone on, so its end is worth what the network says. Each observation is stored once. States may
    have a potential Φ (0 at a terminated end): samples have R_t + κ (γ^m Φ(s_{t+m}) − Φ(s_t)), with the
    κ of the sampling, however old the transition is.

    Args:
        capacity: the most transitions; new ones replace the oldest.
        size: D of an observation.
        n_step: n.
        gamma: γ.
        prioritized: whether transitions are sampled in proportion to p^α of their last error p, with
            weights (N P)^−β, the largest of a call being 1 (Schaul et al., 2016); otherwise uniformly.
            Priorities are updated after each call, of hundreds of batches, not after each batch.
        alpha, beta: α, β.
        demo_fraction, min_demos: how many transitions with a score, those of the highest ones, are
            demonstrations: this share of them, and at least this many.

    References:
        Schaul et al., Prioritized experience replay, ICLR 2016; Hessel et al., Rainbow, AAAI 2018
        (n-step returns). Potentials weighted when they are sampled, and demonstrations by score, are our
        own.

    Example:

    >>> replay = ReplayBuffer(capacity=100, size=1, n_step=2, gamma=0.5)
    >>> replay.add(np.zeros((4, 1)), [0, 1, 0], [-1.0, -1.0, -1.0], terminated=True)
    >>> len(replay), replay.returns[:3].tolist(), replay.discounts[:3].tolist()
    (3, [-1.5, -1.5, -1.0], [0.25, 0.0, 0.0])
    """

    def __init__(
        self,
        capacity: int,
        size: int,
        n_step: int,
        gamma: float,
        prioritized: bool = False,
        alpha: float = 0.6,
        beta: float = 0.4,
        demo_fraction: float = 0.1,
        min_demos: int = 500,
    ) -> None:
        self.capacity, self.n_step, self.gamma = capacity, n_step, gamma
        self.prioritized, self.alpha, self.beta = prioritized, alpha, beta
        self.demo_fraction, self.min_demos = demo_fraction, min_demos
        self._observations = np.zeros((capacity, size), "float32")  # a ring of its own
        self._stored = 0  # observations so far: number i is in row i modulo the size of the ring
        self._numbers = np.zeros(capacity, "int64")  # of the observations of transitions
        self._next_numbers = np.zeros(capacity, "int64")
        self.actions = np.zeros(capacity, "int32")
        self.returns = np.zeros(capacity, "float32")
        self.discounts = np.zeros(capacity, "float32")
        self.gains = np.zeros(capacity, "float32")  # of potential
        self.priorities = np.zeros(capacity, "float32")
        self.scores = np.full(capacity, -np.inf, "float32")
        self._filled, self._next = 0, 0

    def __len__(self) -> int:
        return self._filled

    def add(
        self,
        observations: npt.ArrayLike,
        actions: Sequence[int] | np.ndarray,
        rewards: Sequence[float] | np.ndarray,
        terminated: bool,
        usable: Sequence[bool] | np.ndarray | None = None,
        score: float | None = None,
        potentials: np.ndarray | None = None,
    ) -> None:
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
        is_usable = np.ones(steps, bool) if usable is None else np.asarray(usable)
        first = self._store(np.asarray(observations))
        for t in np.flatnonzero(is_usable).tolist():
            m = min(self.n_step, steps - t)
            powers = self.gamma ** np.arange(m + 1)
            i = self._next
            self._numbers[i], self._next_numbers[i] = first + t, first + t + m
            self.actions[i] = actions[t]
            self.returns[i] = np.dot(powers[:m], rewards[t : t + m])
            self.discounts[i] = 0.0 if terminated and t + m == steps else powers[m]
            self.gains[i] = -potentials[t]
            if self.discounts[i]:
                self.gains[i] += self.discounts[i] * potentials[t + m]
            self.priorities[i] = self.priorities[: self._filled].max() if self._filled else 1.0
            self.scores[i] = -np.inf if score is None else score
            self._filled = max(self._filled, i + 1)
            self._next = (i + 1) % self.capacity

    def _store(self, observations: np.ndarray) -> int:
        """Writes the observations of a trajectory; returns the number of the first one."""
        first, end = self._stored, self._stored + len(observations)
        oldest = first
        if self._filled:
            oldest = int(self._numbers[self._next if self._filled == self.capacity else 0])
        if end - oldest > len(self._observations):
            # Ends, and what was left out, come on top of `capacity` transitions.
            larger = np.zeros((end - oldest + self.capacity // 8, observations.shape[1]), "float32")
            living = np.arange(oldest, first)
            larger[living % len(larger)] = self._observed(living)
            self._observations = larger
        self._observations[np.arange(first, end) % len(self._observations)] = observations
        self._stored = end
        return first

    def _observed(self, numbers: np.ndarray) -> np.ndarray:
        return self._observations[numbers % len(self._observations)]

    def sample(
        self, rng: np.random.Generator, batches: int, batch_size: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """(batches, batch size) indices of transitions, and their weights."""
        shape = (batches, batch_size)
        if self.prioritized:
            p = self.priorities[: self._filled].astype("float64") ** self.alpha
            p /= p.sum()
            indices = rng.choice(self._filled, size=shape, p=p)
            weights = (self._filled * p[indices]) ** -self.beta
            weights /= weights.max()
        else:
            indices = rng.integers(self._filled, size=shape)
            weights = np.ones(shape)
        return indices, weights

    def transitions(
        self, indices: np.ndarray, weights: np.ndarray, shaping: float = 0.0
    ) -> Transitions:
        """The `Transitions` of a sample, with κ = `shaping`."""
        return Transitions(
            self._observed(self._numbers[indices]),
            self.actions[indices],
            self.returns[indices] + np.float32(shaping) * self.gains[indices],
            self._observed(self._next_numbers[indices]),
            self.discounts[indices],
            weights.astype("float32"),
            (self.scores[indices] >= self._least_demo_score()).astype("float32"),
        )

    def _least_demo_score(self) -> float:
        scores = self.scores[: self._filled]
        scores = scores[scores > -np.inf]
        if not len(scores):
            return np.inf
        share = max(self.demo_fraction, self.min_demos / len(scores))
        return float(np.quantile(scores, max(1 - share, 0.0)))

    def update_priorities(self, indices: npt.ArrayLike, errors: npt.ArrayLike) -> None:
        """Sets priorities to the absolute errors of transitions that were learned from."""
        self.priorities[np.ravel(indices)] = np.abs(np.ravel(errors)) + 1e-6
