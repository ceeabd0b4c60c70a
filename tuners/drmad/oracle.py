"""`DrMADOracle`: hands out the trainings of meta-iterations, and takes the meta-steps between them."""

import copy
import logging
import time
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import keras
import keras_tuner
from keras_tuner.engine.hyperparameters import Fixed
from keras_tuner.engine.trial import Trial, TrialStatus

from keras_drmad.arguments import flag, of_kind, positive_integer, suggesting, whole_number
from keras_drmad.hyperparameters import meta
from keras_drmad.typing import JsonObject, Logs

from ..budget import Unit
from ..distributed.guard import entry
from ..distributed.role import role
from ..storage import files
from ..storage.damage import DamagedFile
from .arguments import as_budget, warn_of_rest
from .budgeted_oracle import BudgetedOracle
from .configurations import Configurations, default_oracle
from .display import DrMADDisplay
from .halving import Halving
from .meta_run import MetaOptimization, MetaRun
from .online import LEARNERS
from .place import LEARNED, RETEST, SCOUT, place
from .project import DrMADProject
from .pruning import CURVE, hear
from .result import TrialResult
from .retests import Retests
from .stages import Stages

_log = logging.getLogger("keras_drmad")

MAX_TRIALS, ITERATIONS_OF_A_CONFIGURATION = 10, 10

# Arguments that say only what comes next.
STEERING = (
    "meta_iterations",
    "patience",
    "return_after",
    "gradients_per_step",
    "prunes",
    "retests",
)


@suggesting
class DrMADOracle(BudgetedOracle):
    """Gradient descent on hyperparameters: one trial is one training, and its hypergradient.

    A *meta-iteration* trains `gradients_per_step` times with the same hyperparameters (one trial
    each, on as many workers as ask) and moves the hyperparameters by the mean of their
    hypergradients:

        δ ← meta_optimizer(δ, 1/M · Σ_m ∂L_val,m/∂δ)

    Discrete hyperparameters that the hypermodel asks for are chosen by `outer_oracle`; each of its
    configurations has a *meta-run* of its own. Each trial brings one file, in the project's folder,
    which all workers must see, as KerasTuner's checkpoints do.

    Args:
        objective: What trials are compared by, as in `keras_tuner.Oracle`; its value at the end of
            training counts. Defaults to `"val_loss"`.
        max_trials: The most trials. Defaults to 10; with a `budget`, to no limit.
        budget: What all trials together may cost. The first one runs in any case, and then those of
            which the expected cost fits in what is left: the mean of those of the same stage. May be
            another one when the search goes on.
        unit: Of `budget`. `"trainings"`: the share of a training's steps that were taken, times 1 + r,
            with r the time of the way back (or of learning) over that of the training, both measured in
            the trial. `"steps"`: that, times the steps of a training. `"seconds"`: of everything in a
            trial, summed over workers. `"trials"`. Defaults to `"trainings"`.
        meta_optimizer: A `keras.optimizers.Optimizer`. Defaults to `RMSprop(0.1, epsilon=1e-12)`.
        meta_iterations: The most meta-iterations of one configuration. Defaults to as many as
            `max_trials` or `budget` allow, or 10 where there are discrete hyperparameters.
        outer_oracle: A `keras_tuner.Oracle` for discrete hyperparameters. Defaults to random search.
        patience: Ends a meta-run after so many meta-iterations without a better objective (the mean
            over its trainings). Defaults to never.
        return_after: After so many meta-iterations in a row without a better objective, the run
            goes back to the values of its best one, with half the meta-optimizer's step (unless
            that has a schedule). None for never. Defaults to 3.
        gradients_per_step: M, trainings whose hypergradients make one meta-step. Defaults to 1.
        online: Whether the first two meta-iterations of a run learn while they train, and the mean of
            the schedules that they have found is what the next one begins with. Defaults to
            `"auto"`: what the tuner says (`learns`).
        scouts: How many starts are tried, each in one training, before the best of them go on. 0 for
            none: the start is the compiled one. Defaults to 0.
        prunes: Whether a training that tries a start ends after the epoch in which it falls behind the
            median of the others. Defaults to `True`.
        retests: Whether after each meta-step there is one more training, without a hypergradient, with
            the best hyperparameters so far by their shrunken mean. `"auto"`: with a `budget` that is
            not in trials, where it costs less than a meta-step. Defaults to `"auto"`.
        timeout: After so many seconds of silence a worker's trial is given to the next idle worker
            too; the first result counts. A worker that trains is not silent. Defaults to 60.
        keep_checkpoints: Of how many best trials weights and hyperparameters stay on disk.
        seed: Of everything random; the same seed gives the same search. Defaults to a draw.
        **kwargs: `hyperparameters`, `tune_new_entries`, `allow_new_entries`, `max_retries_per_trial`
            and `max_consecutive_failed_trials` (here 3; of a run also meta-iterations that failed) of
            `keras_tuner.Oracle`.

    A meta-iteration in which no training gave a usable hypergradient (not finite, or grown over
    100-fold on the way back; the second does not count for `Sign`, which ignores size) *backs off*:
    half the way to the last values that did or, if there are none, to a quarter of the learning
    rates. Its trials are complete: their score is the worst one there is if training was not finite.
    """

    project: DrMADProject
    display_class = DrMADDisplay
    changeable = (*STEERING, "meta_optimizer.learning_rate", "outer_oracle_settings")

    def __init__(
        self,
        objective: str | keras_tuner.Objective | list[str | keras_tuner.Objective] = "val_loss",
        max_trials: int | None = None,
        budget: float | None = None,
        unit: Unit = "trainings",
        meta_optimizer: keras.optimizers.Optimizer | None = None,
        meta_iterations: int | None = None,
        outer_oracle: keras_tuner.Oracle | None = None,
        patience: int | None = None,
        return_after: int | None = 3,
        gradients_per_step: int = 1,
        online: bool | str = "auto",
        scouts: int = 0,
        prunes: bool = True,
        retests: bool | str = "auto",
        timeout: float | None = None,
        keep_checkpoints: int = 1,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        limit = positive_integer("max_trials", max_trials, optional=True)
        self.scouts = whole_number("scouts", scouts)
        whole = as_budget(budget, unit, limit, self.scouts)
        if limit is None and whole is None:
            limit = MAX_TRIALS
        super().__init__(objective, limit, whole, timeout, seed, **kwargs)
        if meta_optimizer is None:
            meta_optimizer = keras.optimizers.RMSprop(0.1, epsilon=meta.EPSILON)
        meta.check(meta_optimizer)
        self.meta_optimizer = meta_optimizer
        self.gradients_per_step = positive_integer("gradients_per_step", gradients_per_step)
        self.project = DrMADProject(positive_integer("keep_checkpoints", keep_checkpoints))
        self.meta_iterations = positive_integer("meta_iterations", meta_iterations, optional=True)
        self.patience = positive_integer("patience", patience, optional=True)
        self.return_after = positive_integer("return_after", return_after, optional=True)
        self.online = flag("online", online, auto=True)
        self.prunes, self.retests = flag("prunes", prunes), flag("retests", retests, auto=True)
        warn_of_rest(limit, self.gradients_per_step)
        if outer_oracle is not None:
            of_kind("outer_oracle", outer_oracle, keras_tuner.Oracle, "a `keras_tuner.Oracle`")
        self.outer = Configurations(outer_oracle or default_oracle(self.seed, self.scouts > 0))
        self.learns(self.online is True)
        self.runs: list[MetaRun] = []
        self.exhausted = False  # the outer oracle has no other configuration

    def learns(self, online: bool) -> None:
        """Says whether trials learn while they train, before there is one."""
        self.is_learning = online
        self._stages = Stages(int(self.scouts > 0), LEARNERS if online else 0)
        self._halving = Halving(self.scouts, self._stages, self.objective)
        retests = self.counts_costs if self.retests == "auto" else bool(self.retests)
        self._retests = Retests(self._stages, self.objective, retests)
        self._meta_optimization = MetaOptimization(
            self.project,
            self.objective,
            self.meta_optimizer,
            self.patience,
            self.return_after,
            self.failures_allowed,
            self._stages,
        )

    # -- handing out -------------------------------------------------------------------------

    def populate_space(self, trial_id: str) -> JsonObject:
        for run in self.runs:
            is_full = len(run.trial_ids) >= self._width(run)  # it may have been wider
            if not run.ended and is_full and set(run.trial_ids) <= set(self.end_order):
                try:
                    self._advance(run)
                except OSError as error:
                    _log.error("A meta-step waits until files can be written again: %s", error)
                    time.sleep(1)
                    return {"status": TrialStatus.IDLE}
        self.lacks = None
        for run in self._halving.losers(self.runs):
            run.ended = True
        for run in self.runs:
            if run.ended or self._halving.waits(run, self.runs):
                continue
            if self._retests.is_due(run) and self.affords(RETEST):
                return self._retest(run)
            if len(run.trial_ids) < self._width(run):
                if self.affords(self._stages.of(run.iteration)):
                    return self._training(run, trial_id)
                if self._retests.is_possible(run) and self.affords(RETEST):
                    return self._retest(run)
                return self.no_trial()
        if self._may_begin_another() and self.affords(self._stages.of(0)):
            new = self._new_run()
            if new is not None:
                return self._training(new, trial_id)
        return self.no_trial()

    def _may_begin_another(self) -> bool:
        if self.scouts:
            return self._halving.wants_another(self.runs)
        return all(run.ended or self.has_choices() for run in self.runs)

    def _width(self, run: MetaRun) -> int:
        """How many trials a meta-iteration of a run has."""
        return 1 if self._stages.of(run.iteration) == SCOUT else self.gradients_per_step

    def _training(self, run: MetaRun, trial_id: str) -> JsonObject:
        """The next training of a meta-iteration."""
        run.trial_ids.append(trial_id)
        number, stage = len(run.trial_ids) - 1, self._stages.of(run.iteration)
        return self._trial(run, run.iteration, number, stage)

    def _retest(self, run: MetaRun) -> JsonObject:
        """One more training with the best values of a run so far."""
        best = self._retests.candidates(run, self.trials.values())
        run.retests += 1
        number = self.gradients_per_step + run.retests - 1
        iteration = best[0].iteration if best else run.iteration - 1
        return self._trial(run, iteration, number, RETEST)

    def _trial(self, run: MetaRun, iteration: int, number: int, stage: str) -> JsonObject:
        # With this seed, for workers have drawn others if none was given.
        values = run.values | place(run.number, iteration, number, self.seed, stage)
        return {"status": TrialStatus.RUNNING, "values": values}

    def has_choices(self) -> bool:
        """Whether the hypermodel asks for anything that an outer oracle could choose."""
        return any(not isinstance(hp, Fixed) for hp in self.hyperparameters.space)

    def _new_run(self) -> MetaRun | None:
        number = len(self.runs)
        if not self.has_choices():
            if number or self.exhausted:
                return None
            self.runs.append(MetaRun(number, {}))
            return self.runs[-1]
        if self.exhausted:
            return None
        if self.scouts and not number:  # what was compiled is a start like the others
            self.runs.append(MetaRun(number, self.get_space().values))
            return self.runs[-1]
        proposed = self.outer.propose(self.hyperparameters, self.objective, number)
        if proposed.status != TrialStatus.RUNNING:
            self.exhausted = proposed.status == TrialStatus.STOPPED
            return None
        values = proposed.hyperparameters.values
        self.runs.append(MetaRun(number, values, proposed.trial_id))
        return self.runs[-1]

    # -- between meta-iterations -------------------------------------------------------------

    def _advance(self, run: MetaRun) -> None:
        """Ends a meta-iteration of a run."""
        most = self.meta_iterations
        if most is None and self.has_choices() and not self.scouts:
            most = ITERATIONS_OF_A_CONFIGURATION
        self._meta_optimization.advance(run, [self.trials[name] for name in run.trial_ids], most)
        if run.proposal is not None and (run.ended or self.scouts):
            self.outer.report(run.proposal, run.best)
            run.proposal = None

    def favourite(self) -> str | None:
        """The trial whose hyperparameters are the best in the mean, where there were retests."""
        return self._retests.favourite(self.runs, self.trials.values())

    # -- coming back -------------------------------------------------------------------------

    @entry
    def update_trial(self, trial_id: str, metrics: Logs, step: int = 0) -> Trial:
        if CURVE not in metrics or trial_id not in self.trials or trial_id in self.end_order:
            return super().update_trial(trial_id, metrics, step)
        self._check_holder(trial_id)
        trial = self.trials[trial_id]
        all_trials, direction = self.trials.values(), self.objective.direction
        ends = hear(trial, metrics[CURVE], step, all_trials, direction, self.prunes)
        self._save_trial(trial)
        answer = copy.copy(trial)
        answer.status = TrialStatus.STOPPED if ends else trial.status
        return answer

    def knows(self, trial: Trial) -> bool:
        return trial.metrics.exists(self.objective.name)

    def judge(self, trial: Trial, known: Trial) -> None:
        if trial.status != TrialStatus.COMPLETED:
            # KerasTuner sends no message from workers.
            trial.message = self.project.why_refused(trial.trial_id) or trial.message
            return
        try:
            result = TrialResult.read(self.project.result(trial.trial_id))
        except (OSError, DamagedFile) as error:
            trial.status = TrialStatus.FAILED
            trial.message = (
                f"The trial has brought no result: {error} A tuner with a `run_trial` of its own "
                "must call `DrMADTuner.run_trial` in it."
            )
            return
        words = {f"{LEARNED}{kind}": value for kind, value in result.in_words().items()}
        trial.hyperparameters.values |= words
        if not result.is_usable(self.meta_optimizer):
            trial.message = (
                f"Diverged: {result.divergence()}. The meta-iteration goes on without it, or backs "
                "off."
            )

    def settle(self, trial_id: str) -> None:
        if trial_id in self.end_order:
            self._rank(self.trials[trial_id])
            self._tidy([*self.project.ranked, trial_id])

    def drop(self, trial_id: str) -> None:
        self._tidy([trial_id])

    def tidy(self) -> None:
        super().tidy()
        self.save()
        self._tidy(self.end_order)

    def _tidy(self, trial_ids: Iterable[str]) -> None:
        if not self.is_saved:
            return  # what is on disk is older, and may need more
        needed = {trial_id for run in self.runs for trial_id in run.trial_ids}
        for run in self.runs:
            # Each may be the best again, once others are retested.
            candidates = self._retests.candidates(run, self.trials.values())
            needed |= {trial_id for of in candidates for trial_id in of.trial_ids}
            # That of this meta-iteration is in use, and so is the one before where oracle.json is older.
            old = set(range(run.iteration + 1 if run.ended else run.iteration - 1))
            stay = set() if run.ended else {of.iteration for of in candidates}
            for iteration in old - stay:
                files.remove(self.project.state(run.number, iteration))
        self.project.tidy(trial_ids, needed)

    def _rank(self, trial: Trial) -> None:
        if trial.status == TrialStatus.COMPLETED:
            names = [*self.project.ranked, trial.trial_id]
            names.sort(key=self.start_order.index)  # of equal ones the first, as KerasTuner has it
            is_max = self.objective.direction == "max"
            names.sort(key=lambda name: self.trials[name].score, reverse=is_max)
            self.project.ranked = names

    def settings(self) -> JsonObject:
        """What must be the same when a search goes on, but what is `changeable`."""
        return {
            "objective": str(self.objective),
            "meta_optimizer": meta.settings(self.meta_optimizer),
            "outer_oracle": type(self.outer.oracle).__name__,
            "outer_oracle_settings": self.outer.settings(),
            "online": self.online,
            "scouts": self.scouts,
            "seed": self._given_seed,
        } | {name: getattr(self, name) for name in STEERING}

    # -- files -------------------------------------------------------------------------------

    def _set_project_dir(self, directory: str, project_name: str) -> None:
        super()._set_project_dir(directory, project_name)
        self.outer.set_folder(self.project.folder, "configurations")

    def get_state(self) -> JsonObject:
        outer = self.outer.get_state() if self.runs and self.has_choices() else None
        return super().get_state() | {
            "runs": [asdict(run) for run in self.runs],
            "exhausted": self.exhausted,
            "is_learning": self.is_learning,
            "outer": outer,
        }

    def set_state(self, state: JsonObject) -> None:
        super().set_state(state)
        self.runs = [MetaRun(**run) for run in state["runs"]]
        self.exhausted = state["exhausted"]
        self.learns(state["is_learning"])
        if state["outer"]:
            self.outer.set_state(state["outer"])

    def reload(self) -> None:  # type: ignore[override]  # as KerasTuner's own oracle
        super().reload()
        for run in self.runs:
            if role() != "worker":  # whose chief is writing them
                self._meta_optimization.mend(run, self.trials.values())
            if run.failures:
                run.failures, run.ended = 0, False
        self.project.ranked = []
        for name in self.end_order:
            self._rank(self.trials[name])
