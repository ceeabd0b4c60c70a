"""`RecordedPath`: the weights that a training went through."""

import math
import os
import pathlib
import re
import zipfile
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import keras
import numpy as np

from keras_drmad.arguments import of_kind, path_like, whole_number, wrong

Values = list[np.ndarray]  # one array a variable
_FILE = re.compile(r"step-(\d+)\.npz")


class Snapshot(NamedTuple):
    """A model after a number of training steps.

    `loss` is the mean training loss of the batches since the snapshot before; NaN for the first.
    `weights` are the trainable variables. `state` are the other floating-point ones: moving
    statistics, frozen weights.
    """

    step: int
    loss: float
    weights: Values
    state: Values


def state_variables(model: keras.Model) -> list[keras.Variable]:
    """The variables in `Snapshot.state`."""
    return [v for v in model.non_trainable_weights if keras.backend.is_float_dtype(v.dtype)]


class RecordedPath:
    """The weights that a training went through, as `RecordPath` has recorded them.

    Args:
        snapshots: Their list, with increasing steps.

    Attributes:
        snapshots: The list.
        steps: Their training steps, as an array.
        losses: The training loss of each, as an array; the first is NaN.
        weights: A list of lists: the trainable variables of each.
        state: The same for moving statistics and other variables that are not trained.

    Example:

    >>> from keras_drmad import plots
    >>> snapshots = [plots.Snapshot(step, 1.0, [np.ones(3) * step], []) for step in (0, 10, 20)]
    >>> plots.RecordedPath(snapshots).save(folder / "path")
    >>> plots.RecordedPath.load(folder / "path").steps
    array([ 0, 10, 20])
    """

    def __init__(self, snapshots: Sequence[Snapshot]) -> None:
        if not isinstance(snapshots, list | tuple) or not all(
            isinstance(snapshot, Snapshot) for snapshot in snapshots
        ):
            raise wrong("snapshots", snapshots, "a list of `Snapshot`s")
        self.snapshots = list(snapshots)
        if not self.snapshots:
            raise ValueError("`path` holds no snapshots: train with `RecordPath` in `callbacks`.")
        for snapshot in self.snapshots:
            whole_number("snapshots", snapshot.step)
            if _shapes(snapshot) != _shapes(self.snapshots[0]):
                raise wrong("snapshots", snapshots, "`Snapshot`s of arrays, all of the same shapes")
        if np.any(np.diff(self.steps) <= 0):
            raise ValueError(f"`snapshots` must have increasing steps. Received: {self.steps}")

    @property
    def steps(self) -> np.ndarray:
        return np.array([snapshot.step for snapshot in self.snapshots])

    @property
    def losses(self) -> np.ndarray:
        return np.array([snapshot.loss for snapshot in self.snapshots])

    @property
    def weights(self) -> list[Values]:
        return [snapshot.weights for snapshot in self.snapshots]

    @property
    def state(self) -> list[Values]:
        return [snapshot.state for snapshot in self.snapshots]

    def __len__(self) -> int:
        return len(self.snapshots)

    def __repr__(self) -> str:
        first, last = self.snapshots[0].step, self.snapshots[-1].step
        return f"RecordedPath({len(self)} snapshots of steps {first} to {last})"

    def save(self, directory: str | os.PathLike[str]) -> None:
        """Writes all snapshots into a folder, each as `step-<number>.npz`."""
        folder = pathlib.Path(path_like("directory", directory))
        for snapshot in self.snapshots:
            write(folder, snapshot, self.snapshots[0])

    @classmethod
    def load(cls, directory: str | os.PathLike[str]) -> "RecordedPath":
        """The path that `save` or `RecordPath(directory=…)` wrote.

        Raises:
            ValueError: There are no snapshots in the folder.
        """
        found = files(pathlib.Path(path_like("directory", directory)))
        if not found:
            raise ValueError(
                f"`directory` holds no snapshots (step-….npz). Received: directory={directory!r}"
            )
        snapshots = [_read(found[0], None)]
        return cls(snapshots + [_read(file, snapshots[0]) for file in found[1:]])

    def check(self, model: keras.Model) -> None:
        """Compares the variables with those of a model.

        Raises:
            ValueError: Their numbers or shapes differ.
        """
        kinds = (
            ("trainable variables", model.trainable_variables, self.snapshots[0].weights),
            ("other variables", state_variables(model), self.snapshots[0].state),
        )
        for kind, variables, arrays in kinds:
            has, recorded = [tuple(v.shape) for v in variables], [a.shape for a in arrays]
            if has != recorded:
                raise ValueError(
                    f"`path` was recorded with another model than `model`. Shapes of {kind}: "
                    f"{has} in the model, {recorded} in the path. Pass that model, or record a path of "
                    "this one."
                )


def _shapes(snapshot: Snapshot) -> list[list[tuple[int, ...] | None]]:
    """Of its arrays; None of what is none."""
    return [
        [array.shape if isinstance(array, np.ndarray) else None for array in of]
        for of in (snapshot.weights, snapshot.state)
    ]


def checked(path: RecordedPath, least: int) -> RecordedPath:
    """`path`, if it holds enough snapshots.

    Raises:
        ValueError: It does not, or is something else.
    """
    what = "a `RecordedPath`, such as the attribute `path` of `RecordPath`"
    of_kind("path", path, RecordedPath, what)
    if len(path) < least:
        raise ValueError(f"`path` must hold at least {least} snapshots. Received: {path}")
    return path


def files(directory: pathlib.Path) -> list[pathlib.Path]:
    """The files of snapshots in a folder, by step."""
    found = [(_FILE.fullmatch(file.name), file) for file in directory.glob("*.npz")]
    return [file for _, file in sorted((int(match[1]), file) for match, file in found if match)]


def write(directory: pathlib.Path, snapshot: Snapshot, first: Snapshot) -> pathlib.Path:
    """Writes a snapshot, all or nothing, without the arrays that are those of `first`."""
    sizes = np.array([len(snapshot.weights), len(snapshot.state)])
    arrays = {"loss": np.array(snapshot.loss), "sizes": sizes}
    for name in ("weights", "state"):
        pairs = zip(getattr(snapshot, name), getattr(first, name), strict=True)
        for i, (array, other) in enumerate(pairs):
            if snapshot is first or array is not other:
                arrays[f"{name}/{i}"] = array
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / f"step-{snapshot.step:09d}.npz"
    temporary = file.with_suffix(".tmp")
    with open(temporary, "wb") as opened:
        np.savez(opened, **arrays)  # type: ignore[arg-type]  # none is named `allow_pickle`
    os.replace(temporary, file)
    return file


def _read(file: pathlib.Path, first: Snapshot | None) -> Snapshot:
    try:
        return _whole(file, first)
    except (EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(
            f"{file} is damaged ({error}), and the weights of this step are lost. Delete the file, and "
            "the path goes on without them; if it is the first one, record the path again."
        ) from error


def _whole(file: pathlib.Path, first: Snapshot | None) -> Snapshot:
    match = _FILE.fullmatch(file.name)
    assert match
    with open(file, "rb") as opened, np.load(opened, allow_pickle=False) as saved:

        def values(name: str, size: int) -> Values:
            if first is None:
                return [saved[f"{name}/{i}"] for i in range(size)]
            earlier = getattr(first, name)
            keys = [f"{name}/{i}" for i in range(size)]
            return [saved.get(k, e) for k, e in zip(keys, earlier, strict=True)]

        weights, state = (
            values(name, int(size))
            for name, size in zip(("weights", "state"), saved["sizes"], strict=True)
        )
        return Snapshot(int(match[1]), float(saved["loss"]), weights, state)


def norm(values: Values) -> float:
    """The length of a vector that is cut into arrays."""
    return math.sqrt(inner(values, values))


def inner(a: Values, b: Values) -> float:
    """The inner product of two such vectors, in double precision."""
    return float(
        sum(np.dot(np.ravel(p).astype("float64"), np.ravel(q)) for p, q in zip(a, b, strict=True))
    )


def difference(a: Values, b: Values) -> Values:
    """`a − b`, in double precision."""
    return [p.astype("float64") - q for p, q in zip(a, b, strict=True)]
