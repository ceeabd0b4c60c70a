"""The processes of a search on this host, for the tests of chief and workers, and of killed ones."""

import multiprocessing
import os
import sys
import warnings
from collections.abc import Callable, Mapping
from multiprocessing.context import ForkServerProcess
from typing import Any

# Processes of a server that has imported TensorFlow and computed nothing: an import takes seconds.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["keras_drmad.tuners"])


def started(
    function: Callable[..., object], *arguments: Any, environment: Mapping[str, str] | None = None
) -> ForkServerProcess:
    """A process that calls a function of a module, with more variables in its environment."""
    process = CONTEXT.Process(target=_quietly, args=(environment or {}, function, arguments))
    process.start()
    return process


def starter(
    function: Callable[..., object], *arguments: Any, offset: int = 0, **more: str
) -> Callable[[str], ForkServerProcess]:
    """A function of a name, "chief" or "worker…", which starts a function as that process.

    Args:
        function, arguments: of a module.
        offset: tells the ports of searches of one test process apart.
        more: variables of their environment.
    """
    variables = {
        "KERASTUNER_ORACLE_IP": "127.0.0.1",
        "KERASTUNER_ORACLE_PORT": str(20000 + (os.getpid() + offset) % 20000),
    }

    def start(name: str) -> ForkServerProcess:
        environment = variables | {"KERASTUNER_TUNER_ID": name}
        return started(function, *arguments, environment=environment)

    variables |= more
    start.variables = dict(variables)  # type: ignore[attr-defined]  # for calls by hand
    return start


def ended(process: ForkServerProcess, seconds: float) -> int | None:
    """The exit code of a process; None if it has not ended after so many seconds."""
    process.join(max(seconds, 1))
    return process.exitcode


def _quietly(
    environment: Mapping[str, str], function: Callable[..., object], arguments: tuple[Any, ...]
) -> None:
    os.environ.update(environment)
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    warnings.simplefilter("ignore")
    function(*arguments)
