"""What makes a comparison unfair, in words; nothing is refused."""

from collections.abc import Iterator, Mapping

import keras_tuner
from keras_tuner.engine.hyperparameters import Choice, HyperParameter

from ..budget import Budget
from ..drmad.choices import listed
from ..drmad.oracle import ITERATIONS_OF_A_CONFIGURATION
from ..optuna_oracle import OptunaOracle
from .data import SUSPICIOUS, Part, overlap
from .method import Method

FEW = 2  # trials a hyperparameter
RANDOM_OF_TPE = 10  # trials that Optuna's default sampler begins with


def warnings(
    methods: Mapping[str, Method],
    spaces: Mapping[str, list[HyperParameter]],
    data: tuple[Part, Part, Part],
    budget: Budget,
    seeds: int,
) -> list[str]:
    """All that there are, before anything is trained."""
    found = [*_of_tuning(methods, spaces), *_of_data(data), *_of_budgets(methods, spaces, budget)]
    if seeds == 1:
        found.append("There is one seed: nothing can be said of noise. Use 5 or more.")
    return found


def _of_tuning(
    methods: Mapping[str, Method], spaces: Mapping[str, list[HyperParameter]]
) -> Iterator[str]:
    untuned = [name for name, method in methods.items() if not method.is_tuned]
    if untuned and len(untuned) < len(methods):
        yield (
            f"{listed(untuned)} {'is' if len(untuned) == 1 else 'are'} not tuned, and others are: "
            "that alone may make the difference. Pass a `tuner`, or take this as a measure of what "
            "tuning does."
        )
    for name, method in methods.items():
        if not spaces[name] and method.is_tuned and not _needs_none(method):
            yield (
                f"{name!r} has an empty search space: its hypermodel asks `hp` for nothing, so that "
                f"{method.searcher} has nothing to tune."
            )


def _of_data(data: tuple[Part, Part, Part]) -> Iterator[str]:
    train, validation, test = data
    pairs = {
        "The test data are validation data: what was chosen by them is judged by them.": (
            validation,
            test,
        ),
        "The test data are training data.": (train, test),
        "The validation data are training data: what overfits is chosen.": (train, validation),
    }
    for words, (one, other) in pairs.items():
        share = overlap(one, other)
        if share > SUSPICIOUS:
            yield f"{words} {share:.0%} of the samples are the same."


def _of_budgets(
    methods: Mapping[str, Method], spaces: Mapping[str, list[HyperParameter]], budget: Budget
) -> Iterator[str]:
    if budget.unit != "trainings":
        return
    for name, method in methods.items():
        size = len(spaces[name])
        if size and method.differentiates and budget.amount <= _of_one_configuration(method):
            chosen = listed([one.name for one in spaces[name]])
            yield (
                f"The budget of {budget} is too small for {name!r}: DrMADTuner tries only one "
                f"configuration of {chosen}. Pass `scouts`, or a smaller `meta_iterations`."
            )
        if not method.is_tuned or _needs_none(method) or not size:
            continue
        kind = method.oracle_class or method.tuner_class
        random = _random_trials(method, size)
        points = _grid(spaces[name])
        if budget.amount <= random:
            yield (
                f"The budget of {budget} is too small for {name!r}: {method.searcher} begins with "
                f"{random} random trials, so that it is random search. Use a larger budget, or another "
                "tuner."
            )
        elif kind in GRID and points is not None and points > budget.amount:
            yield (
                f"The budget of {budget} is too small for {name!r}: its grid has {points} points, and "
                "the first ones differ in the last hyperparameters only."
            )
        elif budget.amount < FEW * size:
            yield (
                f"The budget of {budget} is too small for {name!r}, which has {size} "
                f"hyperparameter{'s' * (size > 1)}: it would need {FEW * size} or more."
            )


BAYESIAN = (keras_tuner.BayesianOptimization, keras_tuner.oracles.BayesianOptimizationOracle)
GRID = (keras_tuner.GridSearch, keras_tuner.oracles.GridSearchOracle)


def _random_trials(method: Method, size: int) -> int:
    """How many a tuner begins with that learns from them; 0 where that is not known."""
    kind, given = method.oracle_class or method.tuner_class, method.tuner_arguments
    if kind in BAYESIAN:
        return given.get("num_initial_points") or 3 * size
    return RANDOM_OF_TPE if kind is OptunaOracle and "sampler" not in given else 0


def _of_one_configuration(method: Method) -> int:
    """Trainings that the first choice of what a hypermodel asks for takes, of `DrMADTuner`."""
    given = method.tuner_arguments
    if given.get("scouts") or given.get("patience"):
        return 0
    each = given.get("gradients_per_step", 1) + 1  # a retest
    return each * given.get("meta_iterations", ITERATIONS_OF_A_CONFIGURATION)


def _needs_none(method: Method) -> bool:
    """Whether it learns what the hypermodel does not ask for."""
    return method.differentiates or method.has_episodes


def _grid(space: list[HyperParameter]) -> int | None:
    """Points of a grid; None where that is not said."""
    points = 1
    for one in space:
        if not isinstance(one, Choice):
            return None
        points *= len(one.values)
    return points
