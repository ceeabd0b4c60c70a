"""`compare`: all methods on the same budgets."""

import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, get_args

import keras_tuner
import numpy as np
from keras_tuner.engine.hyperparameters import HyperParameter

from keras_drmad.arguments import (
    flag,
    path_like,
    positive_integer,
    suggesting,
    verbosity,
    whole_number,
    wrong,
)
from keras_drmad.typing import JsonObject

from ..budget import Budget
from ..objectives import directed
from ..storage import files
from ..storage import settings as storage_settings
from . import fairness
from .claims import alone, claimed
from .data import Data, Part
from .method import Method
from .outcome import Outcome
from .place import Place
from .progress import Progress
from .rehearsal import VALIDATION, Rehearsal
from .result import Comparison
from .run import Run

Unit = Literal["trainings", "seconds"]

SPACE = "space"  # among a method's settings
WAIT = 2.0  # seconds, for what other processes do


@suggesting
def compare(
    methods: Mapping[str, Method],
    *,
    train: Part | Callable[[int], Part],
    validation: Part | Callable[[int], Part],
    test: Part | Callable[[int], Part],
    budget: float | Sequence[float],
    unit: Unit = "trainings",
    seeds: int | Sequence[int] = 5,
    epochs: int = 1,
    batch_size: int | None = None,
    objective: str | keras_tuner.Objective = "val_loss",
    metric: str | keras_tuner.Objective | None = None,
    directory: str = "comparison",
    overwrite: bool = False,
    verbose: int = 1,
) -> Comparison:
    """Tunes each method on the same budget, with each seed, and compares what comes of it.

    Validation data choose among a method's trials, and test data judge what was chosen, once. A search
    ends when another trial, as long as those before in the mean, does not fit in the budget. What a
    method has not used, or has overspent, is shown.

    One training costs 1, whatever is evaluated in it: training steps times their batch size, over
    those of `epochs`. A hypergradient costs what it takes beside a training, measured once for each
    method (`DrMADTuner`, `LearnHyperparameters`).

    A comparison that was killed goes on when it is started again with the same `directory`. More
    methods and more seeds may be added then. Methods that have failed are tried again. Several processes
    that are started with the same `directory`, on one machine or on several that share it, divide the
    searches among them, and each returns the whole result.

    Args:
        methods: `{name: Method}`.
        train, validation, test: Arrays `(x, y)` or `(x, y, sample_weight)`, or functions of the seed
            that return them.
        budget: Of each method and seed: a number, or an increasing list of them. The searches spend
            the last one, and the others are their beginnings.
        unit: `"trainings"`, or `"seconds"` of everything in a trial.
        seeds: How many, or a list of them. Of initial weights, the order of batches, and the search.
        epochs: Of each training. `Hyperband` trains shorter, too, and has so many at most.
        batch_size: Of each training. Defaults to 32.
        objective: What trials are chosen by, a validation metric. Defaults to `"val_loss"`.
        metric: What is compared on the test data. Defaults to the metric of `objective`.
        directory: Of all files.
        overwrite: Whether to remove the comparison that is in `directory` first; other files stay. Not
            for several processes.
        verbose: 1 prints a line after each trial, with the time that is left; 0 nothing.

    Returns:
        A `Comparison`.

    Raises:
        OSError: A file cannot be read or written.
        ValueError: Something in the arguments, or a method whose model, tuner or callbacks cannot be
            made, or whose model cannot be evaluated on a sample of each data set; before anything is
            trained. Or other arguments than those of the comparison that would go on.

    A method that fails later has a row without a result. It stops no other.

    Example:

    >>> def build_model(hp):
    ...     model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(1)])
    ...     rate = hp.Float("learning_rate", 1e-3, 1e-1, sampling="log")
    ...     model.compile(keras.optimizers.SGD(rate), loss="mse")
    ...     return model
    >>> x = np.random.rand(96, 4)
    >>> y = x.sum(axis=1)
    >>> result = compare(
    ...     {"tuned": Method(build_model, tuner=keras_tuner.RandomSearch)},
    ...     train=(x[:64], y[:64]), validation=(x[64:80], y[64:80]), test=(x[80:], y[80:]),
    ...     budget=2, seeds=2, directory=folder, verbose=0,
    ... )
    >>> [row.spent for row in result.rows()]
    [2.0]
    """
    _check_methods(methods)
    whole = Budget(budget, unit, get_args(Unit))
    numbers = _seeds(seeds)
    positive_integer("epochs", epochs)
    positive_integer("batch_size", batch_size, optional=True)
    says = verbosity("verbose", verbose, most=1) != 0
    aim = _objective("objective", objective, VALIDATION)
    if metric is None:
        metric = keras_tuner.Objective(aim.name.removeprefix(VALIDATION), aim.direction)
    judged = _objective("metric", metric)
    data = Data(train, validation, test)
    place = Place(os.path.abspath(path_like("directory", directory)))
    first, spaces = data.of(numbers[0]), {}
    for name, method in methods.items():
        rehearsal = Rehearsal(name, method, first, numbers[0])
        spaces[name] = rehearsal.space
        rehearsal.check(aim, judged, whole)
    if flag("overwrite", overwrite):
        place.clear()
    unfair = fairness.warnings(methods, spaces, first, whole, len(numbers))
    for words in unfair:
        warnings.warn(words, stacklevel=3)
    now = {
        "budget": whole.amounts,
        "unit": unit,
        "epochs": epochs,
        "batch_size": batch_size or 32,
        "objective": aim.name,
        "data": data.settings(numbers[0]),
    }
    _check_settings(place, methods, spaces, now)
    units = place.units(methods, numbers)
    progress = Progress(units, whole, aim.name, aim.direction, says)

    def run(name: str, seed: int) -> Outcome:
        one = Run(name, methods[name], seed, data, whole, aim, judged, epochs, batch_size, place)
        return one(lambda records: progress.trial(name, seed, records))

    with alone():
        outcomes = _all(units, place, judged.name, run, progress)
    described = {
        name: method.settings()
        | {"is_random": method.is_random, "hyperparameters": [_described(h) for h in spaces[name]]}
        for name, method in methods.items()
    }
    settings = now | {"seeds": numbers, "methods": described}
    return Comparison(list(methods), numbers, whole, aim, judged, outcomes, unfair, settings)


def _all(
    units: Sequence[tuple[str, int]],
    place: Place,
    metric: str,
    run: Callable[[str, int], Outcome],
    progress: Progress,
) -> list[Outcome]:
    """The outcomes of all units: those that are there, and those of processes that are at it.

    What had failed before is tried again; what has failed since then in another process is not.
    """
    done: dict[tuple[str, int], Outcome] = {}
    before = {unit: files.written_at(place.outcome(*unit)) for unit in units}

    def known(unit: tuple[str, int]) -> Outcome | None:
        path = place.outcome(*unit)
        found = Outcome.read(path)
        is_new = files.written_at(path) != before[unit]
        return found if found is not None and (found.has(metric) or is_new) else None

    def settle(unit: tuple[str, int], outcome: Outcome) -> None:
        done[unit] = outcome
        progress.done(outcome)

    while len(done) < len(units):
        waiting = True
        for unit in units:
            if unit in done:
                continue
            if (outcome := known(unit)) is not None:
                settle(unit, outcome)
                continue
            with claimed(place.claim(*unit)) as is_ours:
                if not is_ours:
                    continue
                settle(unit, known(unit) or run(*unit))  # the other process may have ended
                waiting = False
        if waiting and len(done) < len(units):
            time.sleep(WAIT)
    return [done[unit] for unit in units]


def _check_settings(
    place: Place,
    methods: Mapping[str, Method],
    spaces: Mapping[str, list[HyperParameter]],
    now: JsonObject,
) -> None:
    """Compares them with those that are there, of all and of each method."""
    paths = {place.settings: now}
    for name, method in methods.items():
        space = {one.name: _described(one) for one in spaces[name]}
        paths[place.method_settings(name)] = method.settings() | {SPACE: space}
    for path, of in paths.items():
        # Another space may be that of a method which has failed, and was mended.
        storage_settings.check(path, of, "`directory`", changeable=(SPACE,))
    for path, of in paths.items():
        storage_settings.write(path, of)


def _check_methods(methods: Mapping[str, Method]) -> None:
    if not isinstance(methods, Mapping) or not methods:
        raise ValueError(
            f"`methods` must be a dictionary of `Method`s by name. Received: methods={methods!r}"
        )
    for name, method in methods.items():
        if not isinstance(name, str) or not name.strip() or not isinstance(method, Method):
            raise ValueError(
                "`methods` must be a dictionary of `Method`s by name, which is no empty text: "
                f"`Method(build_model, tuner=...)`. Received: {name!r}: {method!r}"
            )


def _described(hp: HyperParameter) -> str:
    """A hyperparameter, as it was asked for."""
    return f"{type(hp).__name__} {hp.get_config()}"


def _seeds(seeds: int | Sequence[int] | np.ndarray) -> list[int]:
    seeds = seeds.tolist() if isinstance(seeds, np.ndarray) else seeds
    if not isinstance(seeds, Sequence):
        return list(range(positive_integer("seeds", seeds)))
    numbers = [whole_number("seeds", seed) for seed in seeds]
    if not numbers or len(set(numbers)) < len(numbers):
        raise ValueError(
            f"`seeds` must be a number, or a list of different ones. Received: seeds={seeds!r}"
        )
    return numbers


def _objective(
    name: str, objective: str | keras_tuner.Objective, prefix: str = ""
) -> keras_tuner.Objective:
    """With its direction.

    Args:
        name: of the argument.
        objective: a metric.
        prefix: that it must have.
    """
    found = directed(objective, name)
    if isinstance(found, list):
        raise wrong(name, objective, "one metric")
    if not found.name.startswith(prefix):
        raise wrong(name, objective, 'a validation metric, such as "val_accuracy"')
    return found
