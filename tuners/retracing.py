"""What TensorFlow says of Keras's functions in a search of many models."""

import contextlib
import logging
from collections.abc import Iterator

import tensorflow as tf


@contextlib.contextmanager
def expected() -> Iterator[None]:
    """Within it, TensorFlow does not warn that Keras's functions are traced again.

    Each model of a search has its own. TensorFlow counts those of all models together, and would take
    a search of many configurations for a mistake.
    """
    log = tf.get_logger()
    log.addFilter(_is_other)
    try:
        yield
    finally:
        log.removeFilter(_is_other)


def _is_other(record: logging.LogRecord) -> bool:
    said = record.getMessage()
    return not ("TensorFlowTrainer" in said and "triggered tf.function retracing" in said)
