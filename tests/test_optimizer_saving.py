"""What an optimizer of ours has learned survives saving, loading, checkpoints and its config."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from classifier import X, Y, classifier, train, weights
from optimizers import ADAMW, SGD, both

from keras_drmad import Knots


def learned_model(kind):
    model = train(classifier(kind.of(per="unit")), epochs=1)
    model.optimizer.set_hyperparameters(
        {
            "hidden/kernel": {kind.penalty: np.linspace(0, 0.1, 8), kind.mean: 0.5},
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


def through_save(kind, model, tmp_path):
    model.save(tmp_path / "model.keras")
    return keras.models.load_model(tmp_path / "model.keras")


def through_weights(kind, model, tmp_path):
    model.save_weights(tmp_path / "model.weights.h5")
    fresh = classifier(kind.of(per="unit"))
    fresh.optimizer.build(fresh.trainable_variables)
    fresh.load_weights(tmp_path / "model.weights.h5")
    return fresh


def through_checkpoint(kind, model, tmp_path):
    path = tf.train.Checkpoint(model=model).save(tmp_path / "checkpoint")
    fresh = classifier(kind.of(per="unit"))
    fresh.optimizer.build(fresh.trainable_variables)
    tf.train.Checkpoint(model=fresh).restore(path).assert_existing_objects_matched()
    return fresh


def through_config(kind, model, tmp_path):
    fresh = classifier(kind.make.from_config(model.optimizer.get_config()))
    fresh.optimizer.build(fresh.trainable_variables)
    return fresh


@both
@pytest.mark.parametrize(
    "through", [through_save, through_weights, through_checkpoint, through_config]
)
def test_what_was_learned_survives(kind, through, tmp_path):
    model = learned_model(kind)
    assert_same_hyperparameters(through(kind, model, tmp_path).optimizer, model.optimizer)


@both
def test_training_goes_on_after_loading_as_if_nothing_had_happened(kind, tmp_path):
    model = learned_model(kind)
    copy = through_save(kind, model, tmp_path)
    np.testing.assert_array_equal(weights(train(copy, 2)), weights(train(model, 2)))


@both
def test_backup_and_restore(kind, tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                raise InterruptedError

    def fit(model, *callbacks):
        backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
        model.fit(X, Y, epochs=3, shuffle=False, verbose=0, callbacks=[backup, *callbacks])

    broken = classifier(kind.of())
    broken.optimizer.set_hyperparameters({"out": {kind.mean: 0.5}})
    with pytest.raises(InterruptedError):
        fit(broken, Stop())
    resumed = classifier(kind.of())
    fit(resumed)
    assert resumed.optimizer.hyperparameters["out"][kind.mean] == pytest.approx(0.5)


@both
def test_a_clone_starts_fresh(kind):
    clone = keras.models.clone_model(learned_model(kind))
    clone.compile(kind.of(), "mse")
    clone.optimizer.build(clone.trainable_variables)
    assert clone.optimizer.hyperparameters["out"][kind.mean] == pytest.approx(0.9)


@both
def test_what_was_set_before_the_build_survives(kind):
    optimizer = kind.of()
    optimizer.set_hyperparameters({"out": {kind.mean: 0.25, kind.penalty: np.float32(0.5)}})
    optimizer.set_hyperparameters({"out": {kind.mean: 0.5}})
    config = json.loads(json.dumps(optimizer.get_config()))
    again = kind.make.from_config(config)
    model = classifier(again)
    again.build(model.trainable_variables)
    found = again.hyperparameters["out"]
    assert found[kind.mean] == pytest.approx(0.5) and found[kind.penalty] == pytest.approx(0.5)
    assert "pending" not in again.get_config()


ARGUMENTS = {
    SGD: {"momentum": 0.5, "nesterov": True, "l2": 0.125, "learn": ["l2"], "weight_decay": 0.01},
    ADAMW: {
        "weight_decay": 0.125,
        "beta_1": 0.5,
        "beta_2": 0.75,
        "epsilon": 0.001,
        "amsgrad": False,
        "learn": ["beta_1"],
    },
}


@both
def test_config_mirrors_the_constructor(kind):
    arguments = {"learning_rate": 0.25, "per": "unit", "clipnorm": 1.0, "name": "mine"}
    arguments |= ARGUMENTS[kind]
    config = kind.make(**arguments).get_config()
    assert {key: config[key] for key in arguments} == arguments
    assert kind.make.from_config(config).get_config() == config


@both
def test_the_config_of_keras_optimizer_is_one_of_ours(kind):
    config = kind.twin(0.25, clipnorm=1.0).get_config()
    ours = kind.make.from_config(config).get_config()
    assert {key: ours[key] for key in config} == config


@both
def test_schedules_are_saved(kind):
    optimizer = kind.of(schedule=Knots(3, steps=9), learn=("learning_rate", "init_scale"))
    model = classifier(optimizer)
    optimizer.build(model.trainable_variables)
    optimizer.set_hyperparameters({"out": {"learning_rate": [0.01, 0.3, 0.05], "init_scale": 2.0}})
    again = kind.make.from_config(optimizer.get_config())
    again.build(model.trainable_variables)
    assert_same_hyperparameters(again, optimizer)
