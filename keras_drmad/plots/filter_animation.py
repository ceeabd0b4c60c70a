"""`FilterAnimation`: a callback that films the filters of a layer during `fit`."""

import os
import pathlib

import keras
import numpy as np
import tensorflow as tf

from keras_drmad.arguments import (
    make_folder,
    number,
    of_kind,
    path_like,
    positive_integer,
    suggesting,
    wrong,
)
from keras_drmad.plots import filters
from keras_drmad.plots.extras import load
from keras_drmad.plots.snapshots import Snapshots
from keras_drmad.typing import Logs

_LAYER = (str, keras.Layer)
SIDE = 240  # pixels that a frame has about, if it is not asked for otherwise
LONGEST = 655_350  # milliseconds that a GIF can show a frame
LAST = 2000  # milliseconds that the last frame stays
SHADES = 32  # of grey in the file: as many as one can tell apart, and the file is small


@suggesting
class FilterAnimation(Snapshots[np.ndarray]):
    """Films the filters of a layer while they are trained, as an animated GIF.

    Each filter is a small image: grey is 0, white is its largest absolute value during the training,
    black the same with a minus sign. The file is written when `fit` ends.

    Args:
        file: The name of the GIF.
        layer: The name of a `Conv2D` or `Dense` layer, or the layer. Defaults to the first
            convolution of the model, or to its first dense layer.
        every: Training steps between two frames. Defaults to `1`; doubled whenever there are
            `max_frames`, so the default suits trainings of any length.
        max_frames: The largest number of frames. Defaults to `60`.
        max_filters: The largest number of filters that are shown, the first ones. Defaults to `64`.
        reference: Another run to compare with: its `FilterAnimation` after `fit`, or a kernel as an
            array. Filters are shown in the order in which they are most like the reference's at the end
            of training (largest sum of cosine similarities). Defaults to None: in their own order.
        shape: Of the images that a dense layer sees, `(height, width)` or `(height, width, 3)`.
            Defaults to the model's input, or squares.
        zoom: Screen pixels a weight. Defaults to what makes the picture about 240 pixels wide.
        duration: Milliseconds that a frame is shown. Defaults to `100`.
        to_tensorboard: A log folder: frames are written for TensorBoard, too, when `fit` ends.

    Raises:
        ImportError: Pillow (extra `plots`) is not installed; or SciPy, with `reference`; or TensorBoard
            (extra `tensorboard`), with `to_tensorboard`.
        ValueError: An argument has a wrong value. A layer that the model does not have, or whose kernel
            is no image, raises when `fit` begins.

    Attributes:
        frames: The pictures, arrays of bytes, after `fit`.
        images: The filters at the end, (filters, height, width, channels), in the order shown.

    Example:

    >>> from keras_drmad import plots
    >>> x, y = np.random.rand(64, 16), np.random.rand(64, 1)
    >>> model = keras.Sequential([keras.layers.Input((16,)), keras.layers.Dense(4)])
    >>> model.compile(optimizer="sgd", loss="mse")
    >>> film = plots.FilterAnimation(folder / "filters.gif", every=2)
    >>> history = model.fit(x, y, batch_size=16, epochs=2, verbose=0, callbacks=[film])
    >>> len(film.frames), film.images.shape, (folder / "filters.gif").exists()
    (5, (4, 4, 4, 1), True)
    """

    def __init__(
        self,
        file: str | os.PathLike[str],
        layer: "str | keras.Layer | None" = None,
        every: int = 1,
        max_frames: int = 60,
        max_filters: int = 64,
        reference: "FilterAnimation | np.ndarray | None" = None,
        shape: tuple[int, ...] | None = None,
        zoom: int | None = None,
        duration: int = 100,
        to_tensorboard: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__(every, max_frames, "max_frames")
        load("PIL.Image")
        if to_tensorboard is not None:
            load("tensorboard", extra="tensorboard")
        self.file = pathlib.Path(path_like("file", file))
        if self.file.suffix.lower() != ".gif":
            raise ValueError(f"`file` must end in .gif. Received: file={str(file)!r}")
        self.layer = (
            layer if layer is None else of_kind("layer", layer, _LAYER, "a layer, or its name")
        )
        self.max_filters = positive_integer("max_filters", max_filters)
        if reference is not None:
            _check_reference(reference)
        self.reference = reference
        self.shape = shape if shape is None else _checked_shape(shape)
        self.zoom = positive_integer("zoom", zoom, optional=True)
        self.duration = positive_integer("duration", duration)
        number("duration", duration, most=LONGEST)
        if to_tensorboard is not None:
            to_tensorboard = path_like("to_tensorboard", to_tensorboard)
        self.to_tensorboard = to_tensorboard
        self.frames: list[np.ndarray] = []
        self.images = np.empty(0)

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self._layer = filters.layer_of(self.model, self.layer)
        self._kernel = filters.kernel_of(self._layer)
        self._reference = self._filters_of_reference()
        make_folder("file", self.file.parent)  # now, for it is written when all is trained
        if self.file.is_dir():
            raise wrong("file", str(self.file), "the name of a file, and is that of a folder")
        super().on_train_begin(logs)
        if self._reference is not None:  # what does not fit is said before anything is trained
            filters.aligned(self.taken[0][1], self._reference)

    def take(self, logs: Logs) -> np.ndarray:
        return self._filters(keras.ops.convert_to_numpy(self._kernel))

    def on_train_end(self, logs: Logs | None = None) -> None:
        super().on_train_end(logs)
        films = np.stack([images for _, images in self.taken])
        self._order = np.arange(films.shape[1])
        if self._reference is not None:
            self._order = filters.aligned(films[-1], self._reference)
        films = films[:, self._order[: self.max_filters]]
        scales = np.where(np.isfinite(films), np.abs(films), 0).max(axis=(0, 2, 3, 4))
        zoom = self.zoom or self._zoom(films)
        self.images = films[-1]
        self.frames = [filters.grid(images, scales, zoom) for images in films]
        self._write()
        if self.to_tensorboard is not None:
            self._write_summaries(self.to_tensorboard)

    def _filters(self, kernel: np.ndarray) -> np.ndarray:
        try:
            input_shape = self.model.input_shape[1:]
        except AttributeError:  # a subclassed model has none
            input_shape = None
        depthwise = isinstance(self._layer, keras.layers.DepthwiseConv2D)
        return filters.images_of(kernel.astype("float32"), self.shape, input_shape, depthwise)

    def _filters_of_reference(self) -> np.ndarray | None:
        if not isinstance(self.reference, FilterAnimation):
            return None if self.reference is None else self._filters(np.asarray(self.reference))
        if not self.reference.frames:
            raise ValueError("`reference` must have been trained: pass it to `fit` first.")
        return self.reference.taken[-1][1][self.reference._order]

    def _zoom(self, films: np.ndarray) -> int:
        columns = int(np.ceil(np.sqrt(films.shape[1])))
        return max(1, SIDE // (columns * films.shape[3]))

    def _write(self) -> None:
        images = load("PIL.Image")
        drawn = [images.fromarray(_as_pillow_has_it(frame)) for frame in self.frames]
        shown = [*[self.duration] * (len(drawn) - 1), LAST]
        drawn[0].save(
            self.file, save_all=True, append_images=drawn[1:], duration=shown, loop=0, optimize=True
        )

    def _write_summaries(self, directory: str | os.PathLike[str]) -> None:
        writer = tf.summary.create_file_writer(os.fspath(directory))
        with writer.as_default():
            for (step, _), frame in zip(self.taken, self.frames, strict=True):
                tf.summary.image(f"filters/{self._layer.name}", frame[None], step)
        writer.close()


def _check_reference(reference: object) -> None:
    if isinstance(reference, np.ndarray) and reference.ndim in (2, 4):
        if np.issubdtype(reference.dtype, np.number) and np.all(np.isfinite(reference)):
            return
    elif isinstance(reference, FilterAnimation):
        return
    what = "a `FilterAnimation`, or a kernel as an array of 2 or 4 dimensions, of finite numbers"
    raise wrong("reference", reference, what)


def _checked_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    if not isinstance(shape, list | tuple) or len(shape) not in (2, 3):
        raise wrong("shape", shape, "(height, width) or (height, width, 3)")
    return tuple(positive_integer("shape", size) for size in shape)


def _as_pillow_has_it(frame: np.ndarray) -> np.ndarray:
    """A picture without colours is (height, width)."""
    if frame.shape[2] > 1:
        return frame
    return (frame[..., 0] // (256 // SHADES) * (255 / (SHADES - 1))).astype("uint8")
