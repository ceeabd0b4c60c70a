"""What this machine computes on."""

import functools

import tensorflow as tf


@functools.cache
def only_cpus() -> bool:
    """Whether TensorFlow has no device but CPUs."""
    return all(device.device_type == "CPU" for device in tf.config.list_logical_devices())
