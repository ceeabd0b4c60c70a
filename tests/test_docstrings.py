"""The examples in public docstrings run and say what they say."""

import doctest
import importlib

import keras
import numpy as np
import pytest

import keras_drmad
from keras_drmad import tuners

MODULES = {"keras": keras, "np": np, "keras_drmad": keras_drmad}
EXAMPLES = ["optimizer", "schedule", "meta", "hypergradient", "learn", "tuners.drmad.tuner"]
QAN = ["tuner", "oracle", "policy", "env", "goals", "actions", "states", "filters", "regressor"]
EXAMPLES += [f"tuners.qan.{name}" for name in (*QAN, "network", "agent")]


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples(name, tmp_path):
    module = importlib.import_module(f"keras_drmad.{name}")
    names = {n: getattr(keras_drmad, n) for n in keras_drmad.__all__}
    names |= {n: getattr(tuners, n) for n in tuners.__all__}
    result = doctest.testmod(module, extraglobs=names | MODULES | {"folder": tmp_path})
    assert result.attempted
    assert result.failed == 0
