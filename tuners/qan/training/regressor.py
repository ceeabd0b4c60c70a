"""Keeping episodes alike: a pull toward the path of an episode before."""

import numpy as np

from keras_drmad.arguments import number

from ...storage import files

KNOTS = 17


class Path:
    """Weights over a training, linear between a few of its decisions.

    Args:
        steps: of the knots, ascending.
        weights: lists of arrays, one a knot.
    """

    def __init__(self, steps, weights):
        self.steps, self.weights = list(steps), list(weights)

    @classmethod
    def distilled(cls, steps, weights):
        """Of all decisions: `KNOTS` of them, evenly spread."""
        chosen = np.unique(np.linspace(0, len(steps) - 1, KNOTS).round().astype(int))
        return cls([steps[i] for i in chosen], [weights[i] for i in chosen])

    def at(self, step):
        """The weights at a step; after the end, the last ones."""
        after = int(np.searchsorted(self.steps, step))
        if after == 0 or after == len(self.steps):
            return self.weights[min(after, len(self.steps) - 1)]
        low, high = self.steps[after - 1], self.steps[after]
        f = (step - low) / (high - low)
        pairs = zip(self.weights[after - 1], self.weights[after], strict=True)
        return [(1 - f) * a + f * b for a, b in pairs]

    def as_arrays(self):
        arrays = {f"{k}_{i}": w for k, of in enumerate(self.weights) for i, w in enumerate(of)}
        return {"weights": arrays, "steps": {"steps": np.array(self.steps)}}

    @classmethod
    def from_arrays(cls, saved):
        steps = saved["steps"]["steps"]
        number = len(saved["weights"]) // len(steps)
        weights = [[saved["weights"][f"{k}_{i}"] for i in range(number)] for k in range(len(steps))]
        return cls(steps, weights)


class Recorder:
    """Collects a path."""

    def __init__(self):
        self._steps, self._weights = [], []

    def add(self, step, model):
        if len(self._steps) == 8 * KNOTS:  # more than enough to take knots from
            self._steps, self._weights = self._steps[::2], self._weights[::2]
        self._steps.append(step)
        self._weights.append([v.numpy() for v in model.trainable_variables])

    def write(self, path):
        """As `Path.from_arrays` reads it; a training without a decision has none."""
        if self._steps:
            found = Path.distilled(self._steps, self._weights)
            files.write_arrays(path, **found.as_arrays())


class References:
    """Trials whose paths may be there; the next training is held near that of the last.

    Args:
        project: names of files.
    """

    def __init__(self, project):
        self._project, self.names = project, []

    @property
    def last(self):
        """ "" before there is one."""
        return self.names[-1] if self.names else ""

    def add(self, name):
        self.names.append(name)

    def drop(self, name):
        """A trial has come back once more; its path is not needed if it was not before."""
        if name not in self.names:
            files.remove(self._project.reference(name))

    def tidy(self, needed):
        """Removes all but the last and those needed."""
        needed = needed | {self.last}
        for name in self.names:
            if name not in needed:
                files.remove(self._project.reference(name))
        self.names = [name for name in self.names if name in needed]


class Regressor:
    """Meta-momentum: training episodes are held near the path of the one before.

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
        code, which learned one regressor a layer. The straight pull to a recorded path is our own.

    Example:

    >>> from keras_drmad.tuners.qan.states import View
    >>> model = keras.Sequential([keras.layers.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    >>> model.set_weights([np.ones((1, 1))])
    >>> before = Path([0, 100], [[np.zeros((1, 1))], [np.zeros((1, 1))]])
    >>> view = View(model, [model.weights], budget=100, start_rate=0.1, every=20, step=20, steps=20)
    >>> Regressor(strength=0.01).hold(model, before, view)
    >>> round(float(model.get_weights()[0][0, 0]), 3)  # 0.99 ** 20
    0.818
    """

    def __init__(self, strength=0.005, until=0.5):
        for name, value in (("strength", strength), ("until", until)):
            number(name, value, 0, 1)
        self.strength, self.until = strength, until

    def hold(self, model, path, view):
        """Pulls a model towards a path, at a decision."""
        if view.step > self.until * view.budget or not view.steps:
            return
        share = 1 - (1 - self.strength) ** view.steps
        for variable, target in zip(model.trainable_variables, path.at(view.step), strict=True):
            variable.assign(variable + share * (target - variable))

    def get_config(self):
        return {"strength": self.strength, "until": self.until}
