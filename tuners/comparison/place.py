"""Where a comparison keeps its files."""

import hashlib
import os
import re
from collections.abc import Iterable


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
        return os.path.join(self.folder, "settings.json")

    def method_settings(self, method: str) -> str:
        """The same, of one method."""
        return os.path.join(self._of(method), "settings.json")

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

    def units(self, methods: Iterable[str], seeds: Iterable[int]) -> list[tuple[str, int]]:
        """All searches, seed by seed, so that there is something to compare early."""
        return [(method, seed) for seed in seeds for method in methods]

    def _unit(self, method: str, seed: int) -> str:
        return os.path.join(self._of(method), f"seed_{seed}")

    def _of(self, method: str) -> str:
        plain = re.sub(r"[^\w.-]+", "_", method).strip("._")
        if plain != method:  # others may look like it
            plain += "_" + hashlib.sha256(method.encode()).hexdigest()[:6]
        return os.path.join(self.folder, plain)
