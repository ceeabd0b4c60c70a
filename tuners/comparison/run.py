"""`Run`: the search of one method with one seed, and its judgement; it goes on after a kill."""

import contextlib
import io
import logging
import os
import pathlib
import shutil
import warnings
from collections.abc import Callable

import keras
import keras_tuner

from keras_drmad.typing import Logs

from ..budget import Budget
from ..qan.tuner import QANTuner
from ..storage import files
from . import price
from .data import Data, Part
from .meter import Meter
from .method import Method
from .outcome import Choice, Outcome, TrialRecord, best
from .place import Place
from .search import WatchedTuner, make_tuner

_log = logging.getLogger("keras_drmad")

SAME = 0.01  # relative: of a score that is computed again, in other batches
FINAL = "final"  # the trial that is trained with what an agent has learned
MOST_OF_AN_ERROR = 3000  # characters, from its end

OnTrial = Callable[[list[TrialRecord]], None]


class Run:
    """Searches, and lets the test data judge what the validation data have chosen.

    Args:
        name, method: which one.
        seed: of everything random.
        data: of the comparison.
        budget: of the search.
        objective: what trials are chosen by.
        metric: what is compared on the test data.
        epochs, batch_size: of each training.
        place: of the files.
    """

    def __init__(
        self,
        name: str,
        method: Method,
        seed: int,
        data: Data,
        budget: Budget,
        objective: keras_tuner.Objective,
        metric: keras_tuner.Objective,
        epochs: int,
        batch_size: int | None,
        place: Place,
    ) -> None:
        self._name, self._method, self._seed = name, method, seed
        self._data, self._budget = data, budget
        self._objective, self._metric = objective, metric
        self._epochs, self._batch_size, self._place = epochs, batch_size, place
        self._folder = place.search(name, seed)
        self._meter = Meter(epochs)

    def __call__(self, on_trial: OnTrial) -> Outcome:
        """Does what is left of it, and writes the outcome; an error of the method is a part of it.

        Raises:
            OSError: A file cannot be read or written.
        """
        outcome = Outcome(self._name, self._seed)
        path = self._place.outcome(self._name, self._seed)
        before = Outcome.read(path)
        if before is not None and not before.is_complete:
            self._forget()  # what failed then may have been mended
        try:
            self._do(outcome, on_trial)
        except OSError:
            raise
        except Exception as error:
            outcome.error = _in_words(error)
            _log.error("%s, seed %d: %s", self._name, self._seed, outcome.error.splitlines()[-1])
        outcome.write(path)
        return outcome

    def _do(self, outcome: Outcome, on_trial: OnTrial) -> None:
        train, validation, test = map(self._method.read, self._data.of(self._seed))
        keras.utils.set_random_seed(self._seed)
        tuner = self._tuner()
        outcome.prices = self._prices(tuner, train, validation)
        costs = self._place.costs(self._name, self._seed)
        tuner.watch(costs, self._budget, self._meter, outcome.prices, self._seed, on_trial)
        try:
            if tuner.may_go_on:
                self._search(tuner, train, validation)
        except OSError:
            raise
        except Exception as error:
            outcome.trials = tuner.records()
            spent = outcome.spent(self._budget.unit)
            scored = [trial.score is not None for trial in outcome.trials]
            if not any(map(all, zip(scored, spent, strict=True))):
                raise
            outcome.error = _in_words(error)
        outcome.trials = tuner.records()
        if isinstance(tuner, QANTuner):
            self._judge_policy(tuner, outcome, train, validation, test)
        else:
            self._judge(tuner, outcome, validation, test)

    def _tuner(self) -> WatchedTuner:
        settings = (self._objective, self._budget, self._epochs, self._seed, self._folder)
        goes_on = os.path.isdir(self._folder)
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # KerasTuner says that it reloads
                return make_tuner(self._method, *settings)
        except OSError:
            raise
        except Exception as error:
            if not goes_on:
                raise
            torn = f"{self._folder}_torn"
            _log.warning(
                "%s, seed %d: the search cannot go on (%s), and begins anew. Its files are in %s.",
                self._name,
                self._seed,
                error,
                torn,
            )
            shutil.rmtree(torn, ignore_errors=True)
            os.replace(self._folder, torn)
            self._forget()
            return make_tuner(self._method, *settings)

    def _forget(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        files.remove(self._place.costs(self._name, self._seed))

    def _prices(self, tuner: WatchedTuner, train: Part, validation: Part) -> dict[str, float]:
        """Measured once for all seeds."""
        path = self._place.price(self._name)
        known: dict[str, float] | None = files.read_json(path)
        if known is None:
            arguments = (self._epochs, self._batch_size)
            measured = price.prices(self._method, tuner, train, validation, *arguments)
            known = files.read_json(path) or measured  # another process may have been faster
            files.write_json(path, known)
        return known

    def _search(self, tuner: WatchedTuner, train: Part, validation: Part) -> None:
        callbacks = self._method.make_callbacks(train, validation)
        x, y, *weights = train
        more = {"sample_weight": weights[0]} if weights else {}
        with warnings.catch_warnings():
            # KerasTuner's own: there is no other way to prune; trainings may diverge.
            warnings.filterwarnings("ignore", "The use case of calling", DeprecationWarning)
            warnings.filterwarnings("ignore", "All-NaN axis encountered", RuntimeWarning)
            tuner.search(
                x,
                y,
                **more,
                epochs=self._epochs,
                batch_size=self._batch_size,
                validation_data=validation,
                callbacks=[self._meter, *callbacks],
                verbose=0,
            )

    # -- the judgement -----------------------------------------------------------------------

    def _judge(self, tuner: WatchedTuner, outcome: Outcome, validation: Part, test: Part) -> None:
        """Evaluates what was chosen within each budget on the test data, once."""
        spent, direction = outcome.spent(self._budget.unit), self._objective.direction
        judged: dict[str, Logs] = {}
        for amount in self._budget.amounts:
            count = self._budget.trials_within(spent, amount)
            if amount == self._budget.amount:
                count = len(spent)  # what was overspent is shown
            index = best([trial.score for trial in outcome.trials[:count]], direction)
            if index is None:
                continue
            chosen = outcome.trials[index]
            if chosen.trial_id not in judged:
                with warnings.catch_warnings():  # the optimizer, which is not built, is not needed
                    warnings.filterwarnings("ignore", "Skipping variable loading for optimizer")
                    model = tuner.load_model(tuner.oracle.trials[chosen.trial_id])
                if tuner.executions_per_trial == 1:  # or the score is a mean
                    outcome.error = self._unlike(model, validation, chosen) or outcome.error
                judged[chosen.trial_id] = self._judged(model, test)
            assert chosen.score is not None
            choice = Choice(count, chosen.trial_id, chosen.score, judged[chosen.trial_id])
            outcome.choices[str(amount)] = choice
        if not judged:
            raise RuntimeError(_why_nothing(tuner))
        self._remove_weights(set(judged))

    def _judge_policy(
        self, tuner: QANTuner, outcome: Outcome, train: Part, validation: Part, test: Part
    ) -> None:
        """Trains once with what the agent has learned; episodes leave no models to choose among."""
        # Episodes are compared by what the goal has cost.
        outcome.trials = [
            TrialRecord(t.trial_id, None, t.cost, t.seconds, t.values) for t in outcome.trials
        ]
        assert isinstance(tuner, WatchedTuner)
        policy = tuner.get_best_policy()
        callbacks = self._method.make_callbacks(train, validation)
        keras.utils.set_random_seed(self._seed)
        model = self._method.build(keras_tuner.HyperParameters())
        x, y, *weights = train
        with tuner.timed() as record:
            history = model.fit(
                x,
                y,
                sample_weight=weights[0] if weights else None,
                epochs=self._epochs,
                batch_size=self._batch_size,
                validation_data=validation,
                callbacks=[self._meter, policy.as_callback(validation), *callbacks],
                verbose=0,
            )
        last = {name: values[-1] for name, values in history.history.items()}
        score = float(self._objective.get_value(last))
        cost, seconds = record
        outcome.trials.append(TrialRecord(FINAL, score, cost, seconds, {}))
        tested = self._judged(model, test)
        count = len(outcome.trials)
        outcome.choices[str(self._budget.amount)] = Choice(count, FINAL, score, tested)

    def _unlike(self, model: keras.Model, validation: Part, chosen: TrialRecord) -> str | None:
        """What there is to say if a model that was loaded is not the one that was chosen."""
        logs = {f"val_{n}": value for n, value in self._evaluated(model, validation).items()}
        assert chosen.score is not None
        now = float(self._objective.get_value(logs))
        if abs(now - chosen.score) <= SAME * max(1.0, abs(chosen.score)):
            return None
        return (
            f"Trial {chosen.trial_id} was chosen for {self._objective.name} = {chosen.score:.4g}, and "
            f"its model, made again from its weights, has {now:.4g}: not all that is trained is saved. "
            "A layer may be called on what is no input of the model, or draw its own constants."
        )

    def _judged(self, model: keras.Model, test: Part) -> Logs:
        metrics = self._evaluated(model, test)
        if self._metric.name not in metrics:
            raise ValueError(
                f"The model has no metric {self._metric.name!r} on the test data. It has: "
                f"{', '.join(metrics)}. Compile it with `metrics=[...]`, or pass another `metric`."
            )
        return metrics

    def _evaluated(self, model: keras.Model, data: Part) -> Logs:
        x, y, *weights = data
        metrics = model.evaluate(
            x,
            y,
            sample_weight=weights[0] if weights else None,
            batch_size=self._batch_size,
            verbose=0,
            return_dict=True,
        )
        return {name: float(value) for name, value in metrics.items()}

    def _remove_weights(self, kept: set[str]) -> None:
        """Removes the weights of models that were not chosen."""
        for path in pathlib.Path(self._folder).glob("trial_*/*.weights.h5"):
            if path.parent.name.removeprefix("trial_") not in kept:
                files.remove(str(path))


def _in_words(error: Exception) -> str:
    return (str(error).strip() or repr(error))[-MOST_OF_AN_ERROR:]


def _why_nothing(tuner: keras_tuner.Tuner) -> str:
    messages = [trial.message for trial in tuner.oracle.trials.values() if trial.message]
    if messages:
        return f"All {len(tuner.oracle.trials)} trials have failed. The last one: {messages[-1]}"
    return (
        f"No trial ({len(tuner.oracle.trials)} in all) has an objective that is a finite number: the "
        "training diverges. Lower the learning rates of the method."
    )
