"""Whether a hypergradient means anything."""

import numpy as np
import pytest
from small_mlp import X, Y, mlp

from keras_drmad import smoothness

pytestmark = pytest.mark.slow

CALL = {"steps": 30, "batch_size": 16, "jit_compile": False}


@pytest.mark.parametrize(
    ("rate", "low", "high", "word"),
    [(0.01, 0.9, 1.0, "DrMADTuner"), (8.0, -1.0, 0.5, "horizon|short windows")],
)
def test_a_stable_training_is_smooth_and_a_chaotic_one_is_not(rate, low, high, word):
    model = mlp(learning_rate=rate, momentum=0.5)
    before = [v.numpy() for v in (*model.variables, *model.optimizer.variables)]
    found = smoothness(model, (X[:48], Y[:48]), **CALL)
    assert low <= found.value <= high
    assert any(w in found.advice for w in word.split("|"))
    assert str(found) == f"Smoothness of {found.value:.4g}. {found.advice}"
    for variable, value in zip((*model.variables, *model.optimizer.variables), before, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_a_training_that_diverges_says_so():
    found = smoothness(mlp(learning_rate=1e6, l2=1.0), (X[:48], Y[:48]), **CALL)
    assert found.value == -1.0
    assert "diverges" in found.advice


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [({}, {"size": 0.0}, "`size`"), ({}, {"steps": 0}, "`steps`"), ({"learn": ()}, {}, "learn")],
)
def test_bad_arguments_are_refused(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        smoothness(mlp(**model), (X, Y), **CALL | arguments)
