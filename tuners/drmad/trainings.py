"""The trainings of a tuner: of one configuration at a time, so that memory does not grow."""

from collections.abc import Callable, Iterable

import keras
import keras_tuner

from keras_drmad.optimizers.learnable import learnable_optimizer
from keras_drmad.paths import Path
from keras_drmad.typing import JsonObject

from .. import compat
from .data import SearchData
from .online import decided, give_schedule
from .place import configuration
from .training import DifferentiatedTraining


class Trainings:
    """Makes a `DifferentiatedTraining` of a configuration, and keeps it until there is another one.

    Args:
        tuner: whose hypermodel makes the models.
        path, hyper_variables, jit_compile, check, judge: as in `DifferentiatedTraining`.

    Attributes:
        online: whether the optimizer gets a learned schedule, if it has none.
        current: the last one that was made.
    """

    def __init__(
        self,
        tuner: keras_tuner.Tuner,
        path: Path,
        hyper_variables: Callable[[keras.Model], Iterable[keras.Variable]] | None,
        jit_compile: bool | str,
        check: bool,
        judge: str,
    ) -> None:
        self._tuner, self._path, self.online = tuner, path, False
        self._options = (path, hyper_variables, jit_compile, check, judge)
        self.current: DifferentiatedTraining | None = None
        self._configuration: JsonObject | None = None  # which that is of

    def decide(self, online: bool | str, hp: keras_tuner.HyperParameters, steps: int) -> bool:
        """Whether trials learn while they train, by a first model; see `online.decided`."""
        self.online = False
        optimizer = learnable_optimizer(self.build(hp, steps))
        self.online = decided(online, optimizer, self._path, steps)
        return self.online

    def of(
        self, hp: keras_tuner.HyperParameters, data: SearchData, epochs: int, verbose: int | str
    ) -> DifferentiatedTraining:
        """That of a configuration."""
        if self.current is not None and self._configuration == configuration(hp.values):
            return self.current
        self.forget()
        steps = data.steps(epochs)
        if verbose:
            print(f"Compiling a training of {steps} steps, and the way back", flush=True)
        model = self.build_first(hp, steps)
        self._configuration = configuration(hp.values)  # with the defaults of what was asked for
        self.current = DifferentiatedTraining(
            model, lambda: self.build(hp, steps), data.example(), steps, *self._options
        )
        return self.current

    def forget(self) -> None:
        """Leaves the current one to be collected."""
        self._configuration, self.current = None, None

    def build(self, hp: keras_tuner.HyperParameters, steps: int) -> keras.Model:
        """A model of a configuration, for a training of so many steps."""
        return self._with_schedule(compat.build_model(self._tuner, hp), steps)

    def build_first(self, hp: keras_tuner.HyperParameters, steps: int) -> keras.Model:
        """The same, in a new Keras session, once the model is seen not to be too large."""
        return self._with_schedule(compat.build_first_model(self._tuner, hp), steps)

    def _with_schedule(self, model: keras.Model, steps: int) -> keras.Model:
        return give_schedule(model, steps) if self.online else model
