"""`Snapshots`: the networks of tests, each as it was."""

from collections.abc import Callable, Iterable

import numpy as np

from ...storage import files
from ..project import QANProject
from .greedy import Greedy


class Snapshots:
    """Weights of networks by number, in memory and in files, and their greedy actions.

    Args:
        project: names of files.
        make_greedy: makes a `Greedy` of a network with such weights.
    """

    def __init__(self, project: QANProject, make_greedy: Callable[[], Greedy]) -> None:
        self._project, self._make_greedy = project, make_greedy
        self._greedy: Greedy | None = None
        self.forget()

    def forget(self) -> None:
        """What is in a file is read again when it is needed."""
        self._weights: dict[int, list[np.ndarray]] = {}
        self._unwritten: set[int] = set()
        self._acting: list[np.ndarray] | None = None  # the weights that act

    def add(self, number: int, weights: list[np.ndarray]) -> None:
        self._weights[number] = weights
        self._write(number)

    def _write(self, number: int) -> None:
        weights = {str(i): w for i, w in enumerate(self._weights[number])}
        written = files.attempt(files.write_arrays, self._project.snapshot(number), weights=weights)
        (self._unwritten.discard if written else self._unwritten.add)(number)

    def weights(self, number: int) -> list[np.ndarray] | None:
        """Of a network; None if a full disk and a kill have lost them."""
        if number not in self._weights:
            saved = files.read_if_whole(self._project.snapshot(number))
            if saved is None:
                return None
            weights = saved["weights"]
            self._weights[number] = [weights[str(i)] for i in range(len(weights))]
        return self._weights[number]

    def act(self, weights: list[np.ndarray], observations: np.ndarray) -> np.ndarray:
        """(groups,) greedy actions of a network with these weights, which `weights` has given."""
        if self._greedy is None:
            self._greedy = self._make_greedy()
        if weights is not self._acting:
            self._greedy.network.set_weights(weights)
            self._greedy.read()
            self._acting = weights
        return self._greedy(observations)

    def tidy(self, needed: Iterable[int]) -> None:
        """Forgets all but the needed ones; writes what could not be written before."""
        needed = set(needed)
        self._weights = {n: w for n, w in self._weights.items() if n in needed}
        self._unwritten &= needed
        self.write_more()

    def write_more(self) -> bool:
        """Writes what a full disk has not taken; whether nothing is left."""
        for number in sorted(self._unwritten):
            self._write(number)
        return not self._unwritten
