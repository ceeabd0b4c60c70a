"""Validation metrics in the middle of an epoch."""

import keras
import numpy as np
import tensorflow as tf

LEAST_BATCH = 1024


class Validation:
    """Evaluates a model without a trace in the training metrics of an epoch in progress.

    Args:
        data: `(x, y)`, `(x, y, sample_weight)`, a `tf.data.Dataset` or a `PyDataset`.
        batch_size: of arrays; at least 1024, as nothing depends on it.
    """

    def __init__(self, data, batch_size=None):
        self._data = as_dataset(data, batch_size)

    def __call__(self, model):
        """`{"val_<metric>": number}`."""
        kept = [tf.identity(v.value) for v in model.metrics_variables]
        logs = model.evaluate(self._data, verbose=0, return_dict=True)
        if len(kept) < len(model.metrics_variables):  # they were built just now
            model.reset_metrics()
        else:
            for variable, value in zip(model.metrics_variables, kept, strict=True):
                variable.assign(value)
        return {f"val_{name}": float(value) for name, value in logs.items()}


def as_dataset(data, batch_size=None):
    """Batches of arrays; other data as they are."""
    if isinstance(data, tf.data.Dataset | keras.utils.PyDataset):
        return data
    arrays = tuple(np.asarray(a) for a in data if a is not None)
    return (
        tf.data.Dataset.from_tensor_slices(arrays).batch(max(batch_size or 0, LEAST_BATCH)).cache()
    )
