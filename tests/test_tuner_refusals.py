"""`DrMADTuner`: what cannot work is refused before anything is trained."""

import threading
import types

import keras
import keras_tuner
import numpy as np
import pytest
import tensorflow as tf
from drmad_task import HYPER, TRAIN, X, Y, build, make, search

from keras_drmad.engine.model_setup import devices
from keras_drmad.tuners.drmad.data import SearchData

# -- bad input ------------------------------------------------------------------------------


def refused(tmp_path, match, hypermodel=build, data=TRAIN, tuner=None, **arguments):
    trained = []
    watch = keras.callbacks.LambdaCallback(on_train_begin=trained.append)
    made = make(tmp_path, hypermodel, **(tuner or {}))
    with pytest.raises(ValueError, match=match):
        made.search(
            *data, **{"validation_data": HYPER, "verbose": 0, "callbacks": [watch], **arguments}
        )
    assert not trained


def test_a_model_without_drmad_is_refused(tmp_path):
    def sgd(hp):
        model = build(hp)
        model.compile("sgd", "mse")
        return model

    refused(tmp_path, "DrMADSGD", sgd)


def test_nothing_to_learn_is_refused(tmp_path):
    refused(tmp_path, "learn=", lambda hp: build(hp, learn=()))


def test_an_overlapping_hyper_set_is_refused(tmp_path):
    refused(tmp_path, "overlaps", validation_data=(X[40:90].copy(), Y[40:90]))


def test_no_training_data_are_refused(tmp_path):
    refused(tmp_path, "`x` must be given", data=(None,))


def test_no_hyper_set_is_refused(tmp_path):
    refused(tmp_path, "validation_data", validation_data=None)


def test_nan_is_refused(tmp_path):
    bad = X.copy()
    bad[3, 2] = np.nan
    refused(tmp_path, "`x` holds 1 values that are NaN", data=(bad[:80], Y[:80]))
    refused(tmp_path, "`selection_data`.*NaN", selection_data=(bad, Y))


def test_streams_are_looked_at_too(tmp_path):
    bad = Y.copy()
    bad[130] = np.inf
    stream = tf.data.Dataset.from_tensor_slices((X, bad)).batch(16)
    refused(tmp_path, "`selection_data` holds 1 values", selection_data=stream)
    refused(tmp_path, "`x` must hold at least one batch", data=(stream.take(0),))


def test_wrong_shapes_are_refused(tmp_path):
    refused(tmp_path, "validation_data.*samples like", validation_data=(X[:, :4], Y))


def test_empty_data_is_refused(tmp_path):
    refused(tmp_path, "at least one", data=(X[:0], Y[:0]))
    refused(tmp_path, "validation_data.*at least one", validation_data=(X[:0], Y[:0]))


def test_a_part_of_the_training_data_in_the_hyper_set_is_refused(tmp_path):
    refused(tmp_path, "overlaps", validation_data=(X[50:130].copy(), Y[50:130]))


def test_inputs_that_repeat_themselves_are_no_overlap():
    x = np.random.default_rng(0).integers(0, 2, (200, 5)).astype("float32")
    SearchData((x[:100], Y[:100]), (x[100:], Y[:100]), None, 10, True, 1)


def test_a_model_that_does_not_fit_the_data_is_refused(tmp_path):
    refused(
        tmp_path,
        "training data do not fit",
        data=(X[:80, :4], Y[:80]),
        validation_data=(X[80:, :4], Y[80:]),
    )


def test_callbacks_that_cannot_be_copied_are_refused(tmp_path):
    lock = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: None)
    lock.held = threading.Lock()
    refused(tmp_path, "`callbacks`.*copied", callbacks=[lock])


def test_initial_scales_need_the_whole_way_back(tmp_path):
    scales = {"hypermodel": lambda hp: build(hp, learn="init_scale")}
    refused(tmp_path, "`horizon`.*init_scale", tuner={"horizon": 2}, **scales)
    search(make(tmp_path, **scales, max_trials=1, horizon=16, project_name="whole"))


@pytest.mark.parametrize("argument", ["batch_size", "epochs", "validation_freq"])
@pytest.mark.parametrize("value", [0, -1, 1.5])
def test_bad_numbers_are_named(tmp_path, argument, value):
    refused(tmp_path, f"`{argument}`", **{argument: value})


def test_several_machines_within_a_trial_are_refused():
    extended = types.SimpleNamespace(worker_devices=("CPU:0",))
    strategy = types.SimpleNamespace(num_replicas_in_sync=4, extended=extended)
    with pytest.raises(ValueError, match=r"4 replicas, 1 of them here"):
        devices(types.SimpleNamespace(distribute_strategy=strategy))


def test_unknown_arguments_are_refused(tmp_path):
    refused(tmp_path, "class_weight", class_weight={0: 1})


@pytest.mark.parametrize(
    "tuner",
    [
        {"path": "linear"},
        {"judge": "auto"},
        {"horizon": 0},
        {"max_trials": 0},
        {"executions_per_trial": 0},
    ],
)
def test_bad_options_are_named(tmp_path, tuner):
    with pytest.raises(ValueError, match=next(iter(tuner))):
        make(tmp_path, **tuner)


def test_an_unknown_objective_ends_the_search_and_says_what_there_is(tmp_path):
    objective = keras_tuner.Objective("val_auc", "max")
    with pytest.raises(keras_tuner.errors.FatalValueError, match="val_mae"):
        search(make(tmp_path, objective=objective))
