"""Which process does what: several may work on one comparison."""

import contextlib
import os
from collections.abc import Iterator

# KerasTuner's own, by which a search would look for a chief. Here each search is one process's.
DISTRIBUTED = ("KERASTUNER_TUNER_ID", "KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT")


@contextlib.contextmanager
def claimed(path: str) -> Iterator[bool]:
    """Whether this process alone has a file, until the end. A process that is killed gives it back.

    Where the system has no such locks (Windows), one process must do it all.
    """
    os.makedirs(os.path.dirname(path), exist_ok=True)
    try:
        import fcntl
    except ImportError:
        yield True
        return
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Hides that this process is a chief or a worker."""
    hidden = {name: os.environ.pop(name) for name in DISTRIBUTED if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(hidden)
