"""Fresh random parts of the hyper set, one for each window."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from keras_drmad.data import ArrayBatches, Batches, BufferedBatches
from keras_drmad.typing import Structure


class HyperSamples:
    """Draws batches of a hyper set, all of one shape.

    Of arrays each draw takes other samples, of data that come in batches other batches (those with
    the shape of the first). Draws of the same number are equal.

    Args:
        hyper: the hyper set.
        samples: about how many samples a draw has; None for all.
        seed: of the draws.
    """

    def __init__(self, hyper: Batches, samples: int | None, seed: int) -> None:
        assert hyper.epoch_steps is not None  # `as_validation` has seen to it
        self._hyper, self._seed = hyper, seed
        signature = hyper.signature(0)
        self._alike = [s for s in range(hyper.epoch_steps) if hyper.signature(s) == signature]
        size = signature[0][0][0]
        self.count = len(self._alike)
        if samples is not None:
            self.count = int(np.clip(round(samples / size), 1, self.count))
        self._size = size

    def draw(self, number: int) -> Structure:
        """Draw `number`: batches, stacked along a first axis."""
        random = np.random.default_rng((self._seed, number))
        if not isinstance(self._hyper, ArrayBatches):
            steps = random.choice(self._alike, self.count, replace=False)
            return self._hyper.stack(list(steps), self.count)
        rows = random.choice(self._hyper.samples, (self.count, self._size), replace=False)
        return tf.nest.map_structure(lambda a: tf.convert_to_tensor(a[rows]), self._hyper.data)

    def as_batches(self, draw: Structure) -> Batches:
        """A draw as a validation set."""
        batches = BufferedBatches(
            tf.nest.map_structure(lambda a, i=i: a[i], draw) for i in range(self.count)
        )
        batches.epoch_steps = self.count
        return batches
