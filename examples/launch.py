"""Starts a script again as the processes of a search on this host: a chief, and workers."""

import os
import socket
import subprocess
import sys
import time

GRACE_SECONDS = 20  # for each process, to end by itself
LAUNCHED = "KERAS_DRMAD_LAUNCHED"  # when, for all processes


def is_launched() -> bool:
    """Whether this process is one of them, by KerasTuner's environment variables."""
    return "KERASTUNER_TUNER_ID" in os.environ


def seconds() -> float:
    """Since the launch."""
    return time.time() - float(os.environ[LAUNCHED])


def launch(workers: int, pin: bool | None = False) -> None:
    """Starts them with this script's arguments, and waits until all have ended or one has failed.

    Args:
        workers: their number.
        pin: whether each worker stays on a core.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        variables = {"KERASTUNER_ORACLE_PORT": str(free.getsockname()[1])}
    variables |= {"KERASTUNER_ORACLE_IP": "127.0.0.1", LAUNCHED: str(time.time())}
    cores = sorted(os.sched_getaffinity(0)) if pin else []
    processes = {}
    try:
        for name in ("chief", *(f"worker{i}" for i in range(workers))):
            environment = os.environ | variables | {"KERASTUNER_TUNER_ID": name}
            processes[name] = subprocess.Popen([sys.executable, *sys.argv], env=environment)
            if cores and name != "chief":
                os.sched_setaffinity(processes[name].pid, {cores[0]})
                cores.append(cores.pop(0))
        while any(process.poll() is None for process in processes.values()):
            for name, process in processes.items():
                if process.poll():
                    raise SystemExit(f"{name} failed: exit status {process.returncode}")
            time.sleep(0.2)
    finally:
        for process in processes.values():
            process.terminate()  # as Ctrl-C: each ends its search
        for process in processes.values():
            try:
                process.wait(GRACE_SECONDS)
            except subprocess.TimeoutExpired:  # in the middle of something compiled
                process.kill()
                process.wait()
