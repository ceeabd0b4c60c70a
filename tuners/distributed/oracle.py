"""What every oracle here has: nothing is lost when a worker, the chief or the disk fails."""

import contextlib
import logging
import time
import traceback
from collections.abc import Collection, Iterator
from typing import Any

import keras_tuner
from keras_tuner.engine.trial import Trial, TrialStatus

from keras_drmad.arguments import number, positive_integer, whole_number
from keras_drmad.typing import JsonObject, Logs

from .. import compat
from ..arguments import check_oracle
from ..objectives import directed
from ..storage import files
from ..storage.project import Project
from .display import SearchDisplay
from .guard import Refused, caller, entry
from .last_word import LastWord
from .mending import mend
from .role import role
from .workers import Workers

_log = logging.getLogger("keras_drmad")

WRITE_AGAIN, GIVE_UP = 2.0, 60.0  # seconds: of tries to write what a full disk has not taken
ENDED = (TrialStatus.COMPLETED, TrialStatus.INVALID, TrialStatus.FAILED)


class ResilientOracle(keras_tuner.Oracle):
    """An oracle that a killed search goes on from, on any number of workers.

    Its files are written at once or not at all; what could not be written stays in memory. The trial
    of a worker that has been silent is given to another one, and the first result counts. A worker
    that was started again gets its trial back.

    Subclasses set `project` and `display_class`, and may extend `get_state`, `set_state`, `reload`,
    `tidy`, `judge`, `settle`, `drop` and `knows`. What is called from outside is an `entry`: an error
    in it ends the search. Where a caller shall not hear of it, what may raise is done `guarded`.

    Args:
        objective, max_trials, **kwargs: as in `keras_tuner.Oracle`.
        timeout: seconds of silence after which a worker's trial is given to another one; see
            `Workers`.
        seed: of everything random; 0 is a seed, too.
    """

    project: Project
    max_trials: int | None
    seed: int
    # Settings that steer only what comes next: a search may go on with others.
    changeable: Collection[str] = ()
    display_class: type[SearchDisplay] = SearchDisplay

    def __init__(
        self,
        objective: str | keras_tuner.Objective | list[str | keras_tuner.Objective],
        max_trials: int | None,
        timeout: float | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        if timeout is not None:
            number("timeout", timeout, above=0)
        seed = whole_number("seed", seed, optional=True)
        check_oracle(kwargs)
        # KerasTuner's own limit would raise inside of the server's thread, with its lock held.
        self.failures_allowed = positive_integer(
            "max_consecutive_failed_trials", kwargs.pop("max_consecutive_failed_trials", 3)
        )
        kwargs["max_consecutive_failed_trials"] = -1
        super().__init__(directed(objective), max_trials=max_trials, seed=seed, **kwargs)
        self.display = self.display_class(self)
        compat.set_display(self, self.display)
        self._given_seed = seed
        if seed is not None:
            compat.set_seed(self, seed)
        self.workers = Workers(timeout)
        self._unsaved: set[str] = set()  # trials that could not be written
        self.is_saved = False  # as it is now
        # Since when, and of the last try, files could not be written; None where all are.
        self._full_since: float | None = None
        self._tried = 0.0
        self.broken: str | None = None  # an error in here that has ended the search, as text
        # Trials that had ended at a reload: what failed then may have been mended.
        self._old_ends = 0
        self._is_exhausted = False  # a worker was told to stop

    @contextlib.contextmanager
    def guarded(self) -> Iterator[None]:
        """An error within ends the search, which says so where it runs, and not the server's thread."""
        try:
            yield
        except Refused:
            raise
        except Exception as error:
            self.breaks(error)

    def breaks(self, error: Exception) -> None:
        """Ends the search, and keeps why."""
        self.broken = "".join(traceback.format_exception(error))
        _log.error("The search is stopped by an error in its oracle.", exc_info=error)
        if role() == "chief":
            LastWord(self.project.last_word).say(
                error
            )  # workers are told only that they are to stop

    # -- handing out -------------------------------------------------------------------------

    @entry
    def create_trial(self, tuner_id: str) -> Trial:
        if caller.get() not in (None, tuner_id):
            raise Refused(f"{caller.get()} may not ask for a trial in the name of {tuner_id}.")
        self.workers.lives(tuner_id)
        if tuner_id in self.ongoing_trials:  # a worker that was started again
            trial = self.ongoing_trials[tuner_id]
            compat.display_begin(self, trial)
        elif self._waits_for_room():
            self.tuner_ids.add(tuner_id)
            return Trial(hyperparameters=self.get_space(), status=TrialStatus.IDLE)
        elif (trial := self._take_over(tuner_id)) is None:
            if not self.broken and (compat.retry_queue(self) or not self._is_done()):
                with self.guarded():
                    trial = super().create_trial(tuner_id)
            if trial is None or trial.status == TrialStatus.STOPPED:
                trial = self._wait_or_stop(tuner_id)
        if trial.status == TrialStatus.RUNNING:
            self.workers.takes(tuner_id, trial.trial_id)
        return trial

    def _waits_for_room(self) -> bool:
        """Whether files could not be written; tries it again, and in the end gives the search up.

        What is trained meanwhile would be lost with this process.
        """
        if self._full_since is None or self.broken:
            return False
        now = time.monotonic()
        if now - self._tried >= WRITE_AGAIN:
            self.save()
        if self._full_since is not None and now - self._full_since > GIVE_UP:
            with self.guarded():
                raise OSError(
                    f"Files in {self.project.folder} could not be written for {GIVE_UP:g} s; why is "
                    "logged above. Make room on that disk, then start the search again: it goes on, "
                    "and repeats what was not written."
                )
        return self._full_since is not None and not self.broken

    def _wait_or_stop(self, tuner_id: str) -> Trial:
        """No new training for a worker: it waits as long as others have one that it might repeat."""
        status = TrialStatus.IDLE if self.ongoing_trials else TrialStatus.STOPPED
        if status == TrialStatus.IDLE:
            self.tuner_ids.add(tuner_id)
        else:
            self.tuner_ids.discard(tuner_id)
            self._is_exhausted = True
        return Trial(hyperparameters=self.get_space(), status=status)

    @entry
    def forget_the_dead(self) -> None:
        """Forgets workers that have nothing to do and do not ask: a chief would wait for them."""
        for worker in self.tuner_ids - set(self.ongoing_trials):
            if self.workers.is_silent(worker):
                self.tuner_ids.discard(worker)

    @entry
    def is_left(self) -> bool:
        """Whether all is done and no worker is there."""
        left = compat.retry_queue(self) and not self.broken
        is_done = self._is_done() or self._is_exhausted
        return is_done and not (self.ongoing_trials or left or self.tuner_ids)

    def _take_over(self, tuner_id: str) -> Trial | None:
        """The training of a worker that is silent, for this one too; None if there is none."""
        for other, trial in list(self.ongoing_trials.items()):
            if self.workers.is_silent(other):
                _log.warning(
                    "%s has been silent for more than %g s: %s repeats its trial %s.",
                    other,
                    self.workers.timeout,
                    tuner_id,
                    trial.trial_id,
                )
                del self.ongoing_trials[other]
                self.tuner_ids.discard(other)
                self.tuner_ids.add(tuner_id)
                self.ongoing_trials[tuner_id] = trial
                self.save()
                return trial
        return None

    def _is_done(self) -> bool:
        has_all = self.max_trials is not None and len(self.trials) >= self.max_trials
        return has_all or bool(self.broken) or self.has_failed()

    def is_over(self, state: JsonObject) -> bool:
        """Whether all trials had ended in a saved state."""
        return self.max_trials is not None and len(state["end_order"]) >= self.max_trials

    def has_failed(self) -> bool:
        """Whether the last trials, one after the other, have failed."""
        last = self.end_order[self._old_ends :][-self.failures_allowed :]
        failed = [self.trials[name].status == TrialStatus.FAILED for name in last]
        return len(failed) == self.failures_allowed and all(failed)

    # -- coming back -------------------------------------------------------------------------

    @entry
    def update_trial(self, trial_id: str, metrics: Logs, step: int = 0) -> Trial:
        if trial_id in self.end_order:  # another worker was faster
            return self.trials[trial_id]
        if trial_id not in self.trials:
            return Trial(self.get_space(), trial_id, TrialStatus.RUNNING)
        self._check_holder(trial_id)
        try:
            return super().update_trial(trial_id, metrics, step)
        except (TypeError, ValueError) as error:
            raise Refused(f"The metrics of trial {trial_id} are refused. {error}") from error

    def _check_holder(self, trial_id: str) -> None:
        """Whether the trial was given to the worker that calls.

        Raises:
            Refused: It was not.
        """
        worker = caller.get()
        if worker is None:
            return
        if not self.workers.has(worker, trial_id):
            raise Refused(f"Trial {trial_id} was not given to {worker}, which may not change it.")

    @entry
    def end_trial(self, trial: Trial) -> None:
        name = trial.trial_id
        if name not in self.trials:
            _log.warning("Trial %s is not known (any more); what it gave is dropped.", name)
            return
        if name in self.end_order:  # another worker was faster
            self.drop(name)
            return
        self._check_holder(name)
        if trial.status not in ENDED:
            raise Refused(f"Trial {name} ends as one of {ENDED}. Received: status={trial.status!r}")
        known = self.trials[name]
        if trial.status == TrialStatus.COMPLETED and not self.knows(known):
            if not self.broken:
                # It died with a chief that was killed before the trial ended. It stays with its
                # worker, which gets it again when it asks.
                known.metrics = Trial(None).metrics
                return
            trial.status, trial.message = TrialStatus.FAILED, self.broken
        is_judged = False
        with self.guarded():
            self.judge(trial, known)
            is_judged = True
        if not is_judged:
            trial.status, trial.message = TrialStatus.FAILED, self.broken
            with self.guarded():
                self.judge(trial, known)
        self.workers.brings(name)
        compat.display_begin(self, known)  # it may have begun where nothing was displayed
        try:
            super().end_trial(trial)
        except Exception as error:
            self._give_back(known, error)
            if isinstance(error, Refused):  # too late for that: something has changed
                raise RuntimeError(str(error)) from error
            raise
        with self.guarded():
            self.settle(name)

    def _give_back(self, trial: Trial, error: Exception) -> None:
        """A trial that could not end is nobody's: the chief does not wait for it; it may be repeated."""
        name, queue = trial.trial_id, compat.retry_queue(self)
        for worker, other in list(self.ongoing_trials.items()):
            if other is trial:
                del self.ongoing_trials[worker]
                self.tuner_ids.discard(worker)
        if name not in self.end_order and name not in queue:
            trial.status, trial.message = TrialStatus.INVALID, str(error)
            queue.append(name)
        self._save_trial(trial)
        self.save()

    # -- what is known -----------------------------------------------------------------------

    @entry
    def get_space(self) -> keras_tuner.HyperParameters:
        return super().get_space()

    @entry
    def update_space(self, hyperparameters: keras_tuner.HyperParameters) -> None:
        try:
            super().update_space(hyperparameters)
        except RuntimeError as error:
            if caller.get() is None:
                raise
            raise Refused(str(error)) from error

    @entry
    def get_trial(self, trial_id: str) -> Trial:
        if trial_id not in self.trials:
            raise Refused(f"There is no trial {trial_id!r} in this search.")
        return super().get_trial(trial_id)

    @entry
    def get_best_trials(self, num_trials: int = 1) -> list[Trial]:
        return super().get_best_trials(num_trials)

    def knows(self, trial: Trial) -> bool:
        """Whether what a training has brought is there: its metrics, and what subclasses need of it."""
        return bool(trial.metrics.metrics)

    def judge(self, trial: Trial, known: Trial) -> None:
        """Called before a trial ends; may change its status and message. `known` has its metrics."""

    def settle(self, trial_id: str) -> None:
        """Called when a trial has ended, or is to be repeated."""

    def drop(self, trial_id: str) -> None:
        """Called when a trial has come back once more."""

    def limits(self) -> list[tuple[float, float]]:
        """Of each limit of the search: what was done since it was started, and what is left."""
        if self.max_trials is None:
            return []
        ended = len(self.end_order)
        return [(ended - self._old_ends, self.max_trials - ended)]

    # -- files -------------------------------------------------------------------------------

    def _set_project_dir(self, directory: str, project_name: str) -> None:
        super()._set_project_dir(directory, project_name)
        self.project.folder = compat.project_dir(self)

    def save(self) -> None:  # type: ignore[override]  # as KerasTuner's own oracle
        for name in list(self._unsaved):
            self._save_trial(self.trials[name])
        # Last, and only where all that it tells of is there: else what is not would be lost.
        self.is_saved = self.write_more() and not self._unsaved and self._write()
        self._tried = time.monotonic()
        if self.is_saved:
            self._full_since = None
        elif self._full_since is None:
            self._full_since = self._tried

    def _write(self) -> bool:
        files.keep_before(self.project.oracle)
        return files.attempt(files.write_json, self.project.oracle, self.get_state())

    def write_more(self) -> bool:
        """Writes what a full disk has not taken of a subclass's files; whether nothing is left."""
        return True

    def _save_trial(self, trial: Trial) -> None:
        name = trial.trial_id
        written = files.attempt(files.write_json, self.project.trial(name), trial.get_state())
        (self._unsaved.discard if written else self._unsaved.add)(name)

    def tidy(self) -> None:
        """Removes files that are not needed any more, before a search begins or goes on."""
        files.sweep(self.project.folder)

    def set_state(self, state: JsonObject) -> None:
        super().set_state(state)
        # KerasTuner saves an ended trial as one that goes on, too.
        self._ongoing = {
            worker: trial
            for worker, trial in self.ongoing_trials.items()
            if trial.trial_id not in self.end_order
        }

    def reload(self) -> None:  # type: ignore[override]  # as KerasTuner's own oracle
        if role() != "worker":  # whose chief is writing them
            mend(self.project)
        super().reload()
        self.broken = None  # it may have been mended
        # Written, but not yet in oracle.json when the process was killed:
        self.trials = {name: self.trials[name] for name in self.start_order}
        # Trainings in flight stay with their workers, which may be alive, or else come back under
        # their names; what neither happens to is taken over in time.
        in_flight = {trial.trial_id for trial in self._ongoing.values()}
        queue, gone = compat.retry_queue(self), in_flight | set(self.end_order)
        queue[:] = [name for name in queue if name not in gone]
        self.ongoing_trials = self._ongoing
        # Without a chief there are no other workers: what they had may be taken over at once.
        for worker, trial in self.ongoing_trials.items():
            trial.status, trial.metrics = TrialStatus.RUNNING, Trial(None).metrics
            trial.score = trial.message = None
            self.workers.takes(worker, trial.trial_id)
            (self.workers.lives if role() else self.workers.dies)(worker)
        self.is_saved = True
        self.tuner_ids, self._is_exhausted = set(self.ongoing_trials), False
        self._old_ends = len(self.end_order)
