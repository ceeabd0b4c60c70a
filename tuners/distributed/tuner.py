"""What every tuner here has: chief and workers, going on, and errors before anything is trained."""

import contextlib
import copy
import os
import time

import keras
import keras_tuner

from ..storage import files, settings
from .chief import role, serving
from .client import SearchIsOver, outlive_the_chief

IDLE_SECONDS = 0.05


class ResilientTuner(keras_tuner.Tuner):
    """A tuner whose search goes on where it was broken off, alone or as chief and workers.

    Subclasses have `train_trial`, and may have `prepare` and `tell_again`.

    Args:
        oracle: a `ResilientOracle`.
        hypermodel, **kwargs: as in `keras_tuner.Tuner`.

    Attributes:
        project: names of the files.
    """

    def __init__(self, oracle, hypermodel, **kwargs):
        self._idle = False
        # Whether a search in this process was broken off: its oracle may be in the middle of a change.
        self._is_torn = False
        self._last = None, None  # trial of a worker, and its metrics
        # In a worker, `self.oracle` will stand for the chief's, without attributes.
        self._own_oracle, self.project = oracle, oracle.project
        self._heard = True
        if role() == "worker":
            self._heard = not kwargs.get("overwrite")
            kwargs["overwrite"] = False  # the chief does it once, for all
        super().__init__(oracle, hypermodel, **kwargs)
        if role() == "worker":
            outlive_the_chief(self.oracle, self._is_over)
        # KerasTuner looks for a file of this worker's name; the search may have had others.
        if role() != "worker" and not oracle.trials and os.path.exists(oracle.project.oracle):
            oracle.reload()

    def _search(self, now, *args, **kwargs):
        """Searches as `keras_tuner.Tuner.search` does.

        Args:
            now: settings that must be the same when the search goes on.
        """
        self._hear_the_chief()
        settings.check(self.project.settings, now)
        self.prepare()
        settings.write(self.project.settings, now)  # not of a search that could not begin
        oracle = self._own_oracle
        if role() != "worker":
            if self._is_torn and oracle.is_saved:
                oracle.reload()
            oracle.tidy()
        if role() == "chief" and self._is_over():
            return  # workers see that themselves
        self._is_torn = True
        with serving(oracle), contextlib.suppress(SearchIsOver):
            super().search(*args, **kwargs)
        if role() == "worker":
            # The chief ends with its workers; results are in the project's folder.
            oracle.reload()
            self.oracle = oracle
        self._raise_failures()
        self._is_torn = False

    def prepare(self):
        """What must be there before the first trial; called once settings are compared."""

    def _hear_the_chief(self):
        """Of a worker that may have come first, to a search that the chief will overwrite."""
        if not self._heard:
            self.oracle.get_space()  # waits for the chief, which serves when its folder is empty
            self._heard = True

    def _is_over(self):
        """Whether all trials have ended, by the chief's file."""
        if not self._heard:
            return False  # what is there is of the search that will be overwritten
        state = files.read_json(self.project.oracle)
        return state is not None and len(state["end_order"]) >= self._own_oracle.max_trials

    def _raise_failures(self):
        if role() == "worker":
            return
        if self.oracle.broken:
            raise RuntimeError(f"The search was stopped by an error:\n{self.oracle.broken}")
        if self.oracle.has_failed():
            last = self.oracle.trials[self.oracle.end_order[-1]]
            # KerasTuner does not send it from workers.
            why = last.message or "Why is in the output of its worker."
            raise RuntimeError(
                f"The search was stopped: its last {self.oracle.failures_allowed} trials failed.\n{why}"
            )

    def pre_create_trial(self):
        # KerasTuner asks an idle oracle again at once.
        if self._idle:
            time.sleep(IDLE_SECONDS)
        self._idle = True

    def run_trial(self, trial, *args, **kwargs):
        """What `train_trial` gives.

        A chief that was killed before it had written down what a training gave hands the trial out
        again; its worker answers without training again.
        """
        self._idle = False
        trained, metrics = self._last
        if trial.trial_id == trained:
            self.tell_again()
            return metrics
        self._last = None, None
        metrics = self.train_trial(trial, *args, **kwargs)
        if role() == "worker":
            self._last = trial.trial_id, metrics
        return metrics

    def train_trial(self, trial, *args, **kwargs):
        """Trains; returns a trial's metrics."""
        raise NotImplementedError

    def tell_again(self):
        """Tells a chief what it was told during a training, and has forgotten."""

    def _callbacks(self, callbacks, trial, execution):
        """Copies of the user's callbacks, and the tuner's own hooks."""
        callbacks = copy.deepcopy(callbacks)
        if any(isinstance(c, keras.callbacks.TensorBoard) for c in callbacks):
            try:
                self._configure_tensorboard_dir(callbacks, trial, execution)
            except ImportError as error:
                raise keras_tuner.errors.FatalValueError(
                    "The `TensorBoard` callback needs the package tensorboard here: "
                    "`pip install keras_drmad[tensorboard]`."
                ) from error
        return [_Hooks(self, trial), *callbacks]

    def save(self):
        if role() != "worker":
            self.oracle.save()
            if not self.oracle.is_saved:
                return  # KerasTuner would look for the oracle's file where it finds the tuner's
        files.attempt(files.write_json, self._get_tuner_fname(), self.get_state())


class _Hooks(keras.callbacks.Callback):
    """Calls the tuner's methods for subclasses, as KerasTuner does."""

    def __init__(self, tuner, trial):
        super().__init__()
        self._tuner, self._trial = tuner, trial

    def on_epoch_begin(self, epoch, logs=None):
        self._tuner.on_epoch_begin(self._trial, self.model, epoch, logs=logs)

    def on_train_batch_begin(self, batch, logs=None):
        self._tuner.on_batch_begin(self._trial, self.model, batch, logs)

    def on_train_batch_end(self, batch, logs=None):
        self._tuner.on_batch_end(self._trial, self.model, batch, logs)

    def on_epoch_end(self, epoch, logs=None):
        self._tuner.on_epoch_end(self._trial, self.model, epoch, logs=logs)
