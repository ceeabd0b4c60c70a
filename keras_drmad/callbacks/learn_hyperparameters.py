"""`LearnHyperparameters`: the callback that learns an optimizer's hyperparameters during `fit`."""

from __future__ import annotations

import logging
import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_drmad.arguments import choice, flag, of_kind, positive_integer, suggesting, verbosity
from keras_drmad.callbacks import checks, saved_state
from keras_drmad.callbacks.averages import Averages
from keras_drmad.callbacks.guard import Anchor, Guard
from keras_drmad.callbacks.hyper_samples import HyperSamples
from keras_drmad.callbacks.mover import Mover
from keras_drmad.callbacks.progress import Progress
from keras_drmad.callbacks.recorder import Recorder
from keras_drmad.callbacks.schedule_record import ScheduleRecord
from keras_drmad.callbacks.window import Window, path_for
from keras_drmad.data import Batch, BufferedBatches, Shares
from keras_drmad.engine.derivatives import GROWTH_LIMIT
from keras_drmad.engine.engine import Engine
from keras_drmad.engine.judge import JUDGES
from keras_drmad.engine.recorded import WindowDerivatives
from keras_drmad.hyperparameters import meta
from keras_drmad.hyperparameters.groups import INIT_SCALE
from keras_drmad.optimizers.learnable import LearnableOptimizer, learnable_optimizer
from keras_drmad.paths import Path, Stored
from keras_drmad.typing import Arrays, Logs

_log = logging.getLogger("keras_drmad")

# From this share of training on, the last weights are judged, and averaged.
NEAR_THE_END = 0.8


@suggesting
class LearnHyperparameters(keras.callbacks.Callback):
    """Learns the hyperparameters of a `DrMADSGD` or `DrMADAdamW` while `fit` trains.

    Every few steps the window of training since the last time is differentiated: the loss of some
    samples of the hyper set, by the hyperparameters in force during it. `meta_optimizer` then moves
    them, on the log scale (learning rates, L2) or the logit scale (momenta):

        δ ← meta_optimizer(δ, ∂L_val/∂value · ∂value/∂δ)

    L_val is taken at the *mean* of the weights after each step of the window, and in the last fifth of
    training at the last weights. At the end of a short window, small learning rates have the lower loss:
    they stop the noise. How far they carry the weights shows in the mean.

    A window that went wrong is taken back (`guard`): training goes on from where it last went well,
    with zero velocities and smaller learning rates. So the weights are always weights that training
    led to.

    Args:
        validation_data: The *hyper* set, whose loss is differentiated: arrays `(x, y)` or
            `(x, y, sample_weight)`, a `tf.data.Dataset`, or a `keras.utils.PyDataset`. Keep further
            data for judging the result: the hyperparameters are fitted to these.
        horizon: Training steps (batches) in a window. Defaults to a hundredth of the training, but 10
            to 100, in equal parts of an epoch. With `gradient_accumulation_steps`, 10 to 100 times
            that; and a window ends where the optimizer has just moved the weights.
        path: A `keras_drmad.paths.Path`. Defaults to `Stored()`, or to `SegmentMeans()` where the
            weights and slots of all steps of a window would take more than 256 MB (to
            `Checkpointed()` if gradients accumulate, or averages overwrite weights).
        judge: `"mean"` or `"last"`: the weights whose loss is differentiated; `"auto"`: the mean, and
            the last weights in the last fifth of training. Defaults to `"auto"`.
        guard: Whether windows that went wrong are taken back. Defaults to `True`.
        meta_optimizer: A `keras.optimizers.Optimizer`. Defaults to `keras_drmad.Rprop()`.
        samples: How many samples of the hyper set each window is judged by, drawn afresh (of data in
            batches, so many batches). Defaults to as many as are trained on in a window.
        averages: Whether the mean of the weights after each step of the last fifth of training is
            kept, and replaces the last weights at the end if its hyper loss is lower. Defaults to
            `False`.
        validation_batch_size: Of `validation_data`, if arrays. Defaults to 256.
        check: As in `hypergradient`. Defaults to `True`.
        verbose: 1 prints a line at the end of each epoch.

    Added to `logs` at the end of each epoch, and so found in `History`, `CSVLogger` and TensorBoard
    (place this callback before them): `hyper_loss`, the loss of the whole hyper set;
    `<group>/<kind>`, every effective value (the mean, for `per="unit"`); `windows_taken_back`, how
    many up to now, with `guard`; `average_hyper_loss`, that of the averages, with `averages`.

    With a learned schedule (`Knots`) in the optimizer, which spans the whole training unless it was
    given `steps`, all knots of a group are moved alike during training. At its end they get the
    values that were in force near each of them: a training to come has the schedule from its
    beginning. L2 and weight decay get their means.

    A hypergradient that is not finite, or whose reverse pass grew beyond what stable training allows,
    moves nothing.

    Example:

    >>> x, y = np.random.rand(64, 4), np.random.rand(64, 1)
    >>> model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(1, name="out")])
    >>> model.compile(optimizer=DrMADSGD(0.05), loss="mse")
    >>> learn = LearnHyperparameters((x[:16], y[:16]))
    >>> history = model.fit(x[16:], y[16:], epochs=2, verbose=0, callbacks=[learn])
    >>> len(history.history["out/learning_rate"])
    2
    """

    optimizer: LearnableOptimizer

    def __init__(
        self,
        validation_data: Any,
        *,
        horizon: int | None = None,
        path: Path | None = None,
        judge: str = "auto",
        guard: bool = True,
        meta_optimizer: keras.optimizers.Optimizer | None = None,
        samples: int | None = None,
        averages: bool = False,
        validation_batch_size: int | None = None,
        check: bool = True,
        verbose: int = 0,
    ) -> None:
        super().__init__()
        if path is not None:
            of_kind("path", path, Path, "a `keras_drmad.paths.Path`")
        if meta_optimizer is not None:
            meta.check(meta_optimizer)
        self.horizon = positive_integer("horizon", horizon, optional=True)
        self.samples = positive_integer("samples", samples, optional=True)
        self.judge = choice("judge", judge, ("auto", *JUDGES))
        self.path = path
        self.guard, self.averages = flag("guard", guard), flag("averages", averages)
        self.meta_optimizer = meta_optimizer or meta.Rprop()
        self.check, self.verbose = flag("check", check), verbosity("verbose", verbose)
        positive_integer("validation_batch_size", validation_batch_size, optional=True)
        self.validation = checks.checked_hyper_set(validation_data, validation_batch_size)
        self.hyper_loss: float | None = None
        self._mover: Mover | None = None
        self._recorder: Recorder | None = None

    # -- Keras's events ----------------------------------------------------------------------

    def set_model(self, model: keras.Model) -> None:
        super().set_model(model)
        self.optimizer = learnable_optimizer(model)
        self.optimizer.check_learns()
        if INIT_SCALE in self.optimizer.learn:
            raise ValueError(
                'Initial scales ("init_scale" in `learn`) are learned by training from scratch again '
                "and again: use `keras_drmad.tuners.DrMADTuner`."
            )
        self.optimizer.is_learning = True
        self._found = self.optimizer.companion_state  # `BackupAndRestore` loads another one later

    def on_train_begin(self, logs: Logs | None = None) -> None:
        checks.check_alone(self)
        checks.check_horizon(self.horizon, self.params)
        self._engine: Engine | None = None
        self._window: Window | None = None
        self._guard: Guard | None = None
        self._averages = Averages()
        self._record: ScheduleRecord | None = None
        self._progress = Progress(self.params or {})
        if self._progress.total is not None:
            self.optimizer.span_schedule(self._progress.total)
        self._draws, self._seed = 0, int(np.random.randint(2**31))
        self._warned: set[str] = set()
        self.optimizer.companion = self._state
        self._recorder = Recorder(self.model, self._before_step, self._after_step)

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self._progress.begin_epoch(epoch)

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        assert self._recorder is not None
        self._recorder.is_expecting = True

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self._progress.end_epoch()
        if self._engine is None:
            return
        # Windows do not go beyond an epoch of many steps, unless gradients wait for those of the next.
        ends = self.horizon is None and self._capacity <= (self._progress.steps or 0)
        if self._window is not None and ends and not self.optimizer.is_accumulating():
            self._end_window(self._window)
        self.hyper_loss = self._engine.programs.validation_loss(
            self._engine.read(), self.validation
        )
        found = self._as_logs()
        if self._averages:
            state = self._averages.state(self._engine.read())
            self._averages.loss = self._engine.programs.validation_loss(state, self.validation)
            found["average_hyper_loss"] = self._averages.loss
        if logs is not None:
            logs.update(found)
        if self.verbose:
            print(f"\nEpoch {epoch + 1}: {self._progress.line(self.optimizer, found)}")

    def on_train_end(self, logs: Logs | None = None) -> None:
        if not self._draws and self._window is not None:
            _log.warning(
                "Nothing was learned: training ended after %d steps, before the first window of %d.",
                len(self._window),
                self._capacity,
            )
        if self._engine is not None and self._averages.loss < (self.hyper_loss or -math.inf):
            self._engine.write(self._averages.state(self._engine.read()), 0)
        if self._record and self._mover is not None:
            self._mover.displace(self._record.written(self.optimizer.steps_taken()))
        self.optimizer.is_learning, self.optimizer.companion = False, None
        self.optimizer.is_settled = True
        if self._recorder is not None:
            self._recorder.stop()
        self._window = self._engine = self._guard = self._recorder = None
        self._averages, self._record = Averages(), None

    # -- steps -------------------------------------------------------------------------------

    def _before_step(self, batch: Batch | Shares) -> None:
        if self._engine is None:
            self._begin(batch.whole() if isinstance(batch, Shares) else batch)
        assert self._engine is not None
        if self._window is None:
            self._window = Window(self._engine, self._capacity)
            self._before = self._anchor(self._window)
            if self._record is not None:
                self._record.add(self.optimizer.steps_taken(), self._before.displacements)
        self._window.add(batch)

    def _after_step(self) -> None:
        assert self._engine is not None
        self._progress.end_step()
        if self.averages and self._progress.done >= NEAR_THE_END:
            self._averages.add(self._engine.read().weights)
        if self._window is not None and self._window.is_full:
            self._end_window(self._window)

    def _begin(self, batch: Batch) -> None:
        """Prepares all that the first batch has to be known for."""
        checks.check_data(self.model, self.validation, BufferedBatches([batch]))
        together = self.optimizer.accumulation
        self._capacity = self.horizon or self._progress.window(together)
        self._capacity = -(-self._capacity // together) * together
        path = self.path or path_for(self.model, self.optimizer, self._capacity)
        trains = type(path) is not Stored  # else steps are differentiated as they were recorded
        assert self._recorder is not None
        self._engine = Engine.of(
            self.model,
            batch,
            path,
            check=self.check,
            trains=trains,
            steps=self._progress.total,
            step=self._recorder.step,
        )
        if self._mover is None or self._mover.optimizer is not self.optimizer:
            self._mover = Mover(self.optimizer, self.meta_optimizer)
        self._mover.limit_memory(2 * self._capacity // together)
        if self.optimizer.schedule is not None:
            self._record = ScheduleRecord(self.optimizer.positions, self.optimizer.layout.knots)
        self._restore()
        samples = self.samples or self._capacity * len(tf.nest.flatten(batch)[0])
        self._hyper = HyperSamples(self.validation, samples, self._seed)

    # -- windows -----------------------------------------------------------------------------

    def _end_window(self, window: Window) -> None:
        self._window = None
        if 2 * len(window) < self._capacity:  # the end of an epoch that is shorter than it was said
            return
        window.close()
        is_near = self._progress.done > NEAR_THE_END
        last = float(self.judge == "last" or (self.judge == "auto" and is_near))
        found = window.differentiate(self._hyper, self._draws, last)
        self._draws += 1
        if not window.is_followed(found):
            self._warn(
                "A window of %d steps was skipped: its steps end elsewhere. Either the training is "
                "chaotic, or `train_step` or another callback changes the weights in a way that the "
                "compiled loss and optimizer do not say.",
                len(window),
            )
            return
        boldness = 1.0
        if self.guard:
            guard = self._guarded(window, found)
            divisor = guard.divisor(window.outcome(found))
            if divisor is not None:
                self._take_back(guard, divisor)
                return
            boldness = guard.boldness
            guard.accept(window.outcome(found).loss, self._before)
        self._averages.accept()
        self._move(window, found, boldness)

    def _move(self, window: Window, found: WindowDerivatives, boldness: float) -> None:
        assert self._engine is not None and self._mover is not None
        if found.growth <= GROWTH_LIMIT:
            self._mover.move(found.hyper, boldness)
            return
        path = self._engine.path
        self._warn(
            "A hypergradient was skipped: %s over %d steps through %r. %s",
            f"its adjoint grew {found.growth:.1e}-fold"
            if np.isfinite(found.growth)
            else "it is not finite",
            len(window),
            path,
            "The training itself is unstable there: lower the learning rate or the `horizon`."
            if path.exact or path.max_adjoint_growth
            else "Use `path=keras_drmad.paths.SegmentMeans()`, which stays bounded.",
        )

    def _guarded(self, window: Window, found: WindowDerivatives) -> Guard:
        """The guard, which begins with the loss before the first window."""
        if self._guard is None:
            assert self._engine is not None
            samples = self._hyper.as_batches(self._hyper.draw(0))
            loss = self._engine.programs.validation_loss(window.start, samples)
            self._guard = Guard(float(np.fmax(loss, found.first_loss)), self._before)
        return self._guard

    def _take_back(self, guard: Guard, divisor: float) -> None:
        """Goes back to where training last went well, with smaller rates."""
        assert self._engine is not None and self._mover is not None
        guard.take_back()
        self._averages.drop()
        self._engine.write(self._engine.rested(guard.anchor.state), 0)
        if guard.row == 1:  # else they were, and have been divided since
            self._mover.displace(guard.anchor.displacements)
        self._mover.put_back(guard.anchor.meta)
        self._mover.divide_rates(divisor)
        self._warn(
            "A window of training was taken back: it made the loss worse, or moved the weights too "
            "far. Training goes on from where it last went well, with smaller learning rates. This is "
            "said once; `windows_taken_back` in the logs counts them."
        )

    def _anchor(self, window: Window) -> Anchor:
        assert self._mover is not None
        return Anchor(window.start, *self._mover.read())

    def _warn(self, message: str, *arguments: object) -> None:
        """Says something once a training."""
        if message not in self._warned:
            self._warned.add(message)
            _log.warning(message, *arguments)

    # -- what is said, and what is saved -----------------------------------------------------

    def _as_logs(self) -> Logs:
        logs = {} if self.hyper_loss is None else {"hyper_loss": self.hyper_loss}
        if self.guard:
            logs["windows_taken_back"] = self._guard.taken_back if self._guard else 0
        return logs | self.optimizer.as_logs()

    def _state(self) -> Arrays:
        """What is saved with the optimizer, for a training that is broken off."""
        if self._engine is None or self._mover is None:
            return {}
        state = {"draws": np.array([self._draws, self._seed]), "mover": self._mover.fingerprint()}
        state |= saved_state.numbered("meta", self._mover.read()[1])
        if self._guard is not None:
            state |= saved_state.of_guard(self._guard)
        if self._record is not None:
            state |= self._record.arrays()
        return state | self._averages.arrays()

    def _restore(self) -> None:
        """Goes on with a training that was broken off, if this is one.

        What a checkpoint has says nothing about a training that begins anew, maybe on other data.
        """
        state, self.optimizer.companion_state = self.optimizer.companion_state, None
        goes_on = self._progress.epoch > 0 or state is not self._found
        if not (state and goes_on):
            return
        assert self._engine is not None and self._mover is not None
        if not np.array_equal(state.get("mover", ()), self._mover.fingerprint()):
            self._warn(
                "The training that goes on was broken off with another `meta_optimizer`, or another "
                "`learn` of the optimizer: weights and values go on, and learning begins anew."
            )
            return
        self._draws, self._seed = map(int, state["draws"])
        self._mover.put_back(saved_state.listed("meta", state))
        self._averages = Averages(state)
        if self._record is not None:
            self._record.restore(state)
        self._guard = saved_state.guard_from(state, self._engine.read(), self._mover)
