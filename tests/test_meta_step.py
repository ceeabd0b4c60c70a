"""One step of the meta-optimizer."""

import keras
import numpy as np
from oracle_trials import BOUNDS, gradient, state

from keras_drmad import Sign
from keras_drmad.tuners.drmad.meta_step import BACK_OFF, MetaState, back_to_best, step


def test_a_step_follows_the_mean_of_the_gradients():
    after = step(state(), [gradient(1, 2), gradient(3, -2)], BOUNDS, keras.optimizers.SGD(0.5))
    assert after.values == {"learning_rate": [-1.0], "other": [1.0]}
    assert after.good == state().values


def test_steps_keep_the_meta_optimizers_state():
    optimizer = keras.optimizers.Adam(0.1)
    variable = keras.Variable(np.float32([0.0]))
    whole = keras.optimizers.Adam(0.1)
    at = MetaState({"learning_rate": np.float32([0.0])})
    for g in (1.0, -0.3, 0.2):
        at = step(at, [{"learning_rate": np.float32([g])}], BOUNDS, optimizer)
        whole.apply([np.float32([g])], [variable])
    np.testing.assert_allclose(at.values["learning_rate"], variable.numpy(), rtol=1e-6)
    assert not optimizer.built  # a pattern only


def test_values_stay_within_their_bounds():
    after = step(state(1.9), [gradient(-10, 0)], BOUNDS, keras.optimizers.SGD(1.0))
    assert after.values["learning_rate"] == [2.0]


def test_without_a_usable_gradient_it_goes_half_the_way_back():
    after = step(state(1.0, 3.0, good=state(0.0, 1.0).values), [], BOUNDS, Sign())
    assert after.values == {"learning_rate": [0.5], "other": [2.0]}


def test_without_any_good_values_it_lowers_the_learning_rates():
    after = step(state(1.0), [], BOUNDS, Sign())
    np.testing.assert_allclose(after.values["learning_rate"], 1.0 - BACK_OFF, rtol=1e-6)
    assert after.values["other"] == [1.0]
    assert step(state(-1.9), [], BOUNDS, Sign()).values["learning_rate"] == [-2.0]


def test_sign_ignores_size():
    after = step(state(), [gradient(1e30, -1e-30)], BOUNDS, Sign(0.1))
    np.testing.assert_allclose(after.values["learning_rate"], [-0.1])
    np.testing.assert_allclose(after.values["other"], [1.1])


def test_going_back_halves_the_step():
    at = step(state(), [gradient(1, 0)], BOUNDS, keras.optimizers.SGD(0.5))
    at.best = state(0.25).values
    at = back_to_best(at)
    assert at.values == at.best
    after = step(at, [gradient(1, 0)], BOUNDS, keras.optimizers.SGD(0.5))
    assert after.values["learning_rate"] == [0.25 - 0.25]


def test_a_step_has_the_rate_of_now():
    """A search may go on with another one; the half of it that going back leaves stays the half."""
    slow, fast = keras.optimizers.SGD(0.25), keras.optimizers.SGD(0.5)
    at = step(state(), [gradient(1, 0)], BOUNDS, slow)
    at.best = at.values
    assert step(at, [gradient(1, 0)], BOUNDS, fast).values["learning_rate"] == [-0.75]
    at = step(back_to_best(at), [gradient(1, 0)], BOUNDS, fast)
    assert at.values["learning_rate"] == [-0.5]
    at = step(at, [], BOUNDS, fast)  # backs off
    assert step(at, [gradient(1, 0)], BOUNDS, fast).rate == {"share": 0.5}
