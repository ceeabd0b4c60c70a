"""QAN: a deep Q-network that schedules trainings, hosted by a KerasTuner oracle.

The training that is steered is in `training`, who decides in `agent`, which episode comes next in
`search`. How processes work together is not here (`distributed`).
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .env import TrainingEnv
else:

    def __getattr__(name: str) -> type:
        if name == "TrainingEnv":  # when it is asked for, as it needs an extra
            from .env import TrainingEnv

            return TrainingEnv
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["TrainingEnv"]
