"""Names for types that many files use."""

from typing import Any, TypeAlias

import numpy as np

# A `tf.Tensor`. TensorFlow gives it its operators when it is imported, where type checkers see none.
Tensor: TypeAlias = Any
Tensors: TypeAlias = list[Tensor]
Vectors: TypeAlias = dict[str, Tensor]  # of each kind of hyperparameter its flat vector
Slots: TypeAlias = dict[str, Tensors]  # by slot, one tensor a variable
Arrays: TypeAlias = dict[str, np.ndarray]  # by name
Logs: TypeAlias = dict[str, float]  # as Keras's callbacks get them
Structure: TypeAlias = Any  # nested lists, tuples and dictionaries of tensors
Hyperparameters: TypeAlias = dict[str, dict[str, Any]]  # {group: {kind: a float, or an array}}
JsonObject: TypeAlias = dict[str, Any]  # numbers, strings, lists and further ones
