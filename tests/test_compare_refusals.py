"""`compare`: what is refused, and what is unfair."""

import keras
import keras_tuner
import numpy as np
import pytest
from compare_task import (
    TEST,
    TRAIN,
    VALIDATION,
    L,
    build,
    compiled,
    make,
    random_search,
)

from keras_drmad import DrMADSGD
from keras_drmad.tuners import DrMADTuner, Method

# What these tests compare is unfair: small budgets, few seeds, no tuners.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:test_compare_refusals|compare_task")


@pytest.mark.parametrize(
    "argument, value",
    [
        ("budget", 0),
        ("budget", -1),
        ("budget", float("nan")),
        ("budget", 0.5),
        ("budget", []),
        ("budget", [2, 1]),
        ("unit", "hours"),
        ("seeds", 0),
        ("seeds", [1, 1]),
        ("seeds", []),
        ("epochs", 0),
        ("batch_size", 1.5),
        ("objective", "loss"),
        ("objective", 5),
        ("objective", ["val_loss"]),
        ("objective", keras_tuner.Objective("val_loss", "up")),
        ("metric", []),
        ("metric", "mae"),
        ("directory", 5),
        ("overwrite", "no"),
        ("verbose", "x"),
        ("methods", {}),
        ("methods", {"a": build}),
        ("train", TRAIN[0]),
        ("validation", (VALIDATION[0], VALIDATION[1][:3])),
        ("test", (TEST[0][:0], TEST[1][:0])),
        ("test", (TEST[0], TEST[1] * np.nan)),
        ("train", (TRAIN[0] * np.inf, TRAIN[1])),
        ("train", (TRAIN[0] + 1j, TRAIN[1])),
    ],
)
def test_bad_arguments_are_named(tmp_path, argument, value):
    arguments = {"methods": {"a": Method(build)}} | {argument: value}
    with pytest.raises(ValueError, match=f"`{argument}`.*Received"):
        make(tmp_path / "none", arguments.pop("methods"), **arguments)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    "arguments, name",
    [
        ({"hypermodel": 3}, "hypermodel"),
        ({"tuner": "tpe"}, "tuner"),
        ({"tuner": keras.Model}, "tuner"),
        ({"inputs": "x"}, "inputs"),
        ({"hypermodel": keras_tuner.HyperModel}, "hypermodel"),
        ({"callbacks": [5]}, "callbacks"),
        ({"callbacks": "x"}, "callbacks"),
        ({"tuner": keras_tuner.RandomSearch, "seed": 1}, "seed"),
        ({"max_trials": 3}, "tuner"),
    ],
)
def test_bad_methods_are_named(arguments, name):
    with pytest.raises(ValueError, match=f"`{name}`.*Received"):
        Method(**{"hypermodel": build} | arguments)


def not_compiled(hp):
    return keras.Sequential([L.Input((3,)), L.Dense(1)])


@pytest.mark.parametrize("hypermodel", [not_compiled, lambda hp: None, lambda hp: 1 / 0])
def test_models_that_are_none_are_named(tmp_path, hypermodel):
    with pytest.raises(ValueError, match="'a'"):
        make(tmp_path, {"a": Method(hypermodel)})


@pytest.mark.parametrize(
    "arguments, match",
    [
        ({"tuner": keras_tuner.RandomSearch, "bogus": 1}, "tuner of 'a' cannot be made.*bogus"),
        ({"tuner": "optuna", "sampler": 5}, "tuner of 'a' cannot be made.*sampler"),
        ({"tuner": DrMADTuner, "path": "linear"}, "tuner of 'a' cannot be made.*path"),
        ({"callbacks": lambda train, validation: [5]}, "callbacks of 'a' cannot be made"),
        ({"inputs": lambda x: x[:, :2]}, "cannot be evaluated on a sample of `train`"),
        ({"inputs": lambda x: 1 / 0}, "data of 'a' cannot be read by its `inputs`"),
    ],
)
def test_what_fails_in_a_training_is_said_before(tmp_path, arguments, match):
    with pytest.raises(ValueError, match=match):
        make(tmp_path / "none", {"a": Method(**{"hypermodel": build} | arguments)})
    assert not (tmp_path / "none").exists()


# -- fairness ----------------------------------------------------------------------------------


def warned(folder, methods, **arguments):
    """What a comparison warns of; nothing is trained."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("keras_drmad.tuners.comparison.comparison._all", lambda *_: [])
        with pytest.warns(UserWarning) as found:
            make(folder, methods, **arguments)
    return " ".join(str(one.message) for one in found)


@pytest.mark.parametrize(
    "methods, arguments, words",
    [
        ({"a": Method(build), "b": random_search()}, {}, "'a' is not tuned, and others are"),
        ({"a": random_search()}, {"seeds": 1}, "one seed"),
        ({"a": random_search()}, {"test": VALIDATION}, "test data are validation data"),
        ({"a": random_search()}, {"test": (TRAIN[0].copy(), TRAIN[1])}, "test data are training"),
        ({"a": random_search()}, {"validation": TRAIN}, "validation data are training data"),
        (
            {"a": Method(lambda hp: compiled("sgd"), keras_tuner.RandomSearch)},
            {},
            "'a' has an empty search space",
        ),
        (
            {"a": Method(build, keras_tuner.BayesianOptimization)},
            {"budget": 3},
            "begins with 3 random trials",
        ),
        ({"a": Method(build, "optuna")}, {"budget": 10}, "begins with 10 random trials"),
        ({"a": random_search()}, {"budget": 1}, "too small for 'a', which has 1 hyperparameter"),
    ],
)
def test_what_is_unfair_is_said(tmp_path, methods, arguments, words):
    assert words in warned(tmp_path, methods, **arguments)


@pytest.mark.filterwarnings("error")
def test_nothing_is_said_of_what_is_fair(tmp_path, monkeypatch):
    monkeypatch.setattr("keras_drmad.tuners.comparison.comparison._all", lambda *_: [])
    methods = {
        "random": random_search(),
        "ours": Method(lambda hp: compiled(DrMADSGD(0.1)), DrMADTuner),
    }
    make(tmp_path, methods, budget=2)
