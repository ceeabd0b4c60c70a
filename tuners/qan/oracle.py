"""`QANOracle`: hosts the policy: says which episode comes next, decides in it, and learns from it."""

import copy
import time
from dataclasses import asdict

import keras_tuner
import numpy as np
from keras_tuner.engine.trial import Trial, TrialStatus

from keras_drmad.arguments import positive_integer

from ..distributed.oracle import ResilientOracle
from . import arguments
from .agent.exploration import Behaviour
from .agent.learner import ANNEALED, Learner
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
from .policy import Policy
from .project import QANProject
from .search.curriculum import CONTEST, TRAIN, Episode, planned
from .search.logs import EpisodeLogs
from .search.reference_paths import ReferencePaths
from .search.schedules import Schedule
from .training.actions import Actions
from .training.report import DIVERGED, REACHED, STOP, Decision
from .training.states import Ratios

SCHEDULES = (0.2, 200.0)  # multiples of the compiled rate that are searched
COMPILED = 0.005  # a learning rate, if nobody says which it is


class QANOracle(ResilientOracle):
    """A deep Q-network as a KerasTuner oracle: one trial is one episode, a whole training.

    Workers report, every `decision_every` steps, what they observe; `update_trial` answers with what
    to do. When an episode has ended, its transitions go into the replay memory and the network learns:

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
        agent: Arguments of `DQN`, as a dictionary. Defaults to `imitation` 1, `n_step` 10.
        updates: Gradient steps of learning for each decision of an episode. Defaults to 8.
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
        cut: Training and guided episodes are cut off, and go into the memory as unfinished ones, once
            they have cost so many times what the best schedule does, its misses with what they pay on
            top. Defaults to 1.25.
        policy: A `Policy`, or the file of one, whose network learning begins with.
        timeout: Seconds without a decision, after which an episode is given to another worker, too.
            Defaults to four times the longest silence of an episode that has ended.
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
    >>> oracle.objective.name, oracle.curriculum.schedules, oracle.curriculum.contest
    ('steps_to_goal', 33, 5)
    """

    def __init__(
        self,
        goal=None,
        objective=None,
        max_trials=300,
        decision_every=20,
        states=None,
        actions=None,
        network=None,
        agent=None,
        updates=8,
        epsilon=(0.08, 0.015),
        shaping=5.0,
        schedule_trials=None,
        random_trials=None,
        guided_trials=None,
        contest=None,
        random_starts=0.25,
        cut=1.25,
        policy=None,
        timeout=None,
        seed=None,
        **kwargs,
    ):
        self.goal = arguments.goal_of(goal, objective)
        if self.goal.value is None:
            score = keras_tuner.Objective(self.goal.metric, self.goal.direction)
        else:
            score = keras_tuner.Objective(f"{self.goal.unit}_to_goal", "min")
        super().__init__(
            objective=score,
            max_trials=positive_integer("max_trials", max_trials),
            timeout=timeout,
            seed=seed,
            **kwargs,
        )
        self.decision_every = positive_integer("decision_every", decision_every)
        states = [Ratios()] if states is None else states
        self.actions = Actions() if actions is None else actions
        arguments.check_kinds(states, self.actions)
        # Copies, for what a search finds (codebooks) is its own.
        self.states = copy.deepcopy(list(states))
        arguments.check_numbers(
            epsilon,
            random_starts,
            cut,
            shaping,
            updates,
            schedule_trials=schedule_trials,
            random_trials=random_trials,
            guided_trials=guided_trials,
            contest=contest,
        )
        self.epsilon = tuple(epsilon)
        network = {} if network is None else network
        arguments.check_kind("network", network, of="q_network", or_function=True)
        agent = {} if agent is None else agent
        arguments.check_kind("agent", agent, of="DQN")
        agent = {"imitation": 1.0, "n_step": 10} | agent
        self.project = QANProject()
        self.learner = Learner(
            self.goal,
            self.states,
            self.actions,
            network,
            agent,
            updates,
            shaping,
            policy=arguments.loaded(policy, self.states, self.actions),
            project=self.project,
            seed=self.seed,
        )
        self.logs = EpisodeLogs(self.project)
        self._settings = {
            "network": arguments.named(network),
            "agent": {name: arguments.plain(value) for name, value in agent.items()},
            "updates": updates,
            "shaping": shaping,
        }
        self.learner.check()
        self.curriculum = planned(
            self.max_trials,
            schedule_trials,
            random_trials,
            guided_trials,
            contest,
            bounds=self._near(COMPILED),
            seed=self.seed,
            random_starts=random_starts,
            cut=cut,
        )
        self.curriculum.check()
        self._behaviours = {}  # of episodes in flight, by trial and beginning
        self._references = ReferencePaths(self.project)

    def begin(self, start_rate, budget=None, log_folder=None):
        """To be called before the first trial, with what is known then.

        Args:
            start_rate: The compiled learning rate. Schedules are searched from a fifth of it to 200
                times it, within the bounds of the actions.
            budget: Steps of an episode. Defaults to None: it is learned from the first one.
            log_folder: Of `TensorBoard`. Defaults to None: nothing is logged for it.
        """
        self.curriculum.bounds, self.curriculum.budget = self._near(start_rate), budget
        self.logs.folder = log_folder

    def _near(self, start_rate):
        low, high = (self.actions.within(start_rate * x) for x in SCHEDULES)
        return low, high

    # -- handing out -------------------------------------------------------------------------

    def populate_space(self, trial_id):
        episode = self.curriculum.next()
        if episode is None:
            return {"status": TrialStatus.IDLE if self.ongoing_trials else TrialStatus.STOPPED}
        if episode.snapshot == episode.number:
            self.learner.keep(episode.number)
        # The hypermodel's own stay at their defaults: KerasTuner would draw what is missing.
        values = dict(self.get_space().values)
        values |= {KIND: episode.kind, SEED: episode.seed, START: self.curriculum.start(episode)}
        values[REFERENCE] = self._references.last if episode.kind == TRAIN else ""
        if episode.schedule is not None:
            values[RATE] = self.actions.within(Schedule(**episode.schedule)(0))
        return {"status": TrialStatus.RUNNING, "values": values}

    # -- deciding ----------------------------------------------------------------------------

    @keras_tuner.synchronized
    def update_trial(self, trial_id, metrics, step=0):
        if not is_message(metrics):
            return super().update_trial(trial_id, metrics, step)
        # The base class would record it, and its trials grow with every decision.
        trial = Trial(keras_tuner.HyperParameters(), trial_id, TrialStatus.RUNNING)
        decision = STOP
        with self.guarded():
            decision = self.decide(trial_id, decode(metrics))
        trial.hyperparameters.values = encode_decision(decision)
        return trial

    @keras_tuner.synchronized
    def decide(self, trial_id: str, question: Question) -> Decision:
        """What to do in a training: called in its own process, or by messages of another one.

        Returns:
            The decision; None if it must be told of the decisions before.
        """
        decision: Decision = STOP
        with self.guarded():
            decision = self._decide(trial_id, *question)
        return decision

    def _decide(self, trial_id, beginning, number, report, budget, taken):
        if trial_id in self.end_order or trial_id not in self.trials:
            return STOP  # another worker was faster, or no file had it when this was started again
        self.workers.lives(trial_id)
        self.curriculum.budget = budget
        trainings = self._behaviours.setdefault(trial_id, {})
        if number == 0:
            trainings[beginning] = self._behaviour(self.episode(trial_id))
        behaviour = trainings.get(beginning)
        if behaviour is None or behaviour.reports != number:
            return None
        if taken is not None:
            behaviour.recall(report, taken)
            return taken
        return behaviour.decide(report)

    def episode(self, trial_id):
        """The `Episode` of a trial."""
        return self.curriculum.episodes[int(trial_id)]

    def _behaviour(self, episode):
        first, last = self.epsilon
        most = np.inf if self.goal.value is None else self.curriculum.limit(episode)
        return Behaviour(
            episode,
            self.actions,
            lambda observations: self.learner.act(episode.snapshot, observations),
            epsilon=first + (last - first) * min(episode.progress / ANNEALED, 1.0),
            decisions=self.curriculum.budget / self.decision_every,
            is_hopeless=lambda report: self.goal.spent(report) >= most,
        )

    # -- learning ----------------------------------------------------------------------------

    def knows(self, trial):
        return super().knows(trial) and self._ended(trial.trial_id) is not None

    def _ended(self, trial_id):
        """The `Behaviour` of a training that has ended, the first of the trial."""
        trainings = self._behaviours.get(trial_id, {}).values()
        return next((behaviour for behaviour in trainings if behaviour.ended), None)

    def judge(self, trial, known):
        episode = self.episode(trial.trial_id)
        if trial.status == TrialStatus.COMPLETED:
            self._record(episode, known, trial)
        elif trial.status in (TrialStatus.FAILED, TrialStatus.INVALID):
            episode.ended = "failed"
        self._behaviours.pop(trial.trial_id, None)
        self.curriculum.drop_snapshots()  # here, for it is to be saved before files go

    def settle(self, name):
        self._tidy()

    def drop(self, name):
        self._references.drop(name)

    def _record(self, episode, known, trial):
        """Takes an episode's outcome in, and learns from its transitions."""
        behaviour = self._ended(trial.trial_id)
        score = known.metrics.get_history(self.objective.name)[0].value[0]
        episode.cost = score if self.objective.direction == "min" else -score
        episode.ended = behaviour.ended
        episode.hit = episode.ended == REACHED
        if not episode.hit and self.goal.value is not None:
            episode.lack = episode.cost * behaviour.least_gap
        if episode.ended == DIVERGED:
            trial.message = "Diverged: it pays for the rest of its budget."
        if episode.kind == TRAIN:
            self._references.add(trial.trial_id)
        if behaviour.is_begun:
            learned = {} if episode.kind == CONTEST else self._learn(episode, behaviour, known)
            self.logs.record(known, episode, behaviour, learned, self.objective.name)

    def _learn(self, episode, behaviour, trial):
        """Learns from an episode; returns what is to be logged of it."""
        # Rates of a schedule are no actions where they leap: its episodes begin unlike a policy's.
        comparable = episode.schedule is None and trial.hyperparameters.values[START] == 1.0
        score = -episode.rank if comparable else None
        left = self.goal.left(behaviour.report, self.curriculum.budget, self.decision_every)
        begun = time.perf_counter()
        logs = self.learner.learn(behaviour.trajectory(), episode.progress, score, left)
        logs = {f"agent_{name}": value for name, value in logs.items()}
        return logs | {"learning": time.perf_counter() - begun}

    def tidy(self):
        super().tidy()
        self._tidy()

    def _tidy(self):
        if not self.is_saved:
            return
        self.learner.tidy(self.curriculum.needed_snapshots())
        going_on = {
            trial.hyperparameters.values.get(REFERENCE) for trial in self.ongoing_trials.values()
        }
        self._references.tidy(going_on)

    # -- results -----------------------------------------------------------------------------

    def policy(self, start_rate, kind=None):
        """The better one, as a `Policy`; see `Curriculum.better`.

        Args:
            start_rate: the compiled learning rate.
            kind: `"network"` or `"schedule"`, for the best of these.

        Raises:
            ValueError: An unknown `kind`.
            RuntimeError: There is nothing to choose from yet.
        """
        if kind not in (None, "network", "schedule"):
            raise ValueError(f'`kind` must be "network" or "schedule". Received: kind={kind!r}')
        snapshots = self.curriculum.snapshots_ranked()
        schedules = self.curriculum.schedules_ranked()
        if kind is None:
            kind = "schedule" if self.curriculum.better() == "schedule" else "network"
        common = {
            "states": self.states,
            "actions": self.actions,
            "goal": self.goal,
            "decision_every": self.decision_every,
            "start_rate": start_rate,
            "budget": self.curriculum.budget,
        }
        if kind == "schedule" and schedules:
            return Policy(learning_rate=self.curriculum.best_schedule()[0], **common)
        weights = (self.learner.snapshot(snapshot) for snapshot, *_ in snapshots)
        weights = next((of for of in weights if of is not None), None)
        if kind == "schedule" or weights is None:
            raise RuntimeError(f"There is no {kind} yet: no episode of one has ended.")
        network = self.learner.network()
        network.set_weights(weights)
        return Policy(network=network, **common)

    def settings(self):
        """What must be the same when a search goes on."""
        return self._settings | {
            "goal": self.goal.get_config(),
            "decision_every": self.decision_every,
            "states": [[type(s).__name__, s.get_config()] for s in self.states],
            "actions": self.actions.get_config(),
            "epsilon": self.epsilon,
            "random_starts": self.curriculum.random_starts,
            "cut": self.curriculum.cut,
            "max_trials": self.max_trials,
            "schedule_trials": self.curriculum.schedules,
            "random_trials": self.curriculum.randoms,
            "guided_trials": self.curriculum.guided,
            "contest": self.curriculum.contest,
            "seed": self._given_seed,
        }

    # -- files -------------------------------------------------------------------------------

    def get_state(self):
        return super().get_state() | {
            "curriculum_seed": self.curriculum.seed,
            "episodes": [asdict(episode) for episode in self.curriculum.episodes],
            "dropped": self.curriculum.dropped,
            "budget": self.curriculum.budget,
            "learned": self.learner.learned,
            "references": self._references.names,
        }

    def set_state(self, state):
        super().set_state(state)
        self.curriculum.episodes = [Episode(**episode) for episode in state["episodes"]]
        self.curriculum.dropped, self.curriculum.budget = state["dropped"], state["budget"]
        self.curriculum.seed = self.learner.seed = state["curriculum_seed"]
        self.learner.learned, self._references.names = state["learned"], state["references"]

    def reload(self):
        super().reload()
        # An error may have come between the plan of an episode and its trial.
        del self.curriculum.episodes[len(self.trials) :]
        self._behaviours = {}
        self.learner.reload()
