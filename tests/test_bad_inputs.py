"""Data, callbacks and searches that make no sense are refused before anything is trained."""

import contextlib

import keras
import keras_tuner
import numpy as np
import pytest
import tensorflow as tf
from drmad_task import HYPER, TRAIN, X, Y, build
from drmad_task import make as make_drmad
from qan_task import TRAIN as QAN_TRAIN
from qan_task import VAL
from qan_task import build as build_classifier
from qan_task import make as make_qan

from keras_drmad import DrMADSGD, Knots, LearnHyperparameters, hypergradient, plots
from keras_drmad.data import as_validation
from keras_drmad.data_checks import check_inputs, check_targets, check_values, overlap
from keras_drmad.tuners import Actions, Policy
from keras_drmad.tuners.qan.search.schedules import Schedule

layers = keras.layers
NAN, INF = float("nan"), float("inf")
SIZES = [0, -1, 2.5, True, "4", NAN, INF]
SEEDS, FLAGS = [-1, 1.5, True, "a"], ["no", 2, 1, None]

# -- data -----------------------------------------------------------------------------------


def changed(array, value):
    array = array.copy()
    array.flat[3] = value
    return array


def stream(*arrays):
    return tf.data.Dataset.from_tensor_slices(arrays)


XS, YS = X[80:120], Y[80:120]
DATA = {
    "None": (None, "None"),
    "text": ("abc", "'abc'"),
    "a number": (5, "5"),
    "lists": (([[0.0] * 5] * 8, [0.0] * 8), "np.asarray"),
    "single samples": (stream(XS, YS), "batch"),
    "no samples": ((X[:0], Y[:0]), "at least one"),
    "no batches": (stream(XS, YS).batch(8).take(0), "no batch|empty"),
    "complex": ((XS + 1j, YS), "complex"),
    "words": ((np.array([["a"] * 5] * 8), YS[:8]), "text"),
    "objects": ((np.array([[None] * 5] * 8), YS[:8]), "objects"),
    "NaN": ((changed(XS, NAN), YS), "1 values.*inputs"),
    "infinite": ((changed(XS, INF), YS), "1 values.*inputs"),
    "infinite targets": ((XS, changed(YS, INF)), "1 values.*targets"),
    "NaN weights": ((XS, YS, np.full(40, NAN, "float32")), "40 values.*sample weights"),
    "no targets": ((XS,), "must hold targets"),
    "no weight": ((XS, YS, np.zeros(40, "float32")), "some are not 0"),
    "weights of two": (
        (XS, YS, np.ones((40, 2), "float32")),
        r"\(40, 2\), targets of shape \(40,\)",
    ),
    "unequal": ((XS, YS[:30]), r"inputs of shape \(40, 5\), targets of shape \(30,\)"),
    "an infinite stream": (stream(changed(XS, INF), YS).batch(8), "1 values"),
    "of another size": ((XS[:, :4], YS), r"\(None, 5\)|samples like"),
}


@pytest.fixture(scope="module")
def model():
    return build(None)


@pytest.mark.parametrize("kind", DATA)
def test_data_are_named(model, kind):
    data, match = DATA[kind]
    weights = model.get_weights()
    for name, sets in (("train_data", (data, HYPER)), ("validation_data", (TRAIN, data))):
        with pytest.raises(ValueError, match=rf"`{name}`") as raised:
            hypergradient(model, *sets, steps=2, verbose=0)
        assert raised.match(match)
    if kind not in ("of another size", "no targets"):  # which the callback knows with its model
        with pytest.raises(ValueError, match="`validation_data`"):
            LearnHyperparameters(data)
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize(
    "arguments",
    [
        *[{"steps": value} for value in SIZES],
        *[{"batch_size": value} for value in SIZES],
        *[{"validation_batch_size": value} for value in SIZES],
        *[{"seed": value} for value in SEEDS],
        *[{"check": value} for value in FLAGS],
        *[{"jit_compile": value} for value in FLAGS],
        *[{"verbose": value} for value in ("x", 7, None)],
        *[{"hyper_variables": value} for value in (keras.Variable(1.0), None, [np.ones(3)])],
        {"path": "linear"},
    ],
    ids=lambda arguments: str(next(iter(arguments.items()))),
)
def test_arguments_of_hypergradient_are_named(model, arguments):
    with pytest.raises(ValueError, match=rf"`{next(iter(arguments))}` must be"):
        hypergradient(model, TRAIN, HYPER, **({"steps": 2, "verbose": 0} | arguments))


def test_hyper_variables_that_no_loss_reads_are_refused(model):
    unread = keras.Variable(1.0, trainable=False, name="unread")
    with pytest.raises(ValueError, match=r"`hyper_variables` must be read.*\[0\]='unread'"):
        hypergradient(model, TRAIN, HYPER, steps=2, hyper_variables=[unread], jit_compile=False)


def test_inputs_that_are_missing_are_named():
    a, b = layers.Input((2,), name="a"), layers.Input((3,), name="b")
    model = keras.Model({"a": a, "b": b}, layers.Dense(1)(layers.Concatenate()([a, b])))
    known = as_validation(({"a": XS[:, :2], "b": XS[:, 2:]}, YS))
    check_inputs("validation_data", model, known)
    with pytest.raises(ValueError, match=r"`validation_data` must hold 2 inputs.*'b'.*Received: 1"):
        check_inputs("validation_data", model, as_validation((XS, YS)))


@pytest.mark.parametrize("wrong", [-1, 3])
@pytest.mark.parametrize("loss", ["sparse_categorical_crossentropy", None])
def test_targets_that_are_no_classes_are_refused(wrong, loss):
    model = build_classifier()
    model.compile(DrMADSGD(0.1), loss or model.loss, jit_compile=False)
    bad = (VAL[0], changed(VAL[1], wrong))
    match = f"holds 1 targets that the loss .* from 0 to 2.*Received: {wrong}"
    with pytest.raises(ValueError, match=f"`validation_data` {match}"):
        hypergradient(model, QAN_TRAIN, bad, steps=2)
    with pytest.raises(ValueError, match=f"`train_data` {match}"):
        hypergradient(model, bad, QAN_TRAIN, steps=2)
    with pytest.raises(ValueError, match=f"`validation_data` {match}"):
        model.fit(*QAN_TRAIN, verbose=0, callbacks=[LearnHyperparameters(bad)])
    assert int(model.optimizer.iterations) == 0


def test_a_class_that_is_ignored_is_no_wrong_one():
    model = build_classifier()
    model.loss = keras.losses.SparseCategoricalCrossentropy(ignore_class=-1)
    batches = as_validation((VAL[0], changed(VAL[1], -1)))
    check_targets("validation_data", model, batches)
    model.loss = keras.losses.SparseCategoricalCrossentropy()
    with pytest.raises(ValueError, match="Received: -1"):
        check_targets("validation_data", model, batches)


@pytest.mark.parametrize("make, validation", [(make_drmad, HYPER), (make_qan, VAL)])
def test_targets_are_in_a_data_set_or_beside_arrays(tmp_path, make, validation):
    with pytest.raises(ValueError, match="`y` and `sample_weight` must be left out where `x` is"):
        make(tmp_path).search(stream(XS, YS).batch(8), YS, validation_data=validation, verbose=0)


def test_axes_are_matplotlibs():
    with pytest.raises(ValueError, match=r"`ax` must be Matplotlib axes.*ax=5"):
        plots.hyperparameters({"a/l2": [1.0]}, ax=5)


def test_samples_that_differ_in_one_value_do_not_overlap():
    """Also where it is none of those that are compared first."""
    known = np.random.default_rng(0).normal(size=(50, 400))
    other = known.copy()
    other[:, 1] += 1
    batch = ([(array, (), ())] for array in (known, other))
    first, second = batch
    assert overlap(first, second) is None
    assert overlap(first, [*second, *first]) == 1.0


@pytest.mark.parametrize("weights, fit", [((40, 1), True), ((40, 7), True), ((40, 3), False)])
def test_weights_of_steps_are_weights(weights, fit):
    data = as_validation((np.ones((40, 7, 2)), np.ones((40, 7, 3)), np.ones(weights)))
    with contextlib.nullcontext() if fit else pytest.raises(ValueError, match="each of its steps"):
        check_values("validation_data", data)


@pytest.mark.parametrize("known", [slice(0, 80), slice(0, 40)])
def test_the_callback_refuses_a_part_of_the_training_data(known):
    model = build(None)
    hyper = LearnHyperparameters((X[known].copy(), Y[known]))
    with pytest.raises(ValueError, match="`validation_data` overlaps the training data"):
        model.fit(*TRAIN, batch_size=40, shuffle=False, verbose=0, callbacks=[hyper])
    assert int(model.optimizer.iterations) == 0


# -- what cannot act ------------------------------------------------------------------------


def test_more_knots_than_steps_are_refused(model):
    with pytest.raises(ValueError, match=r"`knots` must be at most .*knots=50 for 4 steps"):
        Knots(50, steps=4)
    with pytest.raises(ValueError, match=r"`knots` must be at most .*knots=50 for 2 steps"):
        hypergradient(build(None, schedule=Knots(50)), TRAIN, HYPER, steps=2)


def fitted(*callbacks):
    model = build(None)
    model.fit(*TRAIN, batch_size=40, verbose=0, callbacks=list(callbacks))


def test_a_window_longer_than_the_training_is_refused():
    with pytest.raises(ValueError, match=r"`horizon` must be at most the 2 steps.*horizon=3"):
        fitted(LearnHyperparameters(HYPER, horizon=3))


def test_two_that_learn_are_refused():
    with pytest.raises(ValueError, match="two `LearnHyperparameters`"):
        fitted(LearnHyperparameters(HYPER), LearnHyperparameters(HYPER))


def test_patterns_that_match_nothing_are_warned_of():
    variables = [keras.Variable(np.ones((2, 2)), name="kernel")]
    for named in ({"var_names": ["biass"]}, {"var_list": [keras.Variable(1.0, name="other")]}):
        optimizer = DrMADSGD()
        optimizer.exclude_from_l2(**named)
        with pytest.warns(UserWarning, match="matches no variable. There are: kernel"):
            optimizer.build(variables)
    optimizer = DrMADSGD()
    optimizer.exclude_from_l2(var_names=["kern"])
    optimizer.build(variables)


@pytest.mark.parametrize(
    "named, match",
    [
        ({"var_names": "bias"}, "`var_names` must be a list"),
        ({"var_names": ["("]}, "`var_names` must be regular expressions"),
        ({"var_list": ["bias"]}, "`var_list` must be a list of variables"),
    ],
)
def test_patterns_that_are_none_are_refused(named, match):
    with pytest.raises(ValueError, match=match):
        DrMADSGD().exclude_from_l2(**named)


# -- searches -------------------------------------------------------------------------------


def trained(make_model):
    def hypermodel(hp):
        model = make_model(hp)
        model.optimizer.iterations.assign(3)  # as after a training
        return model

    return hypermodel


def halved():
    return keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2)


SEARCHES = {
    "shuffle": ({}, {"shuffle": "no"}, "`shuffle` must be True or False"),
    "verbose": ({}, {"verbose": "loud"}, "`verbose` must be"),
    "callbacks": ({}, {"callbacks": [5]}, "`callbacks` must be a list of Keras callbacks"),
    "learning": ({}, {"callbacks": [LearnHyperparameters(HYPER)]}, "`LearnHyperparameters`"),
    "knots": ({"hypermodel": lambda hp: build(hp, schedule=Knots(50))}, {}, "`knots` must be"),
    "horizon": ({"horizon": 17}, {}, "`horizon` must be at most the 16 steps.*17"),
    "trained": ({"hypermodel": trained(build)}, {}, "not trained.*taken 3 steps"),
    "hyper variables": (
        {"hyper_variables": lambda model: model.trainable_variables[0]},
        {},
        "`hyper_variables` must be a function that returns a list",
    ),
    "objective": (
        {"objective": keras_tuner.Objective("mae", "min")},
        {"callbacks": [keras.callbacks.TerminateOnNaN()]},
        "Did you mean 'val_mae'",
    ),
    "accuracy": (
        {"objective": "accuracy"},
        {"callbacks": [keras.callbacks.TerminateOnNaN()]},
        "'accuracy' is not among",
    ),
}


@pytest.mark.parametrize("tuner, arguments, match", SEARCHES.values(), ids=SEARCHES)
def test_searches_refuse(tmp_path, monkeypatch, tuner, arguments, match):
    monkeypatch.setattr(keras_tuner.Tuner, "search", lambda *_, **__: pytest.fail("it began"))
    made = make_drmad(tmp_path, **tuner)
    given = {"validation_data": HYPER, "batch_size": 10, "epochs": 2, "verbose": 0} | arguments
    with pytest.raises((ValueError, keras_tuner.errors.FatalValueError), match=match):
        made.search(*TRAIN, **given)


QAN_SEARCHES = {
    "verbose": ({}, {"verbose": "loud"}, "`verbose` must be"),
    "callbacks": ({}, {"callbacks": ["x"]}, "`callbacks` must be a list of Keras callbacks"),
    "learning": ({}, {"callbacks": [LearnHyperparameters(HYPER)]}, "`LearnHyperparameters`"),
    "rates": ({}, {"callbacks": [halved()]}, "`LearningRateScheduler`: .*decides"),
    "plateaus": ({}, {"callbacks": keras.callbacks.ReduceLROnPlateau()}, "`ReduceLROnPlateau`"),
    "trained": ({"hypermodel": trained(build_classifier)}, {}, "not trained.*taken 3 steps"),
    "decisions": ({"decision_every": 17}, {}, "decision_every=17 for 16 steps"),
}


@pytest.mark.parametrize("tuner, arguments, match", QAN_SEARCHES.values(), ids=QAN_SEARCHES)
def test_searches_of_policies_refuse(tmp_path, monkeypatch, tuner, arguments, match):
    monkeypatch.setattr(keras_tuner.Tuner, "search", lambda *_, **__: pytest.fail("it began"))
    made = make_qan(tmp_path, **tuner)
    given = {"validation_data": VAL, "batch_size": 8, "epochs": 2, "verbose": 0} | arguments
    with pytest.raises(ValueError, match=match):
        made.search(*QAN_TRAIN, **given)


@pytest.mark.parametrize("order", [1, -1])
def test_a_rate_that_others_set_is_warned_of(order):
    constant = Schedule("constant", 0.1)
    policy = Policy([], Actions(), ("val_loss", 0.1), 3, 0.02, 16, learning_rate=constant)
    callbacks = [policy.as_callback(), halved()][::order]
    with pytest.warns(UserWarning, match="Something else has set the learning rate"):
        build_classifier().fit(*QAN_TRAIN, batch_size=8, epochs=3, verbose=0, callbacks=callbacks)
