"""What is wrong with data, before anything is trained."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Iterator

import keras
import numpy as np
import tensorflow as tf

from keras_drmad.data import PARTS, ArrayBatches, Batch, Batches, BufferedBatches
from keras_drmad.typing import Structure

# Of a hyper set: how much more of it may be found in the training set than is found there by chance.
OVERLAP_ALLOWED = 0.1
# Of each sample, before all of it is.
VALUES_COMPARED = 16

# Whose targets are probabilities, or numbers of classes: none is negative.
NOT_NEGATIVE = (
    keras.losses.BinaryCrossentropy,
    keras.losses.CategoricalCrossentropy,
    keras.losses.SparseCategoricalCrossentropy,
    keras.losses.Poisson,
    keras.losses.KLDivergence,
)


def check_data(name: str, model: keras.Model, batches: Batches) -> None:
    """Raises a ValueError for data that a model cannot be trained or judged on."""
    check_values(name, batches)
    check_inputs(name, model, batches)
    check_targets(name, model, batches)


def check_arrays(name: str, data: Structure) -> None:
    """Raises a ValueError if `(x, y, …)` hold no arrays, several lengths, or no finite values."""
    leaves = [leaf for leaf in keras.tree.flatten(data) if leaf is not None]
    if not all(getattr(leaf, "shape", ()) for leaf in leaves):
        raise ValueError(
            f"`{name}` must hold arrays of samples. Received: Python's own numbers, text, or lists of "
            "them, or single samples. Use `np.asarray(...)` on inputs and on targets."
        )
    if len({leaf.shape[0] for leaf in leaves}) > 1:
        raise ValueError(
            f"`{name}` must hold arrays with the same number of samples. Received: arrays of shape "
            f"{' and '.join(str(tuple(leaf.shape)) for leaf in leaves)}"
        )
    if not leaves or not leaves[0].shape[0]:
        raise ValueError(f"`{name}` must hold at least one sample. Received: none")
    if bad := sum(not_finite(np.asarray(leaf)) for leaf in leaves if hasattr(leaf, "__array__")):
        raise ValueError(
            f"`{name}` must hold finite numbers. Received: {bad} values that are NaN or infinite. "
            "Remove or replace them."
        )


def check_values(name: str, batches: Batches) -> None:
    """Raises a ValueError if a value in memory is not finite, or no sample has a weight."""
    for batch in _in_memory(batches):
        for part, of in zip(PARTS, batch, strict=True):
            for array in map(np.asarray, tf.nest.flatten(of)):
                if bad := not_finite(array):
                    raise ValueError(
                        f"`{name}` holds {bad} values that are NaN or infinite, in its {part}, an "
                        f"array of shape {array.shape}. Remove or replace them."
                    )
        _check_weights(name, batch)
    weights = [w for *_, of in _in_memory(batches) for w in tf.nest.flatten(of)]
    if weights and not any(np.any(w) for w in weights):
        raise ValueError(
            f"`{name}` must hold sample weights of which some are not 0. Received: 0 for all samples"
        )


def _check_weights(name: str, batch: Batch) -> None:
    """Raises a ValueError unless weights are of samples, or of their first axes, as targets are."""
    y, weights = (() if tf.nest.is_nested(p) else tuple(p.shape) for p in batch[1:])
    extra = weights[1:]
    fit = all(own in (1, of) for own, of in zip(extra, y[1:], strict=False))
    if y and max(extra, default=1) > 1 and not (fit and len(extra) < len(y)):
        raise ValueError(
            f"`{name}` must hold a sample weight for each sample (or for each of its steps). Received: "
            f"sample weights of shape {weights}, targets of shape {y}"
        )


def not_finite(array: np.ndarray) -> int:
    """How many values are NaN or infinite."""
    if not np.issubdtype(array.dtype, np.inexact):
        return 0
    with np.errstate(over="ignore", invalid="ignore"):
        # In one pass, and without an array of truth values.
        if np.isfinite(np.sum(array, dtype=np.result_type(array, np.float32))):
            return 0
    return array.size - int(np.count_nonzero(np.isfinite(array)))


def check_targets(name: str, model: keras.Model, batches: Batches) -> None:
    """Raises a ValueError if targets are missing, or in memory and none for the model's one loss."""
    loss = getattr(model, "loss", None)
    y = batches.batch(0)[1]
    if isinstance(loss, str | keras.Loss) and isinstance(y, tuple) and not y:
        raise ValueError(
            f"`{name}` must hold targets, for the model is compiled with the loss {loss!r}. Received: "
            "inputs only. Pass `(x, y)`."
        )
    if isinstance(loss, str):
        loss = next((kind() for kind in NOT_NEGATIVE if kind().name == loss), loss)
    if not isinstance(loss, NOT_NEGATIVE):
        return
    most, ignored = np.inf, None
    if isinstance(loss, keras.losses.SparseCategoricalCrossentropy):
        shape = getattr(model, "output_shape", None) if model.built else None
        most = shape[-1] - 1 if isinstance(shape, tuple) and shape[-1] else np.inf
        ignored = loss.get_config().get("ignore_class")
    for _, y, _ in _in_memory(batches):
        if tf.nest.is_nested(y):
            return
        targets = np.asarray(y)
        bad = targets[(targets < 0) | (targets > most)]
        bad = bad if ignored is None else bad[bad != ignored]
        if bad.size:
            span = "0 or more" if most == np.inf else f"from 0 to {most}, a number for each class"
            raise ValueError(
                f"`{name}` holds {bad.size} targets that the loss {loss.name!r} cannot take: they must "
                f"be {span}. Received: {bad.flat[0]}"
            )


def check_inputs(name: str, model: keras.Model, batches: Batches) -> None:
    """Raises a ValueError if an input of a built model is missing, or one array has another size."""
    takes = getattr(model, "input_shape", None) if model.built else None
    x = batches.batch(0)[0]
    inputs, given = getattr(model, "inputs", None) or (), len(tf.nest.flatten(x))
    if given < len(inputs):
        raise ValueError(
            f"`{name}` must hold {len(inputs)} inputs, as the model takes them: "
            f"{[tensor.name for tensor in inputs]}. Received: {given}"
        )
    if not isinstance(takes, tuple) or tf.nest.is_nested(x) or len(takes) != len(x.shape):
        return
    sizes = zip(takes[1:], x.shape[1:], strict=True)
    if any(size is not None and size != given for size, given in sizes):
        raise ValueError(
            f"`{name}` must hold inputs of shape {takes}, as the model takes them. Received: an array "
            f"of shape {tuple(x.shape)}"
        )


def _in_memory(batches: Batches) -> Iterator[Batch]:
    """What `Batches` hold; those of a `PyDataset` are made when they are needed."""
    if isinstance(batches, ArrayBatches):
        yield batches.data
    elif isinstance(batches, BufferedBatches):
        yield from (batches.batch(step) for step in range(len(batches)))


def check_apart(training: Batches, hyper: Batches) -> None:
    """Raises a ValueError if the hyper set is taken from the training data, both in arrays."""
    if (said := overlap_of(training, hyper)) is not None:
        raise ValueError(said)


def overlap_of(training: Batches, hyper: Batches) -> str | None:
    """What there is to say of a hyper set that is taken from the training data, both in arrays."""
    if not isinstance(training, ArrayBatches) or not isinstance(hyper, ArrayBatches):
        return None
    shared = overlap([hyper.data], [training.data])
    return None if shared is None else overlapping(shared, "its samples")


def overlapping(shared: float, of: str) -> str:
    """What there is to say where a share `of` something is both in the hyper set and trained on."""
    return (
        f"`validation_data` overlaps the training data: {shared:.0%} of {of} are in both. "
        "Hyperparameters that are fitted to training data learn to overfit: split the data."
    )


def overlap(batches: Iterable[Batch], others: Iterable[Batch]) -> float | None:
    """The share of the samples of some batches that others hold, too; None if chance explains it."""
    own, known = _inputs(batches), _inputs(others)
    samples = [sample for array in own for sample in _samples(array)]
    found = set(samples).intersection(_samples_like(own, known))
    both = sum(sample in found for sample in samples) / len(samples)
    allowed = OVERLAP_ALLOWED + len(samples) ** -0.5
    if both <= allowed:
        return None
    # Small discrete inputs repeat themselves, and are in both by chance as often.
    counts = collections.Counter(sample for array in known for sample in _samples(array))
    by_chance = sum(number for number in counts.values() if number > 1) / counts.total()
    return both if both - by_chance > allowed else None


def _inputs(batches: Iterable[Batch]) -> list[np.ndarray]:
    """The first inputs of batches, a row each sample."""
    first = (np.asarray(tf.nest.flatten(x)[0]) for x, *_ in batches)
    return [array.reshape(len(array), -1) for array in first]


def _samples(array: np.ndarray) -> list[int]:
    """A number for each sample: a hash of its bytes."""
    return [hash(row.tobytes()) for row in array]


def _samples_like(own: list[np.ndarray], known: list[np.ndarray]) -> Iterator[int]:
    """Numbers of those known samples that are equal to one of `own` where a few values are compared.

    To hash all of a large data set would take as long as hundreds of training steps on it.
    """
    sought = {key for array in own for key in _few_values(array)}
    for array in known:
        alike = [i for i, key in enumerate(_few_values(array)) if key in sought]
        yield from _samples(array[alike])


def _few_values(array: np.ndarray) -> Iterator[bytes]:
    """Of each sample some values, from all over it."""
    some = array[:, :: max(1, array.shape[1] // VALUES_COMPARED)]
    size, memory = some.shape[1] * some.itemsize, some.tobytes()
    return (memory[i * size : (i + 1) * size] for i in range(len(some)))
