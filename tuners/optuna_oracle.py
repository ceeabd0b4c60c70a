"""`OptunaOracle`: Optuna's samplers and pruners for KerasTuner."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import keras_tuner
import numpy as np
from keras_tuner.engine.trial import Trial, TrialStatus

from keras_drmad.arguments import of_kind, positive_integer, suggesting, whole_number

from . import compat
from .arguments import check_oracle
from .distributed.guard import entry
from .distributed.role import role
from .objectives import directed

if TYPE_CHECKING:
    import optuna

    from .optuna_study import Search

_log = logging.getLogger("keras_drmad")

Objectives = str | keras_tuner.Objective | list[str | keras_tuner.Objective] | None


@suggesting
class OptunaOracle(keras_tuner.Oracle):
    """Proposes hyperparameters with one of Optuna's samplers, for any `keras_tuner.Tuner`.

    Each hyperparameter is a parameter of Optuna's with the same values and the same scale. Those
    in a conditional scope are asked for only where the scope is open. Those that appear later are
    told with the trial that found them, and asked for from then on.

    The sampler draws from a seed of its own for each trial, which depends on `seed` and on the number
    of the trial alone. So a search that was stopped and reloaded proposes what it would have proposed.

    A pruner judges what a tuner reports with `oracle.update_trial(trial_id, metrics, step)`. Where the
    trial is not worth going on, the answer's status is `"STOPPED"`, and the tuner should end the
    training. KerasTuner's own tuners report no epochs; a tuner that does:

        class PruningTuner(keras_tuner.Tuner):
            def on_epoch_end(self, trial, model, epoch, logs=None):
                answer = self.oracle.update_trial(trial.trial_id, logs, step=epoch)
                if answer.status == "STOPPED":
                    model.stop_training = True

    A trial that was pruned has a score like any other. Optuna knows that it was pruned.

    Args:
        objective: As in `keras_tuner.Oracle`. Several objectives are summed, as there.
        max_trials: The most trials; None for no limit. Defaults to None.
        sampler: An `optuna.samplers.BaseSampler`. Its seed is replaced by one for each trial. Defaults
            to `optuna.samplers.TPESampler()`.
        pruner: An `optuna.pruners.BasePruner`. It is asked from the second report of a trial on: a
            tuner that reports once reports the result. Defaults to none.
        seed: A whole number. Defaults to a random one, which is saved with the search.
        hyperparameters, allow_new_entries, tune_new_entries, max_retries_per_trial,
            max_consecutive_failed_trials: As in `keras_tuner.Oracle`.

    Raises:
        ImportError: There is no Optuna (extra `optuna`).
        ValueError: An argument is none of these. In a search: a hyperparameter is of no kind of
            KerasTuner's.

    What a sampler or a pruner raises ends the search. `search` raises it, or logs it if it is a chief's.

    References:
        Akiba et al., 2019, "Optuna: A Next-generation Hyperparameter Optimization Framework"
        (arXiv 1907.10902).

    Example:

    >>> class Quadratic(keras_tuner.Tuner):
    ...     def run_trial(self, trial, **settings):
    ...         x = trial.hyperparameters.Float("x", -2.0, 2.0)
    ...         return (x - 1.0) ** 2
    >>> oracle = OptunaOracle(max_trials=30, seed=0)
    >>> tuner = Quadratic(oracle, directory=folder, project_name="quadratic")
    >>> tuner.search(verbose=0)
    >>> best = tuner.get_best_hyperparameters()[0]
    >>> abs(best["x"] - 1.0) < 0.2
    True
    """

    def __init__(
        self,
        objective: Objectives = None,
        max_trials: int | None = None,
        sampler: optuna.samplers.BaseSampler | None = None,
        pruner: optuna.pruners.BasePruner | None = None,
        seed: int | None = None,
        hyperparameters: keras_tuner.HyperParameters | None = None,
        allow_new_entries: bool = True,
        tune_new_entries: bool = True,
        max_retries_per_trial: int = 0,
        max_consecutive_failed_trials: int = 3,
    ):
        try:
            import optuna
        except ImportError as error:
            raise ImportError(
                "`OptunaOracle` needs Optuna: pip install keras_drmad[optuna]"
            ) from error
        if sampler is not None:
            what = "a sampler of Optuna's, such as `optuna.samplers.TPESampler()`, or None"
            of_kind("sampler", sampler, optuna.samplers.BaseSampler, what)
        if pruner is not None:
            what = "a pruner of Optuna's, such as `optuna.pruners.MedianPruner()`, or None"
            of_kind("pruner", pruner, optuna.pruners.BasePruner, what)
        seed = whole_number("seed", seed, optional=True)
        check_oracle(
            {
                "hyperparameters": hyperparameters,
                "allow_new_entries": allow_new_entries,
                "tune_new_entries": tune_new_entries,
                "max_retries_per_trial": max_retries_per_trial,
            }
        )
        # KerasTuner's word for any number is -1.
        if (
            not isinstance(max_consecutive_failed_trials, int)
            or max_consecutive_failed_trials != -1
        ):
            positive_integer("max_consecutive_failed_trials", max_consecutive_failed_trials)
        super().__init__(
            objective=None if objective is None else directed(objective),
            max_trials=positive_integer("max_trials", max_trials, optional=True),
            hyperparameters=hyperparameters,
            allow_new_entries=allow_new_entries,
            tune_new_entries=tune_new_entries,
            seed=seed,
            max_retries_per_trial=max_retries_per_trial,
            max_consecutive_failed_trials=max_consecutive_failed_trials,
        )
        if seed is not None:
            compat.set_seed(self, seed)
        self.sampler = optuna.samplers.TPESampler() if sampler is None else sampler
        self.pruner = optuna.pruners.NopPruner() if pruner is None else pruner
        self._search: Search | None = None  # from the first trial on: a tuner may set the objective
        self._error: Exception | None = None
        # An oracle that asks this one is no worker, who would hear nothing of an error in a chief.
        self.is_asked_by_oracle = False

    @property
    def study(self) -> optuna.Study:
        """The study as Optuna knows it, for Optuna's own plots and reports; not to be changed."""
        return self._searching().study

    # -- asking --------------------------------------------------------------------------------

    def create_trial(self, tuner_id: str) -> Trial:
        """As in `keras_tuner.Oracle`. What has gone wrong is raised here, but in a chief.

        Raises:
            RuntimeError: All trials have failed.
        """
        trial = self._next(tuner_id)
        if trial.status == TrialStatus.STOPPED and self._raises():
            error, self._error = self._error or self._failure(), None
            if error:
                raise error
        return trial

    def _raises(self) -> bool:
        return self.is_asked_by_oracle or role() != "chief"

    def _next(self, tuner_id: str) -> Trial:
        with compat.locked(self), self._kept():
            return super().create_trial(tuner_id)
        self.ongoing_trials.pop(tuner_id, None)  # a chief would wait for it
        self.tuner_ids.discard(tuner_id)
        return Trial(self.get_space(), status=TrialStatus.STOPPED)

    def _failure(self) -> Exception | None:
        """What is to be raised where every trial has failed, and not any number of them may."""
        ended = [self.trials[name] for name in self.end_order]
        is_failure = ended and all(trial.status == TrialStatus.FAILED for trial in ended)
        if not is_failure or self.max_consecutive_failed_trials == -1:
            return None
        return RuntimeError(
            f"The search has found nothing: all its {len(ended)} trials failed.\n{ended[-1].message}\n"
            "Mend what it says, and search again, with `overwrite=True` or another `project_name`."
        )

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """As in `keras_tuner.Oracle`: the values that the sampler proposes."""
        values = None
        self._tell_ended()
        if self._error is None:
            with self._kept():
                values = self._searching().ask(trial_id, self.hyperparameters)
        status = TrialStatus.STOPPED if values is None else TrialStatus.RUNNING
        return {"status": status, "values": values}

    @contextlib.contextmanager
    def _kept(self) -> Iterator[None]:
        """An error within ends the search at the next question.

        Raised here, it would leave KerasTuner's lock held, and a chief would wait for ever.
        """
        try:
            yield
        except Exception as error:
            self.breaks(error)

    def breaks(self, error: Exception) -> None:
        """Ends the search at the next question; a chief's own output says why."""
        self._error = error
        if not self._raises():
            _log.error("The search is stopped by an error in its oracle.", exc_info=error)

    def _searching(self) -> Search:
        if self._search is None:
            from .optuna_study import Search

            self._search = Search(self.objective.direction, self.sampler, self.pruner, self.seed)
        return self._search

    # -- telling -------------------------------------------------------------------------------

    @entry
    def update_trial(self, trial_id: str, metrics: dict[str, float], step: int = 0) -> Trial:
        """As in `keras_tuner.Oracle`. The status is "STOPPED" where the pruner wants no more of it."""
        trial = super().update_trial(trial_id, metrics, step)
        if (search := self._search) and trial_id in search.running:
            stops = False
            with self._kept():
                stops = search.report(trial_id, int(step), self._reports(trial)[int(step)])
            if stops:
                trial.status = TrialStatus.STOPPED
            elif trial.status == TrialStatus.STOPPED:
                trial.status = TrialStatus.RUNNING
        return trial

    @entry
    def end_trial(self, trial: Trial) -> None:
        """As in `keras_tuner.Oracle`. One that ends as "STOPPED" was pruned, and counts."""
        known = self.trials[trial.trial_id]
        if self._search and trial.status == TrialStatus.STOPPED and self._reports(known):
            self._search.pruned.add(trial.trial_id)
            trial.status = TrialStatus.COMPLETED
        try:
            super().end_trial(trial)
        except Exception:
            # The chief would wait for it.
            for worker, other in list(self.ongoing_trials.items()):
                if other is known:
                    del self.ongoing_trials[worker]
            raise

    # -- what is known -------------------------------------------------------------------------

    @entry
    def get_space(self) -> keras_tuner.HyperParameters:
        return super().get_space()

    @entry
    def update_space(self, hyperparameters: keras_tuner.HyperParameters) -> None:
        super().update_space(hyperparameters)

    @entry
    def get_trial(self, trial_id: str) -> Trial:
        return super().get_trial(trial_id)

    @entry
    def get_best_trials(self, num_trials: int = 1) -> list[Trial]:
        return super().get_best_trials(num_trials)

    def _tell_ended(self) -> None:
        """Tells Optuna what has ended; KerasTuner saves the state at each end."""
        if self._search is None:
            return
        for trial_id in self._search.running:
            trial = self.trials.get(trial_id)
            if trial and not self._is_going_on(trial):
                with self._kept():
                    self._search.tell(trial_id, self._space_of(trial), _score(trial))

    def _is_going_on(self, trial: Trial) -> bool:
        ended = trial.status in (TrialStatus.COMPLETED, TrialStatus.FAILED)
        return not ended or trial.trial_id in compat.retry_queue(self)

    def _space_of(self, trial: Trial) -> keras_tuner.HyperParameters:
        """All that is tuned, with the values of a trial."""
        space = self.hyperparameters.copy()
        space.values = dict(trial.hyperparameters.values)
        return space

    def _reports(self, trial: Trial) -> dict[int, float]:
        """`{step: objective}` of what a trial has reported; a mean over what came for one step."""
        objectives = getattr(self.objective, "objectives", [self.objective])
        metrics: dict[int, dict[str, float]] = {}
        for name in [objective.name for objective in objectives]:
            if trial.metrics.exists(name):
                for seen in trial.metrics.get_history(name):
                    metrics.setdefault(int(seen.step), {})[name] = float(seen.mean())
        return {
            step: self.objective.get_value(of)
            for step, of in sorted(metrics.items())
            if self.objective.has_value(of)
        }

    # -- coming back ---------------------------------------------------------------------------

    def get_state(self) -> dict[str, Any]:
        self._tell_ended()
        state = super().get_state()
        return {**state, "optuna": self._search.get_state() if self._search else None}

    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state(state)
        # KerasTuner saves the end of a trial before it takes it from those that are going on.
        self.ongoing_trials = {
            tuner_id: trial
            for tuner_id, trial in self.ongoing_trials.items()
            if trial.trial_id not in self.end_order
        }
        self._search = self._error = None
        if (saved := state["optuna"]) is None:
            return
        search = self._searching()
        search.set_state(saved)
        going_on = {trial.trial_id for trial in self.ongoing_trials.values()}
        for trial_id in dict.fromkeys([*self.start_order, *sorted(self.trials)]):
            trial = self.trials[trial_id]
            search.restore(
                trial_id,
                saved["trials"].get(trial_id, {}),
                self._space_of(trial),
                self._reports(trial),
                self._is_going_on(trial) or trial_id in going_on,
                _score(trial),
            )


def _score(trial: Trial) -> float | None:
    """None if it has failed, or none yet."""
    if trial.status != TrialStatus.COMPLETED or trial.score is None or np.isnan(trial.score):
        return None
    return float(trial.score)
