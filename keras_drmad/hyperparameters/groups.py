"""Which hyperparameter of which group acts on which variable.

A `Layout` maps the trainable variables of a model to flat vectors, one for each kind of
hyperparameter: one entry a group or, for `per="unit"`, one L2 entry an input unit. Flat vectors keep
the training step cheap (one extra input a kind, whatever the number of layers) and give the
meta-optimizer one variable a kind to move.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_drmad.arguments import did_you_mean
from keras_drmad.typing import Hyperparameters, Tensor, Tensors

INIT_SCALE = "init_scale"  # of the weights that training starts from
GRANULARITIES = ("global", "layer", "variable", "unit")


class Slice(NamedTuple):
    """A part of a kind's flat vector, and the shape that broadcasts it against a variable."""

    start: int
    size: int
    shape: tuple[int, ...]  # () for a scalar

    def of(self, vector: Tensor) -> Tensor:
        """The tensor in `vector` that this slice names."""
        if self.shape == ():
            return vector[self.start]
        part = vector[self.start : self.start + self.size]
        return tf.reshape(part, self.shape)


def variable_names(variables: Iterable[keras.Variable]) -> list[tuple[str, str]]:
    """`(group, leaf)` of each variable, from its Keras path.

    The model's own name is left out where all variables share it. Layers with equal paths (sub-models
    built apart, each with a layer `dense`) are told apart by their order: `dense`, `dense#2`, ….
    """
    paths = [path_of(v).split("/") for v in variables]
    roots = {path[0] for path in paths}
    if len(roots) == 1 and all(len(path) > 2 for path in paths):
        paths = [path[1:] for path in paths]
    names: list[tuple[str, str]] = []
    seen: dict[str, list[set[str]]] = {}
    for *parents, leaf in paths:
        layer = "/".join(parents) or leaf
        occurrences = seen.setdefault(layer, [set()])
        if leaf in occurrences[-1]:  # the same variable again: another layer of this path
            occurrences.append(set())
        occurrences[-1].add(leaf)
        count = len(occurrences)
        names.append((layer if count == 1 else f"{layer}#{count}", leaf))
    return names


def path_of(variable: keras.Variable | tf.Variable) -> str:
    """The Keras path of a Keras variable or of its TensorFlow variable."""
    return getattr(variable, "path", None) or variable.name.split(":")[0]


class Layout:
    """Groups of hyperparameters for `variables`.

    Args:
        variables: the trainable variables, in the optimizer's order.
        per: `"global"`, `"layer"`, `"variable"` or `"unit"`.
        acts: `{kind: one bool a variable}`, for each kind whether it acts on the variable.
        per_unit: the kinds that have one value for each input unit with `per="unit"`.
        knots: `{kind: number of knots}` of the kinds that vary over training. Their vectors hold
            the values at the first knot, then those at the second, ….
        init_scale: whether kernels have an initial scale.

    Attributes:
        slices: `{kind: one Slice (or None) a variable}`.
        groups: `{group: {kind: Slice}}`.
    """

    def __init__(
        self,
        variables: Sequence[keras.Variable],
        per: str,
        acts: dict[str, list[bool]],
        per_unit: Sequence[str] = (),
        knots: Mapping[str, int] | None = None,
        init_scale: bool = False,
    ) -> None:
        names = variable_names(variables)
        self.slices: dict[str, list[Slice | None]] = {kind: [] for kind in acts}
        self.groups: dict[str, dict[str, Slice]] = {}
        self.knots = dict(knots or {})
        self._widths = dict.fromkeys(acts, 0)  # entries of a vector, at one time
        for i, (variable, (layer, leaf)) in enumerate(zip(variables, names, strict=True)):
            group = _group(per, layer, leaf)
            entries = self.groups.setdefault(group, {})
            for kind in acts:
                units = per == "unit" and kind in per_unit
                if not acts[kind][i] or (units and len(variable.shape) < 2):
                    self.slices[kind].append(None)
                    continue
                if kind not in entries:
                    # Keras keeps a kernel's input units on its last axis but one.
                    size = variable.shape[-2] if units else 1
                    shape = (size, 1) if units else ()
                    entries[kind] = Slice(self._widths[kind], size, shape)
                    self._widths[kind] += size
                self.slices[kind].append(entries[kind])
        # A group whose first variable has no L2 met "l2" late: keep one order of kinds for all.
        self.groups = {
            group: {kind: entries[kind] for kind in acts if kind in entries}
            for group, entries in self.groups.items()
        }
        if init_scale:
            self._add_init_scales(variables, names, per)

    def _add_init_scales(
        self, variables: Sequence[keras.Variable], names: list[tuple[str, str]], per: str
    ) -> None:
        """One scale for each kernel; a group of several kernels has an array of them."""
        self.slices[INIT_SCALE] = [None] * len(variables)
        kernels: dict[str, list[int]] = {}
        for i, (variable, (layer, leaf)) in enumerate(zip(variables, names, strict=True)):
            if len(variable.shape) >= 2:
                kernels.setdefault(_group(per, layer, leaf), []).append(i)
        start = 0
        for group, indices in kernels.items():
            shape = () if len(indices) == 1 else (len(indices), 1)
            self.groups[group][INIT_SCALE] = Slice(start, len(indices), shape)
            for i in indices:
                self.slices[INIT_SCALE][i] = Slice(start, 1, ())
                start += 1
        self._widths[INIT_SCALE] = start

    def of(self, indices: Sequence[int]) -> Layout:
        """The layout of some of the variables, in another order; groups and vectors stay."""
        part = copy.copy(self)
        part.slices = {kind: [slices[i] for i in indices] for kind, slices in self.slices.items()}
        return part

    @property
    def sizes(self) -> dict[str, int]:
        """`{kind: entries of its flat vector}`."""
        return {kind: width * self.knots.get(kind, 1) for kind, width in self._widths.items()}

    def at(self, kind: str, vector: Tensor, position: Tensor) -> Tensor:
        """The entries of a kind in force at `position` (of `Knots.positions`, a scalar tensor)."""
        if kind not in self.knots:
            return vector
        position = tf.cast(position, vector.dtype)
        table = tf.reshape(vector, (self.knots[kind], self._widths[kind]))
        # Hat functions: XLA takes minutes to compile the derivative of an indexed read in a loop.
        distances = tf.abs(tf.range(self.knots[kind], dtype=table.dtype) - position)
        shares = tf.maximum(1 - distances, 0)
        return tf.linalg.matvec(table, shares, transpose_a=True)

    def write(self, vector: np.ndarray, kind: str, part: Slice, value: np.ndarray) -> None:
        """Puts the value of an entry of a group into a flat NumPy vector, in place."""
        table = vector.reshape(self.knots.get(kind, 1), self._widths[kind])
        if kind in self.knots:
            value = np.reshape(value, (-1, 1))
        table[:, part.start : part.start + part.size] = value

    def spread(self, kind: str, vector: Tensor, dtypes: Sequence[str]) -> Tensors:
        """One tensor a variable (None where the kind does not act), broadcastable against it."""
        return [
            None if s is None else tf.cast(s.of(vector), dtype)
            for s, dtype in zip(self.slices[kind], dtypes, strict=True)
        ]

    def nest(self, vectors: Mapping[str, Any]) -> Hyperparameters:
        """`{group: {kind: float or array}}` from `{kind: flat vector}`, in the model's own order."""
        flat = {kind: np.asarray(vector) for kind, vector in vectors.items()}

        def entry(kind: str, s: Slice) -> float | np.ndarray:
            if kind in self.knots:
                return flat[kind].reshape(self.knots[kind], -1)[:, s.start].copy()
            if s.shape == ():
                return flat[kind][s.start].item()
            return flat[kind][s.start : s.start + s.size].copy()

        return {
            group: {kind: entry(kind, s) for kind, s in entries.items() if kind in flat}
            for group, entries in self.groups.items()
        }

    def parse(
        self, values: Hyperparameters, name: str = "hyperparameters"
    ) -> Iterator[tuple[str, str, Slice, np.ndarray]]:
        """Yields `(group, kind, Slice, array)` for `{group: {kind: value}}`; `name`: of the argument.

        Raises:
            ValueError: an unknown group or kind (the nearest valid name is given), or a wrong value.
        """
        for group, kind, value in entries_of(values, name):
            known = self.groups.get(group)
            if known is None:
                raise ValueError(_unknown("group", group, self.groups))
            if kind not in known:
                raise ValueError(_unknown(f"hyperparameter of group {group!r}", kind, known))
            part = known[kind]
            shape = () if part.shape == () else (part.size,)
            shape = (self.knots[kind],) if kind in self.knots else shape
            if value.shape not in ((), shape):
                raise ValueError(
                    f"{name}[{group!r}][{kind!r}] must be a number"
                    + (f" or an array of shape {shape}" if shape else "")
                    + f". Received: an array of shape {value.shape}"
                )
            yield group, kind, part, value


def entries_of(values: Any, name: str) -> Iterator[tuple[str, str, np.ndarray]]:
    """`(group, kind, array)` of `{group: {kind: value}}`, whatever groups and kinds there are.

    Raises:
        ValueError: something else than dictionaries of finite numbers.
    """
    for group, entries in _items(values, f"`{name}`"):
        for kind, value in _items(entries, f"{name}[{group!r}]"):
            try:
                array = np.asarray(value)
            except ValueError:  # lists of several lengths
                array = np.empty(0, object)
            if array.dtype.kind not in "iuf" or not np.isfinite(array).all():
                raise ValueError(
                    f"{name}[{group!r}][{kind!r}] must be a finite number, or an array of them. "
                    f"Received: {value!r}"
                )
            yield group, kind, array.astype("float64")


def _group(per: str, layer: str, leaf: str) -> str:
    return {"global": "global", "layer": layer}.get(per, f"{layer}/{leaf}")


def _items(mapping: Any, name: str) -> Iterable[tuple[Any, Any]]:
    if not isinstance(mapping, Mapping):
        raise ValueError(f"{name} must be a dictionary. Received: {mapping!r}")
    return mapping.items()


def _unknown(what: str, name: object, valid: Iterable[str]) -> str:
    near = did_you_mean(name, valid=valid)
    return f"Unknown {what}: {name!r}. {near and near + ' '}Valid: {', '.join(map(repr, valid))}"
