"""Batches by number: what a reverse pass needs to read its training data again, last batch first.

A batch is `(x, y, sample_weight)` with `()` where there is none. `Batches.stack` hands out several at
once, stacked along a new first axis, so that one compiled program walks over them.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import keras
import numpy as np
import tensorflow as tf

from keras_drmad.devices import only_cpus
from keras_drmad.typing import Structure, Tensor

# Of one stack of batches, or of what a path stores of one: large enough to hide its dispatch.
STACK_BYTES = 8 * 2**20
STACK_STEPS = 128
ALIGNMENT = 64  # of tensors in memory, in bytes
NO_BATCH = "There is no batch of data: an empty data set."
VALIDATION_BATCH = 256

PARTS = ("inputs", "targets", "sample weights")  # of a batch

Batch: TypeAlias = tuple[Structure, Structure, Structure]
Signature: TypeAlias = tuple[tuple[tuple[int, ...], Any], ...]  # shape and dtype of each array


class Shares(NamedTuple):
    """A batch as the parts that replicas train on, some of which may be empty."""

    parts: tuple[Batch, ...]

    def whole(self) -> Batch:
        """The batch."""
        return tf.nest.map_structure(lambda *leaves: keras.ops.concatenate(leaves), *self.parts)


def as_batch(data: Structure) -> Batch:
    """`(x, y, sample_weight)` of dense arrays and tensors, with `()` for what is missing.

    Not None, which `tf.nest` would see as a leaf.

    Raises:
        ValueError: A leaf that is no dense array of numbers, or leaves of other lengths.
    """
    parts = keras.utils.unpack_x_y_sample_weight(data)
    batch = tf.nest.map_structure(_dense, parts)
    shapes = {
        part: [tuple(leaf.shape) for leaf in tf.nest.flatten(of)]
        for part, of in zip(PARTS, batch, strict=True)
    }
    every = [shape for of in shapes.values() for shape in of]
    if not all(every) or len({shape[0] for shape in every if shape}) > 1:
        seen = ", ".join(
            f"{part} of shape {' and '.join(map(str, of))}" for part, of in shapes.items() if of
        )
        raise ValueError(
            "The arrays of a batch must have the same number of samples, along their first axis. "
            f"Received: {seen}. Use `dataset.batch(...)` on data of single samples."
        )
    return batch


def as_arguments(batch: Batch) -> tuple[Structure, Structure, Structure]:
    """A batch with None for what is missing, as Keras's methods take it."""
    x, y, sample_weight = (None if isinstance(p, tuple) and not p else p for p in batch)
    return x, y, sample_weight


def for_fit(batch: Batch) -> tuple[Structure, ...]:
    """A batch as a `keras.utils.PyDataset` hands it to `fit`: a tuple, also of inputs alone."""
    x, *others = as_arguments(batch)
    x = tuple(x) if isinstance(x, list) else x  # `tf.data` takes no lists
    packed = keras.utils.pack_x_y_sample_weight(x, *others)
    return packed if isinstance(packed, tuple) and packed is not x else (x,)


def _dense(leaf: Any) -> Any:
    """The gate for all data: a leaf of a batch as an array or a tensor, `()` for none."""
    if leaf is None or isinstance(leaf, tf.experimental.Optional):  # `tf.data` hands None out so
        return ()
    if isinstance(leaf, bool | int | float | complex | str | bytes):
        raise ValueError(
            "Batches must hold arrays. Received: Python's own numbers, text, or lists of them. Use "
            "`np.asarray(...)` on inputs and on targets."
        )
    if isinstance(leaf, tf.RaggedTensor):
        wrong = "ragged. Use `.to_tensor()` on them, and mask what pads them"
    elif isinstance(leaf, tf.SparseTensor) or hasattr(leaf, "tocsr"):
        wrong = "sparse. Use `tf.sparse.to_dense` or `.toarray()` on them"
    else:
        leaf = leaf if tf.is_tensor(leaf) else np.asarray(leaf)
        kind = np.dtype(leaf.dtype.as_numpy_dtype if tf.is_tensor(leaf) else leaf.dtype).kind
        wrong = _NOT_NUMERIC.get(kind, "")
    if wrong:
        raise ValueError(
            f"Batches must hold dense arrays of numeric values. Received: a {type(leaf).__name__} of "
            f"shape {leaf.shape}, {wrong}."
        )
    return leaf


_TEXT = "of text. Map it to integers before, by `dataset.map(TextVectorization(...))`"
_NOT_NUMERIC = {  # by NumPy's kinds
    "c": "of complex numbers. Split them into real and imaginary parts",
    "O": "of objects or text. Map them to numbers before",
    "S": _TEXT,
    "U": _TEXT,
}


def _signature(batch: Batch) -> Signature:
    return tuple((tuple(a.shape), tf.as_dtype(a.dtype)) for a in tf.nest.flatten(batch))


class Batches:
    """A sequence of batches that can be read in any order.

    Attributes:
        epoch_steps: batches in one epoch; None if that is not known.
        in_memory: whether to read a batch again costs next to nothing.
    """

    epoch_steps: int | None = None
    in_memory = True

    def batch(self, step: int) -> Batch:
        """Batch number `step`."""
        raise NotImplementedError

    def signature(self, step: int) -> Signature:
        """Shapes and dtypes of a batch; equal ones can be stacked."""
        return _signature(self.batch(step))

    def capacity(self, step: int) -> int:
        """How many batches like that at `step` make a stack of at most `STACK_BYTES`."""
        size = sum(int(np.prod(s)) * tf.as_dtype(d).size for s, d in self.signature(step))
        return int(np.clip(STACK_BYTES // max(size, 1), 1, STACK_STEPS))

    def pieces(
        self, steps: Iterable[int], limit: int = STACK_STEPS
    ) -> Iterator[tuple[list[int], int]]:
        """Cuts a sequence of step numbers into lists that can be stacked: `(steps, capacity)`.

        No list is longer than `limit`.
        """
        piece: list[int] = []
        signature: Signature | None = None
        capacity = 0
        for step in steps:
            if piece and (len(piece) == capacity or self.signature(step) != signature):
                yield piece, capacity
                piece = []
            if not piece:
                signature, capacity = self.signature(step), min(self.capacity(step), limit)
            piece.append(step)
        if piece:
            yield piece, capacity

    def stack(self, steps: Sequence[int], capacity: int) -> Structure:
        """The batches `steps` along a new first axis, padded to `capacity` with what is never read."""
        batches = [self.batch(step) for step in steps]

        def stack(*leaves: Any) -> Tensor:
            if tf.is_tensor(leaves[0]) and not only_cpus():
                return tf.stack(leaves + leaves[-1:] * (capacity - len(leaves)))
            arrays = [np.asarray(leaf) for leaf in leaves]
            out = _empty((capacity, *arrays[0].shape), arrays[0].dtype)
            np.stack(arrays, out=out[: len(arrays)])
            return _as_tensor(out)

        return tf.nest.map_structure(stack, *batches)


class ArrayBatches(Batches):
    """Batches of arrays; nothing but the arrays is kept, so memory does not grow with the steps."""

    epoch_steps: int

    def __init__(self, data: Structure, batch_size: int, seed: int | None = None) -> None:
        self.data = tf.nest.map_structure(_as_array, as_batch(data))
        leaves = tf.nest.flatten(self.data)
        self.samples = len(leaves[0]) if leaves else 0
        if not self.samples:
            raise ValueError(
                f"Arrays must hold at least one sample. Received: shapes {[a.shape for a in leaves]}"
            )
        self.batch_size = min(batch_size, self.samples)
        self.epoch_steps = -(-self.samples // self.batch_size)
        last = self.samples - (self.epoch_steps - 1) * self.batch_size
        self._signatures: list[Signature] = [  # of a full batch, and of the last of an epoch
            tuple(((size, *a.shape[1:]), tf.as_dtype(a.dtype)) for a in leaves)
            for size in (self.batch_size, last)
        ]
        self._seed = seed
        self._orders: dict[int, np.ndarray] = {}

    def _order(self, epoch: int) -> np.ndarray:
        if self._seed is None:
            epoch = 0
        if epoch not in self._orders:
            if len(self._orders) > 1:  # the passes go epoch by epoch
                self._orders.clear()
            self._orders[epoch] = (
                np.arange(self.samples)
                if self._seed is None
                else np.random.default_rng((self._seed, epoch)).permutation(self.samples)
            )
        return self._orders[epoch]

    def _indices(self, step: int) -> np.ndarray:
        epoch, number = divmod(step, self.epoch_steps)
        return self._order(epoch)[number * self.batch_size : (number + 1) * self.batch_size]

    def signature(self, step: int) -> Signature:
        return self._signatures[step % self.epoch_steps == self.epoch_steps - 1]

    def batch(self, step: int) -> Batch:
        index = self._indices(step)
        return tf.nest.map_structure(lambda a: a[index], self.data)

    def stack(self, steps: Sequence[int], capacity: int) -> Structure:
        index = np.concatenate([self._indices(step) for step in steps])
        size = len(index) // len(steps)

        def gather(array: np.ndarray) -> tf.Tensor:
            out = _empty((capacity * size, *array.shape[1:]), array.dtype)
            np.take(array, index, axis=0, out=out[: len(index)], mode="clip")
            return _as_tensor(out.reshape(capacity, size, *array.shape[1:]))

        return tf.nest.map_structure(gather, self.data)


def _empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An array that a tensor can share its memory with."""
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)


def _as_tensor(array: np.ndarray) -> Tensor:
    """A tensor of an array by `_empty`, which is not written any more."""
    if only_cpus() and array.dtype.kind in "iuf":
        # `tf.convert_to_tensor` would copy it twice: longer than to gather it took.
        return tf.experimental.dlpack.from_dlpack(array.__dlpack__())
    return tf.convert_to_tensor(array)


def _as_array(leaf: Any) -> np.ndarray:
    array = np.asarray(leaf)
    if np.issubdtype(array.dtype, np.floating) and array.dtype != np.float16:
        array = array.astype(keras.config.floatx(), copy=False)  # as `fit` does
    return array


class SequenceBatches(Batches):
    """Batches of a `keras.utils.PyDataset`, read again by index: `__getitem__` must repeat itself."""

    epoch_steps: int
    in_memory = False

    def __init__(self, dataset: keras.utils.PyDataset) -> None:
        if dataset.num_batches is None:
            raise ValueError(f"A {type(dataset).__name__} must have a length: define `__len__`.")
        self._dataset = dataset
        self.epoch_steps = dataset.num_batches
        self._last: tuple[int | None, Any] = (None, None)
        self._signatures: dict[int, Signature] = {}  # else each batch would be made twice

    def signature(self, step: int) -> Signature:
        index = step % self.epoch_steps
        if index not in self._signatures:
            self._signatures[index] = super().signature(step)
        return self._signatures[index]

    def batch(self, step: int) -> Batch:
        if self._last[0] != step:
            data = self._dataset[step % self.epoch_steps]
            self._last = (step, tf.nest.map_structure(_as_array, as_batch(data)))
        return self._last[1]


class BufferedBatches(Batches):
    """Batches that were seen, kept in memory: one epoch's bytes for one epoch's steps."""

    def __init__(self, batches: Iterable[Batch | Shares] = ()) -> None:
        self._batches: list[Any] = list(batches)

    def __len__(self) -> int:
        return len(self._batches)

    def append(self, batch: Batch | Shares) -> None:
        self._batches.append(batch)

    def batch(self, step: int) -> Batch:
        return self._batches[step]


class Later(Batches):
    """The batches of another sequence, from number `first` on."""

    def __init__(self, batches: Batches, first: int) -> None:
        self._batches, self._first = batches, first
        self.in_memory = batches.in_memory

    def signature(self, step: int) -> Signature:
        return self._batches.signature(self._first + step)

    def batch(self, step: int) -> Batch:
        return self._batches.batch(self._first + step)

    def stack(self, steps: Sequence[int], capacity: int) -> Structure:
        return self._batches.stack([self._first + step for step in steps], capacity)


class StreamBatches(BufferedBatches):
    """Batches of an iterable, buffered while they are first read; it is started again at its end."""

    def __init__(self, iterable: Iterable[Structure]) -> None:
        super().__init__()
        self._iterable, self._iterator = iterable, iter(iterable)

    @functools.cached_property
    def epoch_steps(self) -> int | None:  # type: ignore[override]  # read once it is asked for
        cardinality = getattr(self._iterable, "cardinality", None)
        if cardinality is not None and int(cardinality()) == tf.data.INFINITE_CARDINALITY:
            return None
        if cardinality is None and not hasattr(self._iterable, "__len__"):
            return None
        while self._read():  # the buffer holds the epoch that is about to be used
            pass
        self._iterator = iter(self._iterable)
        return len(self._batches)

    def batch(self, step: int) -> Batch:
        while len(self._batches) <= step:
            if not self._read():
                if not self._batches:
                    raise ValueError(NO_BATCH)
                self._iterator = iter(self._iterable)
                if not self._read():
                    raise ValueError(
                        f"The training data ended after {len(self._batches)} batches and cannot be "
                        f"read again. Pass `steps={len(self._batches)}` or a `tf.data.Dataset`."
                    )
        return super().batch(step)

    def _read(self) -> bool:
        for data in self._iterator:
            self.append(as_batch(data))
            return True
        return False


def as_batches(data: Any, batch_size: int | None = None, seed: int | None = None) -> Batches:
    """`Batches` of whatever `fit` takes as `x`.

    Args:
        data: arrays as `(x, y)` or `(x, y, sample_weight)`, a `tf.data.Dataset`, a
            `keras.utils.PyDataset`, or another iterable of batches.
        batch_size: of arrays; 32 if None. Data that come in batches keep theirs.
        seed: arrays are shuffled by it, afresh each epoch; None keeps their order.

    Raises:
        ValueError: data of another kind, or arrays of several lengths.
    """
    if isinstance(data, Batches):
        return data
    if isinstance(data, (tuple, list)):
        return ArrayBatches(tuple(data), batch_size or 32, seed)
    if isinstance(data, dict) or hasattr(data, "__array__"):
        return ArrayBatches((data,), batch_size or 32, seed)
    if isinstance(data, keras.utils.PyDataset):
        return SequenceBatches(data)
    if isinstance(data, str | bytes) or not isinstance(data, Iterable):
        raise ValueError(
            "Data must be arrays as `(x, y)` or `(x, y, sample_weight)`, a `tf.data.Dataset`, a "
            f"`keras.utils.PyDataset`, or another iterable of batches. Received: {data!r}"
        )
    return StreamBatches(data)


def as_validation(data: Any, batch_size: int | None = None) -> Batches:
    """`Batches` of a validation set, which must have an end."""
    batches = as_batches(data, batch_size or VALIDATION_BATCH)
    if batches.epoch_steps is None:
        raise ValueError("The data must have an end: a length or a cardinality.")
    if not batches.epoch_steps:
        raise ValueError(NO_BATCH)
    return batches
