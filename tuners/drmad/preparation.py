"""What a search does before its first trial: all that may fail in one is tried."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import keras
import keras_tuner

from keras_drmad.data import as_arguments
from keras_drmad.optimizers.learnable import learnable_optimizer
from keras_drmad.typing import JsonObject

from ..storage import files
from . import arguments, choices, trained_model
from .data import SearchData
from .oracle import DrMADOracle
from .project import DrMADProject
from .score import check_logged
from .starts import ask
from .training import retraining
from .trainings import Trainings


class Preparation:
    """Tries models, data and trainings of a search.

    Args:
        oracle, trainings: of the search.
        online, starts, hyper_variables, horizon: as in `DrMADTuner`.
    """

    def __init__(
        self,
        oracle: DrMADOracle,
        trainings: Trainings,
        online: bool | str,
        starts: Mapping[str, tuple[float, float]],
        hyper_variables: Callable[[keras.Model], Iterable[keras.Variable]] | None,
        horizon: int | None,
    ) -> None:
        self._oracle, self._trainings = oracle, trainings
        self._online, self._starts = online, starts
        self._hyper_variables, self._horizon = hyper_variables, horizon

    def settings(self, data: SearchData, epochs: int) -> JsonObject:
        """What of the model must be the same when the search goes on, once a first one is in order.

        Raises:
            ValueError: It is not, or cannot begin anew.
        """
        space = self._oracle.get_space()
        data = data.of(space.values)
        steps = data.steps(epochs)
        self._oracle.learns(self._trainings.decide(self._online, space, steps))
        model = self._trainings.build(space, steps)
        optimizer, example = learnable_optimizer(model), data.example()
        arguments.check_learnable(optimizer, self._hyper_variables, self._horizon, steps)
        choices.say(self._oracle, space.values, optimizer)
        config = {k: v for k, v in optimizer.get_config().items() if k != "name"}

        def build() -> keras.Model:
            return self._trainings.build(space, steps)

        try:
            again = retraining(model, build, example, steps)
            trained_model.trace(model, as_arguments(example)[0])
        except Exception as error:
            raise ValueError(f"The model and the training data do not fit: {error}") from error
        if self._oracle.scouts:
            ask(self._oracle, optimizer, self._starts)
        data.check_targets(model)
        again.restart(seed=0)
        shapes = [str(tuple(variable.shape)) for variable in model.trainable_variables]
        return {
            "optimizer": config,
            "model": {f"variable {i}": shape for i, shape in enumerate(shapes)},
        }

    def rehearse(
        self,
        data: SearchData,
        epochs: int,
        callbacks: Sequence[keras.callbacks.Callback],
        verbose: int | str,
        validation_batch_size: int,
        project: DrMADProject,
    ) -> None:
        """Tries all that a training does, that what fails always fails before the first trial."""
        space = self._oracle.get_space()
        data = data.of(space.values)
        try:
            training = self._trainings.of(space, data, epochs, verbose)
        except keras_tuner.errors.FailedTrialError:  # a model that is too large
            if self._oracle.has_choices():
                return  # others may not be
            raise
        logs = training.rehearse(data, validation_batch_size)
        check_logged(self._oracle.objective, logs, callbacks)
        inputs = trained_model.shapes(as_arguments(data.example())[0])
        steps = training.steps
        trained_model.check(
            training.model, lambda: self._trainings.build(space, steps), inputs, steps
        )
        files.write_json(project.inputs, inputs)
