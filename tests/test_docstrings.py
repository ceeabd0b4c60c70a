"""The examples in docstrings run and say what they say."""

import doctest
import importlib
import pathlib

import keras
import numpy as np
import pytest
from qan_task import make, put

import keras_drmad
from keras_drmad import tuners
from keras_drmad.tuners.qan.search.schedules import Schedule

STEPS_ARE_CHECKED = True

ROOT = pathlib.Path(__file__).parent.parent
MODULES = {"keras": keras, "np": np, "keras_drmad": keras_drmad}
EXAMPLES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for folder in ("keras_drmad", "tuners")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if ">>> " in path.read_text()
]


def searched(folder):
    """A search with some episodes, for pictures of it."""
    actions = tuners.Actions((0.5, 1, 2), sample_selection=("uniform", "hardest"))
    tuner = make(folder, actions=actions)
    schedule = Schedule("constant", 0.1)
    put(tuner, "schedule", 9.0, schedule=schedule)
    put(tuner, "test", 6.0, snapshot=1)
    put(tuner, "contest", 6.0, snapshot=1)
    put(tuner, "contest", 9.0, schedule=schedule)
    return tuner


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples(name, tmp_path):
    installed = name if name.startswith("keras_drmad") else f"keras_drmad.{name}"
    module = importlib.import_module(installed)
    names = {n: getattr(keras_drmad, n) for n in keras_drmad.__all__}
    names |= {n: getattr(tuners, n) for n in tuners.__all__}
    names |= MODULES | {"folder": tmp_path}
    if name == "tuners.qan.plots":
        names["tuner"] = searched(tmp_path)
    result = doctest.testmod(module, extraglobs=names)
    assert result.attempted
    assert result.failed == 0
