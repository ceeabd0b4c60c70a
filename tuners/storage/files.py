"""Files that are either the old or the new ones, whenever a process is killed."""

import contextlib
import json
import logging
import os
import pathlib
import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_drmad.typing import Arrays

from .damage import DAMAGED, DamagedFile

_log = logging.getLogger("keras_drmad")

LATE_TRIES = 10  # once a second, for a file in a shared folder
TEMPORARY, BEFORE = ".tmp", ".before"
_OURS = re.compile(rf"\.[0-9a-f]{{32}}{re.escape(TEMPORARY)}(\.|$)")


@contextlib.contextmanager
def replaced(path: str, suffix: str = "") -> Iterator[str]:
    """Yields the name of a temporary file, and puts it in the place of `path` at the end.

    `suffix` is the ending that the temporary name must have.
    """
    os.makedirs(os.path.dirname(path), exist_ok=True)
    temporary = f"{path}.{uuid.uuid4().hex}{TEMPORARY}{suffix}"  # workers may write the same file
    try:
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(temporary)


def write_json(path: str, value: Any) -> None:
    """Writes a value as JSON, all or nothing."""
    with replaced(path) as temporary, open(temporary, "w") as file:
        json.dump(value, file)


def written_at(path: str) -> int | None:
    """When a file was written, in nanoseconds; None if there is none."""
    try:
        return os.stat(path).st_mtime_ns
    except FileNotFoundError:
        return None


def attempt(write: Callable[..., None], path: str, *args: Any, **kwargs: Any) -> bool:
    """Whether `write(path, ...)` could: what a full disk has not taken stays in memory, for later."""
    try:
        write(path, *args, **kwargs)
        return True
    except OSError as error:
        _log.error("%s could not be written (%s); the search goes on.", path, error)
        return False


def keep_before(path: str) -> None:
    """Keeps a file as it is under another name, before it is written again."""
    with contextlib.suppress(OSError):  # there may be none, or no links on that disk
        with contextlib.suppress(FileNotFoundError):
            os.remove(path + BEFORE)
        os.link(path, path + BEFORE)


def read_json(path: str) -> Any:
    """The value in a JSON file; None if there is no such file.

    Raises:
        DamagedFile: It holds something else.
    """
    try:
        with open(path) as file:
            return json.load(file)
    except FileNotFoundError:
        return None
    except DAMAGED as error:
        raise DamagedFile(path, error) from error


def write_arrays(path: str, **groups: Mapping[str, npt.ArrayLike]) -> None:
    """Writes `{name: array}` dictionaries, each under the name of its argument, all or nothing."""
    flat = {
        f"{group}/{name}": _known(array)
        for group, arrays in groups.items()
        for name, array in arrays.items()
    }
    with replaced(path, ".npz") as temporary:
        # mypy fears that an array is named `allow_pickle`; each name has a slash.
        np.savez(temporary, **flat)  # type: ignore[arg-type]  # see above


def _known(array: npt.ArrayLike) -> np.ndarray:
    """NumPy's files do not know bfloat16, which is no type of its own."""
    known = np.asarray(array)
    return known.astype("float32") if known.dtype.kind == "V" else known


def read_arrays(path: str) -> dict[str, Arrays] | None:
    """`{group: {name: array}}` of a file of `write_arrays`; None if there is no such file.

    Raises:
        DamagedFile: It holds something else.
    """
    try:
        with open(path, "rb") as opened, np.load(opened) as file:
            groups: dict[str, Arrays] = {}
            for key in file.files:
                group, _, name = key.partition("/")
                groups.setdefault(group, {})[name] = file[key]
            return groups
    except FileNotFoundError:
        return None
    except DAMAGED as error:
        raise DamagedFile(path, error) from error


def read_if_whole(path: str) -> dict[str, Arrays] | None:
    """As `read_arrays`, of a file that can be done without: None if it is damaged, too."""
    try:
        return read_arrays(path)
    except DamagedFile as damage:
        _log.warning("%s The search goes on without it.", damage)
        return None


def read_late_arrays(path: str) -> dict[str, Arrays]:
    """As `read_arrays`, of a file that another machine has just written: waits for it.

    Raises:
        FileNotFoundError: It does not come.
    """
    for tries_before in range(LATE_TRIES):
        if tries_before:
            time.sleep(1)
        if groups := read_arrays(path):
            return groups
    raise FileNotFoundError(f"{path} is not there: do all workers see the same `directory`?")


def remove(path: str) -> None:
    """Removes a file, if it is there and can be removed; one too many does no harm."""
    try:
        os.remove(path)
    except FileNotFoundError:
        pass
    except OSError as error:  # of a shared folder; an exception might leave a lock held
        _log.error("%s could not be removed (%s).", path, error)


def sweep(folder: str, older_than: float = 3600) -> None:
    """Removes temporary files that killed processes have left; in seconds since they were written."""
    for path in pathlib.Path(folder).glob(f"**/*{TEMPORARY}*"):
        with contextlib.suppress(FileNotFoundError):
            is_old = time.time() - path.stat().st_mtime > older_than
            if is_old and _OURS.search(path.name):  # others are the user's
                path.unlink()
