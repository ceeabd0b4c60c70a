"""Names for types that many files use."""

from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf

Tensors: TypeAlias = list[tf.Tensor]
Slots: TypeAlias = dict[str, list[tf.Tensor]]  # by slot, one tensor a variable
Arrays: TypeAlias = dict[str, np.ndarray]  # by name
Logs: TypeAlias = dict[str, float]  # as Keras's callbacks get them
Structure: TypeAlias = Any  # nested lists, tuples and dictionaries of tensors
Hyperparameters: TypeAlias = dict[str, dict[str, Any]]  # {group: {kind: a float, or an array}}
JsonObject: TypeAlias = dict[str, Any]  # numbers, strings, lists and further ones
