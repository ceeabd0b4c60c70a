"""`RecordPath`: a callback that records the weights during `fit`."""

import os
import pathlib

import keras
import numpy as np

from keras_drmad.arguments import choice, make_folder, path_like, suggesting
from keras_drmad.plots import recorded_path
from keras_drmad.plots.recorded_path import RecordedPath, Snapshot, Values, state_variables
from keras_drmad.plots.snapshots import Snapshots
from keras_drmad.typing import Logs

DTYPES = ("float16", "float32", "float64")


@suggesting
class RecordPath(Snapshots[Snapshot | pathlib.Path]):
    """Records the weights, moving statistics and training loss during `fit`, for the plots.

    Each `fit` begins a new path. When `max_snapshots` are reached, every second one is dropped, and
    `every` is doubled from then on; the first and the last stay. So the default suits trainings of any
    length. Memory: `max_snapshots` × the weights.

    Args:
        every: Training steps between two snapshots. Defaults to `1`.
        dtype: Of the recorded weights: `"float16"` (the default), `"float32"` or `"float64"`. A
            variable whose values do not fit into it, and moving statistics, keep their own.
        directory: A folder for the snapshots, as `.npz` files. Defaults to None: they stay in memory.
            Snapshots of an earlier training in the folder are deleted when `fit` begins.
        max_snapshots: The largest number that is kept. Defaults to `100`.

    Raises:
        ValueError: An argument has a wrong value.

    Attributes:
        path: The `RecordedPath`, also after a training that was stopped. `RecordedPath.load(directory)`
            reads it again.

    Example:

    >>> from keras_drmad import plots
    >>> x, y = np.random.rand(64, 4), np.random.rand(64, 1)
    >>> model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(optimizer="sgd", loss="mse")
    >>> record = plots.RecordPath(every=2)
    >>> history = model.fit(x, y, batch_size=16, epochs=2, verbose=0, callbacks=[record])
    >>> record.path
    RecordedPath(5 snapshots of steps 0 to 8)
    """

    def __init__(
        self,
        every: int = 1,
        dtype: str = "float16",
        directory: str | os.PathLike[str] | None = None,
        max_snapshots: int = 100,
    ) -> None:
        super().__init__(every, max_snapshots, "max_snapshots")
        self.dtype = choice("dtype", dtype, DTYPES)
        self.directory = (
            None if directory is None else pathlib.Path(path_like("directory", directory))
        )

    @property
    def path(self) -> RecordedPath:
        if self.directory is not None and self.taken:
            return RecordedPath.load(self.directory)
        return RecordedPath([item for _, item in self.taken if isinstance(item, Snapshot)])

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self._loss_total, self._batches = 0.0, 0  # of the epochs before
        self._loss_then, self._batches_then = 0.0, 0  # at the latest snapshot
        self._first: Snapshot | None = None
        if self.directory is not None:
            make_folder("directory", self.directory)
            for file in recorded_path.files(self.directory):
                file.unlink()
        super().on_train_begin(logs)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self._loss_total += (logs or {}).get("loss", np.nan) * self._of_epoch
        self._batches += self._of_epoch
        self._of_epoch = 0

    def take(self, logs: Logs) -> Snapshot | pathlib.Path:
        weights = [_value(v, self.dtype) for v in self.model.trainable_variables]
        state = [_value(v, None) for v in state_variables(self.model)]
        snapshot = Snapshot(self.step, self._loss(logs), weights, state)
        if self._first is None:
            self._first = snapshot
        else:  # what does not change is kept once
            weights = _shared(snapshot.weights, self._first.weights)
            snapshot = snapshot._replace(
                weights=weights, state=_shared(snapshot.state, self._first.state)
            )
        if self.directory is None:
            return snapshot
        return recorded_path.write(self.directory, snapshot, self._first)

    def drop(self, item: Snapshot | pathlib.Path) -> None:
        if isinstance(item, pathlib.Path):
            item.unlink(missing_ok=True)

    def _loss(self, logs: Logs) -> float:
        """The mean over the batches since the latest snapshot. Keras logs that of the epoch so far."""
        total, batches = self._loss_total, self._batches
        if self._of_epoch:
            total += logs.get("loss", np.nan) * self._of_epoch
            batches += self._of_epoch
        since = batches - self._batches_then
        mean = (total - self._loss_then) / since if since else np.nan
        self._loss_then, self._batches_then = total, batches
        return float(mean)


def _value(variable: keras.Variable, dtype: str | None) -> np.ndarray:
    value = np.asarray(keras.ops.convert_to_numpy(variable))
    if value.dtype.name not in DTYPES:  # NumPy's files do not know bfloat16
        value = value.astype("float32")
    if dtype is None:
        return np.array(value)
    with np.errstate(over="ignore"):
        smaller = value.astype(dtype)
    fits = np.array_equal(np.isfinite(smaller), np.isfinite(value))
    return smaller if fits else np.array(value)


def _shared(values: Values, earlier: Values) -> Values:
    return [e if np.array_equal(v, e) else v for v, e in zip(values, earlier, strict=True)]
