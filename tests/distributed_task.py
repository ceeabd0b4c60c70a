"""A search whose trainings only take time, for the tests of chief and workers."""

import os
import time
import types
from collections.abc import Callable
from typing import Any

import keras_tuner
from keras_tuner.engine.trial import Trial

from keras_drmad.tuners.distributed.client import Link
from keras_drmad.tuners.distributed.oracle import ResilientOracle
from keras_drmad.tuners.distributed.tuner import ResilientTuner
from keras_drmad.tuners.storage.project import Project


class Oracle(ResilientOracle):
    """Hands out numbers."""

    def __init__(self, max_trials: int = 4, **arguments: Any) -> None:
        self.project = Project()
        super().__init__(keras_tuner.Objective("score", "min"), max_trials, **arguments)

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        return {"status": "RUNNING", "values": {"number": int(trial_id)}}


class Tuner(ResilientTuner):
    """Writes down which worker trains what."""

    def __init__(
        self,
        folder: Any,
        oracle: ResilientOracle | None = None,
        seconds: float = 0,
        overwrite: bool = False,
        **more: Any,
    ) -> None:
        self.seconds = seconds
        place = {"directory": str(folder), "project_name": "p", "overwrite": overwrite}
        super().__init__(oracle or Oracle(**more), None, **place)

    def search(self, settings: Any = 0, **arguments: Any) -> None:
        self._search({"settings": settings}, **{"verbose": 0, **arguments})

    def train_trial(self, trial: Trial, verbose: int = 0) -> dict[str, float]:
        with open(os.path.join(self.directory, "ran.txt"), "a") as file:
            print(os.environ.get("KERASTUNER_TUNER_ID"), trial.trial_id, file=file)
        time.sleep(self.seconds)
        return {"score": float(trial.hyperparameters.values["number"])}


def run(folder: Any, settings: Any = 0, **arguments: Any) -> None:
    """As chief or worker."""
    Tuner(folder, **arguments).search(settings)


def ran(folder: Any) -> list[list[str]]:
    """`[worker, trial]` of each training that has begun."""
    path = folder / "ran.txt"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def client(
    monkeypatch: Any,
    start: Any,
    folder: Any,
    worker: str,
    settings: Any = 0,
    is_over: Callable[[float], bool] = lambda waited: False,
) -> Any:
    """KerasTuner's client of a chief that `start` starts, for calls by hand."""
    from keras_tuner.src.distribute.oracle_client import OracleClient

    from keras_drmad.tuners.storage.settings import digest

    for name, value in start.variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("KERASTUNER_TUNER_ID", worker)
    made = OracleClient(types.SimpleNamespace(objective=None))
    link = Link(made, 60, is_over)
    link.search = digest(os.path.join(folder, "p"), {"settings": settings})
    monkeypatch.delenv("KERASTUNER_ORACLE_IP")
    return made
