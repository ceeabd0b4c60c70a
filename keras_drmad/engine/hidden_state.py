"""State that a training step keeps where Keras does not see it: found in its graph, and refused.

A reverse pass takes steps again. What they read must then be what it was, so all that a step changes
has to be a Keras variable: an argument of every program.
"""

from __future__ import annotations

import keras

from keras_drmad import compat
from keras_drmad.engine.second_derivatives import layer_of

# Stateful by TensorFlow's book, but they change nothing that another step reads.
HARMLESS = frozenset(
    {
        "Assert",
        "Empty",
        "LookupTableFindV2",
        "LookupTableSizeV2",
        "Print",
        "PrintV2",
        "ReadVariableOp",
        "ResourceGather",
        "ResourceGatherNd",
        "VarHandleOp",
        "VariableShape",
    }
)
# What is in them is looked at by itself.
CALLS = frozenset({"Case", "For", "If", "PartitionedCall", "StatefulPartitionedCall", "While"})
RANDOM = ("Random", "Rng", "Multinomial", "StatefulUniform", "StatefulStandard", "Truncated")


def check(model: keras.Model, operations: list[tuple[str, str]]) -> None:
    """Raises a ValueError that names the layer, if a training step keeps state of its own.

    Args:
        model: whose step it is.
        operations: `(type, name)` of all operations of its loss and gradient.
    """
    for kind, path in operations:
        if kind in HARMLESS | CALLS or kind.startswith("Collective"):
            continue
        if compat.is_stateful(kind):
            raise ValueError(
                f"{layer_of(model, path)} {_reason(kind)}. (TensorFlow's operation is `{kind}`. With "
                "`check=False` it is let through; hypergradients are then those of another training.)"
            )


def _reason(kind: str) -> str:
    if any(word in kind for word in RANDOM):
        return (
            "draws random numbers that cannot be drawn again. Use `keras.random` with a "
            "`keras.random.SeedGenerator`, or a layer such as `GaussianNoise`"
        )
    if "PyFunc" in kind:
        return (
            "calls Python, which may answer otherwise when a step is taken again. Use operations of "
            "TensorFlow or Keras"
        )
    return (
        "keeps state that Keras does not know. Make it a Keras variable: "
        "`self.add_weight(..., trainable=False)`"
    )
