"""`DrMADTuner`: a KerasTuner tuner whose trials give hypergradients."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import keras
import keras_tuner
from keras_tuner.engine.trial import Trial

from keras_drmad.arguments import choice, flag, positive_integer, suggesting, verbosity
from keras_drmad.data import VALIDATION_BATCH
from keras_drmad.engine.judge import JUDGES
from keras_drmad.optimizers.learnable import LearnableOptimizer, learnable_optimizer
from keras_drmad.paths import Path, SegmentMeans
from keras_drmad.typing import Arrays, JsonObject, Logs, Structure

from ..arguments import check_hypermodel, checked_callbacks
from ..budget import Unit
from ..data_checks import as_fit_data
from ..distributed.role import role
from ..distributed.tuner import ResilientTuner
from ..storage import files
from . import arguments, logs, trained_model
from .data import SearchData
from .executions import Executions
from .learned import Learned
from .oracle import DrMADOracle
from .place import ITERATION, LEARN, RUN, STAGE
from .preparation import Preparation
from .project import DrMADProject
from .result import TrialResult
from .score import metrics, noise
from .split import split
from .starts import check_ranges
from .trainings import Trainings


@suggesting
class DrMADTuner(ResilientTuner):
    """Offline hypergradient search: each trial trains from scratch, and walks back.

    A trial builds a model with `hypermodel`, whose optimizer is a `DrMADSGD` or `DrMADAdamW`, trains
    it with the hyperparameters of its meta-iteration, takes the validation loss's derivatives by all
    of them through `path`, and hands them to the `DrMADOracle`, which moves them:

        δ ← meta_optimizer(δ, ∂L_val(w_T)/∂δ)

    with δ the displacements from the compiled values, on the log scale (learning rates, L2, weight
    decays) or the logit scale (momenta, β₁). What the optimizer was compiled with is where the
    search begins.

    Args:
        hypermodel: A `keras_tuner.HyperModel`, or a function of `hp` that returns a model compiled
            with one. What it asks `hp` for is chosen by `outer_oracle`.
        objective: What trials are compared by. Defaults to `"val_loss"`. Its value at the end of
            training counts, on `selection_data` if `search` is given any.
        max_trials: The most trials. Defaults to 10; with a `budget`, to no limit.
        budget: What the trials together may cost, in trainings without hypergradients: a trial costs
            the part of a training that it has taken, times 1 + r, with r the measured time of its way
            back (or of its learning) over that of the training. `unit` says what else is counted:
            `"steps"`, `"seconds"` or `"trials"`. See `DrMADOracle`.
        path: A `keras_drmad.paths.Path`. Defaults to `SegmentMeans()`.
        meta_optimizer: A `keras.optimizers.Optimizer`. Defaults to `RMSprop(0.1, epsilon=1e-12)`;
            `keras_drmad.Sign(0.1)` moves as the DrMAD paper does.
        horizon: How many of the last training steps the hypergradient spans. Defaults to all.
        resample: Whether each meta-iteration has new initial weights and another order of batches.
            Without, the hyperparameters are fitted to one draw of both. Defaults to `True`.
        hyper_variables: A function of the built model that returns a list of further
            `keras.Variable`s, read by its training loss, to be learned.
        judge, jit_compile, check: As in `keras_drmad.hypergradient`; a mean is over the `horizon`.
            Default to `"last"`, `"auto"` and `True`.
        shard: Whether training m of the M of a meta-iteration uses samples m, m + M, … only (arrays
            only); otherwise they differ in their seed. Defaults to `False`.
        averages: Whether a trial's weights are the mean over its last segment of `SegmentMeans` where
            that is better than the last ones. Its metric `averaged` says so. Defaults to `False`.
        online: Whether the first trials learn while they train, as with `LearnHyperparameters`, and
            leave a learned schedule (of `Knots`, unless the optimizer has one), which the others
            refine. `"auto"`: where that can be, in trainings of 100 steps and more. Defaults to
            `"auto"`.
        starts: `{kind: (low, high)}`, between which `scouts` are drawn; of `"learning_rate"`,
            `"momentum"`, `"l2"`, `"weight_decay"`. Defaults to ranges about the compiled values.
        scouts, prunes, retests, meta_iterations, outer_oracle, patience, return_after,
            gradients_per_step, timeout, keep_checkpoints, seed, hyperparameters, tune_new_entries,
            allow_new_entries, max_retries_per_trial, max_consecutive_failed_trials: As in
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

    oracle: DrMADOracle
    project: DrMADProject
    _executions: Executions  # of the last trial

    def __init__(
        self,
        hypermodel: keras_tuner.HyperModel | Callable[[keras_tuner.HyperParameters], keras.Model],
        objective: str | keras_tuner.Objective | list[str | keras_tuner.Objective] = "val_loss",
        max_trials: int | None = None,
        budget: float | None = None,
        unit: Unit = "trainings",
        path: Path | None = None,
        judge: str = "last",
        meta_optimizer: keras.optimizers.Optimizer | None = None,
        horizon: int | None = None,
        resample: bool = True,
        hyper_variables: Callable[[keras.Model], Iterable[keras.Variable]] | None = None,
        jit_compile: bool | str = "auto",
        check: bool = True,
        shard: bool = False,
        averages: bool = False,
        online: bool | str = "auto",
        scouts: int = 0,
        starts: Mapping[str, Sequence[float]] | None = None,
        prunes: bool = True,
        retests: bool | str = "auto",
        meta_iterations: int | None = None,
        outer_oracle: keras_tuner.Oracle | None = None,
        patience: int | None = None,
        return_after: int | None = 3,
        gradients_per_step: int = 1,
        timeout: float | None = None,
        keep_checkpoints: int = 1,
        seed: int | None = None,
        hyperparameters: keras_tuner.HyperParameters | None = None,
        tune_new_entries: bool = True,
        allow_new_entries: bool = True,
        max_retries_per_trial: int = 0,
        max_consecutive_failed_trials: int = 3,
        **kwargs: Any,
    ) -> None:
        check_hypermodel(hypermodel)
        arguments.check_options(
            path, jit_compile, hyper_variables, resample, shard, check, averages
        )
        self.path = SegmentMeans() if path is None else path
        self.horizon = positive_integer("horizon", horizon, optional=True)
        self.judge = choice("judge", judge, JUDGES)
        self.resample, self.shard, self.averages = resample, shard, averages
        self.jit_compile, self.hyper_variables = jit_compile, hyper_variables
        self.online, starts = flag("online", online, auto=True), check_ranges(starts)
        self._trainings = Trainings(
            self, self.path, hyper_variables, jit_compile, check, self.judge
        )
        oracle = DrMADOracle(
            objective=objective,
            max_trials=max_trials,
            budget=budget,
            unit=unit,
            meta_optimizer=meta_optimizer,
            meta_iterations=meta_iterations,
            outer_oracle=outer_oracle,
            patience=patience,
            return_after=return_after,
            gradients_per_step=gradients_per_step,
            online=online,
            scouts=scouts,
            prunes=prunes,
            retests=flag("retests", retests, auto=True) if resample else False,
            timeout=timeout,
            keep_checkpoints=keep_checkpoints,
            seed=seed,
            hyperparameters=hyperparameters,
            tune_new_entries=tune_new_entries,
            allow_new_entries=allow_new_entries,
            max_retries_per_trial=max_retries_per_trial,
            max_consecutive_failed_trials=max_consecutive_failed_trials,
        )
        self.settings = oracle.settings() | {
            "path": repr(self.path),
            "horizon": self.horizon,
            "judge": self.judge,
            "resample": resample,
            "averages": averages,
            "shard": gradients_per_step if shard else False,  # of how many parts each has one
            "starts": {kind: list(pair) for kind, pair in starts.items()},
        }
        self._preparation = Preparation(
            oracle, self._trainings, online, starts, hyper_variables, self.horizon
        )
        super().__init__(oracle, hypermodel, **kwargs)

    # -- the search --------------------------------------------------------------------------

    def search(
        self,
        x: Structure,
        y: Structure = None,
        sample_weight: Structure = None,
        *,
        validation_data: Structure = None,
        selection_data: Structure = None,
        validation_split: float | Sequence[float] | None = None,
        folds: int | None = None,
        batch_size: int | None = None,
        validation_batch_size: int | None = None,
        epochs: int = 1,
        shuffle: bool = True,
        callbacks: Sequence[keras.callbacks.Callback] | None = (),
        verbose: int | str = "auto",
        **fit_arguments: Any,
    ) -> None:
        """Searches; or goes on with a search of this project that was broken off.

        The global generators of Python, NumPy and Keras are seeded for each training; TensorFlow's is
        not. What a model draws by `tf.random` goes on from training to training.

        Args:
            x, y, sample_weight: The training data, as in `fit`. What comes in batches must have an
                end. `tf.data` is read anew for each training (with `resample=False` once, for all),
                and kept in memory, one training's batches of it.
            validation_data: The *hyper* set: the hyperparameters are moved along the derivatives of
                its loss. Not a part of the training data.
            selection_data: Another set that trials are compared by. The hyperparameters are fitted
                to the hyper set, so its loss flatters them. Defaults to the hyper set.
            validation_split: The share of the last samples of arrays that is the hyper set, as in
                `fit`; or two shares, `(0.2, 0.1)`: then comes the selection set. Shuffle data that
                are sorted before.
            folds: K: instead of a hyper set, each execution trains once for each of K folds of the
                arrays, on all others, and is differentiated on that one; hypergradients and metrics are
                averaged. All take as many steps: fold k holds samples k, k + K, …, what is left over is
                always trained on. A trial costs K trainings, and keeps the weights of its best.
            batch_size: Of arrays. Defaults to what the hypermodel asks `hp` for under this name
                (`hp.Int("batch_size", 16, 128, step=16)`), else to 32.
            validation_batch_size: Of the arrays of the hyper and the selection set. Defaults to 256.
            epochs: Of each training.
            shuffle: Whether arrays are shuffled, afresh each epoch.
            callbacks: Callbacks for each training; each gets copies of them.
            verbose: 0, 1 or 2, as in `fit`; also KerasTuner's display.
            **fit_arguments: `validation_freq`.

        Raises:
            ValueError: Something in data, model or arguments, before anything is trained.
            RuntimeError: Every trial has failed, or several in a row, or the oracle has.
        """
        arguments.check_search(epochs, batch_size, validation_batch_size, shuffle, fit_arguments)
        verbose = verbosity("verbose", verbose)
        callbacks = checked_callbacks(callbacks)
        arguments.check_copyable(callbacks)
        train = as_fit_data(x, y, sample_weight)
        if validation_split is not None:
            train, validation_data, selection_data = split(
                train, validation_split, validation_data, selection_data
            )
        data = SearchData(
            train,
            validation_data,
            selection_data,
            batch_size,
            shuffle,
            self.oracle.gradients_per_step if self.shard else 1,
            self.resample,
            validation_batch_size,
            folds,
        )
        self._search(
            self._settings_now(data, epochs),
            data,
            epochs=epochs,
            callbacks=callbacks,
            verbose=verbose,
            validation_batch_size=validation_batch_size or VALIDATION_BATCH,
            **fit_arguments,
        )

    def _settings_now(self, data: SearchData, epochs: int) -> JsonObject:
        now = self.settings | {"epochs": epochs, "data": data.summary()}
        now["executions_per_trial"] = self.executions_per_trial
        return now | self._preparation.settings(data, epochs)

    def prepare(
        self,
        data: SearchData,
        epochs: int,
        callbacks: Sequence[keras.callbacks.Callback],
        verbose: int | str,
        validation_batch_size: int,
        **_: Any,
    ) -> None:
        if role() == "chief" or self._is_over():  # nothing is trained here
            return
        self._preparation.rehearse(
            data, epochs, callbacks, verbose, validation_batch_size, self.project
        )

    # -- a trial -----------------------------------------------------------------------------

    def train_trial(
        self,
        trial: Trial,
        data: SearchData,
        epochs: int,
        callbacks: Sequence[keras.callbacks.Callback],
        verbose: int | str,
        **fit_arguments: Any,
    ) -> Logs:
        try:
            data = data.of(trial.hyperparameters.values)
            training = self._trainings.of(trial.hyperparameters, data, epochs, verbose)
            arguments.check_learnable(
                training.optimizer, self.hyper_variables, self.horizon, training.steps
            )
        except (ValueError, keras_tuner.errors.FailedTrialError) as error:
            files.write_json(self.project.refusal(trial.trial_id), str(error))
            raise keras_tuner.errors.FailedTrialError(str(error)) from error
        self._executions = Executions(
            trial,
            training,
            self._values(trial.hyperparameters.values),
            self.oracle,
            self.project,
            self.executions_per_trial * data.folds,
            self.resample,
            self.horizon,
            self.averages,
            on_step=lambda steps: self._interrupt.check(),
        )
        outcomes = self._executions.train(
            data,
            epochs,
            lambda execution: self._callbacks(callbacks, trial, execution),
            verbose=verbose,
            **fit_arguments,
        )
        training.result(outcomes).write(self.project.result(trial.trial_id))
        found = metrics(self.oracle.objective, outcomes)
        logs.write(self.project, trial, callbacks, training.learned, found)
        return found

    def tell_again(self) -> None:
        self._executions.tell_again()

    def shown(self, trial: Trial) -> Trial:
        training = self._trainings.current
        return trial if training is None else logs.as_hparams(trial, training)

    def _values(self, place: JsonObject) -> Arrays | None:
        """The values of a meta-iteration; None for the compiled ones, with which the first begin."""
        if place[ITERATION] == 0 or place[STAGE] == LEARN:
            return None
        return files.read_late_arrays(self.project.state(place[RUN], place[ITERATION]))["values"]

    # -- results -----------------------------------------------------------------------------

    def score_noise(self) -> float:
        return noise(self.oracle.get_best_trials(len(self.oracle.trials)), self.resample)

    def load_model(self, trial: Trial) -> keras.Model:
        """The trained model of a trial, its optimizer with the trial's hyperparameters."""
        checkpoint = self.project.checkpoint(trial.trial_id)
        if not os.path.exists(checkpoint):
            raise ValueError(self.project.without_weights(trial.trial_id))
        return self._model(trial, checkpoint)

    def _model(self, trial: Trial, checkpoint: str | None) -> keras.Model:
        """With a trial's hyperparameters, and the weights of a checkpoint if there is one."""
        self._trainings.forget()  # clearing the session ends its programs
        result = TrialResult.read(self.project.result(trial.trial_id))
        self._trainings.online = self.oracle.is_learning
        model = self._trainings.build_first(trial.hyperparameters, result.steps)
        trained_model.load(model, checkpoint, files.read_json(self.project.inputs), result.steps)
        learned = Learned(model, learnable_optimizer(model), self.hyper_variables)
        learned.values = result.values
        return model

    def get_best_optimizer(self, steps: int | None = None) -> LearnableOptimizer:
        """A fresh optimizer with the best trial's hyperparameters, for another training.

        Where the best were trained again, those that are best in the (shrunken) mean over their trials.

        Args:
            steps: Training steps to stretch a learned schedule to. Defaults to those of the search.
        """
        steps = positive_integer("steps", steps, optional=True)
        if not (best := self.oracle.get_best_trials(1)):
            raise ValueError("No trial has ended with a score: call `search` first.")
        favourite = self.oracle.favourite()
        trial = best[0] if favourite is None else self.oracle.trials[favourite]
        optimizer = learnable_optimizer(model := self._model(trial, checkpoint=None))
        if steps is not None:
            optimizer.stretch_schedule(steps)
        return keras.saving.deserialize_keras_object(
            keras.saving.serialize_keras_object(model.optimizer)
        )
