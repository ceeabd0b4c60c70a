"""Refuses other backends of Keras than TensorFlow: imported before all that needs it."""

import os

_NEEDED = (
    "keras_drmad needs Keras's TensorFlow backend: set KERAS_BACKEND=tensorflow before Keras is "
    "imported, and `pip install tensorflow` where it is missing. Found: {}"
)

try:
    import keras
except (ImportError, ValueError) as error:  # an unknown name is a ValueError of Keras's
    _name = os.environ.get("KERAS_BACKEND", "as in ~/.keras/keras.json")
    raise ImportError(_NEEDED.format(f"KERAS_BACKEND={_name} ({error})")) from None
if keras.config.backend() != "tensorflow":
    raise ImportError(_NEEDED.format(f"KERAS_BACKEND={keras.config.backend()}"))
