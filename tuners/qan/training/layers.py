"""The layers of a model, and of the models within it."""


def all_layers(model):
    """Yields them."""
    for layer in getattr(model, "layers", ()):
        yield layer
        yield from all_layers(layer)
