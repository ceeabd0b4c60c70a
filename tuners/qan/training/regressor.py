"""Regularization of trainings toward the weights of an earlier one."""

from typing import Any

import keras

from keras_drmad.arguments import number

from .view import View
from .weight_path import WeightPath


class Regressor:
    """Meta-momentum: training episodes are kept near the weights of the one before.

    After each chunk of n steps, in the first part of a training,

        w ← w + (1 − (1 − strength)^n) · (w_before(t) − w)

    which is what a penalty ½ · strength · ‖w − w_before(t)‖² with a step of 1 does. Schedules, tests and
    the contest are without.

    Args:
        strength: Defaults to 0.005.
        until: The share of the budget after which it is off. Defaults to 0.5.

    Raises:
        ValueError: One of them is not in [0, 1].

    References:
        Fu et al., Deep Q-networks for accelerating the training of deep neural networks, 2016, and its
        code, which learned one regressor a layer. The penalty toward a recorded path is our own.

    Example:

    >>> from keras_drmad.tuners.qan.training.view import View
    >>> model = keras.Sequential([keras.layers.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    >>> model.set_weights([np.ones((1, 1))])
    >>> before = WeightPath([0, 100], [[np.zeros((1, 1))], [np.zeros((1, 1))]])
    >>> view = View(model, [model.weights], budget=100, start_rate=0.1, every=20, step=20, steps=20)
    >>> Regressor(strength=0.01).regularize(model, before, view)
    >>> round(float(model.get_weights()[0][0, 0]), 3)  # 0.99 ** 20
    0.818
    """

    def __init__(self, strength: float = 0.005, until: float = 0.5) -> None:
        for name, value in (("strength", strength), ("until", until)):
            number(name, value, 0, 1)
        self.strength, self.until = strength, until

    def regularize(self, model: keras.Model, path: WeightPath, view: View) -> None:
        """Moves a model's weights toward a path, at a decision."""
        if view.step > self.until * view.budget or not view.steps:
            return
        share = 1 - (1 - self.strength) ** view.steps
        for variable, target in zip(model.trainable_variables, path.at(view.step), strict=True):
            variable.assign(variable + share * (target - variable))

    def __repr__(self) -> str:
        return f"Regressor(strength={self.strength:.4g}, until={self.until:.4g})"

    def get_config(self) -> dict[str, Any]:
        return {"strength": self.strength, "until": self.until}
