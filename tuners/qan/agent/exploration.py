"""`Exploration`: when to take other actions than the greedy ones, and which."""

from collections.abc import Callable

import numpy as np

from ..training.actions import Actions

LONGEST = 1 / 3  # of an episode, a stretch
REACH = 10.0  # how far one action takes the learning rate, repeated
TOGETHER = 0.5  # of the stretches of random actions have one action for all layers


class Exploration:
    """Sticky exploration: with probability ε at each decision, a stretch of it begins.

    In a stretch one random action is taken again and again (single random multipliers have no drift).
    Several groups share it in half of the stretches, and draw each for itself in the others. Or the
    actions follow a guide, with a random sample selection, of which a schedule says nothing. Lengths of
    stretches are log-uniform, up to a third of the episode (that a rate should fall for long is not
    found by short ones), or until the rate is a tenth or tenfold.

    Args:
        actions: the `Actions`.
        epsilon: ε.
        decisions: of a whole episode.
        seed: of NumPy's generator.
        guide: a learning rate as a function of the step, or None.
        guided_share: the share of stretches that follow the guide.
    """

    def __init__(
        self,
        actions: Actions,
        epsilon: float,
        decisions: float,
        seed: int | tuple[int, ...],
        guide: Callable[[int], float] | None = None,
        guided_share: float = 0.0,
    ) -> None:
        self.epsilon = epsilon
        self._actions, self._guide, self._guided_share = actions, guide, guided_share
        self._longest = max(LONGEST * decisions, 1.0)
        self._rng = np.random.default_rng(seed)
        self._stretch: list[int] | None = None  # its actions; None: the guide's
        self._left = 0  # decisions of the stretch
        self._selection = ""  # of the guide's actions

    def choose(self, step: int, rates: np.ndarray) -> list[int] | None:
        """One action for each group, at a step with these learning rates; None: the greedy ones."""
        if self._left == 0 and self._rng.random() < self.epsilon:
            self._begin(len(rates))
        if self._left == 0:
            return None
        self._left -= 1
        if self._stretch is not None or self._guide is None:
            return self._stretch
        rate = float(self._guide(step))
        return [self._actions.nearest(rate / before, self._selection)[0] for before in rates]

    def _begin(self, groups: int) -> None:
        """Draws a stretch."""
        longest = self._longest
        if self._guide is not None and self._rng.random() < self._guided_share:
            self._stretch, self._selection = (
                None,
                str(self._rng.choice(self._actions.sample_selection)),
            )
        else:
            self._stretch = self._random_actions(groups)
            # By a decision, of the rate that moves the most.
            moved = max(abs(np.log(self._actions.all[a][0])) for a in self._stretch)
            longest = np.clip(np.log(REACH) / max(moved, 1e-6), 1.0, longest)
        self._left = int(np.exp(self._rng.uniform(0, np.log(longest))))

    def _random_actions(self, groups: int) -> list[int]:
        if groups == 1 or self._rng.random() < TOGETHER:
            return [int(self._rng.integers(len(self._actions)))] * groups
        return self._rng.integers(len(self._actions), size=groups).tolist()
