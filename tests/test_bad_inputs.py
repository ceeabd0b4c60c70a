"""Inputs that make no sense are refused before anything is trained, by an error that names them."""

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

from keras_drmad import DrMADSGD, Knots, LearnHyperparameters, Sign, hypergradient, paths, plots
from keras_drmad.arguments import did_you_mean
from keras_drmad.data import as_validation
from keras_drmad.data_checks import check_targets
from keras_drmad.tuners import Actions, DrMADOracle, Goal, OptunaOracle, Policy, QANOracle
from keras_drmad.tuners.qan import plots as qan_plots
from keras_drmad.tuners.qan.agent.dqn import DQN
from keras_drmad.tuners.qan.agent.q_network import q_network
from keras_drmad.tuners.qan.env import TrainingEnv
from keras_drmad.tuners.qan.search.curriculum import Curriculum
from keras_drmad.tuners.qan.search.schedules import Schedule
from keras_drmad.tuners.qan.training.filters import BagOfFilters, RawFilters
from keras_drmad.tuners.qan.training.states import Ratios

NAN, INF = float("nan"), float("inf")

# -- arguments ------------------------------------------------------------------------------


def policy(**arguments):
    given = {"states": [Ratios()], "actions": Actions(), "goal": ("val_loss", 0.1), "budget": 8}
    given |= {"decision_every": 2, "start_rate": 0.1, "learning_rate": Schedule("constant", 0.1)}
    return Policy(**(given | arguments))


def as_callback(**arguments):
    return policy().as_callback(**arguments)


def network(**arguments):
    return q_network(**({"parts": [((7,), None)], "actions": 3, "units": (2,)} | arguments))


def dqn(**arguments):
    return DQN(network(), **arguments)


def schedule(**arguments):
    return Schedule(**({"kind": "cosine", "peak": 0.1, "over": 8.0} | arguments))


def goal(**arguments):
    return Goal(**({"metric": "val_loss", "value": 0.1} | arguments))


def bag(**arguments):
    return BagOfFilters(**({"words": 1} | arguments))


def raw(**arguments):
    return RawFilters(**({"inputs": 4} | arguments))


def film(**arguments):
    return plots.FilterAnimation(**({"file": "a.gif"} | arguments))


def learn(**arguments):
    return LearnHyperparameters(**({"validation_data": HYPER} | arguments))


NUMBERS = [-1, NAN, INF, True, "0.1", [0.1], 1j]
SIZES = [0, -1, 2.5, True, "4", NAN, INF]
SEEDS = [-1, 1.5, True, "a"]
FLAGS = ["no", "False", 2, 1, None]
ARGUMENTS = [
    (DrMADSGD, "learning_rate", [*NUMBERS, None]),
    (DrMADSGD, "momentum", [*NUMBERS, None, 1.5]),
    (DrMADSGD, "l2", [*NUMBERS, None]),
    *[(DrMADSGD, name, NUMBERS) for name in ("clipnorm", "clipvalue", "global_clipnorm")],
    (DrMADSGD, "weight_decay", NUMBERS),
    (DrMADSGD, "ema_momentum", [*NUMBERS, 1.1]),
    (DrMADSGD, "loss_scale_factor", [*NUMBERS, 0]),
    (DrMADSGD, "gradient_accumulation_steps", [1, -1, 2.5, True, "4"]),
    *[(DrMADSGD, name, FLAGS) for name in ("nesterov", "use_ema")],
    (DrMADSGD, "per", ["Layer", None, 3]),
    (DrMADSGD, "learn", ["lr", ("lr",), 3, None, [3], [["l2"]]]),
    (DrMADSGD, "schedule", [5, "step", Knots]),
    (Sign, "step", [*NUMBERS, None]),
    (Knots, "knots", [1, *SIZES, "steps", None]),
    (Knots, "kinds", ["l2", (), 3, "lr"]),
    (Knots, "steps", SIZES),
    (paths.SegmentMeans, "knots", SIZES),
    (paths.SegmentMeans, "floor", FLAGS),
    (paths.Linear, "backward_steps", SIZES),
    (paths.Checkpointed, "every", SIZES),
    *[(learn, name, SIZES) for name in ("horizon", "batch_size")],
    (learn, "check", FLAGS),
    (learn, "verbose", ["loud", -1, 2.5, None]),
    (learn, "path", ["linear", paths.Linear]),
    (learn, "meta_optimizer", ["rmsprop", 3]),
    (DrMADOracle, "objective", [None, 5, "", ["val_loss", 3], []]),
    *[(DrMADOracle, n, SIZES) for n in ("max_trials", "gradients_per_step", "keep_checkpoints")],
    *[(DrMADOracle, n, SIZES) for n in ("meta_iterations", "patience", "return_after")],
    *[(oracle, "seed", SEEDS) for oracle in (DrMADOracle, QANOracle, OptunaOracle)],
    *[
        (oracle, name, FLAGS)
        for oracle in (DrMADOracle, QANOracle, OptunaOracle)
        for name in ("allow_new_entries", "tune_new_entries")
    ],
    *[(o, "max_retries_per_trial", SEEDS) for o in (DrMADOracle, QANOracle, OptunaOracle)],
    *[(o, "max_consecutive_failed_trials", SIZES[2:]) for o in (DrMADOracle, OptunaOracle)],
    *[(o, "hyperparameters", [5, {}]) for o in (DrMADOracle, QANOracle, OptunaOracle)],
    *[(oracle, "timeout", [0, *NUMBERS]) for oracle in (DrMADOracle, QANOracle)],
    (DrMADOracle, "outer_oracle", [5, keras_tuner.Oracle]),
    (OptunaOracle, "max_trials", SIZES),
    (OptunaOracle, "objective", [5, [3], ""]),
    (OptunaOracle, "sampler", [5, "tpe"]),
    (OptunaOracle, "pruner", [5]),
    *[(QANOracle, name, SIZES) for name in ("max_trials", "decision_every", "gradient_steps")],
    *[(QANOracle, n, SIZES[1:]) for n in ("schedule_trials", "random_trials", "contest")],
    (QANOracle, "epsilon", [0.1, (1, 2, 3), ("a", "b"), (NAN, 0), (True, 0), None, "ab"]),
    *[(QANOracle, name, NUMBERS) for name in ("shaping", "random_starts", "early_stop_factor")],
    (QANOracle, "policy", [5, "missing.keras"]),
    (QANOracle, "states", [5, "rate", [Ratios], []]),
    (Actions, "learning_rate", ["abc", 2.0, (True, 2), (-1, 2), (NAN, 1), None, (), (1,)]),
    (Actions, "bounds", [1.0, (0, 1), (1, 0.1), ("a", 1), None, (NAN, 1), (True, 2), "ab"]),
    (Actions, "sample_selection", [("hardes",), None, 5, (3,), ()]),
    (Actions, "per", ["x", None]),
    (goal, "metric", [None, 5, ""]),
    (goal, "unit", ["hours", None]),
    (Ratios, "names", [5, None, (), ("x",), (3,)]),
    (bag, "words", SIZES),
    (bag, "layer", [5]),
    (bag, "codebook", ["x", [[NAN]], [["a"]], [[1.0], [1.0, 2.0]], 1.0]),
    *[(raw, name, SIZES) for name in ("inputs", "filters")],
    (raw, "layer", [5]),
    (schedule, "kind", ["x", None, 5]),
    *[(schedule, name, [0, *NUMBERS]) for name in ("peak", "over")],
    (policy, "states", [5, "rate", [5]]),
    (policy, "actions", [5]),
    (policy, "start_rate", [*NUMBERS, None]),
    (policy, "learning_rate", [0.1, "cosine"]),
    (as_callback, "stop", FLAGS),
    *[(as_callback, name, SIZES) for name in ("budget", "decision_every", "batch_size")][:2],
    (as_callback, "validation_data", [5, "abc", ([1.0], [2.0])]),
    *[(dqn, name, FLAGS) for name in ("double", "prioritized", "jit_compile")],
    (dqn, "seed", SEEDS),
    (network, "actions", SIZES),
    (network, "units", ["ab", 5, (2.5,), (True,)]),
    (network, "dueling", FLAGS),
    (network, "scale", [0, *NUMBERS]),
    (network, "seed", SEEDS),
    (plots.RecordPath, "directory", [5]),
    (plots.RecordPath, "dtype", ["int8", None]),
    (plots.RecordPath, "max_snapshots", [1, *SIZES]),
    (film, "file", [5, None, "a.png"]),
    (film, "layer", [5]),
    (film, "shape", ["ab", (2,), 5, (2.5, 2)]),
    (film, "reference", [5, "a"]),
    (film, "to_tensorboard", [5]),
    (plots.RecordedPath, "snapshots", [5, None, [1, 2]]),
    (plots.hyperparameters, "history", [5, None, {}]),
    (plots.residual, "path", [5, None]),
    *[(draw, "tuner", [5, None]) for draw in (qan_plots.learning_curve, qan_plots.actions)],
]


@pytest.mark.parametrize(
    "make, name, values", ARGUMENTS, ids=[f"{make.__name__}-{name}" for make, name, _ in ARGUMENTS]
)
def test_arguments_are_named(make, name, values):
    for value in values:
        with pytest.raises(ValueError, match=rf"\b{name}\b") as raised:
            make(**{name: value})
        assert "Received" in str(raised.value) or "`" in str(raised.value), value


@pytest.mark.parametrize("name", ["resample", "shard", "check", "overwrite", "jit_compile"])
def test_text_is_no_flag_of_a_search(tmp_path, name):
    with pytest.raises(ValueError, match=f"`{name}` must be True"):
        make_drmad(tmp_path, **{name: "no"})


@pytest.mark.parametrize(
    "arguments",
    [
        {"hyper_variables": []},
        {"max_model_size": -1},
        {"project_name": 5},
        {"directory": 5},
        {"executions_per_trial": True},
    ],
    ids=lambda arguments: next(iter(arguments)),
)
def test_arguments_of_a_search_are_named(tmp_path, arguments):
    with pytest.raises(ValueError, match=f"`{next(iter(arguments))}` must be"):
        make_drmad(**({"folder": tmp_path} | arguments))


@pytest.mark.parametrize("make", [make_drmad, make_qan])
@pytest.mark.parametrize("hypermodel", [None, 5, "model"])
def test_what_makes_no_models_is_named(tmp_path, make, hypermodel):
    with pytest.raises(ValueError, match="`hypermodel` must be"):
        make(tmp_path, hypermodel)


def test_a_model_is_no_hypermodel(tmp_path):
    with pytest.raises(ValueError, match=r"`hypermodel` must be .* a function"):
        make_drmad(tmp_path, build(None))
    with pytest.raises(ValueError, match="`build_model` must be a function"):
        TrainingEnv(build_classifier(), *QAN_TRAIN, goal=("val_loss", 0.1), validation_data=VAL)


# -- numbers of NumPy, and what is assigned later ----------------------------------------------


def test_numbers_of_numpy_are_numbers():
    optimizer = DrMADSGD(np.float32(0.5), momentum=np.float64(0.25), clipnorm=np.int64(1))
    config = optimizer.get_config()
    assert (config["learning_rate"], config["momentum"], config["clipnorm"]) == (0.5, 0.25, 1)
    assert DrMADSGD(1, nesterov=np.bool_(True)).nesterov is True
    assert Knots(np.int32(3), steps=np.int64(9)).count == 3
    assert OptunaOracle(seed=np.int64(3)).seed == 3


@pytest.mark.parametrize(
    "name, value",
    [
        *[("learn", value) for value in ("lr", ("lr",), 3, ("init_scale",))],
        *[("learning_rate", value) for value in (-0.1, NAN, "a", None)],
        *[("schedule", value) for value in (5, Knots(3, steps=9))],
        ("per", "global"),
        ("momentum", 0.5),
        ("l2", 1.0),
        ("nesterov", "no"),
        ("clipnorm", -1.0),
        ("weight_decay", "x"),
    ],
)
def test_what_is_assigned_later_is_refused_as_well(name, value):
    optimizer = DrMADSGD(0.1)
    optimizer.build([keras.Variable(np.ones((2, 2)), name="kernel")])
    before = getattr(optimizer, name)
    with pytest.raises(ValueError, match=rf"\b{name}\b"):
        setattr(optimizer, name, value)
    assert getattr(optimizer, name) == before


def test_what_makes_sense_is_assigned():
    optimizer = DrMADSGD(0.1)
    optimizer.learn, optimizer.learning_rate, optimizer.clipnorm = "l2", 0.2, 3
    assert optimizer.learn == ("l2",) and float(optimizer.learning_rate) == np.float32(0.2)
    assert optimizer.clipnorm == 3


@pytest.mark.parametrize(
    "values", [3, "a", None, [1], {"a": 3}, {"a": {"l2": "x"}}, {"a": {"lr": 1}}]
)
def test_hyperparameters_are_refused_before_the_groups_are_known(values):
    with pytest.raises(ValueError, match="hyperparameters"):
        DrMADSGD().set_hyperparameters(values)


# -- advice ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "word, advice",
    [
        ("lr", "learning_rate"),
        ("rate", "learning_rate"),
        ("Momentum", "momentum"),
        ("mom", "momentum"),
        ("learning_rat", "learning_rate"),
        ("zzz", None),
        ("", None),
        (5, None),
    ],
)
def test_advice_is_near_or_there_is_none(word, advice):
    said = did_you_mean(word, valid=("learning_rate", "momentum", "l2"))
    assert said == (f"Did you mean {advice!r}?" if advice else "")


SEARCHED = {"bounds": (0.1, 1.0), "seed": 0, "early_stop_factor": 1.25}


def test_a_search_says_how_many_trials_it_needs():
    for given, least in (({}, 8), ({"contest": 3}, 26), ({"schedule_trials": 30}, 44)):
        for trials in (1, 4, least - 1):
            match = f"`max_trials` must be at least {least},.*max_trials={trials}"
            with pytest.raises(ValueError, match=match):
                Curriculum.with_defaults(trials, **given, **SEARCHED).check()
        Curriculum.with_defaults(least, **given, **SEARCHED).check()


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
    "unequal": ((XS, YS[:30]), r"inputs of shape \(40, 5\), targets of shape \(30,\)"),
    "an infinite stream": (stream(changed(XS, INF), YS).batch(8), "1 values"),
    "of another size": ((XS[:, :4], YS), r"\(None, 5\)|samples like"),
}


@pytest.fixture(scope="module")
def model():
    return build(None)


@pytest.mark.parametrize("data, match", DATA.values(), ids=DATA)
def test_data_are_named(model, data, match):
    weights = model.get_weights()
    for name, sets in (("train_data", (data, HYPER)), ("validation_data", (TRAIN, data))):
        with pytest.raises(ValueError, match=rf"`{name}`") as raised:
            hypergradient(model, *sets, steps=2, verbose=0)
        assert raised.match(match)
    if "another size" not in str(data) and match[1:5] != "(Non":  # for that, a model is needed
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
    callbacks = [policy(budget=16).as_callback(decision_every=3), halved()][::order]
    with pytest.warns(UserWarning, match="Something else has set the learning rate"):
        build_classifier().fit(*QAN_TRAIN, batch_size=8, epochs=3, verbose=0, callbacks=callbacks)
