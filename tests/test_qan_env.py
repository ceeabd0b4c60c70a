"""The training as a gymnasium environment."""

import gc
import threading

import gymnasium
import keras
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from keras_drmad.tuners import Actions
from keras_drmad.tuners.qan.env import TrainingEnv
from keras_drmad.tuners.qan.training.filters import BagOfFilters, RawFilters
from keras_drmad.tuners.qan.training.report import DIVERGED, REACHED, TRUNCATED
from keras_drmad.tuners.qan.training.states import Ratios, State

pytestmark = pytest.mark.slow

rng = np.random.default_rng(0)
X = rng.normal(size=(96, 6)).astype("float32")
Y = (X @ rng.normal(size=(6, 3))).argmax(-1)
TRAIN, VAL = (X[:64], Y[:64]), (X[64:], Y[64:])
BUDGET, EVERY = 16, 3  # steps: decisions at 0, 3, 6, 8 (an epoch's end), 11, 14
SAME, UP = 1, 2
EXPLODE = 3
ACTIONS = Actions((0.5, 1.0, 2.0, 1e9), bounds=(1e-4, 1e9))


def build():
    layers = [keras.layers.Input((6,)), keras.layers.Dense(3, name="a"), keras.layers.Dropout(0.1)]
    model = keras.Sequential(layers)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.02), loss, jit_compile=False)
    return model


def make(**arguments):
    arguments = {"goal": ("val_loss", 1e-9), "validation_data": VAL, "epochs": 2} | arguments
    arguments = {"batch_size": 8, "decision_every": EVERY, "actions": ACTIONS} | arguments
    return TrainingEnv(build, *TRAIN, **arguments)


def play(env, choose, **reset):
    """All that an episode returns."""
    seen = [(*env.reset(**reset),)]
    done = False
    while not done:
        seen.append(env.step(choose(len(seen) - 1)))
        done = seen[-1][2] or seen[-1][3]
    return seen


def assert_same(a, b):
    assert len(a) == len(b)
    for one, other in zip(a, b, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        assert one[1:] == other[1:]


def paid(seen):
    return sum(reward for _, reward, *_ in seen[1:])


@pytest.fixture(scope="module")
def shared():
    env = make()
    yield env
    env.close()


@pytest.fixture(autouse=True)
def nothing_is_left_behind(shared):
    before = set(threading.enumerate())
    yield
    shared.close()
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"validation_data": None}, "needs `validation_data`"),
        ({"goal": ("val_accuracy", 0.9)}, r"what is measured is \['loss', 'val_loss'\]"),
        ({"goal": ("val_loss", 1e3)}, "an untrained model reaches it"),
        ({"epochs": 0}, "`epochs` must be"),
        ({"decision_every": 0}, "`decision_every` must be"),
        ({"validation_data": (X[:8, :2], Y[:8])}, "`validation_data` must hold inputs of shape"),
        ({"actions": Actions(bounds=(0.1, 1.0))}, "learning rate, 0.02, is not within the bounds"),
    ],
)
def test_what_cannot_work_is_refused_at_once(arguments, message):
    with pytest.raises(ValueError, match=message):
        make(**arguments)


# -- the interface --------------------------------------------------------------------------


def test_it_is_an_environment():
    """No check is left out: those of rendering and closing need a spec."""
    spec = gymnasium.envs.registration.EnvSpec(
        "Training-v0",
        entry_point=make,
        disable_env_checker=True,
        order_enforce=False,
    )
    env = gymnasium.make(spec).unwrapped
    assert env.spec is not None and not env.spec.nondeterministic
    check_env(env)
    env.close()


def test_what_ratios_are_is_known_and_of_others_that_they_are_finite(shared):
    np.testing.assert_array_equal(
        shared.observation_space.high, np.full(len(Ratios.FEW), 5, "float32")
    )
    space = make(states=[Ratios(["rate"]), RawFilters(6, 3)]).observation_space
    assert space.shape == (19,) and space.is_bounded()
    np.testing.assert_array_equal(space.low[:2], np.float32([-5, np.finfo("float32").min]))


def test_actions_move_the_learning_rate(shared):
    seen = play(shared, lambda t: [UP, 0, SAME][t % 3], seed=0)
    rates = [step[-1]["learning_rate"] for step in seen[:-1]]
    np.testing.assert_allclose(rates, [0.02, 0.04, 0.02, 0.02, 0.04, 0.02], rtol=1e-5)
    assert [step[-1]["step"] for step in seen] == [0, 3, 6, 8, 11, 14, 16]
    assert all(step[-1]["val_loss"] > 0 for step in seen)


def test_the_same_seed_is_the_same_episode(shared):
    def choose(t):
        return [UP, SAME, UP, 0, SAME, UP][t]

    one = play(shared, choose, seed=5)
    assert_same(one, play(shared, choose, seed=5))
    following = play(shared, choose)  # drawn, of seed 5
    other = make()
    assert_same(one, play(other, choose, seed=5))
    assert_same(following, play(other, choose))
    other.close()
    assert one[0][1]["val_loss"] != following[0][1]["val_loss"]  # of other initial weights


# -- rewards and ends -----------------------------------------------------------------------


def test_the_end_of_the_budget_is_a_truncation(shared):
    seen = play(shared, lambda t: SAME, seed=0)
    assert [step[2:4] for step in seen[1:]] == [(False, False)] * 5 + [(False, True)]
    assert seen[-1][-1]["ended"] == TRUNCATED
    np.testing.assert_allclose([step[1] for step in seen[1:4]], [-1, -1, -2 / 3], rtol=1e-6)
    assert paid(seen) == pytest.approx(-BUDGET / EVERY)


def test_reaching_the_goal_is_a_termination():
    env = make(goal=("val_loss", 0.9))
    seen = play(env, lambda t: UP, seed=0)
    end = seen[-1][-1]
    assert seen[-1][2:4] == (True, False) and end["ended"] == REACHED
    assert end["val_loss"] <= 0.9 < seen[-2][-1]["val_loss"]
    assert end["step"] < BUDGET and paid(seen) == pytest.approx(-end["step"] / EVERY)
    env.close()


def test_divergence_is_a_termination_and_pays_for_the_rest(shared):
    seen = play(shared, lambda t: EXPLODE if t == 1 else SAME, seed=0)
    assert seen[-1][2:4] == (True, False) and seen[-1][-1]["ended"] == DIVERGED
    assert seen[-1][-1]["step"] < BUDGET
    assert paid(seen) == pytest.approx(-BUDGET / EVERY)


def test_in_seconds_what_is_left_is_counted_in_seconds():
    env = make(goal=("val_loss", 1e-9, "seconds"))
    env.reset(seed=0)
    _, first, *_ = env.step(SAME)
    assert first == pytest.approx(-env._report.seconds)
    _, last, terminated, *_ = env.step(EXPLODE)
    report = env._report
    assert terminated and report.step < BUDGET
    assert first + last == pytest.approx(-report.seconds * BUDGET / report.step, rel=1e-5)
    env.close()


def test_without_a_value_progress_is_paid():
    env = make(goal=("val_loss", None))
    seen = play(env, lambda t: UP, seed=0)
    losses = [step[-1]["val_loss"] for step in (seen[0], seen[-1])]
    assert paid(seen) == pytest.approx(np.log(losses[0] / losses[1]), rel=1e-4)
    env.close()


class NoNumbers(State):
    """What a state may say of weights that have diverged."""

    shape = (3,)

    def observe(self, view):
        return np.array([[np.nan, np.inf, view.step]], "float32")


def test_what_is_no_number_is_observed_as_one():
    env = make(states=[NoNumbers()])
    observation, _ = env.reset(seed=0)
    np.testing.assert_array_equal(observation, [0, np.finfo("float32").max, 0])
    assert observation in env.observation_space
    observation, *_ = env.step(SAME)
    assert observation in env.observation_space and observation[2] == 3
    env.close()


# -- what is not an episode -----------------------------------------------------------------


def test_there_is_no_step_outside_an_episode():
    env = make(epochs=1)
    with pytest.raises(RuntimeError, match="reset"):
        env.step(SAME)
    play(env, lambda t: SAME, seed=0)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="has ended: call `reset`"):
            env.step(SAME)
    env.reset()
    env.close()
    env.close()
    with pytest.raises(RuntimeError, match="has ended: call `reset`"):
        env.step(SAME)


@pytest.mark.parametrize("action", [4, -1, 1.0, None, np.array([1])])
def test_actions_that_are_none_are_refused_and_the_episode_goes_on(shared, action):
    shared.reset(seed=0)
    with pytest.raises(ValueError, match=r"must be in Discrete\(4\)"):
        shared.step(action)
    assert shared.step(np.int64(1))[-1]["step"] == 3


def test_close_ends_the_training():
    env = make()
    env.reset(seed=0)
    env.step(SAME)
    thread = env._thread
    assert thread.is_alive()
    env.close()
    assert not thread.is_alive()


def test_reset_ends_the_training_in_progress(shared):
    expected = play(shared, lambda t: UP, seed=3)
    for steps in (0, 2, 5):
        shared.reset(seed=8)
        for _ in range(steps):
            shared.step(SAME)
        thread = shared._thread
        shared.reset(seed=9)
        assert not thread.is_alive()
        assert_same(play(shared, lambda t: UP, seed=3), expected)


def test_a_forgotten_environment_ends_its_training():
    env = make()
    env.reset(seed=0)
    thread = env._thread
    del env
    gc.collect()
    thread.join(timeout=20)
    assert not thread.is_alive()


class Failing(State):
    """Cannot observe a step."""

    shape = (1,)

    def __init__(self, at):
        self.at = at

    def observe(self, view):
        if view.step == self.at:
            raise OSError(f"step {view.step} cannot be read")
        return np.zeros((1, 1), "float32")


def test_an_error_in_training_is_the_callers():
    state = Failing(6)
    env = make(states=[state])
    env.reset(seed=0)
    env.step(SAME)
    with pytest.raises(OSError, match="step 6 cannot be read"):
        env.step(SAME)
    assert env._thread is None
    with pytest.raises(RuntimeError, match="reset"):
        env.step(SAME)
    state.at = 0
    with pytest.raises(OSError, match="step 0"):
        env.reset()
    state.at = None
    assert len(play(env, lambda t: SAME)) == 7  # it is as good as new
    env.close()


def test_a_training_without_decisions_is_refused_at_once():
    with pytest.raises(ValueError, match=r"truncated.* smaller `decision_every`"):
        make(goal=("loss", 1e-9), validation_data=None, epochs=1, decision_every=8)


def test_a_training_that_ends_before_its_first_decision_says_so():
    def wild():
        model = build()
        model.optimizer.learning_rate = 1e38
        return model

    wide = Actions(bounds=(1e-5, 2e38))
    env = TrainingEnv(
        wild, *TRAIN, goal=("loss", 1e-9), batch_size=8, decision_every=EVERY, actions=wide
    )
    with pytest.raises(RuntimeError, match=r"diverged.* smaller `decision_every`"):
        env.reset(seed=0)
    assert env._thread is None


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match='per="global"'):
        make(actions=Actions(per="layer"))
    with pytest.raises(ValueError, match=r"no warm start.*BagOfFilters"):
        make(states=[BagOfFilters(2)])
