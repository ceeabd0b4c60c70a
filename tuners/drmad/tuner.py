"""`DrMADTuner`: a KerasTuner tuner whose trials are meta-iterations."""

import copy
import os
import time

import keras
import keras_tuner
import numpy as np

from keras_drmad.arguments import positive_integer
from keras_drmad.data import VALIDATION_BATCH
from keras_drmad.engine.engine import GROWTH_LIMIT
from keras_drmad.engine.model_setup import build_with
from keras_drmad.hyperparameters.groups import INIT_SCALE
from keras_drmad.optimizers.learnable import learnable_optimizer
from keras_drmad.paths import Path, SegmentMeans

from ..distributed.tuner import ResilientTuner
from ..storage import files
from .data import SearchData
from .oracle import CLIENT, FINITE, GROWTH, ITERATION, PLACE, RUN, SEED, DrMADOracle
from .training import LEARNED, Learned, Trainee

STATE_TRIES = 10


class DrMADTuner(ResilientTuner):
    """Offline hypergradient search: each trial trains from scratch, and walks back.

    A trial builds a model with `hypermodel`, whose optimizer is a `DrMADSGD`, trains it with the
    hyperparameters of its meta-iteration, takes the validation loss's derivatives by all of them
    through `path`, and hands them to the `DrMADOracle`, which moves them:

        δ ← meta_optimizer(δ, ∂L_val(w_T)/∂δ)

    with δ the displacements from the compiled values, on the log scale (learning rates, L2) or the
    logit scale (momenta). What the optimizer was compiled with is where the search begins.

    Args:
        hypermodel: A `keras_tuner.HyperModel`, or a function of `hp` that returns a model compiled
            with a `DrMADSGD`. What it asks `hp` for is chosen by `outer_oracle`.
        objective: What trials are compared by. Defaults to `"val_loss"`. Its value at the end of
            training counts, on `selection_data` if `search` is given any.
        max_trials: Trainings in all. Defaults to 10.
        path: A `keras_drmad.paths.Path`. Defaults to `SegmentMeans()`.
        meta_optimizer: A `keras.optimizers.Optimizer`. Defaults to `RMSprop(0.1, epsilon=1e-12)`;
            `keras_drmad.Sign(0.1)` moves as the DrMAD paper does.
        horizon: How many of the last training steps the hypergradient spans. Defaults to all.
        resample: Whether each meta-iteration has new initial weights and another order of batches.
            Without, the hyperparameters are fitted to one draw of both. Defaults to `True`.
        hyper_variables: A function of the built model that returns a list of further
            `keras.Variable`s, read by its training loss, to be learned.
        jit_compile: As in `keras_drmad.hypergradient`. Defaults to `"auto"`.
        shard: Whether client m of M trains on samples m, m + M, … only (arrays only); otherwise
            clients differ in their seed. Defaults to `False`.
        meta_iterations, outer_oracle, patience, return_after, clients, timeout, keep_checkpoints, seed,
            hyperparameters, tune_new_entries, allow_new_entries, max_retries_per_trial: As in
            `DrMADOracle`.
        **kwargs: `directory`, `project_name`, `overwrite`, `executions_per_trial` (trainings with
            seeds of their own, whose hypergradients and metrics are averaged), `max_model_size`,
            as in `keras_tuner.Tuner`.

    Example:

    >>> def build_model(hp):
    ...     model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(1)])
    ...     model.compile(optimizer=DrMADSGD(0.01, l2=1e-3), loss="mse")
    ...     return model
    >>> x = np.random.rand(96, 4)
    >>> y = x.sum(axis=1)
    >>> tuner = DrMADTuner(build_model, max_trials=3, directory=folder, seed=0)
    >>> tuner.search(x[:64], y[:64], epochs=2, validation_data=(x[64:], y[64:]), verbose=0)
    >>> model = tuner.get_best_models()[0]
    >>> optimizer = tuner.get_best_optimizer()  # for a longer training
    >>> bool(optimizer.learning_rate == model.optimizer.learning_rate)
    True
    """

    def __init__(
        self,
        hypermodel,
        objective="val_loss",
        max_trials=10,
        path=None,
        meta_optimizer=None,
        horizon=None,
        resample=True,
        hyper_variables=None,
        jit_compile="auto",
        shard=False,
        meta_iterations=None,
        outer_oracle=None,
        patience=None,
        return_after=3,
        clients=1,
        timeout=None,
        keep_checkpoints=1,
        seed=None,
        hyperparameters=None,
        tune_new_entries=True,
        allow_new_entries=True,
        max_retries_per_trial=0,
        **kwargs,
    ):
        self.path = SegmentMeans() if path is None else path
        if not isinstance(self.path, Path):
            raise ValueError(f"`path` must be a `keras_drmad.paths.Path`. Received: path={path!r}")
        self.horizon = positive_integer("horizon", horizon, optional=True)
        positive_integer("executions_per_trial", kwargs.get("executions_per_trial", 1))
        self.resample, self.shard = resample, shard
        self.jit_compile = jit_compile
        self.hyper_variables = hyper_variables
        self._configuration, self._trainee = None, None
        oracle = DrMADOracle(
            objective=objective,
            max_trials=max_trials,
            meta_optimizer=meta_optimizer,
            meta_iterations=meta_iterations,
            outer_oracle=outer_oracle,
            patience=patience,
            return_after=return_after,
            clients=clients,
            timeout=timeout,
            keep_checkpoints=keep_checkpoints,
            seed=seed,
            hyperparameters=hyperparameters,
            tune_new_entries=tune_new_entries,
            allow_new_entries=allow_new_entries,
            max_retries_per_trial=max_retries_per_trial,
        )
        self.settings = oracle.settings() | {
            "path": repr(self.path),
            "horizon": self.horizon,
            "resample": resample,
            "shard": shard,
        }
        super().__init__(oracle, hypermodel, **kwargs)

    # -- the search --------------------------------------------------------------------------

    def search(
        self,
        x,
        y=None,
        sample_weight=None,
        *,
        validation_data=None,
        selection_data=None,
        batch_size=None,
        epochs=1,
        shuffle=True,
        callbacks=(),
        verbose="auto",
        **fit_arguments,
    ):
        """Searches; or goes on with a search of this project that was broken off.

        Args:
            x, y, sample_weight: The training data, as in `fit`. What comes in batches must have an
                end; `tf.data` is kept in memory, one training's batches of it.
            validation_data: The *hyper* set: the hyperparameters are moved along the derivatives of
                its loss. Not a part of the training data.
            selection_data: Another set that trials are compared by. The hyperparameters are fitted
                to the hyper set, so its loss flatters them, the more the more there are.
                Defaults to the hyper set.
            batch_size: Of arrays. Defaults to 32.
            epochs: Of each training.
            shuffle: Whether arrays are shuffled, afresh each epoch.
            callbacks: Callbacks for each training; each gets copies of them.
            verbose: 0, 1 or 2, as in `fit`; also KerasTuner's display.
            **fit_arguments: `validation_freq`, `validation_batch_size`.

        Raises:
            ValueError: Something in the data, the model or the arguments, before anything is
                trained.
        """
        unknown = set(fit_arguments) - {"validation_freq", "validation_batch_size"}
        if unknown:
            raise ValueError(
                f"`search` does not take {sorted(unknown)}. Class weights can be given as "
                "`sample_weight`, validation splits and steps by what is passed as data."
            )
        positive_integer("epochs", epochs)
        positive_integer("batch_size", batch_size, optional=True)
        if epochs % positive_integer("validation_freq", fit_arguments.get("validation_freq", 1)):
            raise ValueError(
                "The last epoch must be validated: `validation_freq` must divide `epochs`. Received: "
                f"validation_freq={fit_arguments['validation_freq']}, epochs={epochs}"
            )
        callbacks = list(callbacks or ())
        _check_copyable(callbacks)
        train = x if y is None and sample_weight is None else (x, y, sample_weight)
        data = SearchData(
            train,
            validation_data,
            selection_data,
            batch_size,
            shuffle,
            self._own_oracle.clients if self.shard else 1,
        )
        self._search(
            self._settings_now(data, epochs),
            data,
            epochs=epochs,
            callbacks=callbacks,
            verbose=verbose,
            **fit_arguments,
        )

    def _settings_now(self, data, epochs):
        model = self._build_hypermodel(self._own_oracle.get_space())
        optimizer = learnable_optimizer(model)
        batches = data.training(seed=0)
        steps = epochs * batches.epoch_steps
        self._check_learnable(optimizer, steps)
        now = self.settings | {"epochs": epochs, "data": data.summary()}
        now["executions_per_trial"] = self.executions_per_trial
        now["optimizer"] = {k: v for k, v in optimizer.get_config().items() if k != "name"}
        optimizer.span_schedule(steps)
        try:
            build_with(model, batches.batch(0))
        except Exception as error:
            raise ValueError(f"The model and the training data do not fit: {error}") from error
        shapes = [str(tuple(variable.shape)) for variable in model.trainable_variables]
        now["model"] = {f"variable {i}": shape for i, shape in enumerate(shapes)}
        return now

    def _check_learnable(self, optimizer, steps):
        if not optimizer.learn and self.hyper_variables is None:
            raise ValueError("Nothing to learn: the optimizer was made with `learn=()`.")
        if INIT_SCALE in optimizer.learn and self.horizon is not None and self.horizon < steps:
            raise ValueError(
                f"`horizon` must reach back to the initial weights, {steps} steps: learning "
                f'"init_scale" needs that. Received: horizon={self.horizon}. Leave one of them out.'
            )

    # -- a trial -----------------------------------------------------------------------------

    def train_trial(self, trial, data, epochs, callbacks, verbose, **fit_arguments):
        place = trial.hyperparameters.values
        trainee = self._prepared(trial, data, epochs)
        saved = self._state(place)
        outcomes, best = [], None
        for execution in range(self.executions_per_trial):
            seed = self._derived_seed(place, execution)
            trainee.restart(seed, saved and saved["values"])
            outcome = trainee.train(
                data.training(seed, place[CLIENT]),
                data.hyper,
                epochs,
                self.horizon,
                callbacks=self._callbacks(callbacks, trial, execution),
                verbose=verbose,
                validation_data=data.selection,
                **{"validation_batch_size": VALIDATION_BATCH, **fit_arguments},
            )
            outcomes.append(outcome)
            files.write_json(
                self.project.build_config(trial.trial_id), trainee.model.get_build_config()
            )
            objective = self._objective(outcome.logs)
            if best is None or self.oracle.objective.better_than(objective, best):
                best = objective
                with files.replaced(self.project.checkpoint(trial.trial_id), ".weights.h5") as f:
                    trainee.model.save_weights(f)
        return self._report(trial, trainee, outcomes)

    def _configure_tensorboard_dir(self, callbacks, trial, execution=0):
        """KerasTuner's own; HParams also show a trial's place, and medians of what is learned."""
        shown = copy.copy(trial)
        shown.hyperparameters = trial.hyperparameters.copy()
        more = {name: trial.hyperparameters.values[name] for name in (RUN, ITERATION, CLIENT)}
        for name, value in (more | self._trainee.learned.medians()).items():
            shown.hyperparameters.values.pop(name, None)
            shown.hyperparameters.Fixed(name, value)
        super()._configure_tensorboard_dir(callbacks, shown, execution)

    def _state(self, place):
        """The values of a meta-iteration; None for the first, which has the compiled ones."""
        if place[ITERATION] == 0:
            return None
        path = self.project.state(place[RUN], place[ITERATION])
        for _ in range(STATE_TRIES):  # a shared folder may be late
            saved = files.read_arrays(path)
            if saved:
                return saved
            time.sleep(1)
        raise FileNotFoundError(f"{path} is not there: do all workers see the same `directory`?")

    def _prepared(self, trial, data, epochs):
        """The `Trainee` of a trial's configuration: of one at a time, so that memory does not grow."""
        hp = trial.hyperparameters
        configuration = {k: v for k, v in hp.values.items() if not k.startswith((PLACE, LEARNED))}
        if self._trainee is None or self._configuration != configuration:
            self._trainee = None
            batches = data.training(seed=0)
            self._trainee = Trainee(
                self._try_build(hp),
                lambda: self._build_hypermodel(hp),
                batches.batch(0),
                epochs * batches.epoch_steps,
                self.path,
                self.hyper_variables,
                self.jit_compile,
            )
            self._configuration = configuration
        return self._trainee

    def _derived_seed(self, place, execution):
        iteration = place[ITERATION] if self.resample else 0
        words = (place[SEED], place[RUN], iteration, place[CLIENT], execution)
        return int(np.random.SeedSequence(words).generate_state(1)[0])

    def _objective(self, logs):
        """The objective's value, the worst there is if it is not a number."""
        objective = self.oracle.objective
        if not objective.has_value(logs):
            raise keras_tuner.errors.FatalValueError(
                f"The objective {objective.name!r} is not among what a training gives: {list(logs)}"
            )
        value = objective.get_value(logs)
        worst = -np.inf if objective.direction == "max" else np.inf
        return worst if np.isnan(value) else float(value)

    def _report(self, trial, trainee, outcomes):
        """Writes the mean hypergradient for the oracle; returns the mean metrics."""
        good = [o for o in outcomes if o.finite and o.growth <= GROWTH_LIMIT] or outcomes
        learned = trainee.learned
        low, high = learned.bounds()
        files.write_arrays(
            self.project.hypergradient(trial.trial_id),
            values=learned.values,
            gradients={n: np.mean([o.gradients[n] for o in good], 0) for n in learned.values},
            low=low,
            high=high,
            training={"steps": trainee.steps},
        )
        trial.hyperparameters.values |= learned.condensed()
        metrics = {n: np.mean([o.logs[n] for o in outcomes]) for n in outcomes[0].logs}
        metrics["hyper_loss"] = np.mean([o.hyper_loss for o in outcomes])
        metrics[self.oracle.objective.name] = np.mean([self._objective(o.logs) for o in outcomes])
        metrics[GROWTH] = max(o.growth for o in good)
        metrics[FINITE] = all(o.finite for o in good)
        # KerasTuner cannot compare what is not a number.
        return {name: float(value) for name, value in metrics.items() if not np.isnan(value)}

    # -- results -----------------------------------------------------------------------------

    def load_model(self, trial):
        """The trained model of a trial, its optimizer with the trial's hyperparameters."""
        checkpoint = self.project.checkpoint(trial.trial_id)
        if not os.path.exists(checkpoint):
            raise ValueError(
                f"The weights of trial {trial.trial_id} were not kept. Raise `keep_checkpoints` "
                f"(now {self.project.keep_checkpoints}) before the search."
            )
        self._configuration, self._trainee = None, None  # clearing the session ends its programs
        model = self._try_build(trial.hyperparameters)
        if not model.built:
            model.build_from_config(files.read_json(self.project.build_config(trial.trial_id)))
        optimizer = learnable_optimizer(model)
        result = files.read_arrays(self.project.hypergradient(trial.trial_id))
        optimizer.span_schedule(int(result["training"]["steps"]))
        with model.distribute_strategy.scope():
            model.optimizer.build(model.trainable_variables)
        model.load_weights(checkpoint)
        Learned(model, optimizer, self.hyper_variables).values = result["values"]
        return model

    def get_best_optimizer(self, steps=None):
        """A fresh `DrMADSGD` with the best trial's hyperparameters, for another training.

        Args:
            steps: Training steps that a learned schedule is stretched to. Defaults to those of the
                search.
        """
        model = self.get_best_models()[0]
        optimizer = learnable_optimizer(model)
        if optimizer.schedule is not None and steps is not None:
            optimizer.schedule = optimizer.schedule.over(steps)
        return keras.saving.deserialize_keras_object(
            keras.saving.serialize_keras_object(model.optimizer)
        )


def _check_copyable(callbacks):
    """Raises a ValueError if not: each training gets copies."""
    for callback in callbacks:
        try:
            copy.deepcopy(callback)
        except Exception as error:
            raise ValueError(
                f"`callbacks` must be such that they can be copied, for each training anew. Received: "
                f"{callback!r} ({error}). Let it open files and locks in `on_train_begin`."
            ) from error
