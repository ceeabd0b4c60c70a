"""`QANTuner`: a KerasTuner tuner whose trials are episodes of a learning agent."""

import keras
import numpy as np

from keras_drmad.arguments import positive_integer

from ..distributed.chief import role
from ..distributed.tuner import ResilientTuner
from ..storage import files, settings
from . import decision_channel as wire
from . import summary
from .oracle import QANOracle
from .search.episode import TRAIN
from .training.regressor import Path, Recorder, Regressor
from .training.report import DIVERGED, REACHED
from .training.steered_training import Subject, compiled_rate
from .training.warm_start import FirstRun

FIRST_SEED = 0  # of the first run


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
        jump_start: Episodes begin with the network that a first run, with the compiled learning rate,
            has after so many steps (at the next decision), instead of new initial weights. Defaults to
            None.
        regressor: A `Regressor`, which holds training episodes near the one before. Defaults to None.
        states, actions, network, agent, gradient_steps, epsilon, shaping, schedule_trials,
            random_trials, guided_trials, contest, random_starts, early_stop_factor, policy, timeout,
            seed: As in `QANOracle`.
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
    >>> history = model.fit(x, y, batch_size=8, epochs=3, callbacks=[policy.schedule()], verbose=0)
    """

    oracle: QANOracle  # in a worker, KerasTuner's client of the chief's

    def __init__(
        self,
        hypermodel,
        goal=None,
        objective=None,
        max_trials=300,
        decision_every=20,
        states=None,
        actions=None,
        network=None,
        agent=None,
        gradient_steps=8,
        epsilon=(0.08, 0.015),
        shaping=5.0,
        schedule_trials=None,
        random_trials=None,
        guided_trials=None,
        contest=None,
        random_starts=0.25,
        early_stop_factor=1.25,
        policy=None,
        jump_start=None,
        regressor=None,
        timeout=None,
        seed=None,
        **kwargs,
    ):
        if kwargs.get("executions_per_trial", 1) != 1:
            raise ValueError("`executions_per_trial` must be 1: an episode is one training.")
        if regressor is not None and not isinstance(regressor, Regressor):
            raise ValueError(
                f"`regressor` must be a `Regressor(...)`. Received: regressor={regressor!r}"
            )
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
        )
        self.goal, self.actions = oracle.goal, oracle.actions
        self.jump_start = positive_integer("jump_start", jump_start, optional=True)
        self.regressor = regressor
        self._settings = oracle.settings() | {
            "jump_start": jump_start,
            "regressor": regressor and regressor.get_config(),
        }
        self._subject, self._start_rate = None, None
        super().__init__(oracle, hypermodel, **kwargs)
        self._first_run = FirstRun(self.project.first_run, oracle.states, self.jump_start)

    # -- the search --------------------------------------------------------------------------

    def search(
        self,
        x,
        y=None,
        sample_weight=None,
        *,
        validation_data=None,
        batch_size=None,
        epochs=1,
        callbacks=(),
        verbose="auto",
    ):
        """Learns; or goes on with a search of this project that was broken off.

        The global generators of Python, NumPy and Keras are seeded for each episode, TensorFlow's once:
        what is drawn in a model by `tf.random`, or by `keras.random` without a `seed`, goes on from
        episode to episode.

        Args:
            x, y, sample_weight: The training data, as in `fit`; data in batches must have a length.
            validation_data: Evaluated at every decision, arrays in batches of at least 1024. Needed
                where the goal is a validation metric.
            batch_size: Of arrays. Defaults to 32.
            epochs: Of each episode: its budget.
            callbacks: Callbacks for each episode; each gets copies of them. `BackupAndRestore` is
                refused: the search goes on by itself.
            verbose: 0: nothing; 1: KerasTuner's display; 2: also `fit`'s.

        Raises:
            ValueError: Something in the data, the model or the arguments, before anything is
                trained; or other settings than those of the search that would go on.
            RuntimeError: Three trials after each other have failed, or there was an error in the oracle.
        """
        callbacks = [c for c in keras.tree.flatten(callbacks) if c is not None]
        if any(isinstance(c, keras.callbacks.BackupAndRestore) for c in callbacks):
            raise ValueError(
                "`callbacks` may not hold `BackupAndRestore`: a search that was broken off goes on by "
                "itself, and repeats the episode that it was in."
            )
        subject = Subject(
            lambda: self._build_hypermodel(self._own_oracle.get_space()),
            x,
            y,
            sample_weight,
            validation_data=validation_data,
            batch_size=batch_size,
            epochs=epochs,
            every=self._own_oracle.decision_every,
            states=self._own_oracle.states,
            actions=self.actions,
            goal=self.goal,
        )
        if self.jump_start is not None and self.jump_start >= subject.budget:
            raise ValueError(
                f"`jump_start` must be less than the {subject.budget} steps of an episode. Received: "
                f"jump_start={self.jump_start}"
            )
        subject.check()
        self._subject, self._start_rate = subject, subject.start_rate
        self._own_oracle.begin(subject.start_rate, subject.budget, _tensorboard_folder(callbacks))
        now = self._settings | {
            "epochs": epochs,
            "batch_size": batch_size,
            "data": [str(getattr(part, "shape", type(part).__name__)) for part in (x, y)],
            "optimizer": settings.nameless(subject.model.optimizer.get_config()),
        }
        self._search(now, callbacks=callbacks, verbose=verbose)

    def prepare(self):
        if role() != "chief":  # which trains nothing
            self._first_run.make(self._subject, FIRST_SEED)

    # -- an episode --------------------------------------------------------------------------

    def train_trial(self, trial, callbacks, verbose):
        subject, values = self._subject, trial.hyperparameters.values
        self._conversation = wire.Conversation(self.oracle, trial.trial_id)
        reports, _ = subject.run(
            values[wire.SEED],
            self._decide,
            hold=self._hold(trial) if self.regressor is not None else None,
            start_rate=values.get(wire.RATE, self._start(values[wire.START])),
            callbacks=self._callbacks(callbacks, trial, 0),
            verbose=verbose if verbose == 2 else 0,
            begin=self._jump if self._first_run.start else None,
        )
        if self.regressor is not None and values[wire.KIND] == TRAIN:
            # Without it, the next training is held near none.
            files.attempt(self._path_so_far.write, self.project.reference(trial.trial_id))
        return self._outcome(reports, subject)

    def _start(self, multiple):
        """The learning rate that an episode begins with."""
        if multiple == 1.0:
            return self._start_rate
        return self.actions.within(multiple * self._start_rate)

    def _jump(self, _):
        self._subject.set_weights(self._first_run.start)

    def _decide(self, report):
        """What `Steering` calls."""
        if report is None:
            return None
        return self._conversation.ask(report, self._subject.budget)

    def tell_again(self):
        self._conversation.tell_again()

    def _hold(self, trial):
        """What holds a training episode near the one before, and records its own path."""
        values, model = trial.hyperparameters.values, self._subject.model
        if values[wire.KIND] != TRAIN:
            return None
        saved = None
        if values[wire.REFERENCE]:
            saved = files.read_arrays(self.project.reference(values[wire.REFERENCE]))
        before = saved and Path.from_arrays(saved)
        self._path_so_far = so_far = Recorder()

        def hold(view):
            if before:
                self.regressor.hold(model, before, view)
            so_far.add(view.step, model)

        return hold

    def _outcome(self, reports, subject):
        """Metrics of an episode, the objective among them."""
        last, goal = reports[-1], self.goal
        steering = subject.steering
        metrics = {"steps": last.step, "seconds": last.seconds}
        metrics |= {"validating": steering.validating, "deciding": steering.deciding}
        metrics[goal.metric] = last.metric
        if goal.value is not None:
            spent = goal.spent(last)
            if last.ended != REACHED:  # a miss costs the whole budget
                spent = float(subject.budget)
                if goal.unit == "seconds":  # which are not known of a training without a step
                    spent *= last.seconds / last.step if last.step else np.inf
            metrics[self.oracle.objective.name] = spent
        elif last.ended == DIVERGED or not np.isfinite(last.metric):
            metrics[goal.metric] = np.inf if goal.direction == "min" else -np.inf
        return {n: float(v) for n, v in metrics.items() if not np.isnan(v)}

    # -- results -----------------------------------------------------------------------------

    def get_best_policy(self, kind=None):
        """The `Policy` that won the contest: a Q-network, or a schedule if that was better.

        Without a contest so far, it is the network only if its tests, at the upper bound of their mean,
        were better than the best schedule's mean.

        Args:
            kind: `"network"` or `"schedule"`, for the best of these, whichever won.

        Raises:
            ValueError: An unknown `kind`.
            RuntimeError: There is nothing to choose from yet.
        """
        if self._start_rate is None:
            model = self._build_hypermodel(self._own_oracle.get_space())
            self._start_rate = compiled_rate(model)
        self._first_run.load()
        return self._own_oracle.policy(self._start_rate, kind)

    def load_model(self, trial):
        raise NotImplementedError(
            "`QANTuner` keeps policies, not the models of its episodes: train one with "
            "`callbacks=[tuner.get_best_policy().schedule()]`."
        )

    def results_summary(self, num_trials=10):
        """What the goal has cost with the policy, the best schedule, the best constant and by chance.

        Args:
            num_trials: How many of the best episodes are shown, too.
        """
        print(summary.table(self._own_oracle))
        if num_trials:
            super().results_summary(num_trials)


def _tensorboard_folder(callbacks):
    for callback in callbacks:
        if isinstance(callback, keras.callbacks.TensorBoard):
            return callback.log_dir
    return None
