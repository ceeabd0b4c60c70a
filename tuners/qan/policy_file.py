"""The file of a policy: a Keras model, so that it is one `.keras` file."""

import os
import zipfile
from typing import Any

import keras


@keras.saving.register_keras_serializable(package="keras_drmad")
class PolicyModel(keras.Model):
    """A policy as a Keras model."""

    def __init__(self, network: keras.Model | None = None, **settings: Any) -> None:
        super().__init__(name="policy")
        self.network, self.settings = network, settings
        self.built = True

    def get_config(self) -> dict[str, Any]:
        return {
            "network": self.network and keras.saving.serialize_keras_object(self.network),
            "settings": keras.saving.serialize_keras_object(self.settings),
        }

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> "PolicyModel":
        config = keras.saving.deserialize_keras_object(config)
        return cls(config["network"], **config["settings"])


def loaded(path: str, custom_objects: dict[str, Any] | None) -> PolicyModel:
    """What is in a file.

    Raises:
        ValueError: There is no such file, it is damaged, or it holds something else.
    """
    if not os.path.exists(path):
        raise ValueError(
            f"There is no file {path!r}: give the `path` that the policy was saved to."
        )
    if not zipfile.is_zipfile(path):
        raise ValueError(
            f"{path!r} is damaged, or no file of `Policy.save`: its network and its settings cannot be "
            "read. Use a copy of it, or save the policy again: `tuner.get_best_policy().save(...)`."
        )
    model = keras.saving.load_model(path, custom_objects=custom_objects)
    if not isinstance(model, PolicyModel):
        raise ValueError(
            f"{path} holds a {type(model).__name__}, not a policy: give the file that `Policy.save` has "
            "written."
        )
    return model
