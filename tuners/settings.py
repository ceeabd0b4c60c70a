"""Settings that a search must have again when it goes on."""

import json

from keras_drmad.tuners import files


def check(path, settings):
    """Writes a search's settings or, if it has begun before, compares them.

    Args:
        path: the file they are in.
        settings: nested dictionaries.

    Raises:
        ValueError: a list of what changed.
    """
    settings = json.loads(json.dumps(settings, default=str))  # as they will be read
    before = files.read_json(path)
    if before is None:
        files.write_json(path, settings)
    elif before != settings:
        changed = [f"{name}: {a!r} before, {b!r} now" for name, a, b in _differ(before, settings)]
        raise ValueError(
            f"The project of {path} was searched with other settings: {'; '.join(changed)}. Use "
            "them again, another `project_name`, or `overwrite=True`."
        )


def _differ(before, now, prefix=""):
    """`(name, before, now)` of what differs in nested dictionaries."""
    for key in sorted({*before, *now}):
        a, b = before.get(key), now.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            yield from _differ(a, b, f"{prefix}{key}.")
        elif a != b:
            yield prefix + key, a, b
