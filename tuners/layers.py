"""The layers of a model, and of the models within it."""

from collections.abc import Iterator

import keras


def all_layers(model: keras.layers.Layer) -> Iterator[keras.layers.Layer]:
    """Yields them."""
    for layer in getattr(model, "layers", ()):
        yield layer
        yield from all_layers(layer)
