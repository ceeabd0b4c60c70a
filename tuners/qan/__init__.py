"""QAN: a deep Q-network that schedules trainings, hosted by a KerasTuner oracle.

The training that is steered is in `training`, who decides in `agent`, which episode comes next in
`search`. How processes work together is not here (`distributed`).
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .agent.dqn import DQN
    from .agent.q_network import q_network
    from .env import TrainingEnv
    from .search.schedules import Schedule
    from .training.filters import BagOfFilters, RawFilters
    from .training.regressor import Regressor
    from .training.states import Ratios, State
else:
    import importlib

    _PLACES = {
        "DQN": ".agent.dqn",
        "BagOfFilters": ".training.filters",
        "Ratios": ".training.states",
        "RawFilters": ".training.filters",
        "Regressor": ".training.regressor",
        "Schedule": ".search.schedules",
        "State": ".training.states",
        "TrainingEnv": ".env",
        "q_network": ".agent.q_network",
    }

    def __getattr__(name: str) -> object:
        # When it is asked for: what is here is imported by these modules, and some need an extra.
        if name in _PLACES:
            return getattr(importlib.import_module(_PLACES[name], __name__), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "DQN",
    "BagOfFilters",
    "Ratios",
    "RawFilters",
    "Regressor",
    "Schedule",
    "State",
    "TrainingEnv",
    "q_network",
]
