"""What the agent is paid, and how it comes to rest."""

import keras
import numpy as np
import pytest

from keras_drmad.tuners import Actions, Goal
from keras_drmad.tuners.qan.agent.learner import REST, Learner
from keras_drmad.tuners.qan.agent.trajectory import Trajectory
from keras_drmad.tuners.qan.project import QANProject
from keras_drmad.tuners.qan.training.report import DIVERGED, REACHED, TRUNCATED
from keras_drmad.tuners.qan.training.states import Ratios
from keras_drmad.tuners.storage import files

pytestmark = pytest.mark.slow

GAPS = np.array([2.0, 1.0, 0.5, 0.75])


@pytest.mark.parametrize(
    ("goal", "metric", "initial", "gap"),
    [
        (Goal("val_accuracy", 0.9), 0.6, 0.1, np.log(4)),
        (Goal("val_accuracy", 0.9), 0.95, 0.1, -np.log(2)),
        (Goal("val_loss", 0.5), 2.0, 3.0, np.log(4)),
        (Goal("val_loss", 1e-9), 1e-8, 3.0, np.log(10)),  # small ones are told apart, too
        (Goal("val_loss", 0.5), 0.0, 3.0, np.log(1e-6)),
        (Goal("val_loss"), 1.5, 3.0, -np.log(2)),  # against what it was at first
        (Goal("val_loss", -2.0), 4.0, 3.0, 3.0),
        (Goal("score", 50.0, "max"), 40.0, 1.0, 0.2),
        (Goal("r2", 0.8, "max"), -0.2, -1.0, np.log(6)),
        (Goal("r2", 0.8, "max"), 0.2, -1.0, np.log(4)),
        (Goal("val_loss"), -1.0, 3.0, np.log(1e-6)),
    ],
)
def test_gaps_are_what_goals_document(goal, metric, initial, gap):
    assert goal.gap(metric, initial) == pytest.approx(gap)


def learner(folder, goal=("val_loss", 0.1), **agent):
    project = QANProject()
    project.folder = str(folder)
    states = [Ratios(["rate", "gap"])]
    arguments = {"network": {"units": (4,)}, "gradient_steps": 1}
    arguments["agent"] = {"n_step": 1, "jit_compile": False} | agent
    return Learner(
        Goal.of(goal),
        states,
        Actions(),
        shaping=5.0,
        pretrained=None,
        project=project,
        seed=0,
        **arguments,
    )


def resumed(folder, learned):
    again = learner(folder)
    again.learned = learned
    again.reload()
    return again


def trajectory(ended, gaps=GAPS):
    return Trajectory(
        observations=np.zeros((4, 1, 2), "float32"),
        actions=np.zeros((3, 1), int),
        usable=np.ones((3, 1), bool),
        costs=np.array([1.0, 1.0, 0.5]),
        gaps=gaps,
        ended=ended,
    )


def test_nothing_need_be_discounted(tmp_path):
    tested = learner(tmp_path, gamma=1.0)
    assert np.isfinite(tested.learn(trajectory(REACHED), 0.0, None, 4.0)["agent_loss"])


def test_an_optimizer_serves_several_agents(tmp_path):
    optimizer = keras.optimizers.Adam(0.5)
    for name in "ab":
        tested = learner(tmp_path / name, optimizer=optimizer)
        tested.learn(trajectory(REACHED), 0.0, None, 4.0)
        assert float(tested.agent.optimizer.learning_rate) == 0.5
        assert tested.agent.optimizer.iterations == 3
    assert not optimizer.built


@pytest.mark.parametrize(
    "ended, left, rewards, terminated",
    [
        (REACHED, 4.0, [-1, -1, -0.5], True),
        (TRUNCATED, 4.0, [-1, -1, -0.5], False),  # by others: it might have gone on
        (TRUNCATED, 0.0, [-1, -1, -0.5 - 2.5 * 0.5], True),  # the budget's end, its least gap 0.5
        (DIVERGED, 4.0, [-1, -1, -0.5 - 4 - 6.5 * 0.5], True),
    ],
)
def test_a_miss_pays_what_it_is_ranked_by(tmp_path, ended, left, rewards, terminated):
    tested = learner(tmp_path)
    tested.learn(trajectory(ended), 0.0, None, left)
    replay = tested.agent.replay
    np.testing.assert_allclose(replay.returns[:3], rewards)
    assert (replay.discounts[2] == 0) == terminated
    gamma = tested.agent.gamma
    after = gamma * -GAPS[1:] * [1, 1, not terminated]
    np.testing.assert_allclose(replay.gains[:3], after + GAPS[:-1], rtol=1e-6)


def test_values_are_bounded_by_costs_and_the_potential(tmp_path, monkeypatch):
    tested, bounds = learner(tmp_path), []
    monkeypatch.setattr(
        tested.agent, "learn", lambda *arguments: bounds.append(arguments[-1]) or {}
    )
    for progress, gaps in ((0.0, GAPS), (0.4, GAPS / 2), (0.8, GAPS / 2)):
        tested.learn(trajectory(REACHED, gaps), progress, None, 0.0)
    # 1 a decision for ever with γ = 0.99; κ · the largest gap so far, κ from 5 to 0.
    np.testing.assert_allclose(bounds, [(-100, 10), (-100, 5), (-100, 0)], atol=1e-9)
    again = resumed(tmp_path, tested.learned)
    monkeypatch.setattr(again.agent, "learn", lambda *arguments: bounds.append(arguments[-1]) or {})
    again.learn(trajectory(REACHED, GAPS / 2), 0.0, None, 0.0)
    assert bounds[-1] == pytest.approx((-100, 10))  # it remembers


def test_without_a_goals_value_progress_is_paid_until_the_budgets_end(tmp_path):
    tested = learner(tmp_path, goal=Goal("val_loss"))
    tested.learn(trajectory(TRUNCATED), 0.0, None, 0.0)
    np.testing.assert_allclose(tested.agent.replay.returns[:3], [1, 0.5, -0.25])
    assert tested.agent.replay.discounts[2] == 0 and not tested.agent.replay.gains.any()


def test_the_agents_optimizer_comes_to_rest(tmp_path):
    tested = learner(tmp_path)
    for progress, share in ((0.0, 1.0), (0.4, 0.6), (1.0, REST)):
        tested.learn(trajectory(REACHED), progress, None, 0.0)
        assert float(tested.agent.optimizer.learning_rate) == pytest.approx(1e-3 * share)
    again = resumed(tmp_path, tested.learned)
    assert float(again.agent.optimizer.learning_rate) == pytest.approx(1e-3 * REST)
    again.learn(trajectory(REACHED), 0.5, None, 0.0)
    assert float(again.agent.optimizer.learning_rate) == pytest.approx(0.5e-3)


def test_what_a_full_disk_did_not_take_is_lost_alone(tmp_path, monkeypatch, caplog):
    tested = learner(tmp_path)
    tested.learn(trajectory(REACHED), 0.0, None, 0.0)
    written = tested.agent.get_state()
    with monkeypatch.context() as patch:
        patch.setattr(files, "write_arrays", full)
        tested.learn(trajectory(REACHED), 0.0, None, 0.0)
        tested.tidy(set())
    state = resumed(tmp_path, 2).agent.get_state()
    assert "episodes 2 to 2 is not there" in caplog.text
    assert (state["learn_calls"], tested.agent.learn_calls) == (1, 2)
    for name, array in written.items():
        np.testing.assert_array_equal(state[name], array)
    tested.learn(trajectory(REACHED), 0.0, None, 0.0)
    tested.tidy(set())
    names = [
        "learner_000001.npz",
        "learner_000003.npz",
        *(f"memory/00000{number}.npz" for number in range(3)),
    ]
    left = [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.npz")]
    assert sorted(left) == names


def full(*arguments, **groups):
    raise OSError("No space left on device")


def test_a_schedule_of_the_agents_optimizer_is_the_users(tmp_path):
    schedule = keras.optimizers.schedules.ExponentialDecay(0.01, 1, 0.5)
    tested = learner(tmp_path, optimizer=keras.optimizers.SGD(schedule))
    tested.learn(trajectory(REACHED), 0.9, None, 0.0)
    assert int(tested.agent.optimizer.iterations) == 3
    assert float(tested.agent.optimizer.learning_rate) == pytest.approx(0.01 * 0.5**3)


def test_each_snapshot_acts_as_it_was_kept(tmp_path):
    of, rng = learner(tmp_path), np.random.default_rng(0)
    observations, kept = rng.normal(size=(200, 2)).astype("float32"), {}
    for number in (1, 2):
        network = of.network()
        network.set_weights([rng.normal(size=w.shape) for w in network.weights])
        of.agent.target.set_weights(network.get_weights())
        of.take_snapshot(number)
        kept[number] = np.argmax(network(observations), -1)
    assert (kept[1] != kept[2]).any()
    for number in (1, 2, 1):
        np.testing.assert_array_equal(of.act(number, observations), kept[number])
    present = np.argmax(of.agent.network(observations), -1)
    np.testing.assert_array_equal(of.act(None, observations), present)


def test_how_long_a_second_is_makes_no_difference(tmp_path):
    """To the agent: on a slower machine everything costs more, and means the same."""
    learned = []
    for seconds in (0.25, 8.0):
        of = learner(tmp_path / str(seconds), goal=Goal("val_loss", 0.1, unit="seconds"))
        for ended in (TRUNCATED, DIVERGED, REACHED):
            lived = trajectory(ended)
            lived.costs = lived.costs * seconds
            of.learn(lived, progress=0.5, score=None, left=3.0 * seconds)
        learned.append(of.agent.network.get_weights())
    for one, other in zip(*learned, strict=True):
        np.testing.assert_array_equal(one, other)
    again = resumed(tmp_path / "8.0", 3)
    lived = trajectory(REACHED)
    lived.costs = 2 * 8.0 * lived.costs  # its own median is not the unit
    again.learn(lived, progress=0.5, score=None, left=0.0)
    np.testing.assert_allclose(again.agent.replay.returns[9:12], [-2, -2, -1])
