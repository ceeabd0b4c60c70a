"""`compare`: going on after a kill, failures, several processes."""

import os
import signal
import time
import types

import keras
import keras_tuner
import pytest
from compare_task import (
    TEST,
    Quick,
    build,
    compiled,
    make,
    random_search,
    scores,
)
from processes import ended, started

from keras_drmad.tuners import Method
from keras_drmad.tuners.comparison.claims import alone, claimed
from keras_drmad.tuners.comparison.search import WatchedTuner

# What these tests compare is unfair: small budgets, few seeds, no tuners.
pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:test_compare_resume|compare_task"),
    pytest.mark.slow,
]


# -- what goes wrong ---------------------------------------------------------------------------


class Fails(Quick):
    def fit(self, hp, model, *arguments, **more):
        raise ArithmeticError("no such thing")


class Diverges(Quick):
    """With rates that are too high."""

    def __init__(self, *rates):
        self.rates = rates

    def build(self, hp):
        return compiled(keras.optimizers.SGD(hp.Choice("rate", self.rates)))


def test_a_method_that_fails_is_a_row_and_stops_no_other(tmp_path, monkeypatch):
    monkeypatch.setattr("keras_drmad.tuners.comparison.search.FAILURES", 3)
    methods = {
        "broken": Method(Fails(), keras_tuner.RandomSearch),
        "diverging": Method(Diverges(1e25, 1e26), keras_tuner.GridSearch),
        "good": random_search(),
    }
    found = make(tmp_path, methods, seeds=1)
    rows = {row.method: row for row in found.rows()}
    assert found.rows()[0].method == "good"
    assert rows["broken"].missing == rows["diverging"].missing == [0]
    errors = {outcome.method: outcome.error for outcome in found.outcomes}
    assert "no such thing" in errors["broken"]
    assert "diverges" in errors["diverging"]
    diverged = next(o for o in found.outcomes if o.method == "diverging")
    assert [trial.score for trial in diverged.trials] == [None, None]
    assert [trial.cost for trial in diverged.trials] == pytest.approx([1.0, 1.0])  # is paid for
    assert "'broken' has no result" in found.verdict()
    # What failed is tried again, and what has a result is not.
    mended = make(tmp_path, methods | {"broken": random_search()}, seeds=1)
    assert {row.method for row in mended.rows() if row.missing} == {"diverging"}
    assert scores(mended, "good") == scores(found, "good")


def test_a_metric_that_is_not_there_is_named(tmp_path):
    found = make(tmp_path, {"tuned": random_search()}, budget=1, seeds=1, metric="accuracy")
    assert "no metric 'accuracy' on the test data. It has: loss" in found.outcomes[0].error


def test_another_metric_is_judged_without_another_search(tmp_path):
    class Measured(Quick):
        def build(self, hp):
            model = super().build(hp)
            model.compile(model.optimizer, "mse", metrics=["mae"], run_eagerly=True)
            return model

    first = make(tmp_path, {"tuned": random_search()}, seeds=1)
    method = Method(Measured(), keras_tuner.RandomSearch)
    second = make(tmp_path, {"tuned": method}, seeds=1, metric="mae")
    assert scores(second) == scores(first)
    assert second.rows()[0].values.keys() == {0}


def test_a_search_whose_cost_is_not_known_ends(tmp_path):
    class Own(keras_tuner.RandomSearch):
        def run_trial(self, trial, *data, **settings):
            return trial.hyperparameters.Float("rate", 0.0, 1.0)

    found = make(tmp_path, {"own": Method(build, Own)}, seeds=1)
    assert "No training step of Own was counted" in found.outcomes[0].error
    assert found.rows()[0].missing == [0]


def test_models_that_do_not_come_back_are_noticed(tmp_path):
    class Forgets(Quick):
        """What it trains is not all saved: a constant is drawn for each model."""

        def build(self, hp):
            model = super().build(hp)
            inputs = keras.Input((3,))
            shift = keras.random.normal((1,))
            again = keras.Model(inputs, model(inputs) + shift)
            again.compile("sgd", "mse", run_eagerly=True)
            return again

    found = make(tmp_path, {"a": Method(Forgets()), "b": Method(Quick())}, seeds=1)
    assert "not all that is trained is saved" in found.outcomes[0].error
    assert found.outcomes[1].error is None
    assert not any(row.missing for row in found.rows())


def test_trials_that_diverge_leave_others(tmp_path):
    method = Method(Diverges(1e25, 0.01), keras_tuner.GridSearch)
    found = make(tmp_path, {"tuned": method}, seeds=1)
    assert [score is None for score in scores(found)] == [True, False]
    assert found.outcomes[0].choices["2.0"].trials == 2


# -- going on ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A comparison that nothing has stopped."""
    folder = tmp_path_factory.mktemp("whole")
    return make(folder, {"tuned": random_search()}, budget=3, seeds=1)


def test_methods_and_seeds_may_be_added(tmp_path):
    first = make(tmp_path, {"tuned": random_search()}, seeds=1)
    ended = os.path.getmtime(tmp_path / "tuned" / "seed_0" / "outcome.json")
    second = make(tmp_path, {"tuned": random_search(), "plain": Method(Quick())}, seeds=2)
    assert os.path.getmtime(tmp_path / "tuned" / "seed_0" / "outcome.json") == ended
    assert scores(second) == scores(first)
    assert len(second.outcomes) == 4


def test_other_settings_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("keras_drmad.tuners.comparison.comparison._all", lambda *_: [])
    make(tmp_path, {"tuned": random_search()}, seeds=1)
    with pytest.raises(ValueError, match="`directory`"):
        make(tmp_path, {"tuned": random_search()}, seeds=1, budget=3)
    with pytest.raises(ValueError, match="tuner"):
        make(tmp_path, {"tuned": Method(build)}, seeds=1)
    with pytest.raises(ValueError, match="data"):
        make(tmp_path, {"tuned": random_search()}, seeds=1, test=(TEST[0] + 1, TEST[1]))
    make(tmp_path, {"tuned": Method(Quick())}, seeds=1, overwrite=True)


@pytest.mark.parametrize("moment", ["on_trial_end", "run_trial", "load_model"])
def test_a_comparison_that_is_stopped_goes_on(tmp_path, monkeypatch, whole, moment):
    method, calls = getattr(WatchedTuner, moment), iter(range(9))

    def stopped(self, *arguments, **more):
        if next(calls) == (0 if moment == "load_model" else 1):
            raise KeyboardInterrupt
        return method(self, *arguments, **more)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(WatchedTuner, moment, stopped)
        make(tmp_path / "stopped", {"tuned": random_search()}, budget=3, seeds=1)
    found = make(tmp_path / "stopped", {"tuned": random_search()}, budget=3, seeds=1)
    assert scores(found) == pytest.approx(scores(whole))
    assert found.rows()[0].spent == pytest.approx(3.0)
    assert found.rows()[0].values == pytest.approx(whole.rows()[0].values)


def test_a_search_with_torn_files_begins_anew(tmp_path, caplog):
    whole = make(tmp_path, {"tuned": random_search()}, seeds=1)
    os.remove(tmp_path / "tuned" / "seed_0" / "outcome.json")
    (tmp_path / "tuned" / "seed_0" / "search" / "oracle.json").write_text("{")
    assert scores(make(tmp_path, {"tuned": random_search()}, seeds=1)) == scores(whole)
    assert "begins anew" in caplog.text
    assert (tmp_path / "tuned" / "seed_0" / "search_torn" / "oracle.json").read_text() == "{"


def slowly(folder):
    """A comparison with time to be killed in."""
    train = WatchedTuner.run_trial

    def slow(self, *arguments, **more):
        time.sleep(0.5)
        return train(self, *arguments, **more)

    WatchedTuner.run_trial = slow
    make(folder, {"tuned": random_search()}, budget=3)


def test_a_killed_comparison_goes_on(tmp_path, whole):
    process = started(slowly, tmp_path / "killed")
    costs = tmp_path / "killed" / "tuned" / "seed_1" / "costs.json"
    until = time.monotonic() + 60
    while not costs.exists() and time.monotonic() < until:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    ended(process, 10)
    done = tmp_path / "killed" / "tuned" / "seed_0" / "outcome.json"
    assert done.exists() and not done.parent.parent.joinpath("seed_1", "outcome.json").exists()
    kept = os.path.getmtime(done)
    found = make(tmp_path / "killed", {"tuned": random_search()}, budget=3)
    assert os.path.getmtime(done) == kept
    assert [outcome.cost for outcome in found.outcomes] == pytest.approx([3.0, 3.0])
    assert scores(found) == pytest.approx(scores(whole))


def test_one_search_is_one_process_s(tmp_path):
    path = str(tmp_path / "unit" / "claim")
    with claimed(path) as first, claimed(path) as second:
        assert first and not second
    with claimed(path) as again:
        assert again


def test_what_another_process_does_is_waited_for(tmp_path, monkeypatch, whole):
    claim = tmp_path / "shared" / "tuned" / "seed_0" / "claim"
    other = claimed(str(claim))
    other.__enter__()

    def meanwhile(seconds):
        whole.outcomes[0].write(str(claim.with_name("outcome.json")))

    sleep = types.SimpleNamespace(sleep=meanwhile)
    monkeypatch.setattr("keras_drmad.tuners.comparison.comparison.time", sleep)
    found = make(tmp_path / "shared", {"tuned": random_search()}, budget=3, seeds=1)
    other.__exit__(None, None, None)
    assert found.outcomes == whole.outcomes


def test_searches_look_for_no_chief(monkeypatch):
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
    with alone():
        assert "KERASTUNER_ORACLE_IP" not in os.environ
    assert os.environ["KERASTUNER_ORACLE_IP"] == "127.0.0.1"
