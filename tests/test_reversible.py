"""`Reversible` is undone bit for bit, and refuses what cannot be undone."""

import numpy as np
import pytest
from small_mlp import XH, YH, X, Y, mlp, run

from keras_drmad import paths


def test_reversible_returns_to_its_start_bit_for_bit_and_reports_its_memory():
    from keras_drmad.data import as_batches
    from keras_drmad.engine.engine import Engine

    model = mlp(momentum=0.9)
    batches = as_batches((X[:48], Y[:48]), 16, seed=0)
    engine = Engine.of(model, batches.batch(0), paths.Reversible())
    (key,) = model.optimizer.engines.by_key
    trajectory = engine.train(engine.read(), batches, [0.05] * 300)
    trained = [w.numpy() for w in trajectory.end.weights]
    assert not engine.returned(trajectory)
    derivatives = engine.differentiate(trajectory, as_batches((XH, YH), 30))
    assert engine.returned(trajectory)
    assert derivatives.finite
    assert any(
        np.abs(a - b).max() > 0.01 for a, b in zip(trained, engine.read().weights, strict=True)
    )

    found = run(model, paths.Reversible(), steps=1000, jit_compile="auto")  # by the same programs
    assert model.optimizer.engines.by_key == {key: engine}
    assert 0.152 < found.information["buffer_bits_per_weight_per_step"] < 0.5
    assert found.information["undone_exactly"]


@pytest.mark.parametrize(
    "arguments", [{"nesterov": True}, {"weight_decay": 0.1}, {"momentum": 0.01}]
)
def test_reversible_refuses_what_cannot_be_undone(arguments):
    model = mlp(**arguments)
    before = [v.numpy() for v in model.trainable_variables]
    with pytest.raises(ValueError, match=r"Use `Checkpointed\(\)`"):
        run(model, paths.Reversible())
    for variable, value in zip(model.trainable_variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_nesterov_steps_cannot_be_undone():
    """Two different states that one Nesterov step takes to the same state: no inverse exists."""
    rate, momentum = 1.0, 0.5
    gradient = lambda w: np.sin(4 * w)  # noqa: E731 curvature up to 4, above 1 / rate

    def step(w, v):
        v = momentum * v - rate * gradient(w)
        return w + momentum * v - rate * gradient(w), v

    # w − α g(w) = y has several solutions; v makes up for the difference in g.
    w1, w2 = 0.0, 0.6185  # both near w − sin(4 w) = 0
    for _ in range(50):
        w2 -= (w2 - gradient(w2)) / (1 - 4 * np.cos(4 * w2))
    v1 = 0.3
    v2 = (momentum * v1 - rate * gradient(w1) + rate * gradient(w2)) / momentum
    assert abs(w1 - w2) > 0.5
    np.testing.assert_allclose(step(w1, v1), step(w2, v2), atol=1e-12)
