"""What a decision changes in an optimizer."""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from keras_drmad.optimizers.learnable import LearnableOptimizer

from .actions import Actions


class OptimizerControl:
    """The settings of an optimizer that actions move: of the whole model, or of each layer.

    Args:
        optimizer: a Keras optimizer, built.
        actions: the `Actions`.

    Raises:
        ValueError: The optimizer has no learning rate to set, or no momentum, or no layers.
    """

    def __init__(self, optimizer: keras.optimizers.Optimizer, actions: Actions) -> None:
        optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # of `LossScaleOptimizer`
        self.optimizer, self.actions = optimizer, actions
        self._learned = optimizer if isinstance(optimizer, LearnableOptimizer) else None
        if self._learned is not None:
            self._learned.is_settled = True  # by the agent
        # AdamW keeps so much of the last gradients by its β₁.
        self._momentum = "momentum" if hasattr(optimizer, "momentum") else "beta_1"
        if not isinstance(getattr(optimizer, "learning_rate", None), keras.Variable):
            raise ValueError(
                f"The learning rate of {optimizer!r} cannot be set: compile with a number, not with "
                "a schedule or a function."
            )
        if actions.moves_momentum() and self._learned is None:
            raise ValueError(
                f"{type(optimizer).__name__} keeps its momentum as a constant: compile with "
                "`DrMADSGD` or `DrMADAdamW`, or leave `Actions(momentum=...)` out."
            )
        per = None if self._learned is None else self._learned.per
        if actions.per == "layer" and per not in ("layer", "variable"):
            raise ValueError(
                '`Actions(per="layer")` needs `DrMADSGD(per="layer", learn=())` or a `DrMADAdamW` like '
                "it. Received: "
                f"{type(optimizer).__name__}"
            )
        self._rate: float | None = None  # what it was set to here
        self._all_groups = [] if self._learned is None else list(self._learned.hyperparameters)
        # [None]: the whole model.
        self.groups: list[str | None] = [*self._all_groups] if actions.per == "layer" else [None]

    def settings(self) -> tf.Tensor:
        """(2, groups) tensor: learning rates, and momenta, which are 0 where there are none."""
        optimizer = self.optimizer
        rate = tf.cast(optimizer.learning_rate.value, "float64")
        if self._learned is None:
            momentum = getattr(optimizer, self._momentum, 0.0)
            return tf.stack([[rate], [tf.constant(momentum, "float64")]])
        momenta = self._of_groups(self._learned, self._momentum)
        if self.groups == [None]:
            return tf.stack([[rate], [tf.reduce_mean(momenta)]])
        return tf.stack(
            [tf.multiply(rate, self._of_groups(self._learned, "learning_rate")), momenta]
        )

    def _of_groups(self, optimizer: LearnableOptimizer, kind: str) -> tf.Tensor:
        """(groups of the optimizer,): means over a learned schedule's knots."""
        layout, values = optimizer.layout, optimizer.hyper_values()[kind]
        table = tf.reshape(tf.cast(values, "float64"), (layout.knots.get(kind, 1), -1))
        slices = [layout.groups[group][kind] for group in self._all_groups]
        return tf.stack([tf.reduce_mean(table[:, s.start : s.start + s.size]) for s in slices])

    def read(self) -> np.ndarray:
        """(groups,) learning rates, and (groups,) momenta."""
        return self.settings().numpy()

    def was_overruled(self, rates: np.ndarray) -> bool:
        """Whether the one learning rate of the model, now `rates`, is not what it was set to."""
        if self.groups != [None] or self._rate is None:
            return False
        return abs(float(rates[0]) - self._rate) > 1e-5 * abs(self._rate)

    def _set_global(self, rate: float) -> None:
        self._rate = rate
        # `optimizer.learning_rate = rate` converts, casts and reads in calls of their own.
        self.optimizer.learning_rate.value.assign(rate, read_value=False)

    def set_rate(self, rate: float) -> None:
        """One learning rate for the whole model."""
        if self._learned is None or self.groups == [None]:
            self._set_global(rate)
        else:
            of_each = {group: {"learning_rate": rate} for group in self._all_groups}
            self._learned.set_hyperparameters(of_each)

    def apply(self, choices: Sequence[int], rates: np.ndarray, momenta: np.ndarray) -> str:
        """Applies one action to each group, of these present values.

        Returns:
            The rule by which samples are selected, of the first action.

        What an action leaves as it is, is not set: that takes longer than to look.
        """
        changes: dict[str | None, dict[str, float]] = {}
        for group, choice, rate, momentum in zip(self.groups, choices, rates, momenta, strict=True):
            _, slower, _ = self.actions.all[choice]
            wanted, moved = self.actions.rate_after(choice, rate), {}
            if wanted != rate:
                moved["learning_rate"] = wanted
            if slower != 1:
                moved[self._momentum] = 1 - float(np.clip(slower * (1 - momentum), 1e-3, 1.0))
            if moved:
                changes[group] = moved
        moved = changes.pop(None, {})  # of the whole model
        if "learning_rate" in moved:
            self._set_global(moved.pop("learning_rate"))
        new = {group: change for group, change in changes.items() if group is not None}
        if moved:
            new = dict.fromkeys(self._all_groups, moved)
        if new and self._learned is not None:
            self._learned.set_hyperparameters(new)
        return self.actions.all[choices[0]][2]
