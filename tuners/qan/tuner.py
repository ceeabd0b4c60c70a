"""`QANTuner`: a KerasTuner tuner whose trials are episodes of a learning agent."""

import copy
import functools
import os
from collections.abc import Callable, Sequence
from typing import Any

import keras
import keras_tuner
import numpy as np
from keras_tuner.engine.trial import Trial

from keras_drmad.arguments import of_kind, positive_integer, suggesting, verbosity
from keras_drmad.typing import Logs, Structure

from .. import compat, tensorboard
from ..arguments import check_hypermodel, checked_callbacks, refuse
from ..distributed.role import role
from ..distributed.tuner import ResilientTuner
from ..storage import files, settings
from . import summary
from .decision_channel import KIND, RATE, REFERENCE, SEED, START, DecisionChannel
from .oracle import QANOracle
from .policy import Policy
from .project import QANProject
from .search.episode import TRAIN
from .training.actions import Actions
from .training.goals import GoalLike
from .training.regressor import Regressor
from .training.report import DIVERGED, REACHED, Report
from .training.states import State
from .training.steered_training import SteeredTraining, compiled_rate
from .training.view import View
from .training.warm_start import WarmStart
from .training.weight_path import WeightPath, WeightPathRecorder

FIRST_SEED = 0  # of the warm start

# Callbacks that act against the search, and why.
REFUSED: dict[type[keras.callbacks.Callback], str] = {
    keras.callbacks.BackupAndRestore: "a search that was broken off goes on by itself, and repeats the "
    "episode that it was in",
    keras.callbacks.LearningRateScheduler: "the learning rate is what the agent decides",
    keras.callbacks.ReduceLROnPlateau: "the learning rate is what the agent decides",
}


@suggesting
class QANTuner(ResilientTuner):
    """Learns to schedule a training, so that it reaches a goal in fewer steps.

    Each trial is an *episode*: a training from new initial weights, in which a deep Q-network decides
    every `decision_every` steps what to multiply the learning rate by. The first episodes search
    schedules; the network learns from them and from its own; at the end both meet on fresh seeds.

    Args:
        hypermodel: A `keras_tuner.HyperModel`, or a function of `hp` that returns a compiled model
            with any optimizer whose learning rate is a number. That number is what episodes start
            with. What it asks `hp` for stays at its default.
        goal: `(metric, value)`, `(metric, value, "seconds")` or a `Goal`. None: `objective` is made
            as good as it can be at the end of the budget.
        objective: See `goal`. Defaults to `"val_loss"`.
        max_trials: Episodes in all. Defaults to 300.
        decision_every: Training steps between decisions, which are compiled into one call. Defaults
            to 20.
        jump_start: Episodes begin with the network that the warm start, with the compiled learning rate,
            has after so many steps (at the next decision), instead of new initial weights. Defaults to
            None.
        regressor: A `Regressor`, which keeps training episodes near the one before. Defaults to None.
        states, actions, network, agent, gradient_steps, epsilon, shaping, schedule_trials,
            random_trials, guided_trials, contest, random_starts, early_stop_factor, policy, timeout,
            seed, max_consecutive_failed_trials: As in `QANOracle`.
        **kwargs: `directory`, `project_name`, `overwrite`, `distribution_strategy`, as in
            `keras_tuner.Tuner`.

    Raises:
        ValueError: Arguments that make no sense; see `QANOracle`, and `search`.

    References:
        Fu et al., Deep Q-networks for accelerating the training of deep neural networks, 2016.

    Example:

    >>> def build_model(hp):
    ...     model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(1)])
    ...     model.compile(optimizer="sgd", loss="mse")
    ...     return model
    >>> x = np.random.rand(96, 4)
    >>> y = x.sum(axis=1)
    >>> tuner = QANTuner(build_model, goal=("val_loss", 0.02), max_trials=16, decision_every=2,
    ...                  contest=1, directory=folder, seed=0)
    >>> tuner.search(x[:64], y[:64], batch_size=8, epochs=3, validation_data=(x[64:], y[64:]), verbose=0)
    >>> policy = tuner.get_best_policy()
    >>> model = build_model(None)
    >>> history = model.fit(x, y, batch_size=8, epochs=3, callbacks=[policy.as_callback()], verbose=0)
    """

    oracle: QANOracle  # in a worker, KerasTuner's client of the chief's
    project: QANProject

    def __init__(
        self,
        hypermodel: keras_tuner.HyperModel | Callable[..., keras.Model],
        goal: GoalLike | None = None,
        objective: str | keras_tuner.Objective | None = None,
        max_trials: int = 300,
        decision_every: int = 20,
        states: Sequence[State] | None = None,
        actions: Actions | None = None,
        network: dict[str, Any] | Callable[..., keras.Model] | None = None,
        agent: dict[str, Any] | None = None,
        gradient_steps: int = 8,
        epsilon: tuple[float, float] = (0.08, 0.015),
        shaping: float = 5.0,
        schedule_trials: int | None = None,
        random_trials: int | None = None,
        guided_trials: int | None = None,
        contest: int | None = None,
        random_starts: float = 0.25,
        early_stop_factor: float = 1.25,
        policy: Policy | str | os.PathLike[str] | None = None,
        jump_start: int | None = None,
        regressor: Regressor | None = None,
        timeout: float | None = None,
        seed: int | None = None,
        max_consecutive_failed_trials: int = 3,
        **kwargs: Any,
    ) -> None:
        check_hypermodel(hypermodel)
        if positive_integer("executions_per_trial", kwargs.get("executions_per_trial", 1)) != 1:
            raise ValueError("`executions_per_trial` must be 1: an episode is one training.")
        if regressor is not None:
            of_kind("regressor", regressor, Regressor, "a `Regressor(...)`")
        oracle = QANOracle(
            goal=goal,
            objective=objective,
            max_trials=max_trials,
            decision_every=decision_every,
            states=states,
            actions=actions,
            network=network,
            agent=agent,
            gradient_steps=gradient_steps,
            epsilon=epsilon,
            shaping=shaping,
            schedule_trials=schedule_trials,
            random_trials=random_trials,
            guided_trials=guided_trials,
            contest=contest,
            random_starts=random_starts,
            early_stop_factor=early_stop_factor,
            policy=policy,
            timeout=timeout,
            seed=seed,
            max_consecutive_failed_trials=max_consecutive_failed_trials,
        )
        self.goal, self.actions = oracle.goal, oracle.actions
        self.jump_start = positive_integer("jump_start", jump_start, optional=True)
        self.regressor = regressor
        self._settings = oracle.settings() | {
            "jump_start": jump_start,
            "regressor": regressor and regressor.get_config(),
        }
        super().__init__(oracle, hypermodel, **kwargs)
        self._warm_start = WarmStart(self.project.warm_start, oracle.states, self.jump_start)

    # -- the search --------------------------------------------------------------------------

    def search(
        self,
        x: Structure,
        y: Structure = None,
        sample_weight: Structure = None,
        *,
        validation_data: Structure = None,
        batch_size: int | None = None,
        validation_batch_size: int | None = None,
        epochs: int = 1,
        callbacks: Structure = (),
        verbose: int | str = "auto",
        **fit_arguments: Any,
    ) -> None:
        """Learns; or goes on with a search of this project that was broken off.

        The global generators of Python, NumPy and Keras are seeded for each episode, TensorFlow's once:
        what is drawn in a model by `tf.random`, or by `keras.random` without a `seed`, goes on from
        episode to episode.

        Args:
            x, y, sample_weight: The training data, as in `fit`; data in batches must have a length.
            validation_data: Evaluated at every decision. Needed where the goal is a validation metric.
            batch_size: Of arrays. Defaults to 32.
            validation_batch_size: Of the arrays of `validation_data`. Defaults to `batch_size`, but at
                least 1024.
            epochs: Of each episode: its budget.
            callbacks: Callbacks for each episode; each gets copies of them. `BackupAndRestore` is
                refused, for the search goes on by itself, and so is what sets the learning rate.
            verbose: 0: nothing; 1: KerasTuner's display; 2: also `fit`'s.
            **fit_arguments: None: other arguments of `fit` are refused, with what does the same.

        Raises:
            ValueError: Something in the data, the model or the arguments, before anything is
                trained; or other settings than those of the search that would go on.
            RuntimeError: Every trial has failed, or three after each other, or there was an error in
                the oracle.
        """
        refuse(fit_arguments)
        verbose, callbacks = verbosity("verbose", verbose), checked_callbacks(callbacks, REFUSED)
        oracle = self.oracle
        training = SteeredTraining(
            lambda: compat.build_model(self, oracle.get_space()),
            x,
            y,
            sample_weight,
            validation_data=validation_data,
            batch_size=batch_size,
            validation_batch_size=validation_batch_size,
            epochs=epochs,
            every=oracle.decision_every,
            states=oracle.states,
            actions=self.actions,
            goal=self.goal,
        )
        if self.jump_start is not None and self.jump_start >= training.budget:
            raise ValueError(
                f"`jump_start` must be less than the {training.budget} steps of an episode. Received: "
                f"jump_start={self.jump_start}"
            )
        if verbose:
            print(f"Compiling the training of at most {training.budget} steps", flush=True)
        training.check()
        self._training, self._start_rate = training, training.start_rate
        oracle.begin(training.start_rate, training.budget, tensorboard.folder(callbacks))
        now = self._settings | {
            "epochs": epochs,
            "batch_size": batch_size,
            "data": [_described(part) for part in (x, y, sample_weight, validation_data)],
            "optimizer": settings.nameless(training.model.optimizer.get_config()),
        }
        self._search(now, callbacks=callbacks, verbose=verbose)

    def prepare(self, **_: Any) -> None:
        if role() != "chief":  # which trains nothing
            self._warm_start.make(self._training, FIRST_SEED)

    # -- an episode --------------------------------------------------------------------------

    def train_trial(
        self, trial: Trial, callbacks: Sequence[keras.callbacks.Callback], verbose: int | str
    ) -> Logs:
        training, values = self._training, trial.hyperparameters.values
        path = WeightPathRecorder()
        self._channel = DecisionChannel(self.oracle, trial.trial_id, training.budget)
        reports, _ = training.run(
            values[SEED],
            self._channel.ask,
            regularize=self._regularizer(trial, path),
            start_rate=values.get(RATE, self._start(values[START])),
            callbacks=self._callbacks(callbacks, trial, 0),
            verbose=2 if verbose == 2 else 0,
            start_weights=self._warm_start.start,
        )
        if self.regressor is not None and values[KIND] == TRAIN:
            # Without it, the next training is kept near none.
            files.attempt(path.write, self.project.reference(trial.trial_id))
        return self._outcome(reports, training)

    @functools.cached_property
    def _start_rate(self) -> float:
        """The compiled learning rate."""
        return compiled_rate(compat.build_model(self, self.oracle.get_space()))

    def _start(self, multiple: float) -> float:
        """The learning rate that an episode begins with."""
        if multiple == 1.0:
            return self._start_rate
        return self.actions.within(multiple * self._start_rate)

    def shown(self, trial: Trial) -> Trial:
        """HParams show what an episode is, and what it starts with; how it ends is among its curves."""
        shown, values = copy.copy(trial), trial.hyperparameters.values
        shown.hyperparameters = trial.hyperparameters.copy()
        start = values.get(RATE, self._start(values[START]))
        for name, value in (("episode", values[KIND]), ("start/learning_rate", start)):
            shown.hyperparameters.Fixed(name, value)
        return shown

    def tell_again(self) -> None:
        self._channel.tell_again()

    def _regularizer(self, trial: Trial, path: WeightPathRecorder) -> Callable[[View], None] | None:
        """What keeps a training episode near the one before, and records its own path."""
        regressor, values = self.regressor, trial.hyperparameters.values
        if regressor is None or values[KIND] != TRAIN:
            return None
        saved = None
        if values[REFERENCE]:
            saved = files.read_if_whole(self.project.reference(values[REFERENCE]))
        before = None if saved is None else WeightPath.from_arrays(saved)

        def regularize(view: View) -> None:
            if before is not None:
                regressor.regularize(view.model, before, view)
            path.add(view.step, view.model)

        return regularize

    def _outcome(self, reports: Sequence[Report], training: SteeredTraining) -> Logs:
        """Metrics of an episode, the objective among them."""
        last, goal = reports[-1], self.goal
        callback = training.callback
        metrics: Logs = {"steps": last.step, "seconds": last.seconds}
        metrics |= {"validating": callback.validating, "deciding": callback.deciding}
        metrics[goal.metric] = last.metric
        if goal.value is not None:
            spent = goal.spent(last)
            if last.ended != REACHED:  # a miss costs the whole budget
                spent = float(training.budget)
                if goal.unit == "seconds":  # which are not known of a training without a step
                    spent *= last.seconds / last.step if last.step else np.inf
            metrics[self.oracle.objective.name] = spent
        elif last.ended == DIVERGED or not np.isfinite(last.metric):
            metrics[goal.metric] = np.inf if goal.direction == "min" else -np.inf
        return {n: float(v) for n, v in metrics.items() if not np.isnan(v)}

    # -- results -----------------------------------------------------------------------------

    def get_best_policy(self, kind: str | None = None) -> Policy:
        """The `Policy` that won the contest: a Q-network, or a schedule if that was better.

        Without a contest so far, it is the network only if its tests, at the upper bound of their mean,
        were better than the best schedule's mean.

        Args:
            kind: `"network"` or `"schedule"`, for the best of these, whichever won.

        Raises:
            ValueError: An unknown `kind`.
            RuntimeError: There is nothing to choose from yet.
        """
        self._warm_start.load()
        return self.oracle.policy(self._start_rate, kind)

    def load_model(self, trial: Trial) -> keras.Model:
        raise NotImplementedError(
            "`QANTuner` keeps policies, not the models of its episodes: train one with "
            "`callbacks=[tuner.get_best_policy().as_callback()]`."
        )

    def results_summary(self, num_trials: int = 10) -> None:
        """What the goal has cost with the policy, the best schedule, the best constant and by chance.

        Args:
            num_trials: How many of the best episodes are shown, too.
        """
        print(summary.table(self.oracle))
        super().results_summary(num_trials)

    def score_noise(self) -> float:
        return self.oracle.curriculum.ranking.score_noise()


def _described(data: Structure) -> list[str]:
    """Shapes and dtypes of arrays; of what comes in batches, its type."""
    return [
        f"{np.shape(part)} {part.dtype}" if hasattr(part, "dtype") else type(part).__name__
        for part in keras.tree.flatten(data)
    ]
