"""What a search by hypergradients says of discrete hyperparameters before it trains."""

import keras
import keras_tuner
import pytest
from drmad_task import HYPER, TRAIN, L, make

from keras_drmad import DrMADSGD
from keras_drmad.tuners import DrMADOracle
from keras_drmad.tuners.drmad import choices

ONE, LEARNED = "only one configuration of", "which the optimizer learns"


def said(caplog, names=("width",), **arguments):
    """What is logged for a space of these hyperparameters."""
    oracle, hp = DrMADOracle(**arguments), keras_tuner.HyperParameters()
    values = {"width": lambda: hp.Int("width", 1, 9), "lr": lambda: hp.Float("lr", 0.1, 1.0)}
    values |= {"dropout": lambda: hp.Float("dropout", 0.1, 0.5), "fixed": lambda: hp.Fixed("a", 3)}
    for name in names:
        values[name]()
    oracle.update_space(hp)
    optimizer = DrMADSGD(0.1)
    optimizer.build([keras.Variable([1.0])])
    choices.say(oracle, hp.values, optimizer)
    return caplog.text


@pytest.mark.parametrize(
    "arguments, is_said",
    [
        ({}, True),  # 10 trials, 10 for a configuration
        ({"max_trials": 11}, False),
        ({"max_trials": 11, "gradients_per_step": 2}, True),
        ({"meta_iterations": 5}, False),
        ({"scouts": 3}, False),
        ({"patience": 2}, False),
        ({"budget": 20}, True),  # half of it for retests
        ({"budget": 21}, False),
        ({"budget": 1000, "unit": "seconds"}, False),
    ],
)
def test_a_search_of_one_configuration_says_so(caplog, arguments, is_said):
    shown = said(caplog, **arguments)
    assert (f"{ONE} 'width'" in shown) == is_said
    assert LEARNED not in shown


def test_without_choices_nothing_is_said(caplog):
    assert said(caplog, ["fixed"]) == ""


@pytest.mark.parametrize("name, is_said", [("lr", True), ("dropout", False)])
def test_choosing_what_is_learned_is_said(caplog, name, is_said):
    assert (f"`hp` chooses '{name}', {LEARNED}" in said(caplog, [name])) == is_said


def test_it_is_said_before_anything_is_trained(tmp_path, caplog, monkeypatch):
    def widths(hp):
        model = keras.Sequential([L.Input((5,)), L.Dense(hp.Choice("w", [2, 3])), L.Dense(1)])
        model.compile(DrMADSGD(0.02), "mse", jit_compile=False)
        return model

    tuner = make(tmp_path, widths)
    monkeypatch.setattr(tuner, "_search", lambda *_, **__: None)
    tuner.search(*TRAIN, validation_data=HYPER, verbose=0)
    assert f"{ONE} 'w'" in caplog.text
