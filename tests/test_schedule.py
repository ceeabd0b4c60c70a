"""Learned schedules and initial scales: derivatives, training, saving."""

import keras
import numpy as np
import pytest
from test_hypergradient import XH, YH, X, Y, mlp, restorable, run, slope

from keras_drmad import DrMADAdamW, DrMADSGD, Knots, LearnHyperparameters, hypergradient, paths
from keras_drmad.data import ArrayBatches

STEPS = 12


@pytest.mark.parametrize(
    ("make", "schedule", "path"),
    [
        (DrMADSGD, Knots(4), paths.Stored()),
        (DrMADSGD, Knots(4), paths.Checkpointed()),
        (DrMADSGD, Knots("step"), paths.Stored()),
        (DrMADSGD, Knots("step", kinds="learning_rate"), paths.Reversible()),
        (DrMADAdamW, Knots(4), paths.Stored()),
    ],
    ids=str,
)
def test_knots_and_initial_scales_are_exact(float64, make, schedule, path):
    model = mlp(make, schedule=schedule.over(STEPS), learn=("learning_rate", "init_scale"))
    kinds = schedule.kinds_of(make.rule.kinds)
    optimizer, draw = model.optimizer, np.random.default_rng(2)
    optimizer.set_hyperparameters(
        {
            group: {kind: np.clip(v * draw.uniform(0.7, 1.2, np.shape(v)), 0.01, 0.95)}
            for group, entries in optimizer.hyperparameters.items()
            for kind, v in entries.items()
            if kind in kinds
        }
    )
    restore = restorable(model)
    found = run(model, path).gradients
    restore()
    for group, entries in optimizer.hyperparameters.items():
        for kind in (*kinds, "init_scale"):
            value = entries[kind]
            direction = np.random.default_rng(0).normal(size=np.shape(value))

            def bump(size):
                optimizer.set_hyperparameters({group: {kind: value * (1 + size * direction)}})  # noqa: B023
                if kind == "init_scale":  # noqa: B023
                    optimizer.scale_initial_weights()

            expected = slope(model, restore, paths.Stored(), bump, 1e-4)
            ours = np.sum(found[group][kind] * value * direction)
            assert ours == pytest.approx(expected, rel=1e-6, abs=1e-11), (group, kind)


def test_a_value_each_step_is_a_keras_schedule():
    rates = np.random.default_rng(0).uniform(0.01, 0.2, 20).astype("float32")

    class Listed(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step):
            return keras.ops.take(keras.ops.convert_to_tensor(rates), step)

    x, y = X[:40].astype("float32"), Y[:40]
    ends = []
    for optimizer in (
        keras.optimizers.SGD(Listed(), momentum=0.8),
        DrMADSGD(0.1, 0.8, schedule=Knots("step", "learning_rate", 20), learn=()),
    ):
        keras.utils.set_random_seed(1)
        model = keras.Sequential([keras.layers.Input((5,)), keras.layers.Dense(3, name="out")])
        model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        if isinstance(optimizer, DrMADSGD):
            optimizer.set_hyperparameters({"out": {"learning_rate": rates}})
        model.fit(x, y, batch_size=10, epochs=5, shuffle=False, verbose=0)
        ends.append(model.get_weights())
    for a, b in zip(*ends, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_fit_and_hypergradient_train_alike():
    ends = []
    for how in ("fit", "hypergradient"):
        keras.utils.set_random_seed(1)
        model = mlp(schedule=Knots(3, steps=9), learn=())
        values = {"learning_rate": [0.01, 0.3, 0.05], "momentum": [0.5, 0.9, 0.1]}
        model.optimizer.set_hyperparameters({"hidden": values})
        if how == "fit":
            x = X[:48].astype("float32")
            model.fit(x, Y[:48], batch_size=16, epochs=4, shuffle=False, verbose=0)
        else:
            batches = ArrayBatches((X[:48], Y[:48]), 16)
            hypergradient(model, batches, (XH, YH), steps=12, jit_compile=False, verbose=0)
        ends.append(model.get_weights())
    for a, b in zip(*ends, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_values_are_piecewise_linear_and_the_last_one_stays():
    schedule = Knots(3, steps=9)
    np.testing.assert_allclose(schedule.positions([0, 2, 4, 7, 8, 100]), [0, 0.5, 1, 1.75, 2, 2])


def test_layers_of_several_kernels_have_a_scale_for_each():
    model = keras.Sequential([keras.layers.Input((4, 2)), keras.layers.LSTM(3, name="lstm")])
    optimizer = DrMADSGD(learn="init_scale")
    optimizer.build(model.trainable_variables)
    optimizer.set_hyperparameters({"lstm/lstm_cell": {"init_scale": [2.0, 0.5]}})
    before = model.get_weights()
    optimizer.scale_initial_weights()
    for factor, a, b in zip((2.0, 0.5, 1.0), before, model.get_weights(), strict=True):
        np.testing.assert_allclose(factor * a, b, rtol=1e-6)


# -- what is refused ------------------------------------------------------------------------


def test_fit_must_be_told_the_steps():
    model = keras.Sequential([keras.layers.Input((5,)), keras.layers.Dense(3)])
    model.compile(DrMADSGD(schedule=Knots(4)), "mse")
    with pytest.raises(ValueError, match=r"Knots\(4, steps="):
        model.fit(X, Y, verbose=0)


def test_the_callback_refuses_initial_scales():
    with pytest.raises(ValueError, match="DrMADTuner"):
        LearnHyperparameters((XH, YH)).set_model(mlp(learn="init_scale"))


def test_reversible_refuses_momenta_that_vary():
    with pytest.raises(ValueError, match="momentum that varies"):
        run(mlp(schedule=Knots(4, steps=9)), paths.Reversible())


@pytest.mark.parametrize(
    "arguments", [{"knots": 1}, {"knots": "steps"}, {"kinds": "l2"}, {"kinds": ()}, {"steps": 0}]
)
def test_bad_arguments_are_named(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        Knots(**arguments)


def test_values_of_another_number_are_refused():
    model = mlp(schedule=Knots(4, steps=9))
    with pytest.raises(ValueError, match=r"shape \(4,\)"):
        model.optimizer.set_hyperparameters({"out": {"learning_rate": [0.1, 0.2]}})
