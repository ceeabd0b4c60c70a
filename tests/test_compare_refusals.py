"""`compare`: what is refused, and what is unfair."""

import pathlib

import keras
import keras_tuner
import numpy as np
import pytest
import tensorflow as tf
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
from keras_drmad.tuners import DrMADOracle, DrMADTuner, Method, QANOracle
from keras_drmad.tuners.budget import Budget
from keras_drmad.tuners.comparison.comparison import _seeds
from keras_drmad.tuners.comparison.place import Place
from keras_drmad.tuners.comparison.search import make_tuner

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
        ("methods", {"": Method(build)}),
        ("train", (TRAIN[0].tolist(), TRAIN[1])),
        ("train", (tf.data.Dataset.from_tensor_slices(TRAIN), None)),
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
        ({"tuner": keras_tuner.Tuner}, "tuner"),  # which wants an oracle
        ({"tuner": DrMADOracle}, "tuner"),
        ({"tuner": QANOracle}, "tuner"),
        ({"tuner": keras_tuner.oracles.HyperbandOracle}, "tuner"),
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


Random = keras_tuner.RandomSearch


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


def test_arguments_of_an_oracle_s_tuner_are_its_own(tmp_path):
    method = Method(build, "optuna", executions_per_trial=2, max_retries_per_trial=1)
    objective, budget = keras_tuner.Objective("val_loss", "min"), Budget(2, "trainings")
    tuner = make_tuner(method, objective, budget, 1, 0, str(tmp_path / "search"))
    assert tuner.executions_per_trial == 2
    assert tuner.oracle.max_retries_per_trial == 1


def test_lists_may_be_arrays():
    assert Budget(np.array([2.0, 4.0]), "trainings").amounts == [2.0, 4.0]
    assert _seeds(np.array([3, 1])) == [3, 1]


def test_advice_ends_in_one_sentence(tmp_path):
    with pytest.raises(ValueError, match=r"Received: metric='zz'\. Compile it with `metrics"):
        make(tmp_path, {"a": Method(build)}, metric=keras_tuner.Objective("zz", "min"))


# -- folders -----------------------------------------------------------------------------------


def test_every_name_has_a_folder(tmp_path):
    place = Place(str(tmp_path))
    names = ["a", "a b", "a/b", "..", "settings.json", "x" * 300, "x" * 301, "日本"]
    folders = {place.method_settings(name) for name in names}
    assert len(folders) == len(names)
    for path in folders:
        folder = pathlib.Path(path).parent
        assert folder.parent == tmp_path and folder.name != "settings.json"
        folder.mkdir()


def test_only_a_comparison_is_overwritten(tmp_path, monkeypatch):
    monkeypatch.setattr("keras_drmad.tuners.comparison.comparison._all", lambda *_: [])
    (tmp_path / "thesis.tex").write_text("all of it")
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "settings.json").touch()
    (tmp_path / "project" / "oracle.json").touch()
    for epochs in (1, 2):
        make(tmp_path, {"a": Method(build)}, epochs=epochs, overwrite=True)
    (tmp_path / "a" / "seed_0").mkdir()
    make(tmp_path, {"b": Method(build)}, overwrite=True)
    assert {path.name for path in tmp_path.iterdir()} == {
        "thesis.tex",
        "project",
        "b",
        "settings.json",
    }
    assert len(list((tmp_path / "project").iterdir())) == 2


def test_another_space_is_said(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("keras_drmad.tuners.comparison.comparison._all", lambda *_: [])
    make(tmp_path, {"a": random_search()})
    wider = Method(lambda hp: compiled(keras.optimizers.SGD(hp.Float("rate", 0.1, 9.0))), Random)
    make(tmp_path, {"a": wider})
    assert "goes on with other settings: space.rate" in caplog.text


# -- fairness ----------------------------------------------------------------------------------


def widths(hp):
    hp.Choice("width", [1, 2])
    return compiled(DrMADSGD(0.1))


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
        ({"a": random_search()}, {"budget": 1}, "too small for 'a', which has 1 hyperparameter:"),
        ({"a": Method(widths, DrMADTuner)}, {"budget": 20}, "only one configuration of 'width'"),
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
    make(tmp_path, {"ours": Method(widths, DrMADTuner, scouts=2)}, overwrite=True)
