"""Cross-validation: each part of the training arrays is held out in turn."""

import numpy as np
import tensorflow as tf

from keras_drmad.arguments import positive_integer
from keras_drmad.data import ArrayBatches, as_arguments
from keras_drmad.typing import Structure


class Folds:
    """K folds of the same size, so that all trainings take as many steps.

    Fold k holds the samples k, k + K, k + 2K, …: sorted data are mixed. What is left over, fewer than
    K samples at the end, is trained on with each fold.

    Args:
        batches: of all training data.
        count: K, at least 2.

    >>> folds = Folds(ArrayBatches((np.arange(7.0),), 32), 3)
    >>> folds.held_out(1)[0], folds.others(1)[0]
    (array([1., 4.], dtype=float32), array([0., 2., 3., 5., 6.], dtype=float32))
    """

    def __init__(self, batches: ArrayBatches, count: int) -> None:
        self.count = positive_integer("folds", count, least=2)
        self._data, self._samples = batches.data, batches.samples
        if count > self._samples:
            raise ValueError(
                f"`folds` must be at most the number of samples, {self._samples}. Received: "
                f"folds={count}"
            )

    def held_out(self, number: int) -> Structure:
        """`(x, y, sample_weight)` of a fold."""
        return self._of(self._is_in(number))

    def others(self, number: int) -> Structure:
        """`(x, y, sample_weight)` of all samples but those of a fold."""
        return self._of(~self._is_in(number))

    def _is_in(self, number: int) -> np.ndarray:
        samples = np.arange(self._samples)
        whole = self._samples // self.count * self.count
        return (samples % self.count == number % self.count) & (samples < whole)

    def _of(self, chosen: np.ndarray) -> Structure:
        return as_arguments(tf.nest.map_structure(lambda array: array[chosen], self._data))
