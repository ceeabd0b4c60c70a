"""The chief's process: it forgets workers that have died, and ends with the last one."""

import contextlib
import threading
from collections.abc import Iterator

from .. import compat
from .oracle import ResilientOracle
from .role import role

WATCH_SECONDS = 2.0
END_SECONDS = 0.1


@contextlib.contextmanager
def serving(oracle: ResilientOracle) -> Iterator[None]:
    """In a chief, for the time of its search: watches the workers. Elsewhere nothing."""
    if role() != "chief":
        yield
        return
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(WATCH_SECONDS):
            oracle.forget_the_dead()
            if oracle.is_left():
                compat.ask_to_stop(oracle)  # the last worker died before it could ask
                return

    threading.Thread(target=watch, name="keras-drmad-watch", daemon=True).start()
    with compat.quick_end(END_SECONDS):
        try:
            yield
        finally:
            ended.set()
