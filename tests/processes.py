"""The processes of a search on this host, for the tests of chief and workers, and of killed ones."""

import contextlib
import multiprocessing
import os
import random
import socket
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
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
    function: Callable[..., object], *arguments: Any, **more: str
) -> Callable[[str], ForkServerProcess]:
    """A function of a name, "chief" or "worker…", which starts a function as that process.

    Args:
        function, arguments: of a module.
        more: variables of their environment.
    """
    variables = {
        "KERASTUNER_ORACLE_IP": "127.0.0.1",
        "KERASTUNER_ORACLE_PORT": str(_free_port()),
    }

    def start(name: str) -> ForkServerProcess:
        environment = variables | {"KERASTUNER_TUNER_ID": name}
        return started(function, *arguments, environment=environment)

    variables |= more
    start.variables = dict(variables)  # type: ignore[attr-defined]  # for calls by hand
    return start


def _free_port() -> int:
    """One that nobody listens at, below those that outgoing connections are given."""
    draw = random.Random()  # the global one is seeded in each test, and in all processes alike
    while True:
        port = draw.randrange(20000, 32000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@contextlib.contextmanager
def all_killed(
    processes: dict[str, ForkServerProcess],
) -> Iterator[dict[str, ForkServerProcess]]:
    """What is still there at the end of a test ends with it."""
    try:
        yield processes
    finally:
        for process in processes.values():
            process.kill()
            process.join()


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


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
