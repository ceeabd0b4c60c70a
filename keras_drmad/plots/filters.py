"""The filters of a layer as small images, and grids of them."""

import math

import keras
import numpy as np

from keras_drmad import compat
from keras_drmad.plots.extras import load

GREY, RGB = 1, 3  # channels
GAP = 4  # a part of a weight's size: pixels between filters, one at least
_BACKGROUND = 255


def layer_of(model: keras.Model, layer: "str | keras.Layer | None") -> keras.Layer:
    """The layer that is meant: by name, itself, or the first convolution, or the first dense layer.

    Raises:
        ValueError: There is none, or it has no kernel that images can be made of.
    """
    layers = compat.all_layers(model)
    if layer is None:
        ranks = {rank: [other for other in layers if _rank(other) == rank] for rank in (4, 2)}
        found = [*ranks[4], *ranks[2]]
        if not found:
            raise ValueError("`layer` must be given: the model has no Conv2D and no Dense layer.")
        return found[0]
    if isinstance(layer, keras.Layer):
        if not any(layer is other for other in layers):
            raise ValueError(
                f"`layer` must be one of the model's. Received: layer {layer.name!r}, which is not in "
                "it. Pass its name, if `fit` trains a copy."
            )
        chosen = layer
    else:
        named = [other for other in layers if other.name == layer]
        if not named:
            raise ValueError(
                f"`layer` must be one of the model's. Received: layer={layer!r}. "
                f"It has: {[other.name for other in layers]}"
            )
        chosen = named[0]
    if _rank(chosen) not in (2, 4):
        raise ValueError(
            "`layer` must have a kernel of 2 dimensions (Dense) or 4 (Conv2D). "
            f"Received: layer {chosen.name!r}, a {type(chosen).__name__}"
        )
    return chosen


def kernel_of(layer: keras.Layer) -> keras.Variable | None:
    """The kernel of a layer; None if it has none."""
    return getattr(layer, "kernel", None)


def _rank(layer: keras.Layer) -> int:
    kernel = kernel_of(layer)
    return 0 if kernel is None else len(kernel.shape)


def images_of(
    kernel: np.ndarray,
    shape: tuple[int, ...] | None,
    input_shape: tuple[int | None, ...] | None,
    depthwise: bool = False,
) -> np.ndarray:
    """The filters of a kernel: an array (filters, height, width, 1 or 3 channels).

    Three input channels are the colours of one image. Of other kernels of convolutions, each pair of
    an input and an output channel is an image; of depthwise ones, which add no channels up, always.

    Args:
        kernel: Of a convolution, `(height, width, in, out)`, or of a dense layer, `(in, out)`.
        shape: Of the images that the dense layer sees. Defaults to that of the model's input, or to
            squares.
        input_shape: The model's, without the batch.
        depthwise: Whether the kernel is of a depthwise convolution.

    Raises:
        ValueError: The inputs of the dense layer are no image.
    """
    if kernel.ndim == 4:
        height, width, channels, _ = kernel.shape
        colours = RGB if channels == RGB and not depthwise else GREY
        return np.moveaxis(kernel.reshape(height, width, colours, -1), -1, 0)
    inputs = len(kernel)
    height, width, colours = _image_shape(inputs, shape, input_shape)
    return np.moveaxis(kernel.reshape(height, width, colours, -1), -1, 0)


def _image_shape(
    inputs: int, shape: tuple[int, ...] | None, input_shape: tuple[int | None, ...] | None
) -> tuple[int, int, int]:
    if shape is not None:
        given = (*shape, GREY)[:3] if len(shape) == 2 else tuple(shape)
        if len(given) == 3 and given[2] in (GREY, RGB) and math.prod(given) == inputs:
            return given[0], given[1], given[2]
        raise ValueError(
            f"`shape` must be (height, width) or (height, width, 3), of {inputs} inputs in all. "
            f"Received: shape={shape}"
        )
    if input_shape is not None and None not in input_shape and len(input_shape) in (2, 3):
        size = (*(n for n in input_shape if n is not None), GREY)[:3]
        if size[2] in (GREY, RGB) and math.prod(size) == inputs:
            return size[0], size[1], size[2]
    for colours in (GREY, RGB):
        side = math.isqrt(inputs // colours)
        if side**2 * colours == inputs:
            return side, side, colours
    raise ValueError(
        f"`shape` must be given: the {inputs} inputs of the dense layer are no square image."
    )


def grid(images: np.ndarray, scales: np.ndarray, zoom: int) -> np.ndarray:
    """One picture of all filters, an array of bytes (height, width, 1 or 3 channels).

    0 is grey; `scales`, one a filter, are the values that are white, and black if negative.
    """
    number, height, width, channels = images.shape
    safe = np.where(scales > 0, scales, 1).reshape(-1, 1, 1, 1)
    shades = np.clip(np.nan_to_num(images / safe), -1, 1) * 127 + 128
    shades = shades.astype("uint8").repeat(zoom, 1).repeat(zoom, 2)
    columns = math.ceil(math.sqrt(number))
    rows = math.ceil(number / columns)
    gap = max(1, zoom // GAP)
    height, width = height * zoom + gap, width * zoom + gap
    picture = np.full((rows * height + gap, columns * width + gap, channels), _BACKGROUND, "uint8")
    for i, shade in enumerate(shades):
        top, left = i // columns * height + gap, i % columns * width + gap
        picture[top : top + height - gap, left : left + width - gap] = shade
    return picture


def aligned(images: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """The order of filters in which they are most like those of `reference`, one by one.

    The sum of cosine similarities is the largest possible (Hungarian matching).

    Raises:
        ImportError: SciPy is not installed.
        ValueError: The shapes differ.
    """
    if images.shape != reference.shape:
        raise ValueError(
            f"`reference` must have filters of shape {images.shape}. Received: {reference.shape}"
        )
    mine, other = (_directions(filters) for filters in (images, reference))
    optimize = load("scipy.optimize")
    _, order = optimize.linear_sum_assignment(other @ mine.T, maximize=True)
    return np.asarray(order)


def _directions(filters: np.ndarray) -> np.ndarray:
    flat = filters.reshape(len(filters), -1).astype("float64")
    flat = np.where(np.isfinite(flat), flat, 0)  # of a training that diverged
    lengths = np.linalg.norm(flat, axis=1, keepdims=True)
    return flat / np.where(lengths > 0, lengths, 1)
