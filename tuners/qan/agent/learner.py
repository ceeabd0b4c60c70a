"""What learns: the agent, what it is paid, its snapshots, and the files of both."""

import functools
import inspect
import logging
from dataclasses import replace

import keras
import numpy as np

from ...storage import files
from ..training.goals import rewards
from ..training.report import DIVERGED, REACHED, TRUNCATED, UNKNOWN
from .dqn import DQN, check_arguments
from .q_network import Greedy, check_sizes, q_network

_log = logging.getLogger("keras_drmad")

ANNEALED = 0.8  # of the training episodes, after which exploration and shaping stay as they are
REST = 0.05  # of the agent's learning rate, what it falls to: policies shall differ less in the end
SCALE = 10.0  # about the size of Q-values, which are counted in chunks of training


class Learner:
    """A `DQN` that learns from whole episodes. It is made when it is first needed.

    Args:
        goal: the `Goal` that rewards are for.
        states: a list of `State`s, which the network takes.
        actions: the `Actions`, which it gives the values of.
        network: arguments of `q_network`, or a function like it.
        agent: arguments of `DQN`.
        updates: gradient steps for each decision of an episode.
        shaping: κ of the gap as a potential, at first.
        policy: a `Policy` whose network learning begins with; or None.
        project: names of files.
        seed: of everything random.
    """

    def __init__(
        self, goal, states, actions, network, agent, updates, shaping, policy, project, seed
    ):
        self.goal, self.states, self.actions = goal, states, actions
        self.updates, self.shaping = updates, shaping
        self._network, self._arguments, self._policy = network, agent, policy
        self._project, self.seed = project, seed
        self._rate = None  # of the agent's optimizer at first; None if it is a schedule
        self.learned = 0  # episodes that the network has learned from
        self._written = 0  # the same, of the last file
        self._forget()

    def _forget(self):
        """Of all that was learned, what is in a file is read again when it is needed."""
        self.__dict__.pop("agent", None)
        self._most = {"cost": np.array(0.0), "gap": np.array(0.0)}  # of a decision, so far
        # Costs are counted in it: steps come in chunks, but seconds are as long as a machine takes, and
        # neither shaping nor the agent's settings are to depend on that.
        self._unit = np.array(0.0)  # 0: not known yet
        self._remembered = 0  # trajectories
        self._unwritten_trajectories = {}
        self._snapshots = {}  # weights, by number
        self._unwritten = set()  # of them
        self._playing = None  # the one that the player has

    def network(self):
        """A new Q-network for these states and actions."""
        make = self._network
        if not callable(make):
            make = functools.partial(q_network, **({"scale": SCALE} | make))
        parts = [(state.shape, state.encode) for state in self.states]
        # Whatever the trained models compute in, observations and replay memory are float32.
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy("float32")
        try:
            return make(parts, len(self.actions), seed=self.seed)
        finally:
            keras.config.set_dtype_policy(before)

    def check(self):
        """Whether there can be such an agent.

        Raises:
            ValueError: Unknown arguments of it, or wrong ones, a network of other sizes, or a policy
                with another network.
        """
        allowed = set(inspect.signature(DQN).parameters) - {"network", "seed"}
        if unknown := sorted(set(self._arguments) - allowed):
            raise ValueError(f"`agent` may hold {sorted(allowed)}. Received: {unknown}")
        check_arguments(**self._arguments)
        if not callable(self._network):
            allowed = set(inspect.signature(q_network).parameters) - {"parts", "actions", "seed"}
            if unknown := sorted(set(self._network) - allowed):
                raise ValueError(f"`network` may hold {sorted(allowed)}. Received: {unknown}")
        network = self.network()
        check_sizes(network, self.states, self.actions)
        shapes = [tuple(w.shape) for w in network.weights]
        if self._policy is not None:
            own = [tuple(w.shape) for w in self._policy.network.weights]
            if own != shapes:
                raise ValueError(
                    "`policy` does not fit this search: its network has weights of the shapes "
                    f"{own}, and `network` makes {shapes}."
                )

    @functools.cached_property
    def agent(self):
        agent = DQN(self.network(), seed=self.seed, **self._arguments)
        rate = agent.optimizer.get_config()["learning_rate"]
        self._rate = rate if isinstance(rate, float) else None  # a schedule is the user's
        if self._policy is not None:
            for model in (agent.network, agent.target):
                model.set_weights(self._policy.network.get_weights())
        saved = files.read_arrays(self._project.learner(self._written)) if self._written else None
        if saved is not None:
            self._remembered = int(saved["memory"]["trajectories"])
            for number in range(self._remembered):
                _remember(agent, **files.read_arrays(self._project.memory(number))["trajectory"])
            agent.set_state(saved["agent"])
            self._most, self._unit = saved["most"], saved["unit"]["cost"]
        return agent

    def learn(self, trajectory, progress, score, left):
        """Remembers a `Trajectory`, and learns for as many updates as its decisions pay for.

        Args:
            trajectory: of an episode.
            progress: of learning, 0 to 1.
            score: how good it was; None if it cannot be compared.
            left: what the rest of its training would have cost.

        Returns:
            Logs of `DQN.learn`.
        """
        trajectory, left = self._in_units(trajectory, left)
        gained = rewards(
            self.goal,
            trajectory.costs,
            trajectory.gaps,
            trajectory.ended == DIVERGED,
            left,
        )
        # The budget is a part of the task, which the agent sees: nothing comes after it (Pardo et al.,
        # Time limits in reinforcement learning, ICML 2018). What others have stopped might have gone on.
        terminated = trajectory.ended != TRUNCATED or left <= 0
        if terminated and self.goal.value is not None and trajectory.ended != REACHED:
            gained[-1] -= (trajectory.costs.sum() + left) * trajectory.least_gap
        # A gap is a potential, which leaves the best policy what it is (Ng et al., 1999).
        potentials = None if self.goal.value is None else -trajectory.gaps
        remembered = {
            "observations": trajectory.observations,
            "actions": trajectory.actions,
            "usable": trajectory.usable,
            "rewards": gained,
            "potentials": np.zeros_like(trajectory.gaps) if potentials is None else potentials,
            "terminated": np.array(terminated),
            "score": np.array(-np.inf if score is None else score),
        }
        _remember(self.agent, **remembered)
        self._unwritten_trajectories[self._remembered] = remembered
        self._remembered += 1
        self.learned += 1
        shaping = self.shaping * max(1 - progress / ANNEALED, 0.0)
        if self._rate is not None:
            self.agent.optimizer.learning_rate = self._rate * max(1 - progress, REST)
        logs = self.agent.learn(
            len(trajectory.costs) * self.updates, shaping, self._bounds(trajectory, shaping)
        )
        self._write()
        return logs

    def _write(self):
        """Each trajectory once, for there are many; what else is learned anew after each episode."""
        for number, trajectory in list(self._unwritten_trajectories.items()):
            path = self._project.memory(number)
            if not files.attempt(files.write_arrays, path, trajectory=trajectory):
                return
            del self._unwritten_trajectories[number]
        state = {
            "agent": self.agent.get_state(),
            "memory": {"trajectories": np.array(self._remembered)},
            "most": self._most,
            "unit": {"cost": self._unit},
        }
        if files.attempt(files.write_arrays, self._project.learner(self.learned), **state):
            self._written = self.learned

    def _in_units(self, trajectory, left):
        """A trajectory, and the cost of what was left: a typical decision of the first one costs 1."""
        if not self._unit:
            is_time = self.goal.unit == "seconds"
            self._unit = np.array(np.median(trajectory.costs) if is_time else 1.0)
        unit = max(float(self._unit), 1e-9)
        return replace(trajectory, costs=trajectory.costs / unit), left / unit

    def _bounds(self, trajectory, shaping):
        """Of values: decisions only cost, up to the most that one did; and a potential adds its own."""
        if self.goal.value is None:
            return (-np.inf, np.inf)
        gaps = trajectory.gaps[trajectory.gaps < UNKNOWN]
        seen = {"cost": np.max(trajectory.costs), "gap": np.max(gaps, initial=0.0)}
        self._most = {name: np.maximum(most, seen[name]) for name, most in self._most.items()}
        gamma = self.agent.gamma
        return (
            -float(self._most["cost"]) / (1 - gamma) if gamma < 1 else -np.inf,
            shaping * float(self._most["gap"]),
        )

    def reload(self):
        """Goes on from the last file of at most `learned` episodes."""
        self._forget()  # settings are compared before it is read
        self._written = self._project.last_learner(self.learned)
        if self._written < self.learned:
            _log.warning(
                "What was learned of episodes %d to %d was not written: the network is from before.",
                self._written + 1,
                self.learned,
            )

    # -- snapshots ---------------------------------------------------------------------------

    def keep(self, number):
        """Keeps the present network (its running average) under a number."""
        self._snapshots[number] = self.agent.target.get_weights()
        self._write_snapshot(number)

    def _write_snapshot(self, number):
        weights = {str(i): w for i, w in enumerate(self._snapshots[number])}
        path = self._project.snapshot(number)
        written = files.attempt(files.write_arrays, path, weights=weights)
        (self._unwritten.discard if written else self._unwritten.add)(number)

    def snapshot(self, number):
        """The weights of a snapshot's network; None if a full disk and a kill have lost them."""
        if number not in self._snapshots:
            saved = files.read_arrays(self._project.snapshot(number))
            if saved is None:
                return None
            saved = saved["weights"]
            self._snapshots[number] = [saved[str(i)] for i in range(len(saved))]
        return self._snapshots[number]

    def act(self, number, observations):
        """(groups,) greedy actions of a snapshot; of the present network if `number` is None."""
        weights = None if number is None else self.snapshot(number)
        if weights is None:
            return self.agent.act(observations)
        if weights is not self._playing:
            self._player.network.set_weights(weights)
            self._player.read()
            self._playing = weights
        return self._player(observations)

    @functools.cached_property
    def _player(self):
        return Greedy(self.network(), self.agent.jit_compile)

    def tidy(self, needed):
        """Forgets all snapshots but the needed ones, and all files that are not needed."""
        self._snapshots = {n: w for n, w in self._snapshots.items() if n in needed}
        self._unwritten &= needed
        for number in sorted(self._unwritten):
            self._write_snapshot(number)
        self._project.tidy({self._written}, needed)


def _remember(agent, observations, actions, usable, rewards, potentials, terminated, score):
    """Adds a trajectory to the agent's memory, one of each group."""
    for group in range(actions.shape[1]):
        agent.remember(
            observations[:, group],
            actions[:, group],
            rewards,
            terminated=bool(terminated),
            usable=usable[:, group],
            score=float(score),
            potentials=potentials,
        )
