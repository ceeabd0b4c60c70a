"""Settings of a search: those that it must have again when it goes on, and those that may change."""

import hashlib
import json
import logging
import os
import re
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from keras_drmad.typing import JsonObject

from . import files

_log = logging.getLogger("keras_drmad")


def check(
    path: str,
    settings: JsonObject,
    other: str = "`project_name`",
    changeable: Collection[str] = (),
) -> None:
    """Compares settings with those that a search had when it began or last went on, if it has.

    Args:
        path: the file they are in.
        settings: nested dictionaries.
        other: the argument by which there would be another search.
        changeable: names of those that may differ, dotted if they are in others: what there is already
            means the same with them.

    Raises:
        ValueError: a list of what changed.
    """
    before = files.read_json(path)
    if before is None:
        return
    differ = _differ(before, _as_read(settings))
    changed = [one for one in differ if not {one[0], one[0].partition(".")[0]} & set(changeable)]
    if changed:
        raise ValueError(
            f"The project of {path} was searched with other settings: {_in_words(changed)}. Use "
            f"them again, another {other}, or `overwrite=True`."
        )


def write(path: str, settings: JsonObject) -> None:
    """Writes the settings of a search that begins, or goes on with some that differ, which it logs.

    Raises:
        OSError: There is no room for them.
    """
    before, settings = files.read_json(path), _as_read(settings)
    if before == settings:
        return
    if before is not None:
        changed = _in_words(_differ(before, settings))
        _log.warning("The search goes on with other settings: %s.", changed)
    try:
        files.write_json(path, settings)
    except OSError as error:
        raise OSError(
            error.errno,
            f"{path} cannot be written ({error.strerror}). A search needs room there for its "
            "trials, its oracle and its weights: make some, or choose another `directory`",
        ) from error


def digest(folder: str, settings: JsonObject) -> str:
    """What tells a search from others: its folder, and its settings."""
    words = json.dumps([os.path.realpath(folder), _as_read(settings)], sort_keys=True)
    return hashlib.sha256(words.encode()).hexdigest()


def _as_read(settings: JsonObject) -> JsonObject:
    return json.loads(json.dumps(settings, default=str))


def _differ(
    before: JsonObject, now: JsonObject, prefix: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    """`(name, before, now)` of what differs in nested dictionaries."""
    for key in sorted({*before, *now}):
        a, b = before.get(key), now.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            yield from _differ(a, b, f"{prefix}{key}.")
        elif a != b:
            yield prefix + key, a, b


def _in_words(changed: Iterable[tuple[str, Any, Any]]) -> str:
    return "; ".join(f"{name}: {a!r} before, {b!r} now" for name, a, b in changed)


def plain(value: Any) -> Any:
    """What tells values apart in a file; addresses of objects do not."""
    if hasattr(value, "get_config"):
        config = {k: plain(v) for k, v in nameless(value.get_config()).items()}
        return {"class": type(value).__name__} | config
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def nameless(config: Any) -> Any:
    """Nested dictionaries without names, which Keras numbers in each process."""
    if not isinstance(config, dict):
        return config
    return {key: nameless(value) for key, value in config.items() if key != "name"}
