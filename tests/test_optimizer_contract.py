"""What every optimizer of ours promises: groups, effective values, arguments, learning."""

import keras
import numpy as np
import pytest
from classifier import X, Y, classifier, layers, train, weights
from optimizers import ADAMW, SGD, both

from keras_drmad import Knots, LearnHyperparameters, Sign, hypergradient, paths
from keras_drmad.tuners import Actions, DrMADTuner
from keras_drmad.tuners.qan.training.optimizer_control import OptimizerControl

# -- groups ------------------------------------------------------------------------------------


def built(kind, model=None, **arguments):
    model = model or classifier("sgd")
    model.compile(kind.of(**arguments), "mse")
    model.optimizer.build(model.trainable_variables)
    return model.optimizer


@both
def test_granularities(kind):
    shapes = {
        per: {
            group: {kind: np.shape(v) for kind, v in entries.items()}
            for group, entries in built(kind, per=per).hyperparameters.items()
        }
        for per in ("global", "layer", "variable", "unit")
    }
    bias = {"learning_rate": (), kind.mean: ()}
    scalars = bias | {kind.penalty: ()}
    assert shapes["global"] == {"global": scalars}
    assert shapes["layer"] == {"hidden": scalars, "out": scalars}
    variables = ["hidden/kernel", "hidden/bias", "out/kernel", "out/bias"]
    assert shapes["variable"] == dict.fromkeys(variables, scalars)
    assert list(shapes["unit"]) == variables
    assert shapes["unit"] == {
        "hidden/kernel": scalars | {kind.penalty: (8,)},
        "hidden/bias": bias,
        "out/kernel": scalars | {kind.penalty: (6,)},
        "out/bias": bias,
    }


@both
def test_kinds_stand_in_the_order_of_the_arguments(kind):
    order = {SGD: ["learning_rate", "momentum", "l2"]}
    order[ADAMW] = ["learning_rate", "weight_decay", "beta_1"]
    optimizer = built(kind, learn=(*order[kind], "init_scale"))
    assert list(optimizer.hyperparameters["out"]) == [*order[kind], "init_scale"]


@both
def test_equal_names_in_sub_models_are_told_apart(kind):
    def block(name):
        inputs = keras.Input((4,))
        return keras.Model(inputs, layers.Dense(4, name="dense")(inputs), name=name)

    first, second, shared = block("first"), block("second"), layers.Dense(4, name="shared")
    inputs = keras.Input((4,))
    model = keras.Model(inputs, shared(second(first(shared(inputs)))))
    optimizer = built(kind, model)
    assert list(optimizer.hyperparameters) == ["shared", "dense", "dense#2"]
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
    assert list(built(SGD, model).hyperparameters) == [
        "both/forward_lstm/lstm_cell",
        "both/backward_lstm/lstm_cell",
        "block/inner",
    ]


@both
@pytest.mark.parametrize(
    ("arguments", "without"),
    [
        ({"var_names": ["bias"]}, ["hidden/bias", "out/bias"]),
        ({"var_names": ["hidden"]}, ["hidden/kernel", "hidden/bias"]),
    ],
)
def test_variables_are_excluded_from_the_penalty(kind, arguments, without):
    optimizer = kind.of(per="variable")
    kind.exclude(optimizer, **arguments)
    model = classifier(optimizer)
    optimizer.build(model.trainable_variables)
    assert [g for g, v in optimizer.hyperparameters.items() if kind.penalty not in v] == without
    with pytest.raises(ValueError, match="before the optimizer is built"):
        kind.exclude(optimizer, var_names=["kernel"])


@both
def test_exclusion_by_variable_survives_the_config(kind):
    model = classifier("sgd")
    optimizer = kind.of(per="variable")
    kind.exclude(optimizer, var_list=[model.trainable_variables[0]])
    copy = kind.make.from_config(optimizer.get_config())
    copy.build(model.trainable_variables)
    without = [g for g, v in copy.hyperparameters.items() if kind.penalty not in v]
    assert without == ["hidden/kernel"]


def test_excluded_from_weight_decay_as_by_keras():
    ends = []
    for make in (ADAMW.make, ADAMW.twin):
        optimizer = make(0.01, weight_decay=1.0)
        optimizer.exclude_from_weight_decay(var_names=["bias", "out"])
        ends.append(weights(train(classifier(optimizer), epochs=1)))
    np.testing.assert_allclose(*ends, rtol=1e-6, atol=1e-6)


# -- values ------------------------------------------------------------------------------------


@both
def test_effective_rate_follows_the_global_rate(kind):
    optimizer = built(kind, learning_rate=0.05)
    optimizer.set_hyperparameters({"out": {"learning_rate": 0.1}})
    optimizer.learning_rate = 0.01  # as ReduceLROnPlateau does
    values = optimizer.hyperparameters
    assert values["hidden"]["learning_rate"] == pytest.approx(0.01)
    assert values["out"]["learning_rate"] == pytest.approx(0.02)


def test_keras_callbacks_drive_the_global_rate():
    model = classifier(SGD.make(0.05, learn=()))
    schedule = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2)
    history = model.fit(X, Y, epochs=2, verbose=0, callbacks=[schedule])
    assert history.history["learning_rate"] == pytest.approx([0.025, 0.0125])
    assert model.optimizer.hyperparameters["out"]["learning_rate"] == pytest.approx(0.0125)


@both
def test_set_values_are_used(kind):
    """A group's values act like those of an optimizer compiled with them."""
    ours = classifier(kind.of(learn=(), **{kind.penalty: 0.0}))
    values = {"learning_rate": 0.02, kind.mean: 0.5, kind.penalty: 0.01}
    ours.optimizer.set_hyperparameters(
        dict.fromkeys(("hidden", "out"), values)
    )  # before it is built
    arguments = {SGD: {}, ADAMW: {"weight_decay": 0.01}}[kind]
    twin = kind.twin(0.02, **{kind.mean: 0.5}, **arguments)
    theirs = classifier(twin, l2=0.01 if kind is SGD else 0.0)
    np.testing.assert_allclose(weights(train(ours)), weights(train(theirs)), rtol=1e-4, atol=1e-5)


@both
@pytest.mark.parametrize("start", [0.0, 0.9])
@pytest.mark.parametrize("value", [0.0, 0.3, 0.99])
def test_round_trip_on_the_logit_scale(kind, start, value):
    optimizer = built(kind, **{kind.mean: start})
    optimizer.set_hyperparameters({"out": {kind.mean: value}})
    assert optimizer.hyperparameters["out"][kind.mean] == pytest.approx(value, abs=1e-6)
    assert optimizer.hyperparameters["hidden"][kind.mean] == pytest.approx(start, abs=1e-7)


@both
def test_arrays_of_unit_coefficients(kind):
    optimizer = built(kind, per="unit")
    values = np.linspace(0.0, 0.1, 8)
    optimizer.set_hyperparameters({"hidden/kernel": {kind.penalty: values}})

    def kept():
        return optimizer.hyperparameters["hidden/kernel"][kind.penalty]

    np.testing.assert_allclose(kept(), values, rtol=1e-5)
    kept()[:] = 7  # a copy
    np.testing.assert_allclose(kept(), values, rtol=1e-5)


@both
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"hiden": {"PENALTY": 0.1}}, "'hiden'. Did you mean 'hidden'"),
        ({"out": {"MEANN": 0.1}}, "Did you mean 'MEAN'"),
        ({"out": {"MEAN": 1.0}}, r"\['out'\]\['MEAN'\] must be 0, or lie in .*, 0.9999\]"),
        ({"out": {"MEAN": 1e-5}}, r"must be 0, or lie in .*Received: 1e-05"),  # would become 0
        ({"out": {"PENALTY": 1e-30}}, r"must be 0, or lie in .*Received: 1e-30"),
        ({"out": {"learning_rate": 0.0}}, r"\['learning_rate'\] must lie in"),
        ({"out": {"learning_rate": 1e-9}}, r"must lie in \[\d+e-0\d, \d+\].*Received: 1e-09"),
        ({"out": {"learning_rate": 1e5}}, r"must lie in \[\d+e-0\d, \d+\].*Received: 100000"),
        ({"out": {"PENALTY": -1e-3}}, r"\['PENALTY'\]"),
        ({"out": {"PENALTY": float("nan")}}, r"\['PENALTY'\]"),
        ({"out": {"PENALTY": [1e-3, 1e-3]}}, r"must be a number.*shape \(2,\)"),
        ({"out": 0.1}, "must be a dictionary"),
    ],
)
def test_wrong_values_are_refused_and_nothing_is_set(kind, values, message):
    def named(text):
        return text.replace("MEAN", kind.mean).replace("PENALTY", kind.penalty)

    values = {
        group: {named(k): v for k, v in entries.items()} if isinstance(entries, dict) else entries
        for group, entries in values.items()
    }
    optimizer = built(kind)
    before = optimizer.hyperparameters
    with pytest.raises(ValueError, match=named(message)):
        optimizer.set_hyperparameters({"hidden": {kind.penalty: 0.5}} | values)
    assert optimizer.hyperparameters == before


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (SGD, {"per": "row"}),
        (SGD, {"learn": ("rate",)}),
        (SGD, {"momentum": 1.0}),
        (SGD, {"l2": -1.0}),
        (SGD, {"l2": "0.1"}),
        (ADAMW, {"per": "row"}),
        (ADAMW, {"learn": ("momentum",)}),
        (ADAMW, {"beta_1": 1.0}),
        (ADAMW, {"weight_decay": None}),
        (ADAMW, {"weight_decay": -0.1}),
        (ADAMW, {"beta_2": 1.0}),
        (ADAMW, {"epsilon": 0.0}),
        (ADAMW, {"amsgrad": True}),
        (ADAMW, {"schedule": Knots(4, "momentum")}),
        (SGD, {"schedule": Knots(4, "beta_1")}),
    ],
    ids=str,
)
def test_wrong_arguments_are_refused(kind, arguments):
    with pytest.raises(ValueError, match=f"`{next(iter(arguments))}`"):
        kind.make(**arguments)


@both
def test_hyperparameters_before_build(kind):
    with pytest.raises(ValueError, match="once the optimizer is built"):
        _ = kind.make().hyperparameters


@both
def test_frozen_hyperparameters_are_said_once(kind, caplog):
    from keras_drmad.optimizers import learnable as module

    module._say_frozen.cache_clear()
    optimizer = kind.make()
    optimizer.build([keras.Variable([1.0])])
    for _ in range(2):
        optimizer.apply([keras.ops.ones(1)])
    assert len([r for r in caplog.records if "frozen" in r.message and str(kind) in r.message]) == 1


@both
def test_values_that_are_meant_to_stay_are_not_talked_about(kind, caplog):
    """What was learned in a search, or is steered by an agent."""
    from keras_drmad.optimizers import learnable as module

    module._say_frozen.cache_clear()
    found = kind.make()
    found.build([keras.Variable([1.0])])
    found.is_settled = True  # as `get_best_optimizer` has it, also where the start was the best
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(found))
    steered = kind.make()
    steered.build([keras.Variable([1.0])])
    OptimizerControl(steered, Actions())
    again.build([keras.Variable([1.0])])
    for optimizer in (again, steered):
        optimizer.apply([keras.ops.ones(1)])
    assert "frozen" not in caplog.text
    fresh = kind.make()
    assert "learned" not in fresh.get_config()


# -- learning ----------------------------------------------------------------------------------


@both
def test_moving_hyperparameters(kind):
    """On the log scale by a factor, on the logit scale by odds; what is not learned stays."""
    optimizer = built(kind, learn=("learning_rate", kind.mean))
    up = {"learning_rate": -1.0, kind.mean: -1.0, kind.penalty: -1.0}
    optimizer.move_hyperparameters({"out": up}, Sign(0.1))
    moved = optimizer.hyperparameters["out"]
    assert moved["learning_rate"] == pytest.approx(kind.rate * np.exp(0.1), rel=1e-5)
    assert moved[kind.mean] / (1 - moved[kind.mean]) == pytest.approx(9 * np.exp(0.1), rel=1e-4)
    assert moved[kind.penalty] == pytest.approx(1e-3, rel=1e-6)
    assert optimizer.hyperparameters["hidden"]["learning_rate"] == pytest.approx(kind.rate)


@both
def test_the_callback_learns(kind, monkeypatch):
    from keras_drmad.engine import model_setup

    monkeypatch.setattr(model_setup, "prefers_xla", lambda *arguments: False)
    model = classifier(kind.of())
    learn = LearnHyperparameters((X[:100], Y[:100]))
    history = model.fit(X[100:], Y[100:], epochs=2, verbose=0, callbacks=[learn]).history
    assert np.isfinite(history["hyper_loss"]).all()
    assert {"out/learning_rate", f"hidden/{kind.penalty}", f"out/{kind.mean}"} <= history.keys()
    for learned in ("learning_rate", kind.penalty):
        assert len(set(history[f"out/{learned}"])) == 2


@pytest.mark.slow
@both
def test_schedules_and_initial_scales_through_the_tuner(kind, tmp_path):
    def build(hp):
        model = classifier("sgd")
        learn = ("learning_rate", "init_scale")
        optimizer = kind.of(schedule=Knots(3), learn=learn)
        model.compile(optimizer, model.loss, jit_compile=False)
        return model

    tuner = DrMADTuner(build, max_trials=3, directory=tmp_path, seed=0, jit_compile=False)
    train, hyper = (X[:200], Y[:200]), (X[200:250], Y[200:250])
    tuner.search(*train, epochs=1, batch_size=25, validation_data=hyper, verbose=0)
    learned = tuner.get_best_optimizer()
    assert type(learned) is kind.make
    learned.build(tuner.get_best_models()[0].trainable_variables)
    values = learned.hyperparameters["out"]
    assert values["learning_rate"].shape == values[kind.mean].shape == (3,)
    assert np.ptp(values["learning_rate"]) > 0
    assert np.ptp(values[kind.mean]) == 0
    assert values["init_scale"] != 1.0
    assert learned.schedule.steps == 8


@both
def test_training_from_scratch_again(kind):
    """`reset` and the first weights: the same hypergradient, with no program compiled again."""
    model = classifier(kind.of())
    model.optimizer.build(model.trainable_variables)
    start = model.get_weights()

    def run():
        data = (X[:96], Y[:96]), (X[100:150], Y[100:150])
        arguments = {"path": paths.Checkpointed(), "jit_compile": False, "verbose": 0, "seed": 1}
        return hypergradient(model, *data, steps=4, **arguments)

    first = run()
    model.set_weights(start)
    model.optimizer.reset()
    again = run()
    assert again.gradients == first.gradients
    assert not first.diverged
