"""Data that are read from their beginning again and again."""

import keras
import tensorflow as tf

from keras_drmad.typing import Structure


def are_arrays(data: Structure) -> bool:
    """Whether all data, of any structure, are arrays or dense tensors."""
    leaves = keras.tree.flatten(data)
    return all(leaf is None or hasattr(leaf, "__array__") for leaf in leaves)


def as_tensors(data: Structure) -> Structure:
    """Arrays as `fit` takes them, but for once: floats as Keras's `floatx`, lists as tuples."""
    if isinstance(data, list):  # which `tf.data` would take for one tensor
        data = tuple(data)
    if isinstance(data, tuple):
        return tuple(map(as_tensors, data))
    if isinstance(data, dict):
        return {name: as_tensors(part) for name, part in data.items()}
    if data is None:
        return None
    tensor = tf.convert_to_tensor(data)
    return tf.cast(tensor, keras.config.floatx()) if tensor.dtype.is_floating else tensor


def shuffled(
    x: Structure, y: Structure, sample_weight: Structure, batch_size: int, seed: int
) -> tf.data.Dataset:
    """A `tf.data.Dataset` of the batches that `fit` makes of these tensors after setting a global seed.

    As there, their order is the same in every epoch.
    """
    if isinstance(sample_weight, tf.Tensor):  # one for all outputs
        sample_weight = keras.tree.map_structure(lambda _: sample_weight, y)
    parts = keras.utils.pack_x_y_sample_weight(x, y, sample_weight)
    samples = len(keras.tree.flatten(parts)[0])
    steps, even = -(-samples // batch_size), samples // batch_size * batch_size

    def order(_: tf.Tensor) -> tf.Tensor:
        tf.random.set_seed(seed)  # of this function's graph alone
        return tf.random.shuffle(tf.range(samples, dtype="int64"))

    def cut(order: tf.Tensor) -> tf.data.Dataset:
        whole = tf.reshape(tf.slice(order, [0], [even]), (-1, batch_size))
        batches = tf.data.Dataset.from_tensor_slices(whole)
        if even == samples:
            return batches
        return batches.concatenate(tf.data.Dataset.from_tensors(tf.slice(order, [even], [-1])))

    def take(indices: tf.Tensor, parts: Structure) -> Structure:
        return keras.tree.map_structure(lambda part: tf.gather(part, indices, axis=0), parts)

    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    indices = tf.data.Dataset.range(1).map(order).flat_map(cut)
    data = tf.data.Dataset.from_tensors(parts).repeat()
    batches = tf.data.Dataset.zip(indices, data).map(take).prefetch(2).with_options(options)
    return untuned(batches.apply(tf.data.experimental.assert_cardinality(steps)))


def untuned(dataset: Structure) -> Structure:
    """A data set of the same data whose iterators are quick to begin and to end; others as they are.

    The thread of `tf.data` that tunes a pipeline outlives its iterator, for up to a minute, and the next
    one waits for it (TensorFlow 2.21); and the pipeline's graph is rewritten for each of them. Where
    models are small, and stopped early, both take longer than to read the data.
    """
    if not isinstance(dataset, tf.data.Dataset):
        return dataset
    options, is_tuned = tf.data.Options(), dataset.options().autotune.enabled
    if is_tuned is None:  # else the user has decided
        options.autotune.enabled = False
    options.experimental_optimization.apply_default_optimizations = False
    return dataset.with_options(options)
