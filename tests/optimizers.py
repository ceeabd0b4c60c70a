"""Both optimizers beside Keras's, for tests that each of them has to pass."""

from dataclasses import dataclass
from typing import Any

import keras
import pytest

from keras_drmad import DrMADAdamW, DrMADSGD


@dataclass(frozen=True)
class Kind:
    """An optimizer of ours, and what the tests need to know of it."""

    make: Any
    twin: Any  # of Keras, without our L2
    rate: float
    mean: str  # how much of the last gradients is kept: on the logit scale, 0.9 by default
    penalty: str  # what shrinks weights

    def __str__(self):
        return self.make.__name__

    def of(self, **arguments):
        """One with a penalty, as both have it by default or not."""
        return self.make(**{"learning_rate": self.rate, self.penalty: 1e-3} | arguments)

    def exclude(self, optimizer, **arguments):
        """Leaves variables out of the penalty."""
        getattr(optimizer, f"exclude_from_{self.penalty}")(**arguments)


SGD = Kind(DrMADSGD, keras.optimizers.SGD, 0.05, "momentum", "l2")
ADAMW = Kind(DrMADAdamW, keras.optimizers.AdamW, 0.01, "beta_1", "weight_decay")
both = pytest.mark.parametrize("kind", [SGD, ADAMW], ids=str)
