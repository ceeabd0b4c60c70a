"""`QANOracle`: hosts the policy: says which episode comes next, decides in it, and learns from it."""

import functools
import logging
import os
import time
from dataclasses import asdict

import keras_tuner
import numpy as np
import tensorflow as tf
from keras_tuner.engine.trial import Trial, TrialStatus

from keras_drmad.paths.base import positive_integer
from keras_drmad.tuners import files
from keras_drmad.tuners.oracle import ResilientOracle
from keras_drmad.tuners.qan.actions import Actions
from keras_drmad.tuners.qan.agent import DQN
from keras_drmad.tuners.qan.behaviour import Behaviour
from keras_drmad.tuners.qan.curriculum import (
    CONTEST,
    GUIDED,
    RANDOM,
    TEST,
    TRAIN,
    Curriculum,
    Episode,
)
from keras_drmad.tuners.qan.goals import Goal, rewards
from keras_drmad.tuners.qan.network import q_network
from keras_drmad.tuners.qan.policy import Policy
from keras_drmad.tuners.qan.project import Project
from keras_drmad.tuners.qan.schedules import Schedule
from keras_drmad.tuners.qan.states import Ratios
from keras_drmad.tuners.qan.steering import DIVERGED, REACHED, STOP, TRUNCATED
from keras_drmad.tuners.qan.wire import KIND, RATE, REFERENCE, SEED, START, answer, is_message, read

_log = logging.getLogger("keras_drmad")

ANNEALED = 0.8  # of the training episodes, after which exploration and shaping stay as they are
SCHEDULES = (1e-3, 1.0)  # where their rates are searched, cut to the bounds of the actions
START_RANGE = (0.5, 50.0)  # multiples of the compiled rate that episodes may begin with


class QANOracle(ResilientOracle):
    """A deep Q-network as a KerasTuner oracle: one trial is one episode, a whole training.

    Workers report, every `decision_every` steps, what they observe; `update_trial` answers with what
    to do. When an episode has ended, its transitions go into the replay memory and the network learns:

        Q(s, a) ← Σ_{i<n} γ^i r_{t+i} + γ^n Q'(s_{t+n}, argmax_a Q(s_{t+n}, a))

    Args:
        goal: A `Goal`, `(metric, value)` or `(metric, value, "seconds")`. None: `objective` is made
            as good as it can be within the budget.
        objective: What is improved where there is no `goal`. Defaults to `"val_loss"`.
        max_trials: Episodes in all. Defaults to 300.
        decision_every: Training steps between decisions. Defaults to 20.
        states: A list of `State`s. Defaults to `[Ratios()]`.
        actions: The `Actions`. Defaults to multiplying the learning rate.
        agent: Arguments of `DQN`, as a dictionary; `{"imitation": 1.0}` if not given.
        units: Of the network's hidden layers.
        updates: Gradient steps of learning for each decision of an episode. Defaults to 8.
        epsilon: `(first, last)` exploration, linear over the training episodes until four fifths of
            them: how probably a decision begins a stretch of exploration. Defaults to 0.15 and 0.03.
        shaping: Weight κ of the gap as a potential, annealed linearly to 0 over the same time.
        schedule_trials: Episodes that search schedules. Defaults to 15 % of `max_trials`.
        random_trials: Episodes of random actions. Defaults to 2 %, at least one.
        guided_trials: Episodes that follow the best schedule by actions. Defaults to 4 %, at least two.
        contest: Seeds on which policy and best schedule meet at the end. Defaults to 10, fewer where
            `max_trials` is below 100.
        random_starts: The share of training episodes that begin with another learning rate. Defaults
            to 0.25.
        cut: Training episodes are cut off, and go into the memory as unfinished ones, once they have
            cost so many times what the best schedule does. Defaults to 1.25.
        policy: A `Policy`, or the file of one, whose network learning begins with.
        timeout, seed: As in `DrMADOracle`.
        **kwargs: As in `keras_tuner.Oracle`.
    """

    def __init__(
        self,
        goal=None,
        objective=None,
        max_trials=300,
        decision_every=20,
        states=None,
        actions=None,
        agent=None,
        units=(64, 64),
        updates=8,
        epsilon=(0.15, 0.03),
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
        self.goal = Goal(objective or "val_loss") if goal is None else Goal.of(goal)
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
        self.states = [Ratios()] if states is None else list(states)
        self.actions = Actions() if actions is None else actions
        self.units, self.updates = tuple(units), updates
        self.shaping, self.epsilon, self.random_starts = shaping, tuple(epsilon), random_starts
        self.cut = cut
        self._agent_arguments = {"imitation": 1.0} | dict(agent or {})
        self.given_policy = _loaded(policy, self.states, self.actions, decision_every)
        self.project = Project()
        n, (low, high) = self.max_trials, self.actions.bounds
        contest = min(10, n // 10) if contest is None else contest
        self.curriculum = Curriculum(
            total=n,
            schedules=round(0.15 * n) if schedule_trials is None else schedule_trials,
            randoms=max(round(0.02 * n), 1) if random_trials is None else random_trials,
            guided=max(round(0.04 * n), 2) if guided_trials is None else guided_trials,
            contest=contest,
            bounds=(max(SCHEDULES[0], low), min(SCHEDULES[1], high)),
            seed=self.seed,
        )
        self.curriculum.check()
        self.learned = 0  # episodes that the network has learned from
        self._agent = None
        self._behaviours = {}  # of episodes in flight, by trial
        self._snapshots = {}  # weights, by number
        self._log_dir, self._writer = None, None
        self._references = []  # trials whose paths of weights may be there; the next is held to the last

    # -- the agent ---------------------------------------------------------------------------

    @property
    def agent(self):
        """The `DQN`; made when it is first needed, as workers have an oracle too."""
        if self._agent is None:
            self._agent = DQN(self.network(), seed=self.seed, **self._agent_arguments)
            if self.given_policy is not None:
                self._agent.network.set_weights(self.given_policy.network.get_weights())
                self._agent.target.set_weights(self.given_policy.network.get_weights())
        return self._agent

    def network(self):
        """A new Q-network for these states and actions."""
        return q_network(
            [(state.shape, state.encode) for state in self.states],
            len(self.actions),
            units=self.units,
            scale=10.0,
            seed=self.seed,
        )

    # -- handing out -------------------------------------------------------------------------

    def populate_space(self, trial_id):
        episode = self.curriculum.next()
        if episode is None:
            return {"status": TrialStatus.IDLE if self.ongoing_trials else TrialStatus.STOPPED}
        if episode.kind == TEST and episode.snapshot == episode.number:
            self._keep_snapshot(episode)
        values = {KIND: episode.kind, SEED: episode.seed, START: self._start(episode)}
        values[REFERENCE] = (
            self._references[-1] if episode.kind == TRAIN and self._references else ""
        )
        if episode.schedule is not None:
            values[RATE] = float(Schedule(**episode.schedule)(0))
        return {"status": TrialStatus.RUNNING, "values": values}

    def _start(self, episode):
        """The learning rate that an episode begins with, as a multiple of the compiled one."""
        rng = np.random.default_rng((episode.seed, 1))
        if episode.kind not in (TRAIN, RANDOM) or rng.random() >= self.random_starts:
            return 1.0
        return float(np.exp(rng.uniform(*np.log(START_RANGE))))

    def _keep_snapshot(self, episode):
        """Keeps the present network; or tests without one, if it cannot be written."""
        weights = self.agent.target.get_weights()
        self._snapshots[episode.number] = weights
        try:
            files.write_arrays(
                self.project.snapshot(episode.number),
                weights={str(i): w for i, w in enumerate(weights)},
            )
        except OSError as error:
            _log.error("A snapshot could not be written (%s); the search goes on.", error)

    def snapshot(self, number):
        """The weights of a snapshot's network."""
        if number not in self._snapshots:
            saved = files.read_arrays(self.project.snapshot(number))["weights"]
            self._snapshots[number] = [saved[str(i)] for i in range(len(saved))]
        return self._snapshots[number]

    # -- deciding ----------------------------------------------------------------------------

    @keras_tuner.synchronized
    def update_trial(self, trial_id, metrics, step=0):
        if not is_message(metrics):
            return super().update_trial(trial_id, metrics, step)
        # The base class would record it, and its trials grow with every decision.
        trial = Trial(keras_tuner.HyperParameters(), trial_id, TrialStatus.RUNNING)
        trial.hyperparameters.values = answer(self._decide(trial_id, *read(metrics)))
        return trial

    def _decide(self, trial_id, number, report, budget):
        self.curriculum.budget = budget
        if number == 0:
            self._behaviours[trial_id] = self._behaviour(self.episode(trial_id))
        behaviour = self._behaviours.get(trial_id)
        if behaviour is None or behaviour.reports != number:
            return None
        decision = behaviour.decide(report)
        return STOP if self._is_hopeless(behaviour, report) else decision

    def _is_hopeless(self, behaviour, report):
        ranked = self.curriculum.schedules_ranked()
        if behaviour.episode.kind not in (TRAIN, GUIDED) or self.goal.value is None or not ranked:
            return False
        spent = report.step if self.goal.unit == "steps" else report.seconds
        if report.ended or spent < self.cut * np.mean(ranked[0][1]):
            return False
        behaviour.ended = TRUNCATED
        return True

    def episode(self, trial_id):
        """The `Episode` of a trial."""
        return self.curriculum.episodes[int(trial_id)]

    def _behaviour(self, episode):
        first, last = self.epsilon
        return Behaviour(
            episode,
            self.actions,
            self._greedy(episode),
            epsilon=first + (last - first) * min(episode.progress / ANNEALED, 1.0),
        )

    def _greedy(self, episode):
        if episode.snapshot is None:
            return lambda observations: self.agent.act(observations)
        return lambda observations: self._player.act(self.snapshot(episode.snapshot), observations)

    @functools.cached_property
    def _player(self):
        return Player(self.network())

    # -- learning ----------------------------------------------------------------------------

    @keras_tuner.synchronized
    def end_trial(self, trial):
        if trial.trial_id not in self.end_order:
            episode = self.episode(trial.trial_id)
            known = self.trials[trial.trial_id]
            if trial.status == TrialStatus.COMPLETED:
                self._record(episode, known, trial)
            elif trial.status in (TrialStatus.FAILED, TrialStatus.INVALID):
                episode.ended = "failed"
        super().end_trial(trial)
        self._tidy()

    def _record(self, episode, known, trial):
        """Takes an episode's outcome in, and learns from its transitions."""
        behaviour = self._behaviours.pop(trial.trial_id, None)
        score = known.metrics.get_history(self.objective.name)[0].value[0]
        episode.cost = score if self.objective.direction == "min" else -score
        episode.ended = behaviour.ended if behaviour else TRUNCATED
        episode.hit = episode.ended == REACHED
        if not episode.hit and self.goal.value is not None and behaviour:
            episode.lack = episode.cost * behaviour.least_gap
        if episode.ended == DIVERGED:
            trial.message = "Diverged: it pays for the rest of its budget."
        if episode.kind == TRAIN:
            self._references.append(trial.trial_id)
        trajectory = behaviour and behaviour.trajectory()
        if trajectory is None:
            return
        if episode.kind == CONTEST:
            self._keep_history(trial.trial_id, behaviour)
            return
        comparable = known.hyperparameters.values[START] == 1.0
        begun = time.perf_counter()
        logs = self.learn(trajectory, episode.progress, -episode.rank if comparable else None)
        logs["learning"] = time.perf_counter() - begun
        self._log(known, episode, behaviour, logs)
        self._keep_history(trial.trial_id, behaviour)

    def _keep_history(self, trial_id, behaviour):
        """What was decided when, for pictures; nothing depends on it."""
        try:
            files.write_arrays(self.project.history(trial_id), decisions=behaviour.history())
        except OSError as error:
            _log.error("The history of trial %s could not be written (%s).", trial_id, error)

    def _log(self, trial, episode, behaviour, logs):
        """What is to be seen of an episode: in its trial, and in TensorBoard."""
        seconds = {"learning": logs.pop("learning")}
        logs = {f"agent_{name}": value for name, value in logs.items()} | seconds
        logs |= {"epsilon": behaviour.epsilon, "return": -float(np.sum(behaviour.costs))}
        for name, value in logs.items():
            trial.metrics.register(name, direction="min")
            trial.metrics.update(name, float(value))
        if self._log_dir is None:
            return
        if self._writer is None:
            self._writer = tf.summary.create_file_writer(os.path.join(self._log_dir, "agent"))
        with self._writer.as_default(step=episode.number):
            for name, value in logs.items():
                tf.summary.scalar(name, value)
            tf.summary.scalar(
                f"{episode.kind}/{self.objective.name}",
                trial.metrics.get_history(self.objective.name)[0].value[0],
            )
            tf.summary.histogram("actions", behaviour.actions_taken)
        self._writer.flush()

    def log_to(self, folder):
        """Where TensorBoard reads what the agent logs; None for nowhere."""
        self._log_dir = folder

    def learn(self, trajectory, progress=0.0, score=None):
        """Remembers a `Trajectory`, and learns for as many updates as its decisions pay for.

        Args:
            trajectory: of an episode.
            progress: of learning, 0 to 1.
            score: how good it was; None if it cannot be compared.
        """
        decisions = len(trajectory.costs)
        shaping = self.shaping * max(1 - progress / ANNEALED, 0.0)
        left = self.curriculum.budget / self.decision_every - float(trajectory.costs.sum())
        gained = rewards(
            self.goal,
            trajectory.costs,
            trajectory.gaps,
            shaping,
            self.agent.gamma,
            trajectory.ended == DIVERGED,
            left,
        )
        for group in range(trajectory.actions.shape[1]):
            self.agent.remember(
                trajectory.observations[:, group],
                trajectory.actions[:, group],
                gained,
                terminated=trajectory.terminated,
                usable=trajectory.usable[:, group],
                score=score,
            )
        self.learned += 1
        logs = self.agent.learn(decisions * self.updates)
        try:
            files.write_arrays(self.project.learner(self.learned), agent=self.agent.get_state())
        except OSError as error:
            _log.error("The learner could not be written (%s); the search goes on.", error)
        return logs

    def tidy(self):
        super().tidy()
        self._tidy()

    def _tidy(self):
        if not self.is_saved:
            return
        needed = self.curriculum.needed_snapshots()
        self._snapshots = {n: w for n, w in self._snapshots.items() if n in needed}
        self.project.tidy({self.learned}, needed)
        going_on = {
            trial.hyperparameters.values.get(REFERENCE) for trial in self.ongoing_trials.values()
        }
        for trial_id in self._references[:-1]:
            if trial_id not in going_on:
                files.remove(self.project.reference(trial_id))
        self._references = [
            name for name in self._references if name in going_on or name == self._references[-1]
        ]

    # -- results -----------------------------------------------------------------------------

    def policy(self, start_rate):
        """The better one of the contest, as a `Policy`.

        Args:
            start_rate: the compiled learning rate.

        Raises:
            RuntimeError: Nothing was tested yet.
        """
        winner, *_ = self.curriculum.verdict()
        snapshots, schedules = (
            self.curriculum.snapshots_ranked(),
            self.curriculum.schedules_ranked(),
        )
        common = {
            "states": self.states,
            "actions": self.actions,
            "goal": self.goal,
            "every": self.decision_every,
            "start_rate": start_rate,
            "budget": self.curriculum.budget,
        }
        if winner == "schedule" or (winner is None and schedules and not snapshots):
            return Policy(schedule=self.curriculum.best_schedule(), **common)
        if not snapshots:
            raise RuntimeError("There is no policy yet: no test episode has ended.")
        network = self.network()
        network.set_weights(self.snapshot(snapshots[0][0]))
        return Policy(network=network, **common)

    def settings(self):
        """What must be the same when a search goes on."""
        return {
            "goal": self.goal.get_config(),
            "decision_every": self.decision_every,
            "states": [[type(s).__name__, s.get_config()] for s in self.states],
            "actions": self.actions.get_config(),
            "agent": {name: repr(value) for name, value in self._agent_arguments.items()},
            "units": self.units,
            "updates": self.updates,
            "epsilon": self.epsilon,
            "shaping": self.shaping,
            "random_starts": self.random_starts,
            "cut": self.cut,
            "max_trials": self.max_trials,
            "seed": self._given_seed,
        }

    # -- files -------------------------------------------------------------------------------

    def get_state(self):
        return super().get_state() | {
            "episodes": [asdict(episode) for episode in self.curriculum.episodes],
            "dropped": self.curriculum.dropped,
            "budget": self.curriculum.budget,
            "learned": self.learned,
            "references": self._references,
        }

    def set_state(self, state):
        super().set_state(state)
        self.curriculum.episodes = [Episode(**episode) for episode in state["episodes"]]
        self.curriculum.dropped, self.curriculum.budget = state["dropped"], state["budget"]
        self.learned, self._references = state["learned"], state["references"]

    def reload(self):
        super().reload()
        self._behaviours = {}
        saved = self.learned and files.read_arrays(self.project.learner(self.learned))
        if saved:
            self.agent.set_state(saved["agent"])


class Player:
    """Acts greedily by the weights of any snapshot."""

    def __init__(self, network):
        self._network, self._weights = network, None
        self._act = tf.function(lambda x: tf.argmax(network(x, training=False), -1))

    def act(self, weights, observations):
        if weights is not self._weights:
            self._network.set_weights(weights)
            self._weights = weights
        return self._act(tf.constant(observations)).numpy()


def _loaded(policy, states, actions, every):
    """The `Policy` that learning begins with."""
    if policy is None:
        return None
    policy = policy if isinstance(policy, Policy) else Policy.load(policy)
    differences = policy.differences(states, actions, every)
    if policy.network is None:
        differences.append("it is a schedule, and has no network")
    if differences:
        raise ValueError(f"`policy` does not fit this search. {'; '.join(differences)}")
    return policy
