"""Results: a file of them, so that a benchmark goes on where it was broken off, and their means."""

import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Entry = dict[str, Any]


class Results:
    """Lines of JSON, one a training; each is found by its key.

    Args:
        path: of the file, which is made if there is none.
    """

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        self.found: dict[tuple[Any, ...], Entry] = {}
        if path.exists():
            for line in path.read_text().splitlines():
                entry = json.loads(line)
                self.found[tuple(entry["key"])] = entry

    def get(self, key: tuple[Any, ...], measure: Callable[[], Entry]) -> Entry:
        """The entry of `key`. It is measured, written and printed if it is not there yet."""
        if key not in self.found:
            entry = {"key": key, **measure()}
            with self.path.open("a") as file:
                file.write(json.dumps(entry) + "\n")
            self.found[key] = entry
            print(json.dumps(entry), flush=True)
        return self.found[key]


def shown(values: Sequence[float], digits: int = 2) -> str:
    """Mean and standard error; of one value just that."""
    array = np.array(values)
    if len(array) == 1:
        return f"{array[0]:.{digits}f}"
    error = array.std(ddof=1) / np.sqrt(len(array))
    return f"{array.mean():.{digits}f} ± {error:.{digits}f}"
