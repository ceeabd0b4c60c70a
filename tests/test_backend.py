"""What is not TensorFlow is refused where keras_drmad is imported."""

import os
import subprocess
import sys

import pytest

# A stand-in for a Keras that was imported with another backend: it need not be installed.
OTHER = "import keras; keras.config.backend = lambda: 'jax'; import keras_drmad"


@pytest.mark.parametrize(
    "backend, script",
    [("jax", "import keras_drmad"), ("none-such", "import keras_drmad"), ("tensorflow", OTHER)],
)
def test_another_backend_is_refused_in_one_sentence(backend: str, script: str) -> None:
    environment = os.environ | {"KERAS_BACKEND": backend, "PYTHONWARNINGS": "ignore"}
    ended = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True
    )
    assert ended.returncode
    last = ended.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: keras_drmad needs Keras's TensorFlow backend: set KERAS_B")
    assert f"KERAS_BACKEND={'jax' if script == OTHER else backend}" in last
    assert ended.stderr.count("Traceback") == 1
