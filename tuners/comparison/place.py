"""Where a comparison keeps its files."""

import hashlib
import os
import re
import shutil
from collections.abc import Iterable

SETTINGS = "settings.json"
LONGEST = 80  # characters of a folder's name
# What there is in the folder of a method.
OWN = re.compile(r"settings\.json|price\.json|seed_\d+|.*\.tmp")


class Place:
    """Names of files in a comparison's folder.

    Args:
        folder: of the comparison.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder

    @property
    def settings(self) -> str:
        """What must be the same when it goes on."""
        return os.path.join(self.folder, SETTINGS)

    def method_settings(self, method: str) -> str:
        """The same, of one method."""
        return os.path.join(self._of(method), SETTINGS)

    def price(self, method: str) -> str:
        """What a training of a method costs."""
        return os.path.join(self._of(method), "price.json")

    def outcome(self, method: str, seed: int) -> str:
        """What a search has given."""
        return os.path.join(self._unit(method, seed), "outcome.json")

    def costs(self, method: str, seed: int) -> str:
        """What its trials have cost."""
        return os.path.join(self._unit(method, seed), "costs.json")

    def claim(self, method: str, seed: int) -> str:
        """What a process holds that searches."""
        return os.path.join(self._unit(method, seed), "claim")

    def search(self, method: str, seed: int) -> str:
        """The folder of the tuner's project."""
        return os.path.join(self._unit(method, seed), "search")

    def clear(self) -> None:
        """Removes a comparison, and nothing else that is in the folder."""
        if not os.path.exists(self.settings):
            return
        for entry in list(os.scandir(self.folder)):
            if entry.is_dir() and _is_of_a_method(entry.path):
                shutil.rmtree(entry.path)
        os.remove(self.settings)

    def units(self, methods: Iterable[str], seeds: Iterable[int]) -> list[tuple[str, int]]:
        """All searches, seed by seed, so that there is something to compare early."""
        return [(method, seed) for seed in seeds for method in methods]

    def _unit(self, method: str, seed: int) -> str:
        return os.path.join(self._of(method), f"seed_{seed}")

    def _of(self, method: str) -> str:
        plain = re.sub(r"[^\w.-]+", "_", method).strip("._")[:LONGEST]
        if plain != method or plain == SETTINGS:  # others may look like it
            plain += "_" + hashlib.sha256(method.encode()).hexdigest()[:6]
        return os.path.join(self.folder, plain)


def _is_of_a_method(folder: str) -> bool:
    names = os.listdir(folder)
    return SETTINGS in names and all(map(OWN.fullmatch, names))
