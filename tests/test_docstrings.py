"""The examples in public docstrings run and say what they say."""

import doctest
import importlib

import keras
import numpy as np
import pytest

import keras_drmad


@pytest.mark.parametrize("name", ["optimizer", "hypergradient", "learn"])
def test_examples(name):
    module = importlib.import_module(f"keras_drmad.{name}")
    names = {n: getattr(keras_drmad, n) for n in keras_drmad.__all__}
    result = doctest.testmod(module, extraglobs=names | {"keras": keras, "np": np})
    assert result.attempted > 2
    assert result.failed == 0
