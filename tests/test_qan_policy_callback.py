"""Policies in plain `fit`, with models, data and callbacks of other kinds than a search's."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from qan_task import TRAIN, VAL, X, Y, build

from keras_drmad.tuners import Actions, Goal, Policy
from keras_drmad.tuners.qan.search.schedules import Schedule
from keras_drmad.tuners.qan.training.filters import BagOfFilters
from keras_drmad.tuners.qan.training.states import Ratios

pytestmark = pytest.mark.slow

L = keras.layers


def scheduled(schedule=None, goal=("val_loss", 1e-9), every=2, budget=8):
    schedule = schedule or Schedule("constant", 0.02)
    return Policy([Ratios()], Actions(), Goal.of(goal), every, 0.02, budget, learning_rate=schedule)


def fit(model, callback, epochs=5, data=TRAIN, callbacks_after=(), **arguments):
    arguments = {"batch_size": 8, "epochs": epochs, "verbose": 0} | arguments
    return model.fit(*data, callbacks=[callback, *callbacks_after], **arguments).history


def of_unknown_length():
    """8 batches, whose number `fit` does not know."""
    of = (tf.TensorSpec((None, 6)), tf.TensorSpec((None,), "int64"))
    batches = [(X[i : i + 8], Y[i : i + 8]) for i in range(0, 64, 8)]
    return tf.data.Dataset.from_generator(lambda: iter(batches), output_signature=of)


@pytest.mark.usefixtures("collected")
@pytest.mark.filterwarnings("ignore:Your input ran out of data")  # Keras says so of unknown lengths
def test_each_fit_has_its_own_budget():
    callback, model = scheduled(budget=1570).as_callback(), build()
    model.fit(of_unknown_length(), epochs=1, shuffle=False, callbacks=[callback], verbose=0)
    assert callback.view.budget == 1570
    fit(model, callback, epochs=2)
    assert callback.view.budget == 16


class Rates(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        self.seen = []

    def on_train_batch_begin(self, batch, logs=None):
        self.rate = float(self.model.optimizer.learning_rate.numpy())

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(self.rate)


def test_a_model_without_weights_gets_them_from_validation_data():
    model = keras.Sequential([L.Dense(3)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    callback = scheduled(Schedule("step", 0.02, 4)).as_callback(VAL)
    fit(model, callback, epochs=1)
    assert callback.reports[-1].step == 8
    np.testing.assert_allclose(float(model.optimizer.learning_rate), 0.002, rtol=1e-6)


def test_a_model_without_weights_is_refused_without_validation_data():
    model = keras.Sequential([L.Dense(3)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    with pytest.raises(ValueError, match="give it an `Input`"):
        fit(model, scheduled().as_callback())


@pytest.mark.parametrize("weights", [{"sample_weight": np.full(64, 10.0)}, {"class_weight": 10}])
def test_weights_are_no_divergence(weights):
    if "class_weight" in weights:
        weights = {"class_weight": dict.fromkeys(range(3), 10.0)}
    callback = scheduled(Schedule("constant", 0.001)).as_callback(VAL)
    history = fit(build(), callback, **weights)
    assert len(history["loss"]) == 5 and callback.reports[-1].step == 40


def test_a_policy_never_ends_a_training_that_was_not_to_be_stopped():
    """Neither for a loss that explodes, nor one that is not finite, nor at the end of its budget."""
    for rate in (1e3, 1e30):
        callback = scheduled(Schedule("constant", rate)).as_callback(VAL)
        assert len(fit(build(), callback)["loss"]) == 5
    callback = scheduled().as_callback(VAL, budget=8, stop=True)
    assert len(fit(build(), callback)["loss"]) == 5


def test_fit_s_own_validation_is_what_it_logs():
    small = (VAL[0][:4], VAL[1][:4])
    model = build()
    history = fit(model, scheduled().as_callback(small), epochs=2, validation_data=VAL)
    assert history["val_loss"][-1] == pytest.approx(model.evaluate(*VAL, verbose=0), rel=1e-5)


def test_validation_after_the_budget_is_of_the_present():
    model = build()
    history = fit(model, scheduled().as_callback(VAL, budget=8))
    assert len(history["val_loss"]) == 5
    assert history["val_loss"][-1] == pytest.approx(model.evaluate(*VAL, verbose=0), rel=1e-5)


@pytest.mark.filterwarnings("ignore:Your input ran out of data")  # Keras says so of unknown lengths
@pytest.mark.parametrize("every", [5, 20])
def test_steps_of_data_of_unknown_length_are_all_counted(every):
    callback, rates = scheduled(Schedule("step", 0.02, 16), every=every, budget=1000), Rates()
    callback = callback.as_callback()
    build().fit(
        of_unknown_length(), epochs=3, shuffle=False, verbose=0, callbacks=[callback, rates]
    )
    assert callback.view.step == len(rates.seen) == 24
    np.testing.assert_allclose(rates.seen, [0.02] * 16 + [0.002] * 8, rtol=1e-6)


@pytest.mark.filterwarnings("ignore:Your input ran out of data")  # Keras says so of unknown lengths
def test_training_metrics_as_goal_beside_validation_of_unknown_length():
    callback = scheduled(goal=("loss", 1e-9), every=20, budget=1000).as_callback(VAL)
    history = build().fit(
        of_unknown_length(), epochs=2, shuffle=False, verbose=0, callbacks=[callback]
    )
    assert len(history.history["val_loss"]) == 2


def test_steps_go_on_from_the_initial_epoch():
    callback = scheduled(Schedule("step", 0.02, 16), every=4).as_callback(VAL)
    rates = Rates()
    arguments = {"batch_size": 8, "verbose": 0, "callbacks": [callback, rates]}
    build().fit(*TRAIN, epochs=3, initial_epoch=1, **arguments)
    assert [report.step for report in callback.reports] == [8, 12, 16, 20, 24]
    np.testing.assert_allclose(rates.seen, [0.02] * 8 + [0.002] * 8, rtol=1e-6)


def test_a_schedule_without_data_begins_at_the_initial_epoch():
    callback, rates = scheduled(Schedule("step", 0.02, 16), every=4).as_callback(), Rates()
    fit(build(), callback, epochs=3, initial_epoch=2, callbacks_after=[rates])
    np.testing.assert_allclose(rates.seen, [0.002] * 8, rtol=1e-6)


def test_weights_that_another_callback_restores_are_no_motion():
    class Restored(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.model.set_weights([w + 1 for w in self.model.get_weights()])

    callback = scheduled().as_callback(VAL)
    fit(build(), callback, epochs=1, callbacks_after=[Restored()])
    updates = [r.observation[0][Ratios.FEW.index("update")] for r in callback.reports]
    assert updates[0] == 0 and updates[1] != 0


@pytest.mark.parametrize("data", [VAL, tf.data.Dataset.from_tensor_slices(VAL).batch(16)])
@pytest.mark.parametrize("keep", [True, False])
def test_a_model_that_is_compiled_again_is_validated_anew(data, keep):
    callback, model = scheduled().as_callback(data), build()
    fit(model, callback, epochs=1)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = model.optimizer if keep else "sgd"
    model.compile(optimizer, lambda y, p: 3 * loss(y, p), metrics=["accuracy"])
    history = fit(model, callback, epochs=1)
    losses = model.evaluate(*VAL, verbose=0)
    assert [history["val_loss"][-1], history["val_accuracy"][-1]] == pytest.approx(losses)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"validation_data": iter([VAL])}, "Received: a list_iterator"),
        ({"budget": 0}, "`budget` must be a positive integer"),
    ],
)
def test_a_callback_s_arguments_are_checked(arguments, match):
    with pytest.raises(ValueError, match=match):
        scheduled().as_callback(**arguments)


def test_metrics_that_are_no_means_are_not_taken_apart():
    """An AUC over the epoch so far says nothing of its last chunk; vectors are passed over."""
    model = keras.Sequential([L.Input((6,)), L.Dense(1, "sigmoid")])
    f1 = keras.metrics.F1Score(name="f1")
    model.compile("sgd", "bce", metrics=[keras.metrics.AUC(name="auc"), f1])
    data, held = (X[:64], Y[:64, None] % 2), (X[64:], Y[64:, None] % 2)
    callback = scheduled(goal=Goal("auc", 0.999, "max")).as_callback(held)
    history = fit(model, callback, epochs=1, data=data)
    metrics = [report.metric for report in callback.reports]
    assert max(metrics) <= 1
    assert metrics[-1] == pytest.approx(history["auc"][0])


def test_the_first_validation_leaves_training_metrics_alone():
    losses = []
    for validation in (None, VAL):
        keras.utils.set_random_seed(1)
        callback = scheduled(goal=("loss", 1e-9), every=3).as_callback(validation)
        losses.append(fit(build(), callback, epochs=1)["loss"])
    np.testing.assert_allclose(*losses, rtol=1e-6)


# -- files ------------------------------------------------------------------------------------


def test_a_file_loads_where_nothing_else_is_imported(tmp_path):
    states = [BagOfFilters(2, codebook=np.ones((2, 6)))]
    inputs = keras.Input((2,))
    network = keras.Model(inputs, L.Dense(5)(inputs))
    policy = Policy(states, Actions(), Goal.of(("val_loss", 1.0)), 2, 0.02, 8, network=network)
    policy.save(tmp_path / "policy.keras")
    program = (
        "from keras_drmad.tuners import Policy\n"
        f"print(type(Policy.load({str(tmp_path / 'policy.keras')!r}).states[0]).__name__)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "BagOfFilters", done.stderr[-2000:]
