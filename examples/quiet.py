"""Imported first, it leaves out what TensorFlow's libraries write before they can be asked not to.

`TF_CPP_MIN_LOG_LEVEL` is heard only once TensorFlow has begun to log: what its libraries say of CUDA
and of instruction sets while they are loaded comes before. So stderr goes to a file meanwhile, and is
shown if the import fails.
"""

import os
import sys
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def load() -> None:
    """Imports TensorFlow, and lets it look for devices."""
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            import tensorflow

            tensorflow.config.list_physical_devices()
        except BaseException:
            said.seek(0)
            os.write(stderr, said.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


load()
