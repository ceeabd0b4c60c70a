"""The layers of a model, and those within them."""

from collections.abc import Iterator

import keras


def all_layers(model: keras.Model) -> Iterator[keras.Layer]:
    """Yields all layers, also those that are attributes of other layers."""
    # Keras's public `layers` does not look into layers that are no models.
    yield from model._flatten_layers(include_self=False, recursive=True)
