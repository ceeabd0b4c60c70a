"""What every tuner here has: chief and workers, going on, and errors before anything is trained."""

import contextlib
import copy
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import keras_tuner
from keras_tuner.engine.trial import Trial, TrialStatus

from keras_drmad.arguments import whole_number
from keras_drmad.typing import JsonObject, Logs

from .. import compat, luck, retracing
from ..arguments import check_tuner
from ..storage import files, settings
from ..storage.damage import DamagedFile
from ..storage.project import Project
from .errors import SearchIsOver
from .interrupt import Interrupt
from .last_word import LastWord
from .oracle import ResilientOracle
from .role import role

IDLE_SECONDS = 0.05


class ResilientTuner(keras_tuner.Tuner):
    """A tuner whose search goes on where it was broken off, alone or as chief and workers.

    Subclasses have `train_trial`, and may have `prepare`, `tell_again`, `shown` and
    `score_noise`.

    Args:
        oracle: a `ResilientOracle`.
        hypermodel, **kwargs: as in `keras_tuner.Tuner`.

    Attributes:
        oracle: this process's own. While a worker searches, KerasTuner's client of the chief is in
            its place, which has the calls and none of the attributes.
        project: names of the files.
    """

    oracle: ResilientOracle
    project: Project

    def __init__(self, oracle: ResilientOracle, hypermodel: Any, **kwargs: Any) -> None:
        check_tuner(kwargs)
        self._idle = False
        self._interrupt = Interrupt()
        # Whether a search in this process was broken off: its oracle may be in the middle of a change.
        self._is_torn = False
        # Of a worker: its trial, and what came of it.
        self._last: tuple[str | None, Logs] = None, {}
        self.project = oracle.project
        self._heard = True
        if role() == "worker":
            self._heard = not kwargs.get("overwrite")
            kwargs["overwrite"] = False  # the chief does it once, for all
        elif role() == "chief" and kwargs.get("overwrite"):
            from .server import check_free  # gRPC is imported only where there is a chief

            check_free()  # or else it may be another chief's search that is removed
        super().__init__(oracle, hypermodel, **kwargs)
        self._last_word = LastWord(self.project.last_word)
        # Who hands out trials: in a worker KerasTuner's client, otherwise the oracle itself.
        self._chief, self.oracle = self.oracle, oracle
        self._own = oracle  # in a worker that searches, too
        if role() == "worker":
            from .client import Link

            self._link = Link(self._chief, oracle.workers.timeout, self._need_not_wait)
        # KerasTuner looks for a file of this worker's name; the search may have had others.
        elif not oracle.trials and os.path.exists(oracle.project.oracle):
            oracle.reload()

    @retracing.expected()
    def _search(self, now: JsonObject, *args: Any, **kwargs: Any) -> None:
        """Searches as `keras_tuner.Tuner.search` does.

        Args:
            now: settings that must be the same when the search goes on, but the oracle's `changeable`.
        """
        search = settings.digest(self.project.folder, now)
        if role() == "worker":
            self._link.search = search
            self._hear_the_chief()
        settings.check(self.project.settings, now, changeable=self.oracle.changeable)
        with self._interrupt:
            self.prepare(*args, **kwargs)
            with self._listening(search) as serve:
                settings.write(self.project.settings, now)  # not of a search that could not begin
                if role() != "worker":
                    if self._is_torn and self.oracle.is_saved:
                        self.oracle.reload()
                    self.oracle.tidy()
                self._is_torn = True
                if role() == "worker":
                    self._work(*args, **kwargs)
                elif serve is None:
                    super().search(*args, **kwargs)
                elif not self._is_over():  # workers see that themselves
                    self.oracle.verbose = kwargs["verbose"]
                    self.save()
                    serve()
                self._raise_failures()
        self._is_torn = False

    @contextlib.contextmanager
    def _listening(self, search: str) -> Iterator[Callable[[], None] | None]:
        """Of a chief: binds its address, for there may be another chief; gives what serves workers."""
        if role() != "chief":
            yield None
            return
        from .server import bound

        with bound(self.oracle, search, self._interrupt.check) as serve:
            self._last_word.take_back()
            try:
                yield serve
            except Exception as error:
                self._last_word.say(error)
                raise
            self._last_word.say()

    def _work(self, *args: Any, **kwargs: Any) -> None:
        """Takes trials from the chief until the search is over."""
        oracle, self.oracle = self.oracle, self._chief
        try:
            with self._link.alive(), contextlib.suppress(SearchIsOver):
                super().search(*args, **kwargs)
            self._last_word.ends(0.0)  # raises what has ended it
        finally:
            self.oracle = oracle
            self._last_word.forget()
        oracle.reload()  # the chief ends with its workers; results are in the project's folder

    def prepare(self, *args: Any, **kwargs: Any) -> None:
        """What must be there before the first trial; called once settings are compared."""

    def _hear_the_chief(self) -> None:
        """Of a worker that may have come first, to a search that the chief will overwrite."""
        if not self._heard:
            self._chief.get_space()  # waits for the chief, which serves when its folder is empty
            self._heard = True

    def _is_over(self) -> bool:
        """Whether all trials have ended, by the chief's file."""
        if not self._heard:
            return False  # what is there is of the search that will be overwritten
        state = files.read_json(self.project.oracle)
        return state is not None and self._own.is_over(state)

    def _need_not_wait(self, waited: float) -> bool:
        """Whether a worker that has found no chief for so many seconds is to end."""
        self._interrupt.check()
        return self._last_word.ends(waited) or self._is_over()

    def _raise_failures(self) -> None:
        """Raises what has ended the search, or that all of its trials failed."""
        oracle = self.oracle
        if oracle.broken:
            raise RuntimeError(
                f"The search was stopped by an error:\n{oracle.broken}\nMend what it says, and start "
                "the search again: it goes on."
            )
        ended = [oracle.trials[name] for name in oracle.end_order]
        have_all = bool(ended) and all(trial.status == TrialStatus.FAILED for trial in ended)
        if not (have_all or oracle.has_failed()):
            return
        which = f"all its {len(ended)}" if have_all else f"its last {oracle.failures_allowed}"
        # KerasTuner does not send it from workers.
        why = ended[-1].message or "Why is in the output of the worker that had the last one."
        raise RuntimeError(
            f"The search has found nothing more: {which} trials failed.\n{why}\nMend what it says, "
            "and start the search again: it goes on. To try failed trials again, use `overwrite=True` "
            "or another `project_name`."
        )

    def pre_create_trial(self) -> None:
        self._interrupt.check()
        # KerasTuner asks an idle oracle again at once.
        if self._idle:
            time.sleep(IDLE_SECONDS)
        self._idle = True

    def run_trial(self, trial: Trial, *args: Any, **kwargs: Any) -> Logs:
        """What `train_trial` gives.

        A chief that was killed before it had written down what a training gave hands the trial out
        again; its worker answers without training again.
        """
        self._idle = False
        trained, metrics = self._last
        if trial.trial_id == trained:
            self.tell_again()
            return metrics
        self._last = None, {}
        metrics = self.train_trial(trial, *args, **kwargs)
        if role() == "worker":
            self._last = trial.trial_id, metrics
        return metrics

    def train_trial(self, trial: Trial, *args: Any, **kwargs: Any) -> Logs:
        """Trains; returns a trial's metrics."""
        raise NotImplementedError

    def tell_again(self) -> None:
        """Tells a chief what it was told during a training, and has forgotten."""

    def shown(self, trial: Trial) -> Trial:
        """The trial as TensorBoard's HParams are to show it."""
        return trial

    def _callbacks(
        self, callbacks: Sequence[keras.callbacks.Callback], trial: Trial, execution: int
    ) -> list[keras.callbacks.Callback]:
        """Copies of the user's callbacks, and the tuner's own hooks."""
        copies = list(copy.deepcopy(callbacks))
        if any(isinstance(c, keras.callbacks.TensorBoard) for c in copies):
            try:
                compat.configure_tensorboard(self, copies, self.shown(trial), execution)
            except ImportError as error:
                raise keras_tuner.errors.FatalValueError(
                    "The `TensorBoard` callback needs the package tensorboard here: "
                    "`pip install keras_drmad[tensorboard]`."
                ) from error
        return [_Hooks(self, trial), *copies]

    def reload(self) -> None:  # type: ignore[override]  # as KerasTuner's own tuner
        path = compat.tuner_file(self)
        try:
            files.read_json(path)
        except DamagedFile:  # nothing is lost: it says only that it is there
            files.write_json(path, self.get_state())
        super().reload()

    def results_summary(self, num_trials: int = 10) -> None:
        """Prints the best trials, and how much of a score is luck.

        Args:
            num_trials: How many are shown.
        """
        oracle, display = self.oracle, self.oracle.display
        if not oracle.end_order:
            print(f"No {display.word.lower()} has ended yet: call `search`.")
        if best := oracle.get_best_trials(whole_number("num_trials", num_trials)):
            print(f"Results in {self.project_dir}")
            print(
                f"The {len(best)} best of {len(oracle.end_order)} {display.word.lower()}s by "
                f"{oracle.objective.name} ({oracle.objective.direction})"
            )
        for trial in best:
            print("\n".join(["", *display.summary(trial)]))
        if costs := display.costs():
            print("\n".join(["", *costs]))
        if said := luck.in_words(self.score_noise()):
            print(f"\n{said}")

    def score_noise(self) -> float:
        """The standard deviation of scores that differ in the seed only; NaN if it is not known."""
        return float("nan")

    def save(self) -> None:  # type: ignore[override]  # as KerasTuner's own tuner
        if role() != "worker":
            self.oracle.save()
            if not self.oracle.is_saved:
                return  # KerasTuner would look for the oracle's file where it finds the tuner's
        files.attempt(files.write_json, compat.tuner_file(self), self.get_state())


class _Hooks(keras.callbacks.Callback):
    """Calls the tuner's methods for subclasses, as KerasTuner does."""

    def __init__(self, tuner: ResilientTuner, trial: Trial) -> None:
        super().__init__()
        self._tuner, self._trial = tuner, trial

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self._tuner.on_epoch_begin(self._trial, self.model, epoch, logs=logs)

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        self._tuner._interrupt.check()
        self._tuner.on_batch_begin(self._trial, self.model, batch, logs)

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        self._tuner.on_batch_end(self._trial, self.model, batch, logs)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self._tuner.on_epoch_end(self._trial, self.model, epoch, logs=logs)
