"""Which hyperparameter of which group acts on which variable.

A `Layout` maps the trainable variables of a model to three flat vectors, one for each kind of
hyperparameter: one entry a group or, for `per="unit"`, one L2 entry an input unit. Flat vectors keep
the training step cheap (three extra inputs, whatever the number of layers) and give the
meta-optimizer three variables to move.
"""

import difflib
from typing import NamedTuple

import numpy as np
import tensorflow as tf

KINDS = ("learning_rate", "momentum", "l2")
GRANULARITIES = ("global", "layer", "variable", "unit")


class Slice(NamedTuple):
    """A part of a kind's flat vector, and the shape that broadcasts it against a variable."""

    start: int
    size: int
    shape: tuple  # () for a scalar

    def of(self, vector):
        """The tensor in `vector` that this slice names."""
        part = vector[self.start : self.start + self.size]
        return tf.reshape(part, self.shape)


def variable_names(variables):
    """`(group, leaf)` of each variable, from its Keras path.

    The model's own name is left out where all variables share it. Layers with equal paths (sub-models
    built apart, each with a layer `dense`) are told apart by their order: `dense`, `dense#2`, ….
    """
    paths = [path_of(v).split("/") for v in variables]
    roots = {path[0] for path in paths}
    if len(roots) == 1 and all(len(path) > 2 for path in paths):
        paths = [path[1:] for path in paths]
    names, seen = [], {}
    for *parents, leaf in paths:
        layer = "/".join(parents) or leaf
        occurrences = seen.setdefault(layer, [set()])
        if leaf in occurrences[-1]:  # the same variable again: another layer of this path
            occurrences.append(set())
        occurrences[-1].add(leaf)
        count = len(occurrences)
        names.append((layer if count == 1 else f"{layer}#{count}", leaf))
    return names


def path_of(variable):
    """The Keras path of a Keras variable or of its TensorFlow variable."""
    return getattr(variable, "path", None) or variable.name.split(":")[0]


class Layout:
    """Groups of hyperparameters for `variables`.

    Args:
        variables: the trainable variables, in the optimizer's order.
        per: `"global"`, `"layer"`, `"variable"` or `"unit"`.
        has_l2: one bool a variable.
    """

    def __init__(self, variables, per, has_l2):
        names = variable_names(variables)
        self.slices = {kind: [] for kind in KINDS}  # kind -> one Slice (or None) a variable
        self.groups = {}  # group -> {kind: Slice}
        self.sizes = dict.fromkeys(KINDS, 0)
        for variable, (layer, leaf), regular in zip(variables, names, has_l2, strict=True):
            group = {"global": "global", "layer": layer}.get(per, f"{layer}/{leaf}")
            entries = self.groups.setdefault(group, {})
            for kind in KINDS:
                units = per == "unit" and kind == "l2"
                if kind == "l2" and (not regular or (units and len(variable.shape) < 2)):
                    self.slices[kind].append(None)
                    continue
                if kind not in entries:
                    # Keras keeps a kernel's input units on its last axis but one.
                    size = variable.shape[-2] if units else 1
                    shape = (size, 1) if units else ()
                    entries[kind] = Slice(self.sizes[kind], size, shape)
                    self.sizes[kind] += size
                self.slices[kind].append(entries[kind])
        # A group whose first variable has no L2 met "l2" late: keep one order of kinds for all.
        self.groups = {
            group: {kind: entries[kind] for kind in KINDS if kind in entries}
            for group, entries in self.groups.items()
        }

    def spread(self, kind, vector, dtypes):
        """One tensor a variable (None where the kind does not act), broadcastable against it."""
        return [
            None if s is None else tf.cast(s.of(vector), dtype)
            for s, dtype in zip(self.slices[kind], dtypes, strict=True)
        ]

    def nest(self, vectors):
        """`{group: {kind: float or array}}` from `{kind: flat vector}`, in the model's own order."""
        flat = {kind: np.asarray(vector) for kind, vector in vectors.items()}
        return {
            group: {
                kind: flat[kind][s.start].item()
                if s.shape == ()
                else flat[kind][s.start : s.start + s.size].copy()
                for kind, s in entries.items()
            }
            for group, entries in self.groups.items()
        }

    def parse(self, values):
        """Yields `(group, kind, Slice, array)` for `{group: {kind: value}}`.

        Raises:
            ValueError: an unknown group or kind (the nearest valid name is given), or a wrong shape.
        """
        for group, entries in _items(values, "hyperparameters"):
            known = self.groups.get(group)
            if known is None:
                raise ValueError(_unknown("group", group, self.groups))
            for kind, value in _items(entries, f"hyperparameters[{group!r}]"):
                if kind not in known:
                    raise ValueError(_unknown(f"hyperparameter of group {group!r}", kind, known))
                part = known[kind]
                shape = () if part.shape == () else (part.size,)
                value = np.asarray(value, "float64")
                if value.shape not in ((), shape):
                    raise ValueError(
                        f"hyperparameters[{group!r}][{kind!r}] must be a number"
                        + (f" or an array of shape {shape}" if shape else "")
                        + f". Received: an array of shape {value.shape}"
                    )
                yield group, kind, part, value


def _items(mapping, name):
    if not hasattr(mapping, "items"):
        raise ValueError(f"`{name}` must be a dictionary. Received: {mapping!r}")
    return mapping.items()


def _unknown(what, name, valid):
    near = difflib.get_close_matches(str(name), valid, n=1, cutoff=0.0)
    return (
        f"Unknown {what}: {name!r}. Did you mean {near[0]!r}? Valid: {', '.join(map(repr, valid))}"
    )
