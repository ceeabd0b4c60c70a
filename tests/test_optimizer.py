"""`DrMADSGD` against `keras.optimizers.SGD`, and what is its own: groups, values."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from classifier import X, Y, classifier, layers, train, weights

from keras_drmad import DrMADSGD, Knots

TWINS = {
    "plain": {},
    "nesterov": {"nesterov": True},
    "clipnorm": {"clipnorm": 0.1},
    "clipvalue": {"clipvalue": 0.01},
    "global_clipnorm": {"global_clipnorm": 0.1},
    "weight_decay": {"weight_decay": 0.01},
    "use_ema": {"use_ema": True},
    "ema_overwrite": {"use_ema": True, "ema_overwrite_frequency": 20},
    "accumulation": {"gradient_accumulation_steps": 4},
    "loss_scale": {"loss_scale_factor": 8.0},
    "no momentum": {"momentum": 0.0},
    "schedule": {"learning_rate": keras.optimizers.schedules.ExponentialDecay(0.05, 10, 0.9)},
}


# With XLA, which takes long to compile, what branches or keeps more state.
COMPILED = ("plain", "global_clipnorm", "ema_overwrite", "accumulation", "schedule")


@pytest.mark.parametrize(
    ("name", "jit_compile", "l2"),
    [(name, False, 0.01) for name in TWINS] + [(name, True, 0.0) for name in COMPILED],
)
def test_is_keras_sgd_plus_l2(name, jit_compile, l2):
    arguments = {"learning_rate": 0.05, "momentum": 0.9} | TWINS[name]
    theirs = train(classifier(keras.optimizers.SGD(**arguments), l2, jit_compile=jit_compile))
    ours = train(classifier(DrMADSGD(**arguments, l2=l2, learn=()), jit_compile=jit_compile))
    start = weights(classifier("sgd"))
    assert np.linalg.norm(weights(theirs) - start) > 0.1  # there was something to compare
    np.testing.assert_allclose(weights(ours), weights(theirs), rtol=1e-6, atol=1e-6)


def test_is_keras_sgd_under_a_loss_scale_optimizer():
    def trained(optimizer):
        scaled = keras.optimizers.LossScaleOptimizer(optimizer)
        return train(classifier(scaled, jit_compile="auto"), epochs=3)

    theirs = trained(keras.optimizers.SGD(0.05, momentum=0.9))
    ours = trained(DrMADSGD(0.05, learn=()))
    np.testing.assert_allclose(weights(ours), weights(theirs), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("per", ["layer", "unit"])
def test_two_replicas_train_like_one(per, two_replicas):
    def trained(strategy):
        with strategy.scope():
            model = classifier(DrMADSGD(0.05, l2=0.01, per=per, learn=()), metrics=[])
        data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(20, drop_remainder=True)
        model.fit(data.repeat(3), shuffle=False, verbose=0)
        return weights(model)

    two, one = trained(two_replicas), trained(tf.distribute.OneDeviceStrategy("CPU:0"))
    np.testing.assert_allclose(two, one, rtol=1e-5, atol=1e-6)


def test_sparse_gradients():
    def trained(optimizer):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([layers.Embedding(20, 4), layers.Flatten(), layers.Dense(1)])
        model.compile(optimizer, "mse")
        words = np.random.default_rng(0).integers(0, 20, (64, 3))
        model.fit(words, words.sum(1) / 30.0, epochs=5, shuffle=False, verbose=0)
        return weights(model)

    np.testing.assert_allclose(
        trained(DrMADSGD(0.05, learn=())),
        trained(keras.optimizers.SGD(0.05, momentum=0.9)),
        rtol=1e-5,
        atol=1e-6,
    )


APART = {
    "no gradient": {},
    "weight_decay": {"weight_decay": 0.1},
    "without decay by path": {"weight_decay": 0.1},
    "clipnorm": {"clipnorm": 0.1},
    "global_clipnorm": {"global_clipnorm": 0.1},
    "clipvalue": {"clipvalue": 0.01},
    "clipnorm of 0": {"clipnorm": 0.0},
    "use_ema": {"use_ema": True},
    "accumulation": {"gradient_accumulation_steps": 2},
}


@pytest.mark.parametrize("name", APART)
@pytest.mark.filterwarnings("ignore:Gradients do not exist")
def test_variables_are_treated_apart_as_keras_does(name):
    """One without a gradient, one that is overwritten by it, one with a constraint."""

    def trained(make, l2):
        rng = np.random.default_rng(0)
        variables = []
        for layer in ("moving", "idle", "scale", "bound"):
            with keras.name_scope(layer):
                variables.append(keras.Variable(rng.normal(size=3), dtype="float32", name="kernel"))
        variables[2].overwrite_with_gradient = True
        variables[3].constraint = keras.constraints.NonNeg()
        optimizer = make(0.05, momentum=0.9, **APART[name])
        if name == "without decay by path":
            optimizer.exclude_from_weight_decay(var_names=["moving"])
        optimizer.build(variables)
        for step in range(4):
            gradients = [v.value * (step + 1) for v in variables]
            gradients = [g + l2 * v.value for g, v in zip(gradients, variables, strict=True)]
            gradients[1] = None if step else gradients[1]  # with a velocity, at first
            gradients[2] = tf.fill((3,), 0.5 + step)
            optimizer.apply(gradients, variables)
        optimizer.apply([], [])
        if name != "use_ema":  # Keras does not average what is overwritten
            optimizer.finalize_variable_values(variables)
        return [v.numpy() for v in variables]

    theirs = trained(keras.optimizers.SGD, l2=0.1)
    ours = trained(lambda *args, **kwargs: DrMADSGD(*args, l2=0.1, learn=(), **kwargs), l2=0.0)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_what_is_overwritten_by_its_gradient_has_no_update_rule():
    scale = keras.Variable([1.0], name="scale")
    scale.overwrite_with_gradient = True
    optimizer = DrMADSGD(0.05)
    optimizer.build([keras.Variable([1.0], name="kernel"), scale])
    with pytest.raises(ValueError, match="'scale' is replaced by its gradient"):
        optimizer.update_rule()


def test_the_engine_asks_for_weight_decay_as_keras_does():
    """By the path, which the name of a Keras variable has not."""
    optimizer = DrMADSGD(0.05, weight_decay=0.1)
    optimizer.exclude_from_weight_decay(var_names=["hidden"])
    model = classifier(optimizer)
    optimizer.build(model.trainable_variables)
    assert optimizer.update_rule().decays == (0.0, 0.0, 0.1, 0.1)


def test_learned_schedules_go_with_accumulated_gradients():
    optimizer = DrMADSGD(0.05, schedule=Knots(2, steps=8), learn=(), gradient_accumulation_steps=2)
    train(classifier(optimizer), epochs=1)
    assert optimizer.steps_taken() > 0


# -- groups ------------------------------------------------------------------------------------


def built(model, **arguments):
    model.compile(DrMADSGD(0.05, l2=1e-3, **arguments), "mse")
    model.optimizer.build(model.trainable_variables)
    return model.optimizer


def test_granularities():
    shapes = {
        per: {
            group: {kind: np.shape(v) for kind, v in entries.items()}
            for group, entries in built(classifier("sgd"), per=per).hyperparameters.items()
        }
        for per in ("global", "layer", "variable", "unit")
    }
    scalars = {"learning_rate": (), "momentum": (), "l2": ()}
    bias = {"learning_rate": (), "momentum": ()}
    assert shapes["global"] == {"global": scalars}
    assert shapes["layer"] == {"hidden": scalars, "out": scalars}
    variables = ["hidden/kernel", "hidden/bias", "out/kernel", "out/bias"]
    assert shapes["variable"] == dict.fromkeys(variables, scalars)
    assert list(shapes["unit"]) == variables
    assert shapes["unit"] == {
        "hidden/kernel": scalars | {"l2": (8,)},
        "hidden/bias": bias,
        "out/kernel": scalars | {"l2": (6,)},
        "out/bias": bias,
    }


def test_equal_names_in_sub_models_are_told_apart():
    def block(name):
        inputs = keras.Input((4,))
        return keras.Model(inputs, layers.Dense(4, name="dense")(inputs), name=name)

    first, second, shared = block("first"), block("second"), layers.Dense(4, name="shared")
    inputs = keras.Input((4,))
    model = keras.Model(inputs, shared(second(first(shared(inputs)))))
    assert list(built(model).hyperparameters) == ["shared", "dense", "dense#2"]
    optimizer = model.optimizer
    optimizer.set_hyperparameters({"dense#2": {"learning_rate": 1e-7}})
    before = [v.numpy() for v in model.trainable_variables]
    model.fit(np.ones((4, 4)), np.ones((4, 4)), verbose=0)
    moved = [
        np.abs(v.numpy() - b).max() > 1e-5
        for v, b in zip(model.trainable_variables, before, strict=True)
    ]
    assert moved == [True, True, True, True, False, False]


def test_nested_layers_are_named_by_path():
    model = keras.Sequential(
        [
            layers.Input((5, 4)),
            layers.Bidirectional(layers.LSTM(2, name="lstm"), name="both"),
            keras.Sequential([layers.Dense(3, name="inner")], name="block"),
        ]
    )
    assert list(built(model).hyperparameters) == [
        "both/forward_lstm/lstm_cell",
        "both/backward_lstm/lstm_cell",
        "block/inner",
    ]


@pytest.mark.parametrize(
    ("arguments", "without"),
    [
        ({"var_names": ["bias"]}, ["hidden/bias", "out/bias"]),
        ({"var_names": ["hidden"]}, ["hidden/kernel", "hidden/bias"]),
    ],
)
def test_exclude_from_l2(arguments, without):
    optimizer = DrMADSGD(0.05, l2=0.1, per="variable")
    optimizer.exclude_from_l2(**arguments)
    model = classifier(optimizer)
    optimizer.build(model.trainable_variables)
    assert [g for g, v in optimizer.hyperparameters.items() if "l2" not in v] == without
    with pytest.raises(ValueError, match="before the optimizer is built"):
        optimizer.exclude_from_l2(var_names=["kernel"])


def test_exclude_from_l2_by_variable_survives_the_config():
    model = classifier("sgd")
    optimizer = DrMADSGD(0.05, l2=0.1, per="variable")
    optimizer.exclude_from_l2(var_list=[model.trainable_variables[0]])
    copy = DrMADSGD.from_config(optimizer.get_config())
    copy.build(model.trainable_variables)
    assert [g for g, v in copy.hyperparameters.items() if "l2" not in v] == ["hidden/kernel"]


# -- values ------------------------------------------------------------------------------------


def test_effective_rate_follows_the_global_rate():
    optimizer = built(classifier("sgd"))
    optimizer.set_hyperparameters({"out": {"learning_rate": 0.1}})
    optimizer.learning_rate = 0.01  # as ReduceLROnPlateau does
    values = optimizer.hyperparameters
    assert values["hidden"]["learning_rate"] == pytest.approx(0.01)
    assert values["out"]["learning_rate"] == pytest.approx(0.02)


def test_keras_callbacks_drive_the_global_rate():
    model = classifier(DrMADSGD(0.05, learn=()))
    schedule = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2)
    history = model.fit(X, Y, epochs=2, verbose=0, callbacks=[schedule])
    assert history.history["learning_rate"] == pytest.approx([0.025, 0.0125])
    assert model.optimizer.hyperparameters["out"]["learning_rate"] == pytest.approx(0.0125)


def test_set_values_are_used():
    """A group's values act like those of an optimizer compiled with them."""
    ours = classifier(DrMADSGD(0.05, momentum=0.9, l2=0.0, learn=()))
    ours.optimizer.set_hyperparameters(  # before it is built
        {g: {"learning_rate": 0.02, "momentum": 0.5, "l2": 0.01} for g in ("hidden", "out")}
    )
    theirs = classifier(keras.optimizers.SGD(0.02, momentum=0.5), l2=0.01)
    np.testing.assert_allclose(weights(train(ours)), weights(train(theirs)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("start", [0.0, 0.9])
@pytest.mark.parametrize("value", [0.0, 0.3, 0.99])
def test_momentum_round_trip(start, value):
    optimizer = built(classifier("sgd"), momentum=start)
    optimizer.set_hyperparameters({"out": {"momentum": value}})
    assert optimizer.hyperparameters["out"]["momentum"] == pytest.approx(value, abs=1e-6)
    assert optimizer.hyperparameters["hidden"]["momentum"] == pytest.approx(start, abs=1e-7)


def test_arrays_of_unit_coefficients():
    optimizer = built(classifier("sgd"), per="unit")
    values = np.linspace(0.0, 0.1, 8)
    optimizer.set_hyperparameters({"hidden/kernel": {"l2": values}})
    np.testing.assert_allclose(optimizer.hyperparameters["hidden/kernel"]["l2"], values, rtol=1e-5)
    optimizer.hyperparameters["hidden/kernel"]["l2"][:] = 7  # a copy
    np.testing.assert_allclose(optimizer.hyperparameters["hidden/kernel"]["l2"], values, rtol=1e-5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"hiden": {"l2": 0.1}}, "'hiden'. Did you mean 'hidden'"),
        ({"out": {"momentun": 0.1}}, "Did you mean 'momentum'"),
        ({"out": {"momentum": 1.0}}, r"\['out'\]\['momentum'\].*\[0, 0.9999\]"),
        ({"out": {"learning_rate": 0.0}}, r"\['learning_rate'\].*\(0"),
        ({"out": {"l2": -1e-3}}, r"\['l2'\]"),
        ({"out": {"l2": float("nan")}}, r"\['l2'\]"),
        ({"out": {"l2": [1e-3, 1e-3]}}, r"must be a number.*shape \(2,\)"),
        ({"out": 0.1}, "must be a dictionary"),
    ],
)
def test_wrong_values_are_refused_and_nothing_is_set(values, message):
    optimizer = built(classifier("sgd"))
    before = optimizer.hyperparameters
    with pytest.raises(ValueError, match=message):
        optimizer.set_hyperparameters({"hidden": {"l2": 0.5}} | values)
    assert optimizer.hyperparameters == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"per": "row"}, "`per`"),
        ({"learn": ("rate",)}, "`learn`"),
        ({"momentum": 1.0}, "`momentum`"),
        ({"l2": -1.0}, "`l2`"),
        ({"l2": "0.1"}, "`l2`"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        DrMADSGD(**arguments)


def test_hyperparameters_before_build():
    with pytest.raises(ValueError, match="once the optimizer is built"):
        _ = DrMADSGD().hyperparameters


def test_frozen_hyperparameters_are_said_once(caplog):
    from keras_drmad.optimizers import learnable as module

    module._say_frozen.cache_clear()
    train(classifier(DrMADSGD()), epochs=1)
    train(classifier(DrMADSGD()), epochs=1)
    assert len([r for r in caplog.records if "frozen" in r.message]) == 1
