"""What a `DrMADSGD` has learned survives saving, loading, checkpoints and its config."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from classifier import X, Y, classifier, train, weights

from keras_drmad import DrMADSGD


def learned_model():
    model = train(classifier(DrMADSGD(0.05, l2=1e-3, per="unit")), epochs=1)
    model.optimizer.set_hyperparameters(
        {
            "hidden/kernel": {"l2": np.linspace(0, 0.1, 8), "momentum": 0.5},
            "out/bias": {"learning_rate": 0.2},
        }
    )
    return model


def assert_same_hyperparameters(a, b):
    a, b = a.hyperparameters, b.hyperparameters
    assert {g: list(v) for g, v in a.items()} == {g: list(v) for g, v in b.items()}
    for group, entries in a.items():
        for kind, value in entries.items():
            np.testing.assert_array_equal(value, b[group][kind])


def through_save(model, tmp_path):
    model.save(tmp_path / "model.keras")
    return keras.models.load_model(tmp_path / "model.keras")


def through_weights(model, tmp_path):
    model.save_weights(tmp_path / "model.weights.h5")
    fresh = classifier(DrMADSGD(0.05, l2=1e-3, per="unit"))
    fresh.optimizer.build(fresh.trainable_variables)
    fresh.load_weights(tmp_path / "model.weights.h5")
    return fresh


def through_checkpoint(model, tmp_path):
    path = tf.train.Checkpoint(model=model).save(tmp_path / "checkpoint")
    fresh = classifier(DrMADSGD(0.05, l2=1e-3, per="unit"))
    fresh.optimizer.build(fresh.trainable_variables)
    tf.train.Checkpoint(model=fresh).restore(path).assert_existing_objects_matched()
    return fresh


def through_config(model, tmp_path):
    fresh = classifier(DrMADSGD.from_config(model.optimizer.get_config()))
    fresh.optimizer.build(fresh.trainable_variables)
    return fresh


@pytest.mark.parametrize(
    "through", [through_save, through_weights, through_checkpoint, through_config]
)
def test_what_was_learned_survives(through, tmp_path):
    model = learned_model()
    assert_same_hyperparameters(through(model, tmp_path).optimizer, model.optimizer)


def test_training_goes_on_after_loading_as_if_nothing_had_happened(tmp_path):
    model = learned_model()
    copy = through_save(model, tmp_path)
    np.testing.assert_array_equal(weights(train(copy, 2)), weights(train(model, 2)))


def test_backup_and_restore(tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                raise InterruptedError

    def fit(model, *callbacks):
        backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
        model.fit(X, Y, epochs=3, shuffle=False, verbose=0, callbacks=[backup, *callbacks])

    broken = classifier(DrMADSGD(0.05))
    broken.optimizer.set_hyperparameters({"out": {"momentum": 0.5}})
    with pytest.raises(InterruptedError):
        fit(broken, Stop())
    resumed = classifier(DrMADSGD(0.05))
    fit(resumed)
    assert resumed.optimizer.hyperparameters["out"]["momentum"] == pytest.approx(0.5)


def test_a_clone_starts_fresh():
    model = learned_model()
    clone = keras.models.clone_model(model)
    clone.compile(DrMADSGD(0.05, l2=1e-3), "mse")
    clone.optimizer.build(clone.trainable_variables)
    assert clone.optimizer.hyperparameters["out"]["momentum"] == pytest.approx(0.9)


def test_config_mirrors_the_constructor():
    arguments = {
        "learning_rate": 0.25,
        "momentum": 0.5,
        "nesterov": True,
        "l2": 0.125,
        "per": "unit",
        "learn": ["l2"],
        "weight_decay": 0.01,
        "clipnorm": 1.0,
        "name": "mine",
    }
    config = DrMADSGD(**arguments).get_config()
    assert {key: config[key] for key in arguments} == arguments
    assert DrMADSGD.from_config(config).get_config() == config
