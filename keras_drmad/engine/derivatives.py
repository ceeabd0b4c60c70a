"""What a reverse pass finds."""

from dataclasses import dataclass

from keras_drmad.engine.programs import Adjoint

# Where the adjoint of the weights grew more than this on the way back, training was chaotic or the
# path left the region where it was stable. Healthy runs stay below 10.
GROWTH_LIMIT = 100.0


@dataclass
class Derivatives:
    """The result of a reverse pass, still as tensors."""

    validation_loss: float
    adjoint: Adjoint
    growth: float
    finite: bool
    undone: bool = False  # of a path that undoes training: whether it came back to its start
