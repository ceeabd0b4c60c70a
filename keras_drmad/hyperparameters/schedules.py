"""Learned schedules: hyperparameters that vary over training, piecewise linear between knots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from keras_drmad.arguments import positive_integer, some_of, suggesting, wrong
from keras_drmad.typing import Tensor

SCHEDULABLE = ("learning_rate", "momentum", "beta_1")


@keras.saving.register_keras_serializable(package="keras_drmad")
@suggesting
class Knots:
    """Piecewise linear schedules over training, one for each group.

        value(t) = (1 − f) · knot_i + f · knot_{i+1},   i + f = t / (steps − 1) · (knots − 1)

    at training step t = 0 … steps − 1; the last knot afterwards. Knots are learned like constant
    hyperparameters; all begin at the compiled value. The global learning rate, which may have a
    Keras schedule of its own, multiplies them.

    Args:
        knots: Number of knots, at least 2, or `"step"` for one value for each training step.
        kinds: What varies: `"learning_rate"`, `"momentum"` (of `DrMADSGD`), `"beta_1"` (of
            `DrMADAdamW`), or several. Defaults to all of them that the optimizer has.
        steps: Steps of the optimizer that the knots span (with `gradient_accumulation_steps`, fewer
            than batches). `hypergradient`, `LearnHyperparameters` and `DrMADTuner` fill it in. For
            `fit` without them it must be given.

    Raises:
        ValueError: An argument is none of these, or there are more knots than steps.

    Example:

    >>> optimizer = DrMADSGD(0.1, schedule=Knots(3, kinds="learning_rate", steps=100))
    >>> optimizer.build([keras.Variable([1.0], name="w")])
    >>> optimizer.set_hyperparameters({"w": {"learning_rate": [0.1, 0.2, 0.0001]}})
    >>> [round(float(rate), 4) for rate in optimizer.hyperparameters["w"]["learning_rate"]]
    [0.1, 0.2, 0.0001]
    """

    def __init__(
        self,
        knots: int | str = 10,
        kinds: str | Sequence[str] | None = None,
        steps: int | None = None,
    ) -> None:
        if not isinstance(knots, str):
            knots = positive_integer("knots", knots, least=2)
        elif knots != "step":
            raise wrong("knots", knots, 'an integer, 2 or more, or "step"')
        if kinds is not None:
            kinds = some_of("kinds", kinds, SCHEDULABLE)
        self.knots, self.kinds = knots, kinds
        self.steps = positive_integer("steps", steps, optional=True)
        if not isinstance(knots, str) and self.steps is not None and knots > self.steps:
            raise ValueError(
                "`knots` must be at most the steps that they span: others would never be reached. "
                f"Received: knots={knots} for {self.steps} steps"
            )

    @property
    def count(self) -> int:
        """The number of knots."""
        return self._span if isinstance(self.knots, str) else self.knots

    @property
    def _span(self) -> int:
        if self.steps is None:
            raise ValueError(
                "How many steps the learned schedule spans is not known: use "
                f"`Knots({self.knots!r}, steps=…)`."
            )
        return self.steps

    def kinds_of(self, known: Sequence[str]) -> tuple[str, ...]:
        """What varies of an optimizer that has the hyperparameters `known`.

        Raises:
            ValueError: `kinds` has others.
        """
        if self.kinds is None:
            return tuple(kind for kind in SCHEDULABLE if kind in known)
        if not set(self.kinds) <= set(known):
            raise ValueError(
                f"`schedule` varies what the optimizer does not have: {self!r}. It has {tuple(known)}: "
                "name some of these in `Knots(kinds=...)`, or leave `kinds` out."
            )
        return self.kinds

    def over(self, steps: int) -> Knots:
        """The same knots over another number of steps."""
        if self.knots == "step" and self.steps is not None:
            raise ValueError(
                'A schedule with `knots="step"` cannot be stretched to other steps: make one with '
                "`Knots(number)`."
            )
        return Knots(self.knots, self.kinds, steps)

    def positions(self, steps: ArrayLike) -> np.ndarray:
        """Where training steps (an array of their numbers) stand, in units of knots."""
        return np.minimum(np.asarray(steps) / max(self._span - 1, 1), 1.0) * (self.count - 1)

    def position(self, step: Tensor) -> Tensor:
        """The same of one step, in the graph."""
        at = tf.minimum(tf.cast(step, tf.float32) / max(self._span - 1, 1), 1.0)
        return at * (self.count - 1)

    def __repr__(self) -> str:
        return f"Knots({self.knots!r}, kinds={self.kinds!r}, steps={self.steps!r})"

    def get_config(self) -> dict[str, Any]:
        kinds = None if self.kinds is None else list(self.kinds)
        return {"knots": self.knots, "kinds": kinds, "steps": self.steps}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Knots:
        return cls(**config)
