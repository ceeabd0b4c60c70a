"""`DrMADOracle`: hands out the trainings of meta-iterations, and takes the meta-steps between them."""

import logging
import time
from dataclasses import asdict, dataclass, field

import keras
import keras_tuner
import numpy as np
from keras_tuner.engine.hyperparameters import Fixed
from keras_tuner.engine.trial import TrialStatus

from keras_drmad.arguments import positive_integer
from keras_drmad.engine.engine import GROWTH_LIMIT
from keras_drmad.hyperparameters import meta

from ..distributed.oracle import ResilientOracle
from ..storage import files
from .configurations import Configurations
from .meta_step import MetaState, back_to_best, step
from .project import Project

_log = logging.getLogger("keras_drmad")

# Values by which a trial is told its place; KerasTuner's Hyperband does the same.
PLACE = "drmad/"
RUN, ITERATION, CLIENT = PLACE + "run", PLACE + "iteration", PLACE + "client"
SEED = PLACE + "seed"

# Metrics in which a worker reports how its reverse pass went.
GROWTH, FINITE = "hypergradient_growth", "hypergradient_finite"

ITERATIONS_OF_A_CONFIGURATION = 10


@dataclass
class MetaRun:
    """The meta-iterations of one configuration."""

    number: int
    values: dict  # the configuration
    proposal: str | None = None  # its trial in the outer oracle
    iteration: int = 0
    shares: list = field(default_factory=list)  # trials of this meta-iteration, one a client
    best: float | None = None
    stale: int = 0  # meta-iterations since the best
    failures: int = 0  # meta-iterations in a row of which no training came back
    ended: bool = False


class DrMADOracle(ResilientOracle):
    """Gradient descent on hyperparameters: one trial is one training, and its hypergradient.

    A *meta-iteration* trains `clients` times with the same hyperparameters (one trial each, on as many
    workers as ask) and moves the hyperparameters by the mean of their hypergradients:

        δ ← meta_optimizer(δ, 1/M · Σ_m ∂L_val,m/∂δ)

    Discrete hyperparameters that the hypermodel asks for are chosen by `outer_oracle`; each of its
    configurations has a *meta-run* of its own. The hypergradients travel in files of the project's
    folder, which all workers must see, as KerasTuner's checkpoints do.

    Args:
        objective: What trials are compared by, as in `keras_tuner.Oracle`; its value at the end of
            training counts. Defaults to `"val_loss"`.
        max_trials: Trainings in all. Defaults to 10.
        meta_optimizer: A `keras.optimizers.Optimizer`. Defaults to `RMSprop(0.1, epsilon=1e-12)`.
        meta_iterations: The most meta-iterations of one configuration. Defaults to as many as
            `max_trials` allows, or 10 where there are discrete hyperparameters.
        outer_oracle: A `keras_tuner.Oracle` for discrete hyperparameters. Defaults to random search.
        patience: Ends a meta-run after so many meta-iterations without a better objective (the mean
            over clients). Defaults to never.
        return_after: After so many meta-iterations in a row without a better objective, the run
            goes back to the values of its best one, with half the meta-optimizer's step (unless
            that has a schedule). None for never. Defaults to 3.
        clients: M. Defaults to 1.
        timeout: After so many seconds a share that was handed out is given to the next idle worker
            too; the first result counts. Defaults to four times the slowest share so far, at least
            60 (900 before the first has ended).
        keep_checkpoints: Of how many best trials weights and hyperparameters stay on disk.
        seed: Of everything random; the same seed gives the same search. Defaults to a draw.
        **kwargs: `hyperparameters`, `tune_new_entries`, `allow_new_entries`, and
            `max_retries_per_trial` of `keras_tuner.Oracle`.

    A meta-iteration in which no training gave a usable hypergradient (not finite, or grown over
    100-fold on the way back; the second does not count for `Sign`, which ignores size) *backs off*:
    half the way to the last values that did or, if there are none, to a quarter of the learning
    rates. Its trials are complete: their score is the worst one there is if training was not finite.
    """

    def __init__(
        self,
        objective="val_loss",
        max_trials=10,
        meta_optimizer=None,
        meta_iterations=None,
        outer_oracle=None,
        patience=None,
        return_after=3,
        clients=1,
        timeout=None,
        keep_checkpoints=1,
        seed=None,
        **kwargs,
    ):
        super().__init__(objective, max_trials, timeout, seed, **kwargs)
        self.meta_optimizer = meta_optimizer or keras.optimizers.RMSprop(0.1, epsilon=meta.EPSILON)
        meta.check(self.meta_optimizer)
        self.clients = positive_integer("clients", clients)
        self.project = Project(positive_integer("keep_checkpoints", keep_checkpoints))
        self.max_trials = positive_integer("max_trials", max_trials)
        self.meta_iterations = positive_integer("meta_iterations", meta_iterations, optional=True)
        self.patience = positive_integer("patience", patience, optional=True)
        self.return_after = positive_integer("return_after", return_after, optional=True)
        if self.max_trials % self.clients:
            _log.warning(
                "`max_trials=%d` is not a multiple of `clients=%d`: the last meta-iteration will be "
                "incomplete.",
                max_trials,
                clients,
            )
        if outer_oracle is not None and not isinstance(outer_oracle, keras_tuner.Oracle):
            raise ValueError(
                f"`outer_oracle` must be a `keras_tuner.Oracle`. Received: {outer_oracle!r}"
            )
        self.outer = Configurations(outer_oracle or _random_search(self.seed))
        self.runs = []
        self.exhausted = False  # the outer oracle has no other configuration

    # -- handing out -------------------------------------------------------------------------

    def populate_space(self, trial_id):
        for run in self.runs:
            if run.ended:
                continue
            if len(run.shares) == self.clients and set(run.shares) <= set(self.end_order):
                try:
                    self._advance(run)
                except OSError as error:
                    _log.error("A meta-step waits until files can be written again: %s", error)
                    time.sleep(1)
                    return {"status": TrialStatus.IDLE}
            if not run.ended and len(run.shares) < self.clients:
                return self._share(run, trial_id)
        if all(run.ended or self._has_choices() for run in self.runs):
            run = self._new_run()
            if run is not None:
                return self._share(run, trial_id)
        # In a single meta-run others' shares must come back before there is a next one.
        return {"status": TrialStatus.IDLE if self.ongoing_trials else TrialStatus.STOPPED}

    def _share(self, run, trial_id):
        place = {RUN: run.number, ITERATION: run.iteration, CLIENT: len(run.shares)}
        place[SEED] = self.seed  # workers have drawn others, if none was given
        run.shares.append(trial_id)
        return {"status": TrialStatus.RUNNING, "values": {**run.values, **place}}

    def _has_choices(self):
        """Whether the hypermodel asks for anything that an outer oracle could choose."""
        return any(not isinstance(hp, Fixed) for hp in self.hyperparameters.space)

    def _new_run(self):
        number = len(self.runs)
        if not self._has_choices():
            if number or self.exhausted:
                return None
            self.runs.append(MetaRun(number, {}))
            return self.runs[-1]
        if self.exhausted:
            return None
        proposed = self.outer.propose(self.hyperparameters, self.objective, number)
        if proposed.status != TrialStatus.RUNNING:
            self.exhausted = proposed.status == TrialStatus.STOPPED
            return None
        values = proposed.hyperparameters.values
        self.runs.append(MetaRun(number, values, proposed.trial_id))
        return self.runs[-1]

    # -- between meta-iterations -------------------------------------------------------------

    def _advance(self, run):
        """Ends a meta-iteration of a run: takes the meta-step, or ends the run.

        A function of what is on disk: killed here, it is done again. So it is if a file cannot be
        read or written, which is why the run changes after that.
        """
        shares = [self.trials[name] for name in run.shares]
        completed = [t for t in shares if t.status == TrialStatus.COMPLETED]
        best, stale = run.best, run.stale
        if completed:
            score = float(np.mean([t.score for t in completed]))
            is_better = best is None or self.objective.better_than(score, best)
            best, stale = (score, 0) if is_better else (best, stale + 1)
        failures = 0 if completed else run.failures + 1
        limit = self.meta_iterations
        if limit is None and self._has_choices():
            limit = ITERATIONS_OF_A_CONFIGURATION
        ended = (
            failures >= self.failures_allowed
            or (limit is not None and run.iteration + 1 >= limit)
            or (self.patience is not None and stale >= self.patience)
        )
        goes_on = bool(completed) and not ended
        if goes_on:
            self._meta_step(run, completed, stale)
        elif ended and run.proposal is not None:
            self.outer.report(run.proposal, best)
        run.best, run.stale, run.failures, run.ended = best, stale, failures, ended
        run.iteration += goes_on
        run.shares = []

    def _meta_step(self, run, completed, stale):
        arrays = [files.read_arrays(self.project.hypergradient(t.trial_id)) for t in completed]
        if None in arrays:
            raise FileNotFoundError("the hypergradient of a completed trial is not there (yet)")
        saved = files.read_arrays(self.project.state(run.number, run.iteration))
        state = MetaState(**saved) if saved else MetaState(arrays[0]["values"])
        bounds = {name: (arrays[0]["low"][name], arrays[0]["high"][name]) for name in state.values}
        usable = [
            a["gradients"] for t, a in zip(completed, arrays, strict=True) if self.is_usable(t)
        ]
        if stale == 0:
            state.best = state.values
        # What diverges backs off instead: the best may be the first that diverged.
        if usable and stale and self.return_after and stale % self.return_after == 0:
            state = back_to_best(state, self.meta_optimizer)
        else:
            state = step(state, usable, bounds, self.meta_optimizer)
        files.write_arrays(self.project.state(run.number, run.iteration + 1), **asdict(state))

    def is_usable(self, trial):
        """Whether a completed trial's hypergradient may move the hyperparameters."""
        if not _reported(trial, FINITE):
            return False
        return (
            isinstance(self.meta_optimizer, meta.Sign) or _reported(trial, GROWTH) <= GROWTH_LIMIT
        )

    # -- coming back -------------------------------------------------------------------------

    def judge(self, trial, known):
        if trial.status != TrialStatus.COMPLETED:
            return
        missing = [name for name in (GROWTH, FINITE) if not known.metrics.exists(name)]
        if missing:
            trial.status = TrialStatus.FAILED
            trial.message = (
                f"The metrics {missing} are missing: `run_trial` must return all that "
                "`DrMADTuner.run_trial` gives."
            )
        elif not self.is_usable(known):
            how = (
                f"the adjoint grew {_reported(known, GROWTH):.1e}-fold on the way back"
                if _reported(known, FINITE)
                else "the loss or the hypergradient is not finite"
            )
            trial.message = f"Diverged: {how}. The meta-iteration goes on without it, or backs off."

    def settle(self, name):
        if name in self.end_order:
            self._rank(self.trials[name])
            self._tidy([*self.project.ranked, name])

    def drop(self, name):
        self._tidy([name])

    def tidy(self):
        super().tidy()
        self.save()
        self._tidy(self.end_order)

    def _tidy(self, names):
        if not self.is_saved:
            return  # what is on disk is older, and may need more
        self.project.tidy(names, needed={name for run in self.runs for name in run.shares})
        for run in self.runs:
            # That of this meta-iteration is in use, and so is the one before where oracle.json is older.
            old = range(run.iteration - 1, run.iteration + 1) if run.ended else [run.iteration - 2]
            for iteration in old:
                files.remove(self.project.state(run.number, iteration))

    def _rank(self, trial):
        if trial.status == TrialStatus.COMPLETED:
            ranked = self.project.ranked
            ranked.append(trial.trial_id)
            ranked.sort(key=self.start_order.index)  # of equal ones the first, as KerasTuner has it
            ranked.sort(
                key=lambda name: self.trials[name].score,
                reverse=self.objective.direction == "max",
            )

    def settings(self):
        """What must be the same when a search goes on."""
        return {
            "objective": str(self.objective),
            "meta_optimizer": {
                "class": type(self.meta_optimizer).__name__,
                **self.meta_optimizer.get_config(),
                "name": None,  # Keras counts them
            },
            "meta_iterations": self.meta_iterations,
            "outer_oracle": type(self.outer.oracle).__name__,
            "patience": self.patience,
            "return_after": self.return_after,
            "clients": self.clients,
            "seed": self._given_seed,
        }

    # -- files -------------------------------------------------------------------------------

    def _set_project_dir(self, directory, project_name):
        super()._set_project_dir(directory, project_name)
        self.outer.set_folder(self._project_dir, "configurations")

    def get_state(self):
        outer = self.outer.get_state() if any(run.proposal for run in self.runs) else None
        return super().get_state() | {
            "runs": [asdict(run) for run in self.runs],
            "exhausted": self.exhausted,
            "outer": outer,
        }

    def set_state(self, state):
        super().set_state(state)
        self.runs = [MetaRun(**run) for run in state["runs"]]
        self.exhausted = state["exhausted"]
        if state["outer"]:
            self.outer.set_state(state["outer"])

    def reload(self):
        super().reload()
        for run in self.runs:
            if run.failures:
                run.failures, run.ended = 0, False
        self.project.ranked = []
        for name in self.end_order:
            self._rank(self.trials[name])


def _random_search(seed):
    oracle = keras_tuner.oracles.RandomSearchOracle(max_trials=None)
    oracle.seed = oracle._seed_state = seed  # KerasTuner takes 0 for none
    return oracle


def _reported(trial, name):
    return trial.metrics.get_history(name)[0].value[0]
