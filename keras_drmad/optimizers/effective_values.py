"""`EffectiveValues`: the hyperparameters of an optimizer as users read, set and move them."""

from __future__ import annotations

import keras
import numpy as np

from keras_drmad import compat
from keras_drmad.arguments import did_you_mean
from keras_drmad.hyperparameters import meta
from keras_drmad.hyperparameters.groups import INIT_SCALE, Layout, entries_of
from keras_drmad.hyperparameters.scales import Log
from keras_drmad.optimizers.scheduled import ScheduledOptimizer
from keras_drmad.typing import Hyperparameters, JsonObject, Logs, Tensor, Vectors
from keras_drmad.update_rules.base import UpdateRule


class EffectiveValues(ScheduledOptimizer):
    """Base class: effective values of what is kept as displacements from the compiled values.

    Attributes:
        rule: the class of the training step.
        scales: `{kind: scale}` on which displacements are measured.
        learn: the kinds that may be learned.
        layout: the groups, once the optimizer is built.
        displacements: `{kind: variable}`, once the optimizer is built.
    """

    rule: type[UpdateRule]
    scales: dict[str, Log]
    learn: tuple[str, ...]
    layout: Layout
    displacements: dict[str, keras.Variable]
    _pending: list[Hyperparameters]  # arguments of `set_hyperparameters` before it is built

    @property
    def hyperparameters(self) -> Hyperparameters:
        """Effective values: `{group: {"learning_rate": …, "momentum": …, "l2": …}}`.

        Groups are named by Keras paths and stand in the model's own order. With `per="unit"`, `l2`
        is an array with one entry an input unit. Values are copies: write with
        `set_hyperparameters`.

        Learning rates are multiples of the global rate now. Where that is 0, they are those of the
        last step of its schedule with a rate above 0, or of the first one to come. Where it was
        set to 0, they are those of the rate that the optimizer was made with.
        """
        self._check_built("hyperparameters")
        values = {kind: np.array(self._value(kind)) for kind in self.displacements}
        values["learning_rate"] = values["learning_rate"] * self.reference_rate()
        return self.layout.nest(values)

    def set_hyperparameters(self, hyperparameters: Hyperparameters) -> None:
        """Sets effective values, in the form that `hyperparameters` has; others stay.

        Before the optimizer is built (by `fit`, or `build`) the values are kept and set then.

        Args:
            hyperparameters: `{group: {kind: number or array}}`, any part of the whole.

        Raises:
            ValueError: an unknown group or kind (naming the nearest valid one), a wrong shape, a
                value out of range, or a learning rate where the global one is always 0. Nothing is
                set then.
        """
        if not self.built:
            self._check_entries(hyperparameters)
            self._pending = [*self._pending, hyperparameters]
            return
        new = {kind: d.numpy() for kind, d in self.displacements.items()}
        for kind, displacement in self._displaced(new, hyperparameters).items():
            self.displacements[kind].assign(displacement)

    def _pending_lists(self) -> list[JsonObject]:
        """What waits for the build, in numbers and lists."""
        return [
            {
                group: {kind: np.asarray(value).tolist() for kind, value in values.items()}
                for group, values in hyperparameters.items()
            }
            for hyperparameters in self._pending
        ]

    def _check_entries(self, hyperparameters: Hyperparameters) -> None:
        """What can be said of effective values before the groups are known."""
        for group, kind, value in entries_of(hyperparameters, "hyperparameters"):
            name = f"hyperparameters[{group!r}][{kind!r}]"
            if kind not in self.scales:
                near = did_you_mean(kind, valid=self.scales)
                raise ValueError(f"Unknown hyperparameter: {name}. {near}".strip())
            if kind != "learning_rate":  # a multiple of the global one, which may change
                self.scales[kind].check_reached(name, value)
            elif not np.all(value > 0):
                raise ValueError(f"{name} must be more than 0. Received: {value}")

    def _displaced(
        self, new: dict[str, np.ndarray], hyperparameters: Hyperparameters
    ) -> dict[str, np.ndarray]:
        """Writes the displacements of effective values into the NumPy vectors `new`."""
        for group, kind, part, value in self.layout.parse(hyperparameters):
            unit = self._rate_above_zero() if kind == "learning_rate" else 1.0
            value, scale = value / unit, self.scales[kind]
            scale.check_reached(f"hyperparameters[{group!r}][{kind!r}]", value, unit)
            self.layout.write(new[kind], kind, part, scale.displacement(value))
        return new

    def as_logs(self) -> Logs:
        """`{"<group>/<kind>": effective value}` for `logs`; of arrays the mean."""
        return {
            f"{group}/{kind}": float(np.mean(value))
            for group, entries in self.hyperparameters.items()
            for kind, value in entries.items()
        }

    def move_hyperparameters(
        self, gradients: Hyperparameters, meta_optimizer: keras.optimizers.Optimizer
    ) -> None:
        """Moves what is learned along a hypergradient, on the scale on which it is learned.

            δ ← meta_optimizer(δ, ∂L/∂value · ∂value/∂δ)

        with `δ` the displacements on the log scale (learning rates, L2) or logit scale (momenta).

        Args:
            gradients: as `hypergradient` returns them: by effective values, in the form of
                `hyperparameters`.
            meta_optimizer: a `keras.optimizers.Optimizer`; the same one each time.

        Raises:
            ValueError: as `set_hyperparameters`.

        Example:

        >>> model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(1, name="out")])
        >>> model.compile(optimizer=DrMADSGD(0.05, learn="learning_rate"), loss="mse")
        >>> model.optimizer.build(model.trainable_variables)
        >>> down = {"out": {"learning_rate": 3.0, "momentum": 0.0, "l2": 0.0}}
        >>> model.optimizer.move_hyperparameters(down, keras_drmad.Sign(0.1))
        >>> round(model.optimizer.hyperparameters["out"]["learning_rate"], 4)  # 0.05 · e^−0.1
        0.0452
        """
        self._check_built("move_hyperparameters")
        meta.check(meta_optimizer)
        flat = {kind: np.zeros(size) for kind, size in self.layout.sizes.items()}
        for _, kind, part, value in self.layout.parse(gradients, "gradients"):
            self.layout.write(flat[kind], kind, part, value)
        flat["learning_rate"] *= self._rate_above_zero()
        meta.move(self, meta.by_displacement(self, flat), meta_optimizer)

    def hyper_values(self) -> Vectors:
        """`{kind: flat tensor}` of a training step; of learning rates the global one's multipliers."""
        return {kind: self._value(kind) for kind in self.rule.kinds}

    def _value(self, kind: str) -> Tensor:
        return self.scales[kind].value(self.displacements[kind].value)

    def init_scales(self) -> Tensor | None:
        """The flat tensor of initial scales, or None if they are not learned."""
        return self._value(INIT_SCALE) if INIT_SCALE in self.displacements else None

    def check_learns(self) -> None:
        """Raises a ValueError if there is nothing that may be learned."""
        if not self.learn:
            raise ValueError(
                "Nothing to learn: the optimizer has `learn=()`. Leave `learn` out, or name in it what "
                "is to be learned."
            )

    def _check_built(self, what: str) -> None:
        if not self.built:
            raise ValueError(
                f"`{what}` is known once the optimizer is built: call `fit`, or "
                "`optimizer.build(model.trainable_variables)`, first."
            )

    def _rate_above_zero(self) -> float:
        rate = self.reference_rate()
        if rate > 0:
            return rate
        raise ValueError(
            "Learning rates of groups are multiples of the global learning rate, which is 0 and was "
            f"never above 0. Received: learning_rate={compat.learning_rate(self)!r}. Compile the model "
            "with a learning rate above 0, or set `optimizer.learning_rate` to one first."
        )
