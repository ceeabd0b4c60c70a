"""`QANOracle`: hosts the policy: says which episode comes next, decides in it, and learns from it."""

import copy
import logging
import os
from collections.abc import Sequence
from typing import Any

import keras_tuner
import numpy as np
from keras_tuner.engine.trial import Trial, TrialStatus

from keras_drmad.arguments import positive_integer, suggesting
from keras_drmad.typing import Logs

from ..distributed.guard import Refused, entry
from ..distributed.oracle import ResilientOracle
from . import arguments
from .agent.factory import NetworkArguments
from .agent.learner import ANNEALED, Learner
from .best_policy import best_policy
from .decision_channel import (
    KIND,
    RATE,
    REFERENCE,
    SEED,
    START,
    Question,
    decode,
    encode_decision,
    is_message,
)
from .display import QANDisplay
from .policy import Policy
from .project import QANProject
from .search.curriculum import Curriculum, peak_bounds
from .search.episode import CONTEST, SCHEDULE, TRAIN, Episode
from .search.logs import EpisodeLogs
from .search.reference_paths import ReferencePaths
from .search.rollout import Rollout
from .training.actions import Actions
from .training.goals import GoalLike
from .training.report import DIVERGED, STOP, Decision
from .training.states import Ratios, State

_log = logging.getLogger("keras_drmad")

COMPILED = 0.005  # a learning rate, if nobody says which it is


@suggesting
class QANOracle(ResilientOracle):
    """A deep Q-network as a KerasTuner oracle: one trial is one episode, a whole training.

    Workers report, every `decision_every` steps, what they observe; `update_trial` answers with what
    to do. When an episode has ended, its transitions go into the replay buffer and the network learns:

        Q(s, a) ← Σ_{i<n} γ^i r_{t+i} + γ^n Q'(s_{t+n}, argmax_a Q(s_{t+n}, a))

    Args:
        goal: A `Goal`, `(metric, value)` or `(metric, value, "seconds")`. None: `objective` is made
            as good as it can be within the budget.
        objective: What is improved where there is no `goal`: a metric's name, or a
            `keras_tuner.Objective`. Defaults to `"val_loss"`.
        max_trials: Episodes in all. Defaults to 300.
        decision_every: Training steps between decisions. Defaults to 20.
        states: A list of `State`s. Defaults to `[Ratios()]`.
        actions: The `Actions`. Defaults to multiplying the learning rate.
        network: Arguments of `q_network`, as a dictionary, or a function of yours that is called as
            it is. Defaults to two hidden layers of 64 units, dueling.
        agent: Arguments of `DQN`, as a dictionary. Defaults to `margin_loss_weight` 1, `n_step` 10.
        gradient_steps: Of learning, for each decision of an episode. Defaults to 8.
        epsilon: `(first, last)` exploration, linear over the training episodes until four fifths of
            them: how probably a decision begins a stretch of exploration. Defaults to 0.08 and 0.015.
        shaping: Weight κ of the gap as a potential, annealed linearly to 0 over the same time. Defaults
            to 5.
        schedule_trials: Episodes that search schedules. Defaults to 15 % of `max_trials`; of few, to a
            third of them, up to 36.
        random_trials: Episodes of random actions. Defaults to 2 %, at least one.
        guided_trials: Episodes that follow the best schedule by actions. Defaults to 4 %, at least two.
        contest: Seeds on which policy and best schedule meet at the end; before, twice as many tests
            find the best policy. Defaults to 10, fewer where `max_trials` is below 200.
        random_starts: The share of training and random episodes that begin with another learning rate.
            Defaults to 0.25.
        early_stop_factor: Training and guided episodes are stopped, and remembered as unfinished ones,
            once they have cost so many times what the best schedule does, its misses with what they pay
            on top. Defaults to 1.25.
        policy: A `Policy`, or the file of one, whose network learning begins with.
        timeout: After so many seconds of silence a worker's episode is given to another one, too. A
            worker that trains is not silent. Defaults to 60.
        seed: Of everything random; the same seed gives the same search, on one worker. Defaults to a
            draw.
        **kwargs: As in `keras_tuner.Oracle`.

    Raises:
        ValueError: Arguments that make no sense, or leave no episode to learn in; unknown ones of
            agent or network; a policy for other states or actions.

    References:
        Fu et al., Deep Q-networks for accelerating the training of deep neural networks, 2016; the
        agent's in `DQN`.

    Example:

    >>> oracle = QANOracle(goal=("val_accuracy", 0.965), max_trials=100, seed=0)
    >>> oracle.objective.name, oracle.curriculum.schedule_trials, oracle.curriculum.contest
    ('steps_to_goal', 33, 5)
    """

    display_class = QANDisplay
    changeable = ("gradient_steps", "shaping", "epsilon", "random_starts", "early_stop_factor")

    def __init__(
        self,
        goal: GoalLike | None = None,
        objective: str | keras_tuner.Objective | None = None,
        max_trials: int = 300,
        decision_every: int = 20,
        states: Sequence[State] | None = None,
        actions: Actions | None = None,
        network: NetworkArguments | None = None,
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
        timeout: float | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        self.goal = arguments.goal_of(goal, objective)
        max_trials = positive_integer("max_trials", max_trials)
        super().__init__(arguments.objective_of(self.goal), max_trials, timeout, seed, **kwargs)
        self.decision_every = positive_integer("decision_every", decision_every)
        states = [Ratios()] if states is None else states
        self.actions = Actions() if actions is None else actions
        arguments.check_kinds(states, self.actions, agent)
        # Copies, for what a search finds (codebooks) is its own.
        self.states = copy.deepcopy(list(states))
        arguments.check_epsilon(epsilon)
        self.epsilon = tuple(epsilon)
        self.project = QANProject()
        first = arguments.loaded(policy, self.states, self.actions)
        self.learner = Learner(
            self.goal,
            self.states,
            self.actions,
            {} if network is None else network,
            {} if agent is None else agent,
            gradient_steps,
            shaping,
            pretrained=None if first is None else first.network,
            project=self.project,
            seed=self.seed,
        )
        self.logs = EpisodeLogs(self.project)
        self.learner.check()
        self.curriculum = Curriculum.with_defaults(
            max_trials,
            schedule_trials,
            random_trials,
            guided_trials,
            contest,
            bounds=peak_bounds(COMPILED, self.actions),
            seed=self.seed,
            random_starts=random_starts,
            early_stop_factor=early_stop_factor,
        )
        self.curriculum.check()
        # Of episodes in flight, by trial and training.
        self._rollouts: dict[str, dict[int, Rollout]] = {}
        self._references = ReferencePaths(self.project)

    def begin(
        self, start_rate: float, budget: int | None = None, log_folder: str | None = None
    ) -> None:
        """To be called before the first trial, with what is known then.

        Args:
            start_rate: The compiled learning rate. Schedules are searched from a fifth of it to 200
                times it, within the bounds of the actions.
            budget: Steps of an episode. Defaults to None: it is learned from the first one.
            log_folder: Of `TensorBoard`. Defaults to None: nothing is logged for it.
        """
        self.curriculum.bounds = peak_bounds(start_rate, self.actions)
        self.curriculum.budget = budget or 0
        self.logs.folder = log_folder

    # -- handing out -------------------------------------------------------------------------

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        episode = self.curriculum.next()
        if episode is None:
            return {"status": TrialStatus.IDLE if self.ongoing_trials else TrialStatus.STOPPED}
        if episode.snapshot == episode.number:
            self.learner.take_snapshot(episode.number)
        # The hypermodel's own stay at their defaults: KerasTuner would draw what is missing.
        values = dict(self.get_space().values)
        values |= {KIND: episode.kind, SEED: episode.seed, START: self.curriculum.start(episode)}
        values[REFERENCE] = self._references.last if episode.kind == TRAIN else ""
        if episode.schedule is not None:
            values[RATE] = self.actions.within(episode.schedule(0))
        return {"status": TrialStatus.RUNNING, "values": values}

    # -- deciding ----------------------------------------------------------------------------

    @entry
    def update_trial(self, trial_id: str, metrics: Logs, step: int = 0) -> Trial:
        if not is_message(metrics):
            return super().update_trial(trial_id, metrics, step)
        try:
            question = decode(metrics)
        except (ArithmeticError, LookupError, ValueError) as error:
            raise Refused(f"The report of trial {trial_id} is no report: {error!r}") from error
        # The base class would record it, and its trials grow with every decision.
        trial = Trial(keras_tuner.HyperParameters(), trial_id, TrialStatus.RUNNING)
        trial.hyperparameters.values = encode_decision(self.decide(trial_id, question))
        return trial

    @entry
    def decide(self, trial_id: str, question: Question) -> Decision:
        """What to do in a training: called in its own process, or by messages of another one.

        Returns:
            The decision; None if it must be told of the decisions before.
        """
        decision: Decision = STOP
        with self.guarded():
            decision = self._decide(trial_id, question)
        return decision

    def _decide(self, trial_id: str, question: Question) -> Decision:
        training, number, report, budget, taken = question
        if trial_id in self.end_order or trial_id not in self.trials:
            return STOP  # another worker was faster, or no file had it when this was started again
        self._check_holder(trial_id)
        self.curriculum.budget = budget
        trainings = self._rollouts.setdefault(trial_id, {})
        if number == 0:
            trainings[training] = self._rollout(self.episode(trial_id))
        rollout = trainings.get(training)
        if rollout is None or rollout.reports != number:
            return None
        size = sum(state.size for state in self.states)
        expected = (len(report.rates), size) if rollout.report is None else rollout.shape
        if report.observation.shape != expected:
            raise Refused(
                f"A report of trial {trial_id} has observations of the shape "
                f"{report.observation.shape} instead of {expected}."
            )
        if isinstance(taken, list):
            is_known = all(action in range(len(self.actions)) for action in taken)
            if len(taken) != len(report.rates) or not is_known:
                raise Refused(f"Trial {trial_id} was told of actions that there are not: {taken}.")
        if taken is not None:
            rollout.recall(report, taken)
            return taken
        return rollout.decide(report)

    def episode(self, trial_id: str) -> Episode:
        """The `Episode` of a trial."""
        return self.curriculum.episodes[int(trial_id)]

    def _rollout(self, episode: Episode) -> Rollout:
        first, last = self.epsilon
        most = np.inf if self.goal.value is None else self.curriculum.limit(episode)
        return Rollout(
            episode,
            self.actions,
            lambda observations: self.learner.act(episode.snapshot, observations),
            epsilon=first + (last - first) * min(episode.progress / ANNEALED, 1.0),
            decisions=self.curriculum.budget / self.decision_every,
            is_hopeless=lambda report: self.goal.spent(report) >= most,
        )

    # -- learning ----------------------------------------------------------------------------

    def knows(self, trial: Trial) -> bool:
        return super().knows(trial) and self._ended(trial.trial_id) is not None

    def _ended(self, trial_id: str) -> Rollout | None:
        """Of a training that has ended, the first of the trial."""
        trainings = self._rollouts.get(trial_id, {}).values()
        return next((rollout for rollout in trainings if rollout.ended), None)

    def judge(self, trial: Trial, known: Trial) -> None:
        episode, rollout = self.episode(trial.trial_id), self._ended(trial.trial_id)
        if trial.status == TrialStatus.COMPLETED and rollout is not None:
            self._record(episode, rollout, known, trial)
        elif trial.status in (TrialStatus.FAILED, TrialStatus.INVALID):
            episode.ended = "failed"
        self._rollouts.pop(trial.trial_id, None)
        self.curriculum.drop_snapshots()  # here, for it is to be saved before files go

    def settle(self, trial_id: str) -> None:
        self._tidy()
        ended = [e for e in self.curriculum.episodes if e.kind == SCHEDULE and e.ended]
        is_last = len(ended) == self.curriculum.schedule_trials and self.episode(trial_id) in ended
        if is_last and (why := self.curriculum.ranking.unreached(self.goal)):
            _log.warning(why)

    def drop(self, trial_id: str) -> None:
        self._references.drop(trial_id)

    def _record(self, episode: Episode, rollout: Rollout, known: Trial, trial: Trial) -> None:
        """Takes an episode's outcome in, and learns from its transitions."""
        score = known.metrics.get_history(self.objective.name)[0].value[0]
        cost = score if self.objective.direction == "min" else -score
        episode.end(rollout.ended, cost, 0.0 if self.goal.value is None else rollout.least_gap)
        if episode.ended == DIVERGED:
            trial.message = "Diverged: it pays for the rest of its budget."
        if episode.kind == TRAIN:
            self._references.add(trial.trial_id)
        if rollout.is_begun:
            learned = {} if episode.kind == CONTEST else self._learn(episode, rollout, known)
            self.logs.record(known, episode, rollout, learned, self.objective.name)

    def _learn(self, episode: Episode, rollout: Rollout, trial: Trial) -> Logs:
        """Learns from an episode; returns what is to be logged of it."""
        # Rates of a schedule are no actions where they leap: its episodes begin unlike a policy's.
        comparable = episode.schedule is None and trial.hyperparameters.values[START] == 1.0
        score = -episode.rank if comparable else None
        assert rollout.report is not None  # it has begun
        left = self.goal.left(rollout.report, self.curriculum.budget, self.decision_every)
        return self.learner.learn(rollout.trajectory(), episode.progress, score, left)

    def tidy(self) -> None:
        super().tidy()
        self._tidy()

    def _tidy(self) -> None:
        if not self.is_saved:
            return
        self.learner.tidy(self.curriculum.needed_snapshots())
        going_on = {
            trial.hyperparameters.values.get(REFERENCE) for trial in self.ongoing_trials.values()
        }
        self._references.tidy(going_on)

    # -- results -----------------------------------------------------------------------------

    def policy(self, start_rate: float, kind: str | None = None) -> Policy:
        """The better one, or the best of a kind; see `best_policy`."""
        return best_policy(
            self.curriculum.ranking,
            self.learner,
            kind,
            states=self.states,
            actions=self.actions,
            goal=self.goal,
            decision_every=self.decision_every,
            start_rate=start_rate,
            budget=self.curriculum.budget,
        )

    def settings(self) -> dict[str, Any]:
        """What must be the same when a search goes on, but what is `changeable`."""
        own = {
            "goal": self.goal.get_config(),
            "decision_every": self.decision_every,
            "states": [[type(s).__name__, s.get_config()] for s in self.states],
            "actions": self.actions.get_config(),
            "epsilon": self.epsilon,
            "seed": self._given_seed,
        }
        return own | self.learner.settings() | self.curriculum.settings()

    # -- files -------------------------------------------------------------------------------

    def write_more(self) -> bool:
        # After an error, what the agent is now may be the half of a change.
        return self.learner.is_written if self.broken else self.learner.write_more()

    def get_state(self) -> dict[str, Any]:
        own = {"learned": self.learner.learned, "references": self._references.names}
        return super().get_state() | self.curriculum.get_state() | own

    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state(state)
        self.curriculum.set_state(state)
        self.learner.seed = self.curriculum.seed
        self.learner.learned, self._references.names = state["learned"], state["references"]

    def reload(self) -> None:  # type: ignore[override]  # as KerasTuner's own oracle
        super().reload()
        # An error may have come between the plan of an episode and its trial.
        del self.curriculum.episodes[len(self.trials) :]
        self._rollouts = {}
        self.learner.reload()
