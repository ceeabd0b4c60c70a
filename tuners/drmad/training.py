"""One training of a trial: from scratch, with the hyperparameters of its meta-iteration, and back."""

import gc
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import keras
import numpy as np

from keras_drmad.data import Batches, BufferedBatches, as_arguments
from keras_drmad.engine.derivatives import GROWTH_LIMIT
from keras_drmad.engine.engine import Engine, OnStep
from keras_drmad.engine.model_setup import build_with
from keras_drmad.engine.trajectory import Trajectory
from keras_drmad.optimizers.learnable import learnable_optimizer
from keras_drmad.paths import Path
from keras_drmad.training_loop import fit
from keras_drmad.typing import Arrays, Logs, Structure

from ..retraining import Retraining
from .costs import Laps, cost
from .data import SearchData
from .learned import Learned
from .outcome import Outcome
from .result import TrialResult
from .starts import moved


class DifferentiatedTraining:
    """A training from scratch that is taken again and again, and differentiated.

    Args:
        model: the compiled model.
        build: makes another one like it, with new initial weights.
        example: a batch of training data.
        steps: how many steps a training has.
        path: the training path of the hypergradient.
        hyper_variables: a function of the model that returns further variables to be learned.
        jit_compile: whether to use XLA, or "auto".
        check: whether its step is compared with Keras's own.

    Attributes:
        compiled: the values that the model was compiled with, all of a kind in one array.

    Raises:
        ValueError: The model has no optimizer of ours, or cannot be differentiated.
    """

    def __init__(
        self,
        model: keras.Model,
        build: Callable[[], keras.Model],
        example: Structure,
        steps: int,
        path: Path,
        hyper_variables: Callable[[keras.Model], Iterable[keras.Variable]] | None = None,
        jit_compile: bool | str = "auto",
        check: bool = True,
        judge: str = "last",
    ) -> None:
        self.model, self.steps, self.judge = model, steps, judge
        self.optimizer = learnable_optimizer(model)
        self._retraining = retraining(model, build, example, steps)
        self.learned = Learned(model, self.optimizer, hyper_variables)
        others = self.learned.hyper_variables
        self.engine = Engine.of(model, example, path, others, jit_compile, check)
        self._compiled = self.learned.values
        self.compiled = self.learned.effective()
        self._compiles_back = True  # when it is next done

    def restart(
        self, seed: int, values: Arrays | None = None, start: Mapping[str, float] | None = None
    ) -> None:
        """New initial weights, zero velocities, and the given values.

        With None these are the compiled ones, moved to a `start` (of `starts.displacements`).
        """
        self._retraining.restart(seed)
        # Keras's global seed is not a variable of the model, but of its programs.
        for variable in self.engine.objective.random:
            if not any(variable is own for own in self.model.variables):
                variable.assign(np.full(variable.shape, seed % 2**31))
        gc.collect()  # the other model's cycles
        self.learned.values = moved(self._compiled, start or {}) if values is None else values
        if self.optimizer.init_scales() is not None:
            self.optimizer.scale_initial_weights()

    def rehearse(self, data: SearchData, validation_batch_size: int) -> Logs:
        """One step there and back and one evaluation, for what they may raise.

        They are compiled here as they will be used. Weights and optimizer stay as they are.

        Returns:
            What a training logs.
        """
        hyper = BufferedBatches([data.hyper.batch(0)])
        hyper.epoch_steps = 1
        rehearsal = self.engine.train(
            self.engine.read(), data.batches(), np.zeros(1), judge=self.judge
        )
        self.engine.differentiate(rehearsal, hyper)
        x, y, sample_weight = as_arguments(data.selected.batch(0))
        logs = self.evaluated((x, y, sample_weight), validation_batch_size)
        return {"loss": 0.0} | logs

    def train(
        self,
        batches: Batches,
        hyper: Batches,
        epochs: int,
        horizon: int | None,
        on_step: OnStep | None = None,
        differentiates: bool = True,
        **fit_arguments: Any,
    ) -> Outcome:
        """Trains, and walks back from the loss of the `hyper` batches; `on_step` as in the engine.

        Does not walk back unless it `differentiates`.
        """
        forth, back = Laps(), Laps()
        begins = keras.callbacks.LambdaCallback(
            on_train_batch_begin=lambda batch, logs: forth.begin()
        )
        arguments = fit_arguments | {"callbacks": [*fit_arguments.pop("callbacks", ()), begins]}
        on_lap = _then(forth, on_step)
        history, run = fit(
            self.model, self.engine, batches, epochs, horizon, on_lap, self.judge, **arguments
        )
        logs = last_logs(self, history, fit_arguments)
        if not differentiates:
            loss = self.engine.programs.validation_loss(run.end, hyper)
            finite, values = bool(np.isfinite(loss)), self.learned.values
            return Outcome(logs, values, {}, finite, 1.0, loss, cost(self.steps, forth, 0.0))
        self._check_horizon(horizon, run)
        on_lap = _walking_back(fit_arguments["verbose"], run, _then(back, on_step))
        back.begin()
        found = self.engine.differentiate(run, hyper, on_lap)
        beside, self._compiles_back = back.seconds(self._compiles_back), False
        gradients = self.learned.gradients(found.adjoint)
        return Outcome(
            logs=logs,
            values=self.learned.values,
            gradients=gradients,
            # Sums over an adjoint may overflow before it does.
            finite=found.finite and all(np.isfinite(g).all() for g in gradients.values()),
            growth=found.growth,
            hyper_loss=found.validation_loss,
            cost=cost(self.steps, forth, beside),
        )

    def result(self, outcomes: list[Outcome]) -> TrialResult:
        """The mean of the executions of a trial that can be used, or of all if none can."""
        good = [o for o in outcomes if o.finite and o.growth <= GROWTH_LIMIT] or outcomes
        low, high = self.learned.bounds()
        values = {n: np.mean([o.values[n] for o in good], 0) for n in good[0].values}
        self.learned.values = values
        return TrialResult(
            values=values,
            gradients={n: np.mean([o.gradients[n] for o in good], 0) for n in good[0].gradients},
            low=low,
            high=high,
            effective=self.learned.effective(),
            steps=self.steps,
            growth=max(o.growth for o in good),
            finite=all(o.finite for o in good),
        )

    def _check_horizon(self, horizon: int | None, run: Trajectory) -> None:
        """Raises a ValueError if a callback ended training before the steps to be spanned began."""
        taken = self.optimizer.steps_taken()
        if horizon is None or taken > self.steps - horizon or not np.isfinite(run.losses[-1]):
            return
        raise ValueError(
            f"Training ended after {taken} of {self.steps} steps, before the last ones, which "
            f"`horizon={horizon}` spans, began. Leave `horizon` out, or the callback that ends it."
        )

    def evaluated(self, data: Structure, batch_size: int) -> Logs:
        """What `fit` logs of its validation set."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        metrics = self.model.evaluate(
            x, y, batch_size=batch_size, sample_weight=sample_weight, verbose=0, return_dict=True
        )
        return {f"val_{name}": value for name, value in metrics.items()}


def last_logs(
    training: DifferentiatedTraining,
    history: keras.callbacks.History,
    fit_arguments: Mapping[str, Any],
) -> Logs:
    """What the last epoch has logged; `fit_arguments` are those of `fit`."""
    logs = {name: values[-1] for name, values in history.history.items()}
    if len(history.epoch) % fit_arguments.get("validation_freq", 1):
        # A callback ended it between two validations.
        logs |= training.evaluated(
            fit_arguments["validation_data"], fit_arguments["validation_batch_size"]
        )
    return logs


def _then(laps: Laps, on_step: OnStep | None) -> OnStep:
    """Ends a lap at each `on_step`."""

    def step(steps: int) -> None:
        laps.end(steps)
        if on_step:
            on_step(steps)

    return step


def _walking_back(verbose: int | str, run: Trajectory, on_step: OnStep) -> OnStep:
    """Says that the way back begins; returns `on_step` with a bar of its steps, as `fit` has one."""
    if not verbose:
        return on_step
    print(f"Walking back over {run.steps} steps", flush=True)
    if verbose == 2:
        return on_step
    bar = keras.utils.Progbar(run.steps)

    def step(steps: int) -> None:
        bar.add(steps)
        on_step(steps)

    return step


def retraining(
    model: keras.Model, build: Callable[[], keras.Model], example: Structure, steps: int
) -> Retraining:
    """The `Retraining` of a model, whose schedule spans so many steps."""

    def spanned() -> keras.Model:
        new = build()
        learnable_optimizer(new).span_schedule(steps)
        return new

    learnable_optimizer(model).span_schedule(steps)
    build_with(model, example)
    return Retraining(model, spanned, example)
