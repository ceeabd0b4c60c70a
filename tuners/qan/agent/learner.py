"""`Learner`: learns from whole episodes."""

import functools
import time
from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np

from keras_drmad.arguments import number, positive_integer
from keras_drmad.typing import Arrays, Logs

from ..project import QANProject
from ..training.actions import Actions
from ..training.goals import Goal
from ..training.states import State
from .checkpoints import Checkpoints
from .dqn import DQN
from .factory import AgentFactory, NetworkArguments
from .greedy import Greedy
from .rewards import Rewards
from .snapshots import Snapshots
from .trajectory import Trajectory

ANNEALED = 0.8  # of the training episodes, after which exploration and shaping stay as they are
REST = 0.05  # of the agent's learning rate, what it falls to: policies shall differ less in the end


class Learner:
    """A `DQN` that learns from whole episodes. It is made when it is first needed.

    Args:
        goal: the `Goal` that rewards are for.
        states, actions, network, agent, pretrained: see `AgentFactory`.
        gradient_steps: for each decision of an episode.
        shaping: κ of the gap as a potential, at first.
        project: names of files.
        seed: of everything random.

    Attributes:
        learned: episodes that the network has learned from.
        rewards: the `Rewards`.
        snapshots: the `Snapshots`.
    """

    def __init__(
        self,
        goal: Goal,
        states: Sequence[State],
        actions: Actions,
        network: NetworkArguments,
        agent: dict[str, Any],
        gradient_steps: int,
        shaping: float,
        pretrained: keras.Model | None,
        project: QANProject,
        seed: int,
    ) -> None:
        self.goal, self.gradient_steps, self.shaping, self.seed = (
            goal,
            gradient_steps,
            shaping,
            seed,
        )
        self.learned = 0
        # Of the agent's optimizer at first; None if it is a schedule, which is the user's.
        self._learning_rate: float | None = None
        self._factory = AgentFactory(states, actions, network, agent, pretrained)
        self.rewards = Rewards(goal)
        self._project, self._checkpoints = project, Checkpoints(project)
        self.snapshots = Snapshots(project, lambda: Greedy(self.network(), self.agent.jit_compile))

    def check(self) -> None:
        """Whether there can be such a learner; see `AgentFactory.check`, too.

        Raises:
            ValueError: There can not.
        """
        positive_integer("gradient_steps", self.gradient_steps)
        number("shaping", self.shaping, 0)
        self._factory.check()

    def settings(self) -> dict[str, Any]:
        """What must be the same when a search goes on."""
        own = {"gradient_steps": self.gradient_steps, "shaping": self.shaping}
        return own | self._factory.settings()

    def network(self) -> keras.Model:
        """A new Q-network."""
        return self._factory.network(self.seed)

    def first_network(self, snapshots: Iterable[int]) -> keras.Model | None:
        """The network of the first of these snapshots that is not lost; None if all are."""
        found = (self.snapshots.weights(number) for number in snapshots)
        weights = next((of for of in found if of is not None), None)
        if weights is None:
            return None
        network = self.network()
        network.set_weights(weights)
        return network

    @functools.cached_property
    def agent(self) -> DQN:
        """The agent, as the last file has it."""
        agent = self._factory.agent(self.seed)
        rate = agent.optimizer.get_config()["learning_rate"]
        self._learning_rate = rate if isinstance(rate, float) else None
        if (state := self._checkpoints.read()) is not None:
            for trajectory in self._checkpoints.trajectories():
                _remember(agent, trajectory)
            agent.set_state(state["agent"])
            self.rewards.set_state(state["rewards"])
        return agent

    def learn(
        self, trajectory: Trajectory, progress: float, score: float | None, left: float
    ) -> Logs:
        """Remembers a trajectory, and takes the gradient steps that its decisions pay for.

        Args:
            trajectory: of an episode.
            progress: of learning, 0 to 1.
            score: how good it was; None if it cannot be compared.
            left: what the rest of its training would have cost.

        Returns:
            What is to be logged: `agent_…` of `DQN.learn`, and `learning`, the seconds it took.
        """
        begun, agent = time.perf_counter(), self.agent
        trajectory, left = self.rewards.in_units(trajectory, left)
        rewards, terminated = self.rewards(trajectory, left)
        remembered = {
            "observations": trajectory.observations,
            "actions": trajectory.actions,
            "usable": trajectory.usable,
            "rewards": rewards,
            "potentials": self.rewards.potentials(trajectory),
            "terminated": np.array(terminated),
            "score": np.array(-np.inf if score is None else score),
        }
        _remember(agent, remembered)
        self._checkpoints.add(remembered)  # here, for learning may fail
        self.learned += 1

        shaping = self.shaping * max(1 - progress / ANNEALED, 0.0)
        if self._learning_rate is not None:
            agent.optimizer.learning_rate = self._learning_rate * max(1 - progress, REST)
        bounds = self.rewards.bounds(trajectory, agent.gamma, shaping)
        logs = agent.learn(len(trajectory.costs) * self.gradient_steps, shaping, bounds)

        self._write()
        logs = {f"agent_{name}": value for name, value in logs.items()}
        return logs | {"learning": time.perf_counter() - begun}

    def act(self, snapshot: int | None, observations: np.ndarray) -> np.ndarray:
        """(groups,) greedy actions of a snapshot; of the present network without one."""
        weights = None if snapshot is None else self.snapshots.weights(snapshot)
        if weights is None:
            return self.agent.act(observations)
        return self.snapshots.act(weights, observations)

    def take_snapshot(self, number: int) -> None:
        """Keeps the present network (its running average) under a number."""
        self.snapshots.add(number, self.agent.target.get_weights())

    @property
    def is_written(self) -> bool:
        """Whether all that was learned is in files."""
        return self._checkpoints.is_written

    def write_more(self) -> bool:
        """Writes what a full disk has not taken; whether nothing is left."""
        if not self._checkpoints.is_written:
            self._write()
        return self.snapshots.write_more() and self._checkpoints.is_written

    def _write(self) -> None:
        self._checkpoints.write(
            self.learned, agent=self.agent.get_state(), rewards=self.rewards.get_state()
        )

    def reload(self) -> None:
        """Goes on from the last file of at most `learned` episodes."""
        self.__dict__.pop("agent", None)  # settings are compared before the file is read
        self.rewards = Rewards(self.goal)
        self.snapshots.forget()
        self._checkpoints.rewind(self.learned)

    def tidy(self, needed: set[int]) -> None:
        """Removes all snapshots but the needed ones, and all files of learners but the last two."""
        self.snapshots.tidy(needed)
        self._project.tidy({self._checkpoints.episodes, self._checkpoints.before}, needed)


def _remember(agent: DQN, trajectory: Arrays) -> None:
    """Adds a trajectory to the replay buffer, one of each group."""
    for group in range(trajectory["actions"].shape[1]):
        agent.replay.add(
            trajectory["observations"][:, group],
            trajectory["actions"][:, group],
            trajectory["rewards"],
            terminated=bool(trajectory["terminated"]),
            usable=trajectory["usable"][:, group],
            score=float(trajectory["score"]),
            potentials=trajectory["potentials"],
        )
