"""The plane in which a recorded path goes most."""

from typing import NamedTuple

import numpy as np

from keras_drmad.plots.recorded_path import RecordedPath, Values, checked, difference, inner

SNAPSHOTS = 3  # that a plane needs
_FLAT = 1e-10  # a share of the variance that is nothing but rounding


class Plane(NamedTuple):
    """A plane through `origin`, along two directions of length 1 that are at right angles.

    `shares` are the parts of the snapshots' variance along each.
    """

    origin: Values
    directions: tuple[Values, Values]
    shares: tuple[float, float]

    @classmethod
    def of(cls, path: RecordedPath) -> "Plane":
        """The two main directions (PCA) of the snapshots.

        Raises:
            ValueError: There are fewer than three snapshots, or all lie on one line.
        """
        checked(path, SNAPSHOTS)
        # Eigenvectors of the small matrix of inner products give those of the large covariance.
        variables = list(zip(*path.weights, strict=True))
        origin = [np.mean(arrays, axis=0, dtype="float64") for arrays in variables]
        products = np.zeros((len(path), len(path)))
        for arrays, mean in zip(variables, origin, strict=True):
            centred = np.stack([np.ravel(a - mean) for a in arrays])
            products += centred @ centred.T
        values, vectors = np.linalg.eigh(products)
        if values[-2] <= _FLAT * values[-1]:
            raise ValueError(
                f"`path` must not lie on a line, for a plane through it. Received: {path}"
            )
        first, second = (_combined(path, origin, vectors[:, k], values[k]) for k in (-1, -2))
        total = np.trace(products)
        return cls(origin, (first, second), (values[-1] / total, values[-2] / total))

    def coordinates(self, weights: Values) -> tuple[float, float]:
        """Where weights are seen from above the plane."""
        moved = difference(weights, self.origin)
        first, second = self.directions
        return inner(moved, first), inner(moved, second)

    def point(self, a: float, b: float) -> Values:
        """The weights at these coordinates."""
        arrays = zip(self.origin, *self.directions, strict=True)
        return [o + a * first + b * second for o, first, second in arrays]


def _combined(path: RecordedPath, origin: Values, shares: np.ndarray, value: float) -> Values:
    """The direction that is made of the snapshots by these shares; it shows to the last."""
    sign = 1.0 if shares[-1] >= shares[0] else -1.0
    direction = [np.zeros_like(mean) for mean in origin]
    for share, weights in zip(shares, path.weights, strict=True):
        for total, moved in zip(direction, difference(weights, origin), strict=True):
            total += sign * share / np.sqrt(value) * moved
    return direction
