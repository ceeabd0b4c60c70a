"""A method's own tuner, watched: seeds, costs of trials, and an end when the budget is spent."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import keras
import keras_tuner
import numpy as np
from keras_tuner.engine.trial import Trial, TrialStatus

from keras_drmad.arguments import suggesting
from keras_drmad.typing import JsonObject, Logs

from ..budget import Budget
from ..distributed.tuner import ResilientTuner
from ..drmad.place import STAGE
from ..optuna_oracle import OptunaOracle
from ..storage import files
from .meter import Meter
from .method import Method, accepts
from .outcome import TrialRecord
from .price import ANY_STAGE

ENDLESS = 10**6  # trials: the budget ends a search
FAILURES = 10  # trials in a row that fail: a method fails

NOT_TUNED = ("tuner/", "drmad/", "qan/")  # names of what tuners note in a trial's values

Spent = dict[str, tuple[float, float]]  # by trial, trainings and seconds


class WatchedTuner(keras_tuner.Tuner):
    """What is added to a tuner's class. `watch` is called before anything else."""

    def watch(
        self,
        path: str,
        budget: Budget,
        meter: Meter,
        prices: dict[str, float],
        seed: int,
        on_trial: Callable[[list[TrialRecord]], None],
    ) -> None:
        """Says what to watch.

        Args:
            path: of a file for costs.
            budget: of the search.
            meter: is among the callbacks of its trainings.
            prices: trainings that a training costs, for each stage of a search.
            seed: of the trainings.
            on_trial: called with all records after each trial.
        """
        self._costs, self._budget, self._meter = path, budget, meter
        self._prices, self._seed, self._on_trial = prices, seed, on_trial
        self._spent: Spent = {
            trial_id: (cost, seconds)
            for trial_id, (cost, seconds) in (files.read_json(path) or {}).items()
        }

    @property
    def may_go_on(self) -> bool:
        """Whether the budget allows another trial."""
        return self._budget.allows_another(self._amounts())

    def _amounts(self) -> list[float]:
        """What each trial has spent of the budget."""
        column = 0 if self._budget.unit == "trainings" else 1
        return [self._spent[name][column] for name in self._ended()]

    def records(self) -> list[TrialRecord]:
        """All trials that have ended."""
        return [self._record(self.oracle.trials[name]) for name in self._ended()]

    def _price(self, stage: str = ANY_STAGE) -> float:
        return self._prices.get(stage, 1.0)

    def _ended(self) -> list[str]:
        return [name for name in self.oracle.end_order if name in self._spent]

    def _record(self, trial: Trial) -> TrialRecord:
        cost, seconds = self._spent[trial.trial_id]
        given = trial.hyperparameters.values.items()
        values = {name: value for name, value in given if not name.startswith(NOT_TUNED)}
        is_complete = trial.status == TrialStatus.COMPLETED
        score = None if trial.score is None or not is_complete else float(trial.score)
        return TrialRecord(trial.trial_id, score, cost, seconds, values)

    @contextlib.contextmanager
    def timed(self) -> Iterator[list[float]]:
        """Counts a training that is no trial; gives its cost and its seconds at the end."""
        spent = list[float]()
        self._meter.start()
        began = time.perf_counter()
        yield spent
        spent += [self._meter.trainings * self._price(), time.perf_counter() - began]

    # -- KerasTuner's events -----------------------------------------------------------------

    def on_trial_begin(self, trial: Trial) -> None:
        self._meter.start()
        self._began = time.perf_counter()
        super().on_trial_begin(trial)

    def run_trial(self, trial: Trial, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(self, ResilientTuner):  # which seeds its trainings itself
            words = [self._seed, *trial.trial_id.encode()]
            keras.utils.set_random_seed(int(np.random.SeedSequence(words).generate_state(1)[0]))
        return super().run_trial(trial, *args, **kwargs)

    def on_epoch_end(
        self, trial: Trial, model: keras.Model, epoch: int, logs: Logs | None = None
    ) -> None:
        super().on_epoch_end(trial, model, epoch, logs=logs)
        oracle = self.oracle
        if not isinstance(oracle, OptunaOracle) or not _prunes(oracle) or not logs:
            return
        seen = {oracle.objective.name: oracle.objective.get_value(logs)}
        if oracle.update_trial(trial.trial_id, seen, step=epoch).status == TrialStatus.STOPPED:
            model.stop_training = True

    def on_trial_end(self, trial: Trial) -> None:
        seconds = time.perf_counter() - self._began
        price = self._price(trial.hyperparameters.values.get(STAGE, ANY_STAGE))
        self._spent[trial.trial_id] = (self._meter.trainings * price, seconds)
        # Before KerasTuner's own files: killed between them, the trial is repeated.
        files.write_json(self._costs, self._spent)
        super().on_trial_end(trial)
        if trial.status == TrialStatus.COMPLETED and not any(self._amounts()):
            raise RuntimeError(  # or the search would have no end
                f"No training step of {type(self).__name__.removeprefix('Watched')} was counted, so "
                "that its cost is not known. Let its `run_trial` pass `callbacks` on to `fit`, or "
                'compare with `unit="seconds"`.'
            )
        if not self.may_go_on:
            self.oracle.max_trials = len(self.oracle.trials)
        self._on_trial(self.records())


def make_tuner(
    method: Method,
    objective: keras_tuner.Objective,
    budget: Budget,
    epochs: int,
    seed: int,
    folder: str,
) -> WatchedTuner:
    """The tuner of a method, whose project is `folder`."""
    arguments = {
        "directory": os.path.dirname(folder),
        "project_name": os.path.basename(folder),
    }
    if method.tuner_class is None:
        oracle, given = _oracle(method, objective, budget, seed), _of_tuner(method)
        tuner = _watched(keras_tuner.Tuner)(oracle, method.hypermodel, **given, **arguments)
    else:
        given = _settings(method.tuner_class, method, objective, budget, epochs, seed)
        tuner = _watched(method.tuner_class)(method.hypermodel, **given, **arguments)
    assert isinstance(tuner, WatchedTuner)
    return tuner


def _prunes(oracle: OptunaOracle) -> bool:
    import optuna  # as there is such an oracle

    return not isinstance(oracle.pruner, optuna.pruners.NopPruner)


def _watched(kind: type[keras_tuner.Tuner]) -> Callable[..., keras_tuner.Tuner]:
    return suggesting(type(f"Watched{kind.__name__}", (WatchedTuner, kind), {}))


def _of_tuner(method: Method) -> JsonObject:
    """Of a method with an oracle, the arguments of the tuner that it is for."""
    given, oracle = method.tuner_arguments, method.oracle_class
    if oracle is None:
        return {}
    names = [name for name in given if not accepts(oracle, name)]
    return {name: given[name] for name in names if accepts(keras_tuner.Tuner, name)}


def _oracle(
    method: Method, objective: keras_tuner.Objective, budget: Budget, seed: int
) -> keras_tuner.Oracle:
    if method.oracle_class is not None:
        given = _settings(method.oracle_class, method, objective, budget, 1, seed)
        others = _of_tuner(method)
        return method.oracle_class(**{n: v for n, v in given.items() if n not in others})
    return keras_tuner.oracles.RandomSearchOracle(  # of one trial, at the defaults
        objective=objective,
        max_trials=1,
        hyperparameters=keras_tuner.HyperParameters(),
        tune_new_entries=False,
    )


def _settings(
    kind: type,
    method: Method,
    objective: keras_tuner.Objective,
    budget: Budget,
    epochs: int,
    seed: int,
) -> JsonObject:
    """Arguments of a tuner's or an oracle's class: what it takes of ours, and then the method's."""
    ours = {
        "objective": objective,
        "seed": seed + 1,  # KerasTuner takes 0 for none
        "max_trials": ENDLESS,
        "max_epochs": epochs,
        "hyperband_iterations": ENDLESS,
        "max_consecutive_failed_trials": FAILURES,
        "keep_checkpoints": ENDLESS,
        "retests": True,  # as with a budget of its own, for here costs are counted, too
    }
    given = {name: value for name, value in ours.items() if accepts(kind, name)}
    if method.has_episodes:
        # An agent plans its episodes. The last training, with what it has learned, is kept back.
        del given["max_trials"]
        if budget.unit == "trainings":
            given["max_trials"] = max(int(budget.amount) - 1, 1)
    if "goal" in method.tuner_arguments:
        del given["objective"]
    return given | method.tuner_arguments
