"""Arguments that make no sense are refused at once, by an error that names them."""

import math

import keras
import keras_tuner
import numpy as np
import pytest
from drmad_task import HYPER, build
from drmad_task import make as make_drmad
from qan_task import TRAIN as QAN_TRAIN
from qan_task import VAL
from qan_task import build as build_classifier
from qan_task import make as make_qan

from keras_drmad import (
    DrMADAdamW,
    DrMADSGD,
    Knots,
    LearnHyperparameters,
    Rprop,
    Sign,
    paths,
    plots,
    smoothness,
)
from keras_drmad.arguments import did_you_mean
from keras_drmad.tuners import (
    Actions,
    DrMADOracle,
    Goal,
    OptunaOracle,
    Policy,
    QANOracle,
)
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


Rate = keras.optimizers.schedules.ExponentialDecay


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


def smooth(**arguments):
    model = keras.Sequential([keras.layers.Input((5,)), keras.layers.Dense(1)])
    model.compile(DrMADSGD(0.1), "mse")
    return smoothness(**({"model": model, "train_data": HYPER, "steps": 2} | arguments))


def snapshot(step, *arrays):
    return plots.Snapshot(step, 1.0, list(arrays), [])


TWO = np.ones(2)
TINY = 1e-60  # which is 0 in float32
NUMBERS = [-1, NAN, INF, True, "0.1", [0.1], 1j]
SIZES = [0, -1, 2.5, True, "4", NAN, INF]
SEEDS = [-1, 1.5, True, "a"]
FLAGS = ["no", "False", 2, 1, None]
ARGUMENTS = [
    (DrMADSGD, "learning_rate", [*NUMBERS, None, int, Rate, math.sqrt]),
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
    (Sign, "learning_rate", [*NUMBERS, None, int, Rate, math.sqrt]),
    (Rprop, "learning_rate", [*NUMBERS, None, int, Rate, math.sqrt]),
    (Rprop, "smallest", [*NUMBERS, None, 1.5]),
    (Rprop, "grow", [*NUMBERS, None, 0.5]),
    (Rprop, "shrink", [*NUMBERS, None, 0, 1.5, TINY]),
    *[(DrMADAdamW, name, [*NUMBERS, None]) for name in ("learning_rate", "weight_decay", "beta_2")],
    (DrMADAdamW, "beta_1", [*NUMBERS, None, 1]),
    (DrMADAdamW, "epsilon", [*NUMBERS, None, 0, TINY]),
    (DrMADAdamW, "amsgrad", [*FLAGS, True]),
    (DrMADAdamW, "learn", ["lr", ("momentum",), 3, None]),
    (smooth, "train_data", [None, "abc", 5, (HYPER[0], HYPER[1][:3]), (HYPER[0] * NAN, HYPER[1])]),
    (smooth, "train_data", [(HYPER[0][:, :2], HYPER[1]), (HYPER[0],), HYPER[0] + 1j]),
    *[(smooth, name, SIZES) for name in ("steps", "batch_size")],
    (smooth, "size", [0, 2, *NUMBERS]),
    (smooth, "seed", [*SEEDS, None]),
    *[(smooth, name, FLAGS) for name in ("check", "jit_compile")],
    (Knots, "knots", [1, *SIZES, "steps", None]),
    (Knots, "kinds", ["l2", (), 3, "lr"]),
    (Knots, "steps", SIZES),
    (paths.SegmentMeans, "knots", SIZES),
    (paths.SegmentMeans, "floor", FLAGS),
    (paths.Linear, "backward_steps", SIZES),
    (paths.Checkpointed, "every", SIZES),
    *[(learn, name, SIZES) for name in ("horizon", "validation_batch_size")],
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
    (DrMADOracle, "budget", [0, *NUMBERS]),
    (DrMADOracle, "unit", ["training", None, 3]),
    (DrMADOracle, "outer_oracle", [5, keras_tuner.Oracle]),
    (OptunaOracle, "max_trials", SIZES),
    (OptunaOracle, "objective", [5, [3], "", keras_tuner.Objective("val_loss", "up")]),
    (OptunaOracle, "sampler", [5, "tpe"]),
    (OptunaOracle, "pruner", [5]),
    *[(QANOracle, name, SIZES) for name in ("max_trials", "decision_every", "gradient_steps")],
    *[(QANOracle, n, SIZES[1:]) for n in ("schedule_trials", "random_trials", "contest")],
    (QANOracle, "epsilon", [0.1, (1, 2, 3), ("a", "b"), (NAN, 0), (True, 0), None, "ab"]),
    *[(QANOracle, name, NUMBERS) for name in ("shaping", "random_starts", "early_stop_factor")],
    (QANOracle, "policy", [5, "missing.keras"]),
    (QANOracle, "agent", [5, "dqn"]),
    (QANOracle, "objective", [5, ["val_loss"], ""]),
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
    (as_callback, "validation_data", [5, "abc", ([1.0], [2.0]), [], HYPER[0][:0], HYPER[0] * NAN]),
    (as_callback, "batch_size", SIZES),
    (Policy.load, "path", [5, None, "none.keras"]),
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
    (film, "reference", [5, "a", TWO, np.ones((2, 2)) * NAN, np.array([["a"]])]),
    (film, "duration", [10**6, *SIZES]),
    (film, "to_tensorboard", [5]),
    (
        plots.RecordedPath,
        "snapshots",
        [5, None, [1, 2], [snapshot("a", TWO)], [snapshot(0.5, TWO)]],
    ),
    (plots.RecordedPath, "snapshots", [[snapshot(0, TWO), snapshot(1, np.ones(3))]]),
    (plots.RecordedPath, "snapshots", [[snapshot(0, TWO), snapshot(1)], [snapshot(0, TWO)] * 2]),
    (plots.hyperparameters, "history", [5, None, {}, {1: [1.0]}, {"a/l2": 5}, {"a/l2": ["x"]}]),
    (plots.hyperparameters, "history", [{"a/l2": []}, {"a/l2": [1.0], "b/l2": [1.0, 2.0]}]),
    (plots.residual, "path", [5, None]),
    (plots.search, "tuner", [5, None]),
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
        {"distribution_strategy": "mirrored"},
        {"tuner_id": 5},
        {"hypermodel": keras_tuner.HyperModel},
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


@pytest.mark.parametrize(
    "optimizer, name, value",
    [
        *[
            (Rprop(), name, value)
            for name in ("smallest", "grow", "shrink")
            for value in (NAN, -1, "x")
        ],
        *[(DrMADAdamW(), "epsilon", value) for value in (0, NAN)],
        (DrMADAdamW(), "amsgrad", True),
        (DrMADAdamW(), "beta_2", 2.0),
    ],
)
def test_so_it_is_of_other_optimizers(optimizer, name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        setattr(optimizer, name, value)


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
