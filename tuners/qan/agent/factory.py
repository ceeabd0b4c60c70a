"""`AgentFactory`: networks and agents for given states and actions, once arguments are checked."""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import keras

from ...storage import settings
from ..training.actions import Actions
from ..training.states import State
from .dqn import DQN, check_arguments
from .q_network import check_sizes, q_network

DEFAULTS: dict[str, Any] = {
    "margin_loss_weight": 1.0,
    "n_step": 10,
}  # of an agent that learns from trainings
SCALE = 10.0  # about the size of Q-values, which are counted in chunks of training

NetworkArguments: TypeAlias = dict[str, Any] | Callable[..., keras.Model]


class AgentFactory:
    """Makes networks and agents.

    Args:
        states: a list of `State`s, which the network takes.
        actions: the `Actions`, which it gives the values of.
        network: arguments of `q_network`, or a function like it.
        agent: arguments of `DQN`; defaults are `DEFAULTS`, then its own.
        pretrained: a network whose weights learning begins with; or None.
    """

    def __init__(
        self,
        states: Sequence[State],
        actions: Actions,
        network: NetworkArguments,
        agent: dict[str, Any],
        pretrained: keras.Model | None = None,
    ) -> None:
        self._states, self._actions = states, actions
        self._network, self._pretrained = network, pretrained
        if not isinstance(network, dict) and not callable(network):
            raise ValueError(
                "`network` must be a dictionary of arguments of `q_network`, or a function like it. "
                f"Received: network={network!r}"
            )
        if not isinstance(agent, dict):
            raise ValueError(
                f"`agent` must be a dictionary of arguments of `DQN`. Received: agent={agent!r}"
            )
        self._agent = DEFAULTS | agent

    def settings(self) -> dict[str, Any]:
        """What tells networks and agents apart in a file."""
        if callable(self._network):
            network = getattr(self._network, "__qualname__", type(self._network).__qualname__)
        else:
            network = {name: repr(value) for name, value in self._network.items()}
        agent = {name: settings.plain(value) for name, value in self._agent.items()}
        return {"network": network, "agent": agent}

    def check(self) -> None:
        """Whether there can be such an agent.

        Raises:
            ValueError: Unknown arguments of it, or wrong ones, a network of other sizes, or a policy
                with another network.
        """
        allowed = set(inspect.signature(DQN).parameters) - {"network", "seed"}
        if unknown := sorted(set(self._agent) - allowed):
            raise ValueError(f"`agent` may hold {sorted(allowed)}. Received: {unknown}")
        check_arguments(**self._agent)
        if not callable(self._network):
            allowed = set(inspect.signature(q_network).parameters) - {"parts", "actions", "seed"}
            if unknown := sorted(set(self._network) - allowed):
                raise ValueError(f"`network` may hold {sorted(allowed)}. Received: {unknown}")
        network = self.network(seed=0)
        check_sizes(network, self._states, self._actions)
        if self._pretrained is not None:
            own, other = (
                [tuple(w.shape) for w in of.weights] for of in (self._pretrained, network)
            )
            if own != other:
                raise ValueError(
                    "`policy` does not fit this search: its network has weights of the shapes "
                    f"{own}, and `network` makes {other}."
                )

    def network(self, seed: int) -> keras.Model:
        """A new Q-network for these states and actions."""
        make = self._network
        if not callable(make):
            arguments: dict[str, Any] = {"scale": SCALE} | make
            make = functools.partial(q_network, **arguments)
        parts = [(state.shape, state.encode) for state in self._states]
        # Whatever the trained models compute in, observations and replay buffer are float32.
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy("float32")
        try:
            return make(parts, len(self._actions), seed=seed)
        finally:
            keras.config.set_dtype_policy(before)

    def agent(self, seed: int) -> DQN:
        """A new agent, whose networks begin with the pretrained weights if there are some."""
        agent = DQN(self.network(seed), seed=seed, **self._agent)
        if self._pretrained is not None:
            for model in (agent.network, agent.target):
                model.set_weights(self._pretrained.get_weights())
        return agent
