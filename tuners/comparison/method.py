"""`Method`: what is compared, a model and how it is tuned."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import keras
import keras_tuner

from keras_drmad.arguments import keywords, suggesting
from keras_drmad.callbacks.learn_hyperparameters import LearnHyperparameters
from keras_drmad.typing import JsonObject, Structure

from ..arguments import as_callbacks, check_builds, fits_itself
from ..drmad.oracle import DrMADOracle
from ..drmad.tuner import DrMADTuner
from ..optuna_oracle import OptunaOracle
from ..qan.oracle import QANOracle
from ..qan.tuner import QANTuner
from ..storage.settings import plain

Callbacks = (
    Sequence[keras.callbacks.Callback]
    | Callable[[Structure, Structure], Sequence[keras.callbacks.Callback]]
)

OPTUNA = "optuna"
RANDOM = (keras_tuner.RandomSearch, keras_tuner.oracles.RandomSearchOracle)
# Oracles that only their own tuner can answer.
INSTEAD: dict[type, str] = {
    DrMADOracle: "DrMADTuner",
    QANOracle: "QANTuner",
    keras_tuner.oracles.HyperbandOracle: "keras_tuner.Hyperband",
}
# What `compare` says itself, for all methods alike.
RESERVED = ("directory", "objective", "overwrite", "project_name", "seed", "tuner_id")


@suggesting
class Method:
    """One method of a comparison: a model, and how it is tuned within the budget.

    Args:
        hypermodel: A `keras_tuner.HyperModel`, or a function of `hp` that returns a compiled model.
        tuner: A class: of tuners (`keras_tuner.RandomSearch`, `BayesianOptimization`, `Hyperband`,
            `GridSearch`, `DrMADTuner`, `QANTuner`, or one of yours) or of oracles. `"optuna"` is
            `OptunaOracle`. Defaults to None: the model is trained once, with all hyperparameters at
            their defaults.
        callbacks: Callbacks of each training, which gets copies of them; or a function
            `(train, validation)` that returns a list of them, for callbacks that need data, such as
            `LearnHyperparameters`. Defaults to none.
        inputs: A function of `x`: what of the data this method's models read. It is called once for
            the training, the validation and the test data. Defaults to all of it.
        **tuner_arguments: Further arguments of the tuner or the oracle; of an oracle's tuner, too, such
            as `executions_per_trial`.

    Raises:
        ValueError: An argument is none of these.

    Example:

    >>> def build_model(hp):
    ...     model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(1)])
    ...     rate = hp.Float("learning_rate", 1e-3, 1e-1, sampling="log")
    ...     model.compile(keras.optimizers.SGD(rate), loss="mse")
    ...     return model
    >>> Method(build_model, tuner=keras_tuner.BayesianOptimization, num_initial_points=3)
    Method(build_model, tuner=BayesianOptimization, num_initial_points=3)
    """

    def __init__(
        self,
        hypermodel: keras_tuner.HyperModel | Callable[[keras_tuner.HyperParameters], keras.Model],
        tuner: type[keras_tuner.Tuner] | type[keras_tuner.Oracle] | str | None = None,
        *,
        callbacks: Callbacks = (),
        inputs: Callable[[Structure], Structure] | None = None,
        **tuner_arguments: Any,
    ) -> None:
        check_builds(hypermodel)
        if not callable(callbacks):
            as_callbacks(callbacks)
        if inputs is not None and not callable(inputs):
            raise ValueError(f"`inputs` must be a function of `x`. Received: inputs={inputs!r}")
        self.hypermodel = hypermodel
        self.tuner_class, self.oracle_class = _classes(tuner)
        self.callbacks, self.inputs = callbacks, inputs
        self.tuner_arguments = dict(tuner_arguments)
        self._check_arguments()

    def _check_arguments(self) -> None:
        if not self.is_tuned and self.tuner_arguments:
            raise ValueError(
                f"Without a `tuner` there are no arguments of one. Received: {self.tuner_arguments}"
            )
        for name in RESERVED:
            if name in self.tuner_arguments:
                raise ValueError(
                    f"`{name}` is the same for all methods, or made from what is: leave it out of the "
                    f"`Method`. Received: {name}={self.tuner_arguments[name]!r}"
                )

    @property
    def is_tuned(self) -> bool:
        """Whether there is a tuner."""
        return self.tuner_class is not None or self.oracle_class is not None

    @property
    def differentiates(self) -> bool:
        """Whether its trials are differentiated, by `DrMADTuner`."""
        return self.tuner_class is not None and issubclass(self.tuner_class, DrMADTuner)

    @property
    def has_episodes(self) -> bool:
        """Whether its trials are episodes of an agent, by `QANTuner`."""
        return self.tuner_class is not None and issubclass(self.tuner_class, QANTuner)

    @property
    def fits_itself(self) -> bool:
        """Whether its hypermodel has a `fit` of its own, which KerasTuner's tuners call."""
        return fits_itself(self.hypermodel)

    @property
    def is_random(self) -> bool:
        """Whether its trials do not depend on each other."""
        return (self.oracle_class or self.tuner_class) in RANDOM

    @property
    def searcher(self) -> str:
        """How it is tuned, in a word."""
        kind = self.oracle_class or self.tuner_class
        return "untuned" if kind is None else kind.__name__

    def build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        """A compiled model."""
        if isinstance(self.hypermodel, keras_tuner.HyperModel):
            return self.hypermodel.build(hp)
        return self.hypermodel(hp)

    def read(self, data: tuple[Structure, ...]) -> tuple[Structure, ...]:
        """Data as the method's models read them."""
        return data if self.inputs is None else (self.inputs(data[0]), *data[1:])

    def make_callbacks(
        self, train: tuple[Structure, ...], validation: tuple[Structure, ...]
    ) -> list[keras.callbacks.Callback]:
        """The callbacks of its trainings."""
        made = self.callbacks(train, validation) if callable(self.callbacks) else self.callbacks
        return as_callbacks(made)

    def learner(
        self, train: tuple[Structure, ...], validation: tuple[Structure, ...]
    ) -> LearnHyperparameters | None:
        """The callback among them that takes hypergradients."""
        found = self.make_callbacks(train, validation)
        return next((c for c in found if isinstance(c, LearnHyperparameters)), None)

    def settings(self) -> JsonObject:
        """What must be the same when a comparison goes on."""
        arguments = {name: plain(value) for name, value in self.tuner_arguments.items()}
        return {"tuner": self.searcher, "arguments": arguments}

    def __repr__(self) -> str:
        model = getattr(self.hypermodel, "__name__", type(self.hypermodel).__name__)
        parts = [model, *([f"tuner={self.searcher}"] if self.is_tuned else [])]
        parts += [f"{name}={value!r}" for name, value in self.tuner_arguments.items()]
        return f"Method({', '.join(parts)})"


def accepts(kind: type, argument: str) -> bool:
    """Whether a class, or one that it passes its arguments on to, takes an argument."""
    return argument in keywords(kind)


def _classes(
    tuner: object,
) -> tuple[type[keras_tuner.Tuner] | None, type[keras_tuner.Oracle] | None]:
    """Of a tuner, or else of an oracle."""
    if tuner is None:
        return None, None
    if tuner == OPTUNA:
        return None, OptunaOracle
    if isinstance(tuner, type) and issubclass(tuner, keras_tuner.Tuner):
        oracle = inspect.signature(tuner).parameters.get("oracle")
        if oracle is not None and oracle.default is oracle.empty:
            raise ValueError(
                "`tuner` must make its oracle itself, as `keras_tuner.RandomSearch` does, for each seed "
                "needs a new one; or pass a class of oracles. Received: "
                f"tuner={tuner!r}, which takes an `oracle`"
            )
        return tuner, None
    if isinstance(tuner, type) and tuner in INSTEAD:
        raise ValueError(
            f"`tuner` must be `{INSTEAD[tuner]}`: no other tuner trains what its oracle asks for. "
            f"Received: tuner={tuner!r}"
        )
    if isinstance(tuner, type) and issubclass(tuner, keras_tuner.Oracle):
        return None, tuner
    raise ValueError(
        '`tuner` must be a class of `keras_tuner.Tuner`s or `keras_tuner.Oracle`s, "optuna", or None. '
        f"Received: tuner={tuner!r}"
    )
