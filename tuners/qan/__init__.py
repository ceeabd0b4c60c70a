"""QAN: a deep Q-network that schedules trainings, hosted by a KerasTuner oracle."""


def __getattr__(name):
    if name == "TrainingEnv":  # when it is asked for, as it needs an extra
        from .env import TrainingEnv

        return TrainingEnv
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
