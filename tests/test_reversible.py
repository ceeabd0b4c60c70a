"""`Reversible` is undone bit for bit, and refuses what cannot be undone."""

import numpy as np
import pytest
import tensorflow as tf
from small_mlp import XH, YH, X, Y, mlp, run

from keras_drmad import paths
from keras_drmad.paths import fixed_point
from keras_drmad.update_rules.base import Iterate


def test_reversible_returns_to_its_start_bit_for_bit_and_reports_its_memory():
    from keras_drmad.data import as_batches
    from keras_drmad.engine.engine import Engine

    model = mlp(momentum=0.9)
    batches = as_batches((X[:48], Y[:48]), 16, seed=0)
    engine = Engine.of(model, batches.batch(0), paths.Reversible())
    (key,) = model.optimizer.engines.by_key
    trajectory = engine.train(engine.read(), batches, [0.05] * 300)
    trained = [w.numpy() for w in trajectory.end.weights]
    derivatives = engine.differentiate(trajectory, as_batches((XH, YH), 30))
    assert derivatives.undone
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


@pytest.mark.parametrize("where", ["weights", "velocities"])
def test_a_start_beyond_the_range_is_refused_before_training(where):
    model = mlp(momentum=0.9)
    model.optimizer.build(model.trainable_variables)
    variable = model.trainable_variables[0]
    if where == "velocities":
        variable = model.optimizer.slots["velocity"][0]
    variable.assign(np.full(variable.shape, 40_000.0))
    before = [v.numpy() for v in (*model.variables, *model.optimizer.variables)]
    with pytest.raises(ValueError, match=r"fixed point.*16384.*40000.*`Checkpointed\(\)`"):
        run(model, paths.Reversible(), steps=4)
    after = [v.numpy() for v in (*model.variables, *model.optimizer.variables)]
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("push", [2.0**13, 2.0**20, np.inf, np.nan])
def test_a_run_that_leaves_the_range_is_not_a_number(push):
    """Whether it overflows or not: weights that go too far at a step never come back."""
    model = mlp(momentum=0.9)
    model.optimizer.build(model.trainable_variables)
    rule, arithmetic = model.optimizer.update_rule(), paths.Reversible().arithmetic
    hyper, step = model.optimizer.hyper_values(), tf.constant(0)
    constants = arithmetic.constants(rule.numbers(hyper))
    weights = [tf.convert_to_tensor(v) for v in model.trainable_variables]
    at = arithmetic.encode(Iterate(weights, {"velocity": [0 * w for w in weights]}))
    for i in range(6):
        forth = tf.constant(False)
        weights = arithmetic.position(at, forth, rule.dtypes)
        gradients = [tf.fill(w.shape, tf.constant(push if i < 3 else 0.0)) for w in weights]
        at, _ = arithmetic.step(
            at, weights, gradients, rule, hyper, tf.constant(1.0), step, constants, forth
        )
    end = arithmetic.decode(at, rule.dtypes)
    assert all(np.isnan(v).all() for v in (*end.weights, *end.slots["velocity"]))


@pytest.mark.parametrize("rate", [0.05, 1e3])
def test_training_that_leaves_the_range_has_diverged(rate):
    model = mlp(momentum=0.9, learning_rate=rate)
    found = run(model, paths.Reversible(), steps=40)
    assert found.diverged == (rate > 1)


def test_half_precision_has_the_same_integers():
    values = np.random.default_rng(0).normal(size=100).astype("float16")
    narrow, wide = (
        fixed_point.encode([tf.constant(values.astype(dtype))])[0]
        for dtype in ("float16", "float32")
    )
    np.testing.assert_array_equal(narrow, wide)
