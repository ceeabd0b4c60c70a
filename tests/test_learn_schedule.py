"""`LearnHyperparameters` beside `Knots`: they are moved alike, and keep what was in force."""

import keras
import numpy as np
import pytest

from keras_drmad import DrMADAdamW, DrMADSGD, Knots, LearnHyperparameters
from keras_drmad.callbacks.schedule_record import ScheduleRecord

layers = keras.layers
rng = np.random.default_rng(0)
X, Y = rng.normal(size=(80, 5)).astype("float32"), rng.integers(0, 3, 80)
HYPER = (rng.normal(size=(40, 5)).astype("float32"), rng.integers(0, 3, 40))
STEPS = 24


@pytest.fixture(autouse=True)
def _without_xla(monkeypatch):
    from keras_drmad.engine import model_setup

    monkeypatch.setattr(model_setup, "prefers_xla", lambda *arguments: False)


class Seen(keras.callbacks.Callback):
    """The learning rates and momenta (or β₁) in force at each step."""

    def __init__(self):
        super().__init__()
        self.values = []

    def on_train_batch_begin(self, batch, logs=None):
        optimizer = self.model.optimizer
        rule, step = optimizer.update_rule(), optimizer.steps_taken()
        vectors = optimizer.hyper_values()
        if optimizer.schedule is not None:
            vectors = rule.at(vectors, optimizer.schedule.positions(step))
        self.values.append({kind: v.numpy() for kind, v in vectors.items()})


def trained(make, *callbacks, **arguments):
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [layers.Input((5,)), layers.Dense(4, "tanh", name="hidden"), layers.Dense(3, name="out")]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(make(**arguments), loss, jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    learn = LearnHyperparameters(HYPER, horizon=4, check=False)
    history = model.fit(X, Y, 20, 6, 0, callbacks=[learn, *callbacks], shuffle=False)
    return model, history


@pytest.mark.parametrize("make, penalty", [(DrMADSGD, "l2"), (DrMADAdamW, "weight_decay")])
def test_knots_are_moved_as_one_number_and_keep_what_was_in_force(make, penalty):
    rate = {"learning_rate": 0.05, penalty: 0.01, "learn": make().rule.kinds}
    plain, schedule = Seen(), Seen()
    _, history = trained(make, plain, **rate)
    with_knots, its_history = trained(make, schedule, schedule=Knots(5), **rate)
    np.testing.assert_allclose(
        its_history.history["loss"], history.history["loss"], rtol=1e-5, err_msg="the same training"
    )
    for kind in plain.values[0]:
        np.testing.assert_allclose(
            [v[kind] for v in schedule.values], [v[kind] for v in plain.values], rtol=1e-4
        )
    assert np.ptp([v["learning_rate"] for v in plain.values], axis=0).min() > 0.1  # it has learned

    optimizer = with_knots.optimizer
    positions = np.arange(STEPS) / (STEPS - 1) * 4
    for kind in optimizer.layout.knots:
        logged = np.log([v[kind] for v in plain.values])
        if kind != "learning_rate":
            logged -= np.log(1 - np.array([v[kind] for v in plain.values]))
        kept = optimizer.hyper_values()[kind].numpy().reshape(5, -1)
        middle = np.maximum(1 - np.abs(positions - 2), 0)
        expected = middle @ logged / middle.sum()
        is_rate = kind == "learning_rate"
        expected = np.exp(expected) if is_rate else 1 / (1 + np.exp(-expected))
        np.testing.assert_allclose(kept[2], expected, rtol=1e-4)
    mean = np.exp(np.mean(np.log([v[penalty] for v in plain.values]), 0))
    np.testing.assert_allclose(optimizer.hyper_values()[penalty], mean, rtol=1e-4)


def test_a_training_to_come_follows_the_schedule():
    model, _ = trained(DrMADSGD, schedule=Knots(4))
    learned = model.optimizer.hyperparameters["out"]["learning_rate"]
    assert np.ptp(np.log(learned)) > 0.1
    model.optimizer.reset()
    again = Seen()
    model.fit(X, Y, 20, 6, 0, callbacks=[again], shuffle=False)
    rates = [v["learning_rate"][1] * float(model.optimizer.learning_rate) for v in again.values]
    np.testing.assert_allclose(rates[0], learned[0], rtol=1e-5)
    np.testing.assert_allclose(rates[-1], learned[-1], rtol=1e-5)


def test_knots_that_were_not_reached_keep_the_last_values():
    record = ScheduleRecord(Knots(3, steps=9).positions, {"rate": 3})
    record.add(0, {"rate": np.array([0.0, 0.0, 0.0], "float32"), "l2": np.array([0.0], "float32")})
    record.add(2, {"rate": np.array([1.0, 1.0, 1.0], "float32"), "l2": np.array([3.0], "float32")})
    kept = record.written(3)
    # Steps 0 and 1 stand at 0.125 knots, step 2 at half a knot.
    first = (1 - 0.125) * 2 * 0.0 + 0.5 * 1.0
    np.testing.assert_allclose(kept["rate"][0], first / (0.875 * 2 + 0.5), rtol=1e-6)
    assert kept["rate"][2] == 1.0
    assert kept["l2"] == pytest.approx(1.0)


def test_a_record_goes_on_from_its_arrays():
    record = ScheduleRecord(Knots(3, steps=9).positions, {"rate": 3})
    record.add(0, {"rate": np.zeros(3, "float32")})
    record.add(4, {"rate": np.ones(3, "float32")})
    other = ScheduleRecord(Knots(3, steps=9).positions, {"rate": 3})
    other.restore(record.arrays())
    np.testing.assert_array_equal(other.written(9)["rate"], record.written(9)["rate"])
    assert not ScheduleRecord(Knots(3, steps=9).positions, {}).arrays()
