"""The examples in public docstrings run and say what they say."""

import doctest
import importlib

import keras
import numpy as np
import pytest
from matplotlib import pyplot
from qan_task import make, put

import keras_drmad
from keras_drmad import tuners
from keras_drmad.tuners.qan.schedules import Schedule

MODULES = {"keras": keras, "np": np, "keras_drmad": keras_drmad}
EXAMPLES = ["optimizer", "schedule", "meta", "hypergradient", "learn", "tuners.drmad.tuner"]
QAN = ["tuner", "oracle", "policy", "env", "goals", "actions", "states", "filters", "regressor"]
QAN += ["network", "agent", "replay", "schedules", "plots"]
EXAMPLES += [f"tuners.qan.{name}" for name in QAN]


def searched(folder):
    """A search with some episodes, for pictures of it."""
    actions = tuners.Actions((0.5, 1, 2), pools=("uniform", "hardest"))
    tuner = make(folder, actions=actions)
    schedule = Schedule("constant", 0.1).get_config()
    put(tuner, "schedule", 9.0, schedule=schedule)
    put(tuner, "test", 6.0, snapshot=1)
    put(tuner, "contest", 6.0, snapshot=1)
    put(tuner, "contest", 9.0, schedule=schedule)
    return tuner


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples(name, tmp_path):
    module = importlib.import_module(f"keras_drmad.{name}")
    names = {n: getattr(keras_drmad, n) for n in keras_drmad.__all__}
    names |= {n: getattr(tuners, n) for n in tuners.__all__}
    names |= MODULES | {"folder": tmp_path}
    if name == "tuners.qan.plots":
        names["tuner"] = searched(tmp_path)
    result = doctest.testmod(module, extraglobs=names)
    pyplot.close("all")
    assert result.attempted
    assert result.failed == 0
