"""`Accompanied`: an optimizer that is saved with the state of what learns its hyperparameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_drmad.typing import Arrays

PREFIX = "companion_"  # of the names of arrays that are not the optimizer's own


class Accompanied(keras.optimizers.Optimizer):
    """Base class: `BackupAndRestore` and `save_weights` save what belongs to a training as well.

    Attributes:
        companion: returns what is saved beside the optimizer's variables, while something learns.
        companion_state: what was loaded so, for what learns next.
    """

    companion: Callable[[], Arrays] | None = None
    companion_state: Arrays | None = None

    def save_own_variables(self, store: Any) -> None:
        super().save_own_variables(store)
        for name, array in (self.companion() if self.companion else {}).items():
            store[PREFIX + name] = array

    def load_own_variables(self, store: Any) -> None:
        own = {name: store[name] for name in store.keys()}  # noqa: SIM118  # a group of HDF5
        self.companion_state = {
            name.removeprefix(PREFIX): np.array(own.pop(name))
            for name in list(own)
            if name.startswith(PREFIX)
        }
        super().load_own_variables(own)
