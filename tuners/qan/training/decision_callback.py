"""The callback that observes a training every so many steps, and applies decisions."""

import math
import time
import warnings
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import keras
import numpy as np

from keras_drmad.typing import Logs

from ... import compat
from .actions import Actions
from .evaluation import Validation, scalars
from .goals import Goal
from .optimizer_control import OptimizerControl
from .probes import Probes
from .report import DIVERGED, REACHED, TRUNCATED, Change, Decision, Report
from .states import State, observe
from .view import View

Decide: TypeAlias = Callable[[Report | None], Decision]

EXPLODED = 4.0  # times the loss before training: diverged


class DecisionCallback(keras.callbacks.Callback):
    """Observes a training every `every` steps of an epoch, and at its end, and applies what is decided.

    It has *diverged* when a loss is not finite or, where that stops it, when the validation loss (the
    training loss, without validation) is four times what it was at first.

    Args:
        states: a list of `State`.
        actions: the `Actions`.
        goal: the `Goal`.
        every: steps between decisions.
        decide: called with a `Report`, or with None before training if no validation metric is the goal.
            Returns the actions, one a group; or a learning rate (a float); or None for no change; or
            `STOP`, to end the training here. What it returns once the training has ended is not used.
        validation: the `Validation` of each decision. None without validation data.
        start_rate: the learning rate that training starts with. Defaults to the compiled one.
        stop: the ends that stop the training, of `REACHED` and `DIVERGED`.
        select: called with the rule by which samples are selected, before each chunk.
        budget: steps of the training. Defaults to what `fit` says.
        regularize: called with the `View` after each decision; may change the weights.

    Raises:
        ValueError: At the beginning of the training: its length is not known, or the model has no
            weights yet and nothing is validated that would make them; a state is of another model.
    """

    params: dict[str, Any]  # as Keras sets them when `fit` begins
    control: OptimizerControl
    probes: Probes
    view: View

    def __init__(
        self,
        states: Sequence[State],
        actions: Actions,
        goal: Goal,
        every: int,
        decide: Decide = lambda report: None,
        validation: Validation | None = None,
        start_rate: float | None = None,
        stop: Collection[str] = (REACHED, DIVERGED),
        select: Callable[[str], None] | None = None,
        budget: int | None = None,
        regularize: Callable[[View], None] | None = None,
    ) -> None:
        super().__init__()
        self.states, self.actions, self.goal, self.every = states, actions, goal, every
        self.decide, self.validation = decide, validation
        self.start_rate, self.stop, self.select, self._budget = start_rate, stop, select, budget
        self.regularize = regularize
        self.reports: list[Report] = []  # of this training
        self.deciding = 0.0  # seconds that observing and decisions took
        self.validating = 0.0

    def __getstate__(self) -> dict[str, Any]:
        # A copy, as tuners make of callbacks, is for the training of another model.
        training = dict.fromkeys((compat.MODEL_OF_CALLBACK, "view", "control", "probes"))
        return self.__dict__ | training

    def on_train_begin(self, logs: Logs | None = None) -> None:
        model, budget = self.model, self._steps_in_all()
        if self.validation is not None:
            if not self.validation.knows(model):
                self.validation.prepare(model)
        elif not model.built:
            raise ValueError(
                "The model has no weights yet: give it an `Input`, call it once before `fit`, or "
                "pass `validation_data`."
            )
        if not model.optimizer.built:
            with model.distribute_strategy.scope():
                model.optimizer.build(model.trainable_variables)
        self.attach(model, budget)
        for state in self.states:
            state.check(model)
        if self.start_rate is not None:
            self.control.set_rate(self.start_rate)
        self.reports, self.deciding, self.validating, self.ended = [], 0.0, 0.0, ""
        self.validated: Logs = {}
        self._seconds, self._begun = 0.0, 0.0
        self._first: float | None = None  # value of the goal's metric
        self._has_begun = self._is_overruled = False
        self._means: set[str] | None = None

    def attach(self, model: keras.Model, budget: int) -> None:
        """Makes control, probes and view of a model that is built."""
        self.control = OptimizerControl(model.optimizer, self.actions)
        probes = self.__dict__.get("probes")
        if probes is None or not probes.are_of(self.control, model):
            self.probes = Probes(self.control, model)  # compiled once for all trainings of a model
        self.view = View(
            model=model,
            variables=self.probes.variables,
            budget=budget,
            start_rate=float(model.optimizer.learning_rate.numpy()),
            every=self.every,
        )

    @property
    def observes_first(self) -> bool:
        """Whether there is a decision before the first step."""
        return self.validation is not None and self.goal.metric.startswith("val_")

    def _steps_in_all(self) -> int:
        if self._budget is not None:
            return self._budget
        if self._epoch_steps is None:
            raise ValueError(
                "How many steps the training has is not known: pass `budget=`, or data with a length."
            )
        return self._epoch_steps * self.params["epochs"]

    @property
    def _epoch_steps(self) -> int | None:
        """None where `fit` does not know."""
        return self.params.get("steps")

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self._within = 0
        self._before: tuple[int, Logs] = 0, {}
        if not self._has_begun:
            self._has_begun = True
            self.probes.restart()  # here, for other callbacks may have restored weights
            self.view.step = epoch * (self._epoch_steps or 0)
            if self.observes_first:
                self._report({}, 0)
            else:
                first = self.decide(None)
                self._apply(None if isinstance(first, str) else first)
        self._begun = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        last = self._epoch_steps
        self._within = min(batch + 1, last or batch + 1)  # Keras counts a last chunk as a full one
        self._logs = logs or {}
        if self._within - self._before[0] >= self.every or self._within == last:
            self._end_chunk()

    def _end_chunk(self) -> None:
        within, (before, totals_before) = self._within, self._before
        if within == before:
            return
        if self.ended:  # `fit` goes on, and reads what is chosen for it
            self._before = within, totals_before
            self._apply(None)
            return
        self._seconds += time.perf_counter() - self._begun
        now = scalars(self._logs)
        if self._means is None:
            self._means = _means(self.model, now)
        # Keras's means are over the epoch so far; of what is no mean, that is all that is known.
        totals = {name: value * within for name, value in now.items() if name in self._means}
        chunk = now | {
            name: (total - totals_before.get(name, 0.0)) / (within - before)
            for name, total in totals.items()
        }
        self._before = within, totals
        self._report(chunk, within - before)
        self._begun = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self._end_chunk()  # of data whose end was not known
        logs = {} if logs is None else logs
        logs["learning_rate"] = float(np.mean(self.control.read()[0]))
        if self.validation is not None and self.ended and not self.model.stop_training:
            self.validated, _ = self.validation.beside(self.model, self.probes)
        for name, value in self.validated.items():
            logs.setdefault(name, value)  # `fit` may have validation data of its own

    def on_train_end(self, logs: Logs | None = None) -> None:
        if self.view.step and not int(self.model.optimizer.iterations.numpy()):
            warnings.warn(
                "The model's optimizer has taken no step, so it cannot be steered: its `train_step` "
                "must use `self.optimizer`.",
                stacklevel=2,
            )
        if not self.ended and self.reports:  # another callback has stopped it
            self._truncate()
            self.decide(self.reports[-1])

    def _truncate(self) -> None:
        self.ended = TRUNCATED
        self.reports[-1] = replace(self.reports[-1], ended=TRUNCATED)

    def _report(self, logs: Logs, taken: int) -> None:
        view, begun = self.view, time.perf_counter()
        if self.validation is None:
            read = tuple(tensor.numpy() for tensor in self.probes())
        else:
            self.validated, read = self.validation.beside(self.model, self.probes)
            self.validating += time.perf_counter() - begun
            begun = time.perf_counter()
            logs = logs | self.validated
            view.val_losses.append(self.goal.measured(logs, "val_loss"))
            logs.setdefault("loss", logs["val_loss"])
        view.step, view.steps = view.step + taken, taken
        view.losses.append(self.goal.measured(logs, "loss"))
        name = self.goal.metric
        if self.validation is None:  # training metrics stand in for validation's
            name = name.removeprefix("val_")
        metric = self.goal.measured(logs, name)
        if self._first is None:
            self._first = metric
        view.gaps.append(self.goal.gap(metric, self._first))
        (view.rates, view.momenta), view.motion = read
        if not self._is_overruled and self.control.was_overruled(view.rates):
            self._is_overruled = True
            warnings.warn(
                f"Something else has set the learning rate, to {float(view.rates[0]):.4g}, beside what "
                "is decided here: leave out callbacks such as `LearningRateScheduler` and "
                "`ReduceLROnPlateau`.",
                stacklevel=2,
            )
        self.ended = self._ending(metric, view)
        cost = taken / self.every
        if self.goal.unit == "seconds" and self.reports:
            cost = self._seconds - self.reports[-1].seconds
        report = Report(
            observation=observe(self.states, view),
            gap=view.gaps[-1],
            step=view.step,
            cost=cost,
            ended=self.ended,
            metric=metric,
            seconds=self._seconds,
            rates=view.rates,
        )
        self.reports.append(report)
        decision = self.decide(report)
        if self.ended:
            self.model.stop_training |= self.ended in self.stop
            self._apply(None)  # `fit` may go on
        elif isinstance(decision, str):
            self._truncate()
            self.model.stop_training = True
        else:
            self._apply(decision)
        if self.regularize is not None and not self.ended:
            self.regularize(view)
        chosen = self._seconds - report.seconds  # what choosing samples took is training's
        self.deciding += time.perf_counter() - begun - chosen

    def _apply(self, decision: Change) -> None:
        rule = "uniform"
        if isinstance(decision, float):
            self.control.set_rate(decision)
        elif decision is not None:
            rule = self.control.apply(decision, self.view.rates, self.view.momenta)
        if self.select is not None:
            begun = time.perf_counter()
            self.select(rule)
            self._seconds += time.perf_counter() - begun

    def _ending(self, metric: float, view: View) -> str:
        """How the training has ended; "" if it goes on."""
        if not all(map(math.isfinite, (*view.losses[-1:], *view.val_losses[-1:]))):
            return DIVERGED
        if DIVERGED in self.stop:
            # Training losses may be weighted, so like is compared with like.
            losses = view.val_losses or view.losses
            if losses[-1] > losses[0] + (EXPLODED - 1) * max(abs(losses[0]), 1e-3):
                return DIVERGED
        if REACHED in self.stop and view.step and self.goal.reached(metric):
            return REACHED
        return TRUNCATED if view.step >= view.budget else ""


def _means(model: keras.Model, logs: Logs) -> set[str]:
    """The names of those logs that are means over an epoch's samples so far, as metrics keep them.

    Not those that a `train_step` returns by itself, nor metrics of weighted samples: of those it is not
    known how much a chunk weighs.
    """
    metrics = [inner for m in model.metrics for inner in getattr(m, "metrics", None) or [m]]
    mean = keras.metrics.Mean.result
    others = tuple(m.name for m in metrics if getattr(type(m), "result", None) is not mean)
    kept = scalars(model.get_metrics_result())
    found = {n for n, v in logs.items() if n in kept and math.isclose(kept[n], v, rel_tol=1e-4)}
    if _weighted(model):
        found &= {"loss"}
    return {name for name in found if not name.endswith(others)}


def _weighted(model: keras.Model) -> bool:
    with warnings.catch_warnings():  # of functions that cannot be serialized
        warnings.simplefilter("ignore")
        return bool((model.get_compile_config() or {}).get("weighted_metrics"))
