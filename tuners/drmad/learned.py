"""What is learned of a model, by name."""

from collections.abc import Callable, Iterable

import keras
import numpy as np

from keras_drmad.arguments import wrong
from keras_drmad.engine.programs import Adjoint
from keras_drmad.hyperparameters import meta
from keras_drmad.optimizers.learnable import LearnableOptimizer
from keras_drmad.typing import Arrays, Logs


class Learned:
    """What is learned of a model: its optimizer's hyperparameters, and further variables.

    Args:
        model: the model.
        optimizer: its learnable optimizer, built.
        hyper_variables: a function of the model that returns the further variables, or None.

    Raises:
        ValueError: the function returns something else than a list.
    """

    def __init__(
        self,
        model: keras.Model,
        optimizer: LearnableOptimizer,
        hyper_variables: Callable[[keras.Model], Iterable[keras.Variable]] | None = None,
    ) -> None:
        self.optimizer = optimizer
        found = [] if hyper_variables is None else hyper_variables(model)
        if not isinstance(found, list | tuple):
            what = "a function that returns a list of `keras.Variable`s"
            raise wrong("hyper_variables", found, what)
        self.hyper_variables = list(found)
        self._variables = {kind: optimizer.displacements[kind] for kind in optimizer.learn}
        self._variables |= {_name(i): v for i, v in enumerate(self.hyper_variables)}

    @property
    def values(self) -> Arrays:
        """Displacements of the optimizer's hyperparameters, and hyper variables."""
        return {name: v.numpy() for name, v in self._variables.items()}

    @values.setter
    def values(self, values: Arrays) -> None:
        for name, variable in self._variables.items():
            variable.assign(values[name])
        self.optimizer.is_settled = True

    def bounds(self) -> tuple[Arrays, Arrays]:
        """The least and the greatest values."""
        scales = {kind: self.optimizer.scales[kind] for kind in self.optimizer.learn}
        low, high = (
            {name: np.asarray(free) for name in self._variables} for free in (-np.inf, np.inf)
        )
        low |= {kind: np.asarray(scale.low) for kind, scale in scales.items()}
        high |= {kind: np.asarray(scale.high) for kind, scale in scales.items()}
        return low, high

    def gradients(self, adjoint: Adjoint) -> Arrays:
        """Derivatives by the values, from the end of a reverse pass."""
        gradients = meta.by_displacement(self.optimizer, adjoint.hyper)
        gradients |= {_name(i): g for i, g in enumerate(adjoint.hyper_variables)}
        return {name: np.asarray(g) for name, g in gradients.items()}

    def effective(self) -> Arrays:
        """The values that a training uses, all of a kind in one array."""
        values: dict[str, list[np.ndarray]] = {}
        for entries in self.optimizer.hyperparameters.values():
            for kind, value in entries.items():
                values.setdefault(kind, []).append(np.ravel(value))
        values |= {_name(i): [v.numpy().ravel()] for i, v in enumerate(self.hyper_variables)}
        return {name: np.concatenate(v) for name, v in values.items()}

    def as_logs(self) -> Logs:
        """`{"<group>/<kind>": value}`, as `LearnHyperparameters` logs it; of arrays the mean."""
        more = {_name(i): float(np.mean(v.numpy())) for i, v in enumerate(self.hyper_variables)}
        return self.optimizer.as_logs() | more


def _name(number: int) -> str:
    return f"hyper_variable_{number}"
