"""Policies: loaded, refused, and what they decide."""

import copy
import pathlib

import keras
import numpy as np
import pytest
from qan_task import GOAL, TRAIN, VAL, build, make, training

from keras_drmad.tuners import Actions, Goal, Policy, QANOracle
from keras_drmad.tuners.qan import Ratios, Schedule
from keras_drmad.tuners.qan.policy_file import PolicyModel


def network_policy(**changes):
    oracle = QANOracle(
        goal=GOAL, max_trials=12, schedule_trials=2, contest=1, seed=0, network={"units": (8,)}
    )
    settings = {"states": oracle.states, "actions": oracle.actions, "goal": oracle.goal}
    settings |= {
        "decision_every": 3,
        "start_rate": 0.02,
        "budget": 16,
        "network": oracle.learner.network(),
    }
    return Policy(**(settings | changes))


def test_a_policy_saved_and_loaded_steers_as_in_its_search(tmp_path):
    policy = network_policy()
    policy.save(tmp_path / "policy.keras")
    loaded = Policy.load(tmp_path / "policy.keras")
    reports, _ = training().run(4, policy.decide)
    model = build()
    again = training(build=build)
    again.restart(4)
    model = again.model
    model.steps_per_execution = 1  # plain `fit`
    callback = loaded.as_callback(validation_data=VAL)
    model.fit(*TRAIN, batch_size=8, epochs=2, verbose=0, callbacks=[callback])
    assert [r.step for r in callback.reports] == [r.step for r in reports]
    rates = [[r.rates[0] for r in of] for of in (callback.reports, reports)]
    np.testing.assert_allclose(rates[0], rates[1], rtol=1e-5)


def test_a_policy_that_cannot_be_saved_leaves_the_one_before(tmp_path, monkeypatch):
    first, second = (
        Policy(
            [Ratios()],
            Actions(),
            GOAL,
            2,
            0.02,
            8,
            learning_rate=Schedule("constant", peak, over=8.0),
        )
        for peak in (0.1, 0.2)
    )
    monkeypatch.chdir(tmp_path)
    first.save("policy.keras")

    def torn(self, path):
        pathlib.Path(path).write_bytes(b"PK")
        raise OSError("No space left on device")

    monkeypatch.setattr(PolicyModel, "save", torn)
    with pytest.raises(OSError, match="No space left"):
        second.save("policy.keras")
    assert Policy.load("policy.keras").learning_rate.peak == 0.1
    assert [file.name for file in tmp_path.iterdir()] == ["policy.keras"]


def test_a_policy_needs_no_validation_data():
    model = build()
    history = model.fit(
        *TRAIN, batch_size=8, epochs=2, verbose=0, callbacks=[network_policy().as_callback()]
    )
    assert len(history.history["learning_rate"]) == 2


def test_what_has_steered_can_be_copied():  # tuners copy callbacks
    callback = network_policy().as_callback(VAL)
    for _ in range(2):
        model = build()
        model.fit(*TRAIN, batch_size=8, epochs=2, verbose=0, callbacks=[callback])
        rates = [float(report.rates[0]) for report in callback.reports]
        callback = copy.deepcopy(callback)
    assert len(rates) == 7  # of the copy


def test_a_policy_decides_as_often_as_it_is_told():
    for every, steps in ((None, [0, 3, 6, 8]), (4, [0, 4, 8])):
        callback = network_policy().as_callback(VAL, decision_every=every)
        build().fit(*TRAIN, batch_size=8, verbose=0, callbacks=[callback])
        assert [report.step for report in callback.reports] == steps
    with pytest.raises(ValueError, match="`decision_every`"):
        network_policy().as_callback(VAL, decision_every=0)


@pytest.mark.usefixtures("collected")
@pytest.mark.parametrize("stop", [False, True])
def test_a_policy_has_the_goal_of_its_training(stop):
    model, goal = build(), Goal("val_loss", 1.0)
    callback = network_policy().as_callback(VAL, goal=("val_loss", 1.0), stop=stop)
    model.fit(*TRAIN, batch_size=8, epochs=8, verbose=0, callbacks=[callback])
    at = [goal.reached(report.metric) for report in callback.reports].index(True)
    rates = [report.rates[0] for report in callback.reports]
    assert at > 0 and len(set(rates[at:])) == 1 < len(set(rates[: at + 1]))
    assert (len(rates) == at + 1) == stop
    assert int(model.optimizer.iterations) == (callback.reports[at].step if stop else 64)


def test_policies_that_do_not_fit_say_what_differs(tmp_path):
    policy = network_policy()
    with pytest.raises(ValueError, match=r"take \(batch, 2\).*Ratios: 2.*from \(None, 7\)"):
        Policy([Ratios(["rate", "gap"])], policy.actions, policy.goal, 3, 0.02, 16, policy.network)
    with pytest.raises(ValueError, match=r"return \(batch, 2\).*to \(None, 5\)"):
        Policy(policy.states, Actions((0.5, 2)), policy.goal, 3, 0.02, 16, policy.network)
    with pytest.raises(ValueError, match=r"states: .* in the policy"):
        make(tmp_path, policy=policy, states=[Ratios(["rate", "gap"])])
    with pytest.raises(ValueError, match=r"actions: .* in the policy"):
        make(tmp_path, policy=policy, actions=Actions((0.5, 2.0)))
    with pytest.raises(ValueError, match=r"weights of the shapes .*\(7, 8\).* makes .*\(7, 16\)"):
        make(tmp_path, policy=policy, network={"units": (16,)})
    inputs = keras.Input((2,))
    keras.Model(inputs, keras.layers.Dense(1)(inputs)).save(tmp_path / "other.keras")
    with pytest.raises(ValueError, match="not a policy"):
        Policy.load(tmp_path / "other.keras")


def test_learning_goes_on_from_a_policy(tmp_path):
    policy = network_policy()
    tuner = make(tmp_path, policy=policy)
    for own, other in zip(
        tuner.oracle.learner.agent.network.get_weights(), policy.network.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(own, other)
