"""What a search adds to TensorBoard's logs beside those of each training."""

import logging
from collections.abc import Iterable

import keras
import tensorflow as tf

from keras_drmad.typing import Logs

_log = logging.getLogger("keras_drmad")


def folder(callbacks: Iterable[keras.callbacks.Callback]) -> str | None:
    """Where the first `TensorBoard` of some callbacks writes; None if there is none."""
    boards = (c.log_dir for c in callbacks if isinstance(c, keras.callbacks.TensorBoard))
    return next(boards, None)


def write(folder: str, step: int, numbers: Logs) -> None:
    """Adds a point to each curve of a folder; what a full disk does not take is lost, and logged."""
    try:
        writer = tf.summary.create_file_writer(folder)
        with writer.as_default(step=step):
            for name, value in numbers.items():
                tf.summary.scalar(name, value)
        writer.close()
    except tf.errors.OpError as error:
        _log.error("TensorBoard's logs could not be written (%s).", error)
