"""`LearnHyperparameters`: the callback that learns an optimizer's hyperparameters during `fit`."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from typing import Any

import keras

from keras_drmad.arguments import flag, of_kind, positive_integer, verbosity
from keras_drmad.data import Batches, BufferedBatches
from keras_drmad.engine import step_check
from keras_drmad.engine.derivatives import GROWTH_LIMIT, Derivatives
from keras_drmad.engine.engine import Engine
from keras_drmad.engine.norm import global_norm
from keras_drmad.hyperparameters import meta
from keras_drmad.hyperparameters.groups import INIT_SCALE
from keras_drmad.learning_checks import check_alone, check_data, check_horizon, checked_hyper_set
from keras_drmad.optimizers.learnable import LearnableOptimizer, learnable_optimizer
from keras_drmad.paths import Path, SegmentMeans
from keras_drmad.typing import Logs, Structure, Tensors

_log = logging.getLogger("keras_drmad")

# A replayed window that ends further than this from where `fit` ended it (relative to the way
# between) was trained in another way than the compiled loss and optimizer say. Rounding grows over a
# window; a path that only comes near is less easily misled.
REPLAY_TOLERANCE, OF_NEAR_PATHS, OF_HALF_PRECISION = 0.01, 0.05, 0.2


class LearnHyperparameters(keras.callbacks.Callback):
    """Learns the hyperparameters of a `DrMADSGD` or `DrMADAdamW` while `fit` trains.

    Every `horizon` steps the window of training since the last time is differentiated: the
    validation loss at its end, by the hyperparameters in force during it. `meta_optimizer` then
    moves them, on the log scale (learning rates, L2) or the logit scale (momenta):

        δ ← meta_optimizer(δ, ∂L_val/∂value · ∂value/∂δ)

    The batches that `fit` feeds are kept until the end of the window (one window's bytes), and the
    window is trained once more from them on copies of the weights, so the model itself only ever
    holds weights that `fit` gave it.

    Args:
        validation_data: The *hyper* set, whose loss is differentiated: arrays `(x, y)` or
            `(x, y, sample_weight)`, a `tf.data.Dataset`, or a `keras.utils.PyDataset`. Keep further
            data for judging the result: the hyperparameters are fitted to these.
        horizon: Training steps in a window. Defaults to one epoch. Short windows are greedy: they
            favour small learning rates (https://arxiv.org/abs/1803.02021).
        path: A `keras_drmad.paths.Path`. Defaults to `SegmentMeans()`.
        meta_optimizer: A `keras.optimizers.Optimizer`. Defaults to `RMSprop(0.03, epsilon=1e-12)`,
            which moves by some percent a window whatever the size of the gradient.
        batch_size: Of `validation_data`, if arrays. Defaults to 256.
        check: As in `hypergradient`. Defaults to `True`.
        verbose: 1 prints a line at each update.

    Added to `logs` at the end of each epoch, and so found in `History`, `CSVLogger` and TensorBoard
    (place this callback before them): `hyper_loss`, the validation loss at the end of the last
    window, and `<group>/<kind>`, every effective value (the mean, for `per="unit"`).

    A hypergradient that is not finite, or whose reverse pass grew beyond what stable training allows,
    is skipped with a warning, and training goes on.

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
        horizon: int | None = None,
        path: Path | None = None,
        meta_optimizer: keras.optimizers.Optimizer | None = None,
        batch_size: int | None = None,
        check: bool = True,
        verbose: int = 0,
    ) -> None:
        super().__init__()
        if path is not None:
            of_kind("path", path, Path, "a `keras_drmad.paths.Path`")
        if meta_optimizer is not None:
            meta.check(meta_optimizer)
        self.horizon = positive_integer("horizon", horizon, optional=True)
        self.path = SegmentMeans() if path is None else path
        self.meta_optimizer = meta_optimizer or keras.optimizers.RMSprop(0.03, epsilon=meta.EPSILON)
        self.check, self.verbose = flag("check", check), verbosity("verbose", verbose)
        positive_integer("batch_size", batch_size, optional=True)
        self.validation = checked_hyper_set(validation_data, batch_size)
        self.hyper_loss: float | None = None

    # -- Keras's events ----------------------------------------------------------------------

    def set_model(self, model: keras.Model) -> None:
        super().set_model(model)
        optimizer = learnable_optimizer(model)
        if getattr(self, "optimizer", None) is not optimizer:
            self.optimizer = optimizer
            self._meta = meta.copy(self.meta_optimizer)
        if not self.optimizer.learn:
            raise ValueError("Nothing to learn: the optimizer was made with `learn=()`.")
        if INIT_SCALE in self.optimizer.learn:
            raise ValueError(
                'Initial scales ("init_scale" in `learn`) are learned by training from scratch again '
                "and again: use `keras_drmad.tuners.DrMADTuner`."
            )
        if model.distribute_strategy.num_replicas_in_sync > 1:
            raise ValueError(
                "`LearnHyperparameters` needs all of a batch on one device. "
                f"Received: a model of {model.distribute_strategy.num_replicas_in_sync} replicas"
            )
        self.optimizer.is_learning = True

    def on_train_begin(self, logs: Logs | None = None) -> None:
        check_alone(self)
        check_horizon(self.horizon, self.params)
        self._is_first = True
        self._window: _Window | None = None
        self._expected = False
        self._record()

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        self._expected = True

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        window = self._window
        if self.horizon is not None and window is not None and window.steps >= self.horizon:
            self._learn(window)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if self.horizon is None and self._window is not None:
            self._learn(self._window)
        if logs is not None:
            logs.update(self._as_logs())

    def on_train_end(self, logs: Logs | None = None) -> None:
        if self.hyper_loss is None and self._window is not None:
            _log.warning(
                "Nothing was learned: training ended after %d steps, before the first window of "
                "`horizon=%d`.",
                self._window.steps,
                self.horizon,
            )
        self._window = None
        self.optimizer.is_learning = False
        self._stop_recording()

    # -- recording ---------------------------------------------------------------------------

    def _record(self) -> None:
        """Puts itself before the model's train function, to see what `fit` feeds it.

        Keras has no event that carries the batches. `model.train_function` is what `fit` calls with
        its iterator, and it takes any iterator of batches.
        """
        train = self.model.train_function

        def recording(iterator: Iterator[Structure]) -> Logs:
            if not self._expected:  # a later `fit`, without this callback, after one that broke off
                self.model.train_function = train
                return train(iterator)
            self._expected = False
            fed = list(itertools.islice(iterator, self.model.steps_per_execution))
            if not fed:
                raise StopIteration
            if self._window is None:
                self._window = _Window(self, fed[0])
            self._window.add(fed)
            if self._is_first:
                self._is_first = False
                check_data(self.model, self.validation, self._window.batches)
            return train(iter(fed))

        self._stop_recording = lambda: setattr(self.model, "train_function", train)
        self.model.train_function = recording

    # -- learning ----------------------------------------------------------------------------

    def _learn(self, window: _Window) -> None:
        self._window = None
        derivatives = window.differentiate(self.validation)
        if derivatives is None:
            return
        self.hyper_loss = derivatives.validation_loss
        if not derivatives.finite or derivatives.growth > GROWTH_LIMIT:
            _log.warning(
                "A hypergradient was skipped: %s over %d steps through %r. %s",
                "it is not finite"
                if not derivatives.finite
                else f"its adjoint grew {derivatives.growth:.1e}-fold",
                window.steps,
                self.path,
                "The training itself is unstable there: lower the learning rate or the `horizon`."
                if self.path.exact or isinstance(self.path, SegmentMeans)
                else "Use `path=keras_drmad.paths.SegmentMeans()`, which stays bounded.",
            )
            return
        gradients = meta.by_displacement(self.optimizer, derivatives.adjoint.hyper)
        meta.move(self.optimizer, gradients, self._meta)
        if self.verbose:
            print(f"Hyperparameters moved after {window.steps} steps, {self._as_logs()}")

    def _as_logs(self) -> Logs:
        logs = {} if self.hyper_loss is None else {"hyper_loss": self.hyper_loss}
        return logs | self.optimizer.as_logs()


class _Window:
    """A stretch of `fit`: where it began, the batches it was fed and its learning rates."""

    def __init__(self, owner: LearnHyperparameters, first: Structure) -> None:
        self.batches = BufferedBatches()
        self.rates: list[float] = []
        self._owner = owner
        self.batches.append(first)
        self._engine = Engine.of(owner.model, self.batches.batch(0), owner.path, check=owner.check)
        self._start, self._first = self._engine.read(), owner.optimizer.steps_taken()
        self.batches = BufferedBatches()

    @property
    def steps(self) -> int:
        return len(self.batches)

    def add(self, fed: list[Structure]) -> None:
        for data in fed:
            self.batches.append(data)
        optimizer = self._owner.optimizer
        if optimizer.follows_schedule():  # as far as the loss scale leaves no step out
            first = self._first + len(self.rates)
            self.rates.extend(optimizer.learning_rates(len(fed), first))
        else:
            self.rates.extend(optimizer.learning_rates(len(fed)))

    def differentiate(self, validation: Batches) -> Derivatives | None:
        """`Derivatives` of the window, or None if it cannot be trained again."""
        run = self._engine.train(self._start, self.batches, self.rates, first=self._first)
        trained = self._engine.read().weights
        off = _distance(run.end.weights, trained)
        if not off <= self._tolerance() * _distance(self._start.weights, trained):
            _log.warning(
                "A window of %d steps was skipped: trained again, it ends elsewhere. Either the "
                "training is chaotic, or `train_step` or another callback changes the weights in a "
                "way that the compiled loss and optimizer do not say.",
                self.steps,
            )
            return None
        return self._engine.differentiate(run, validation)

    def _tolerance(self) -> float:
        if step_check.precision(self._engine) > 1e-6:
            return OF_HALF_PRECISION
        return REPLAY_TOLERANCE if self._engine.path.exact else OF_NEAR_PATHS


def _distance(a: Tensors, b: Tensors) -> float:
    return float(global_norm([p - q for p, q in zip(a, b, strict=True)]))
