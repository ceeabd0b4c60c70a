"""What a decision changes in a training."""

import itertools
import math

import keras
import numpy as np
import tensorflow as tf

from keras_drmad.arguments import number
from keras_drmad.optimizers.sgd import DrMADSGD


@keras.saving.register_keras_serializable(package="keras_drmad")
class Actions:
    """A set of actions: what they multiply, and which samples come next.

    One decision picks one of all combinations of a learning rate multiplier, a momentum multiplier,
    and a pool of samples:

        α ← clip(a · α, low, high)            1 − μ ← clip(m · (1 − μ), 10⁻³, 1)

    Args:
        learning_rate: Multipliers a of the learning rate. Defaults to `(0.5, 0.9, 1, 1.1, 2)`.
        bounds: `(low, high)` of the learning rate. Defaults to 10⁻⁵ and 1.
        momentum: Multipliers m of 1 − momentum, for optimizers whose momentum is a variable
            (`DrMADSGD`). Defaults to `(1,)`: momentum stays.
        pools: Where the samples of the next chunk come from, of `"uniform"` (the epoch's order),
            `"hardest"`, `"easiest"` and `"newest"`. Defaults to `("uniform",)`.
        per: `"global"`, or `"layer"`: one decision for each group of a
            `DrMADSGD(per="layer", learn=())`.

    Raises:
        ValueError: An empty set, only one action, or one twice; multipliers or bounds that are not
            positive; an unknown pool or `per`; pools per layer.

    References:
        Fu et al., Deep Q-networks for accelerating the training of deep neural networks, 2016.
        Multipliers, momentum, layers and the pools' rules are our own.

    Example:

    >>> actions = Actions(learning_rate=(0.5, 1, 2), bounds=(1e-4, 0.1))
    >>> len(actions), actions.rate_after(2, 0.08)
    (3, 0.1)
    """

    POOLS = ("uniform", "hardest", "easiest", "newest")

    def __init__(
        self,
        learning_rate=(0.5, 0.9, 1.0, 1.1, 2.0),
        bounds=(1e-5, 1.0),
        momentum=(1.0,),
        pools=("uniform",),
        per="global",
    ):
        self.learning_rate = _multipliers("learning_rate", learning_rate)
        self.momentum = _multipliers("momentum", momentum)
        if np.shape(bounds) != (2,):
            raise ValueError(f"`bounds` must be (low, high). Received: bounds={bounds!r}")
        low, high = (float(number("bounds", bound, above=0)) for bound in bounds)
        self.bounds = low, high
        self.pools = tuple(pools)
        self.per = per
        if not low < high:
            raise ValueError(f"`bounds` must be 0 < low < high. Received: bounds={bounds!r}")
        if not self.pools or not set(self.pools) <= set(self.POOLS):
            raise ValueError(f"`pools` may hold {self.POOLS}, and not nothing. Received: {pools!r}")
        if per not in ("global", "layer"):
            raise ValueError(f'`per` must be "global" or "layer". Received: per={per!r}')
        if per == "layer" and self.chooses_samples():
            raise ValueError(
                'Samples are chosen for the whole model: `Actions(per="layer")` leaves `pools` out. '
                f"Received: pools={pools!r}"
            )
        _check_once("pools", self.pools)
        self._logs = [math.log(multiplier) for multiplier in self.learning_rate]
        self.all = list(itertools.product(self.learning_rate, self.momentum, self.pools))
        if len(self.all) < 2:
            raise ValueError("There is nothing to decide: only one action.")

    def __len__(self):
        return len(self.all)

    def nearest(self, factor, pool="uniform"):
        """`(action, usable)`: the action with this pool that multiplies the rate by about `factor`.

        It is not usable where it is off by more than half the way to the next one, or has another pool
        because there is no such one.
        """
        wanted, logs = math.log(factor), self._logs
        number = min(range(len(logs)), key=lambda i: abs(logs[i] - wanted))
        gap = min((abs(logs[number] - other) for other in logs if other != logs[number]), default=0)
        known = pool if pool in self.pools else self.pools[0]
        action = self.all.index((self.learning_rate[number], self._idle_momentum(), known))
        return action, abs(logs[number] - wanted) <= gap / 2 + 1e-9 and known == pool

    def _idle_momentum(self):
        return min(self.momentum, key=lambda m: abs(math.log(m)))

    def rate_after(self, action, rate):
        """The learning rate after an action."""
        return self.within(rate * self.all[action][0])

    def within(self, rate):
        """The learning rate within the bounds that is nearest to one."""
        low, high = self.bounds
        return float(min(max(rate, low), high))

    def moves_momentum(self):
        return len(self.momentum) > 1

    def chooses_samples(self):
        return self.pools != ("uniform",)

    def get_config(self):
        return {
            "learning_rate": list(self.learning_rate),
            "bounds": list(self.bounds),
            "momentum": list(self.momentum),
            "pools": list(self.pools),
            "per": self.per,
        }

    @classmethod
    def from_config(cls, config):
        return cls(**config)


def _multipliers(name, values):
    if np.ndim(values) != 1 or not len(values):
        raise ValueError(
            f"`{name}` must hold multipliers, at least one. Received: {name}={values!r}"
        )
    values = tuple(float(number(name, value, above=0)) for value in values)
    _check_once(name, values)
    return values


def _check_once(name, values):
    if len(set(values)) < len(values):
        raise ValueError(f"`{name}` must hold nothing twice. Received: {name}={values!r}")


class Levers:
    """The settings of an optimizer that actions move: of the whole model, or of each layer.

    Args:
        optimizer: a Keras optimizer, built.
        actions: the `Actions`.

    Raises:
        ValueError: The optimizer has no learning rate to set, or no momentum, or no layers.
    """

    def __init__(self, optimizer, actions):
        optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # of `LossScaleOptimizer`
        self.optimizer, self.actions = optimizer, actions
        learned = isinstance(optimizer, DrMADSGD)
        if not isinstance(getattr(optimizer, "learning_rate", None), keras.Variable):
            raise ValueError(
                f"The learning rate of {optimizer!r} cannot be set: compile with a number, not with "
                "a schedule or a function."
            )
        if actions.moves_momentum() and not learned:
            raise ValueError(
                f"{type(optimizer).__name__} keeps its momentum as a constant: compile with "
                "`DrMADSGD`, or leave `Actions(momentum=...)` out."
            )
        if actions.per == "layer" and not (learned and optimizer.per in ("layer", "variable")):
            raise ValueError(
                '`Actions(per="layer")` needs `DrMADSGD(per="layer", learn=())`. Received: '
                f"{type(optimizer).__name__}"
            )
        self._all_groups = list(optimizer.hyperparameters) if learned else []
        self.groups = self._all_groups if actions.per == "layer" else [None]

    def settings(self):
        """(2, groups) tensor: learning rates, and momenta, which are 0 where there are none."""
        optimizer = self.optimizer
        rate = tf.cast(optimizer.learning_rate.value, "float64")
        if not isinstance(optimizer, DrMADSGD):
            momentum = getattr(optimizer, "momentum", getattr(optimizer, "beta_1", 0.0))
            return tf.stack([[rate], [tf.constant(momentum, "float64")]])
        momenta = self._of_groups("momentum")
        if self.groups == [None]:
            return tf.stack([[rate], [tf.reduce_mean(momenta)]])
        return tf.stack([rate * self._of_groups("learning_rate"), momenta])

    def _of_groups(self, kind):
        """(groups of the optimizer,): means over a learned schedule's knots."""
        layout, values = self.optimizer.layout, self.optimizer.hyper_values()[kind]
        table = tf.reshape(tf.cast(values, "float64"), (layout.knots.get(kind, 1), -1))
        slices = [layout.groups[group][kind] for group in self._all_groups]
        return tf.stack([tf.reduce_mean(table[:, s.start : s.start + s.size]) for s in slices])

    def read(self):
        """(groups,) learning rates, and (groups,) momenta."""
        return self.settings().numpy()

    def _set_global(self, rate):
        # `optimizer.learning_rate = rate` converts, casts and reads in calls of their own.
        self.optimizer.learning_rate.value.assign(rate, read_value=False)

    def set_rate(self, rate):
        """One learning rate for the whole model."""
        if self.groups == [None]:
            self._set_global(rate)
        else:
            self.optimizer.set_hyperparameters({g: {"learning_rate": rate} for g in self.groups})

    def pull(self, choices, rates, momenta):
        """Applies one action to each group, of these present values; returns the pool of the first.

        What an action leaves as it is, is not set: that takes longer than to look.
        """
        new = {}
        for group, choice, rate, momentum in zip(self.groups, choices, rates, momenta, strict=True):
            _, slower, _ = self.actions.all[choice]
            wanted, moved = self.actions.rate_after(choice, rate), {}
            if wanted != rate:
                moved["learning_rate"] = wanted
            if slower != 1:
                moved["momentum"] = 1 - float(np.clip(slower * (1 - momentum), 1e-3, 1.0))
            if moved:
                new[group] = moved
        if None in new:  # the whole model
            moved = new.pop(None)
            if "learning_rate" in moved:
                self._set_global(moved.pop("learning_rate"))
            if moved:
                new = dict.fromkeys(self._all_groups, moved)
        if new:
            self.optimizer.set_hyperparameters(new)
        return self.actions.all[choices[0]][2]
