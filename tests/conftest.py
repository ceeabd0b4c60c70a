import gc
import os
import sys

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import pytest
import tensorflow as tf

# Two logical CPU devices, for the tests of `tf.distribute`; must be set before any device is used.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
tf.config.experimental.enable_tensor_float_32_execution(False)
gc.collect()
gc.freeze()  # what imports have made is for ever, and need not be looked at by each collection


def pytest_collection_modifyitems(items):
    """What starts processes takes longest, and comes first: at the end a core would be idle."""
    items.sort(key=lambda item: not hasattr(item.module, "starter"))


@pytest.fixture(autouse=True)
def _steps_checked_where_that_is_tested(request, monkeypatch):
    """Each model's own step would be traced once more: a fifth of the time of all tests."""
    if not getattr(request.module, "STEPS_ARE_CHECKED", False):
        monkeypatch.setattr("keras_drmad.engine.step_check.check", lambda *arguments: None)


@pytest.fixture(autouse=True)
def _seed():
    keras.utils.set_random_seed(0)


@pytest.fixture(autouse=True)
def _closed_figures():
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


@pytest.fixture
def collected():
    """For tests that stop `fit` within an epoch, whose iterator is then a part of a cycle.

    When it is found later, the thread that tunes its pipeline makes all wait, up to a minute
    (TensorFlow 2.21).
    """
    yield
    gc.collect()


@pytest.fixture(scope="session")
def two_replicas():
    """One for all tests: of two in a process, TensorFlow (2.21) mixes up what their replicas share."""
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


@pytest.fixture
def float64():
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
