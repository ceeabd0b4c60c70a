"""The examples in public docstrings run and say what they say."""

import doctest
import importlib

import keras
import numpy as np
import pytest

import keras_drmad

MODULES = {"keras": keras, "np": np, "keras_drmad": keras_drmad}


@pytest.mark.parametrize("name", ["optimizer", "schedule", "meta", "hypergradient", "learn"])
def test_examples(name):
    module = importlib.import_module(f"keras_drmad.{name}")
    names = {n: getattr(keras_drmad, n) for n in keras_drmad.__all__}
    result = doctest.testmod(module, extraglobs=names | MODULES)
    assert result.attempted > 1
    assert result.failed == 0
