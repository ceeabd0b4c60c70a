"""What may be decided: learning rate, momentum, and which samples come next."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_drmad.arguments import choice, number, pair, some_of, suggesting, wrong


@keras.saving.register_keras_serializable(package="keras_drmad")
@suggesting
class Actions:
    """A set of actions: what they multiply, and which samples come next.

    One decision picks one of all combinations of a learning rate multiplier, a momentum multiplier,
    and a rule by which samples are selected:

        α ← clip(a · α, low, high)            1 − μ ← clip(m · (1 − μ), 10⁻³, 1)

    Args:
        learning_rate: Multipliers a of the learning rate. Defaults to `(0.5, 0.9, 1, 1.1, 2)`.
        bounds: `(low, high)` of the learning rate. Defaults to 10⁻⁵ and 1.
        momentum: Multipliers m of 1 − momentum, for optimizers whose momentum is a variable
            (`DrMADSGD`; β₁ of `DrMADAdamW`). Defaults to `(1,)`: momentum stays.
        sample_selection: Rules for the samples of the next chunk, of `"uniform"` (the epoch's order),
            `"hardest"`, `"easiest"` and `"newest"`. Defaults to `("uniform",)`.
        per: `"global"`, or `"layer"`: one decision for each group of a
            `DrMADSGD(per="layer", learn=())`, or of a `DrMADAdamW` like it.

    Raises:
        ValueError: An empty set, only one action, or one twice; multipliers or bounds that are not
            positive; an unknown rule or `per`; rules per layer.

    References:
        Fu et al., Deep Q-networks for accelerating the training of deep neural networks, 2016.
        Multipliers, momentum, layers and rules of sample selection are our own.

    Example:

    >>> actions = Actions(learning_rate=(0.5, 1, 2), bounds=(1e-4, 0.1))
    >>> len(actions), actions.rate_after(2, 0.08)
    (3, 0.1)
    """

    SAMPLE_SELECTIONS = ("uniform", "hardest", "easiest", "newest")

    def __init__(
        self,
        learning_rate: Sequence[float] = (0.5, 0.9, 1.0, 1.1, 2.0),
        bounds: tuple[float, float] = (1e-5, 1.0),
        momentum: Sequence[float] = (1.0,),
        sample_selection: Sequence[str] = ("uniform",),
        per: str = "global",
    ) -> None:
        self.learning_rate = _multipliers("learning_rate", learning_rate)
        self.momentum = _multipliers("momentum", momentum)
        ends = pair("bounds", bounds, "(low, high)")
        low, high = (number("bounds", bound, above=0) for bound in ends)
        self.bounds = low, high
        rules = self.SAMPLE_SELECTIONS
        self.sample_selection = some_of("sample_selection", sample_selection, rules)
        self.per = choice("per", per, ("global", "layer"))
        if not low < high:
            raise ValueError(f"`bounds` must be 0 < low < high. Received: bounds={bounds!r}")
        if per == "layer" and self.chooses_samples():
            raise ValueError(
                'Samples are chosen for the whole model: `Actions(per="layer")` leaves '
                f"`sample_selection` out. Received: sample_selection={sample_selection!r}"
            )
        _check_once("sample_selection", self.sample_selection)
        self._logs = [math.log(multiplier) for multiplier in self.learning_rate]
        self.all = list(itertools.product(self.learning_rate, self.momentum, self.sample_selection))
        if len(self.all) < 2:
            raise ValueError(
                "There is nothing to decide: only one action. Give `learning_rate` two multipliers or "
                f"more. Received: learning_rate={self.learning_rate!r}"
            )

    def __len__(self) -> int:
        return len(self.all)

    def nearest(self, factor: float, selection: str = "uniform") -> tuple[int, bool]:
        """`(action, usable)`: the action that selects so and multiplies the rate by about `factor`.

        It is not usable where it is off by more than half the way to the next one, or selects samples
        otherwise because there is no such action.
        """
        wanted, logs = math.log(factor), self._logs
        number = min(range(len(logs)), key=lambda i: abs(logs[i] - wanted))
        gap = min((abs(logs[number] - other) for other in logs if other != logs[number]), default=0)
        rules = self.sample_selection
        known = selection if selection in rules else rules[0]
        action = self.all.index((self.learning_rate[number], self._idle_momentum(), known))
        return action, abs(logs[number] - wanted) <= gap / 2 + 1e-9 and known == selection

    def _idle_momentum(self) -> float:
        return min(self.momentum, key=lambda m: abs(math.log(m)))

    def rate_after(self, action: int, rate: float) -> float:
        """The learning rate after an action."""
        return self.within(rate * self.all[action][0])

    def within(self, rate: float) -> float:
        """The learning rate within the bounds that is nearest to one."""
        low, high = self.bounds
        return float(min(max(rate, low), high))

    def moves_momentum(self) -> bool:
        return len(self.momentum) > 1

    def chooses_samples(self) -> bool:
        return self.sample_selection != ("uniform",)

    def __repr__(self) -> str:
        settings = (f"{name}={value!r}" for name, value in self.get_config().items())
        return f"Actions({', '.join(settings)})"

    def get_config(self) -> dict[str, Any]:
        return {
            "learning_rate": list(self.learning_rate),
            "bounds": list(self.bounds),
            "momentum": list(self.momentum),
            "sample_selection": list(self.sample_selection),
            "per": self.per,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Actions":
        return cls(**config)


def _multipliers(name: str, values: Sequence[float]) -> tuple[float, ...]:
    if not isinstance(values, list | tuple | np.ndarray) or not len(values):
        raise wrong(name, values, "must hold multipliers, at least one")
    values = tuple(number(name, value, above=0) for value in values)
    _check_once(name, values)
    return values


def _check_once(name: str, values: Sequence[object]) -> None:
    if len(set(values)) < len(values):
        raise ValueError(f"`{name}` must hold nothing twice. Received: {name}={values!r}")
