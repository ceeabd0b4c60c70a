"""RMAD: the training run itself, undone step by step in exact arithmetic."""

from keras_drmad.paths.arithmetic import FixedPoint
from keras_drmad.paths.exact import Stored


class Reversible(Stored):
    """Training in fixed point, undone on the way back, bit for bit (Maclaurin et al. 2015).

    Exact; each step costs one more gradient on the way back. Memory: 64 bits a weight, and
    log₂(1/μ) bits a weight and step (0.15 at μ = 0.9), see `keras_drmad.paths.fixed_point`.

    Momentum SGD only. Momenta are rounded to fractions with denominators up to 32768. Momentum below
    0.05 keeps too little of the velocity to be undone. Nesterov momentum cannot be undone at all: its
    step takes the gradient at a point that can only be found from the next one by solving
    `x − α ∇L(x) = y`, which has several solutions where α times the curvature exceeds 1. The same
    holds for weight decay and constraints, which lose bits of the weights.

    Weights, velocities and steps must stay below 2¹⁴ = 16384. Training that starts beyond it is
    refused with a ValueError; training that gets there, or to NaN, has diverged: its weights are NaN.
    """

    replay = "backward"
    arithmetic = FixedPoint()
