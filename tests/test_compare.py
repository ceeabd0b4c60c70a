"""`compare`: equal budgets, judgement by test data, failures, and going on after a kill."""

import json
import os
import pathlib
import signal
import time
import types

import keras
import keras_tuner
import numpy as np
import optuna
import pytest
from compare_task import TEST, TRAIN, VALIDATION, L, Quick, build, compiled, make
from processes import ended, started

from keras_drmad import DrMADSGD, LearnHyperparameters
from keras_drmad.tuners import DrMADTuner, Method, QANTuner
from keras_drmad.tuners.comparison import price
from keras_drmad.tuners.comparison.budget import Budget
from keras_drmad.tuners.comparison.claims import alone, claimed
from keras_drmad.tuners.comparison.meter import Meter
from keras_drmad.tuners.comparison.outcome import Outcome
from keras_drmad.tuners.comparison.search import WatchedTuner

# What these tests compare is unfair: small budgets, few seeds, no tuners.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:test_compare|compare_task")


def random_search(**arguments):
    return Method(Quick(), keras_tuner.RandomSearch, **arguments)


def spent(comparison, method):
    return {o.seed: round(o.cost, 6) for o in comparison.outcomes if o.method == method}


def scores(comparison, method="tuned", seed=0):
    of = [o for o in comparison.outcomes if (o.method, o.seed) == (method, seed)]
    return [trial.score for trial in of[0].trials]


# -- budgets -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spent, amount, another",
    [
        ([], 1, True),  # the first may always begin
        ([1.0], 1, False),
        ([1.0], 2, True),
        ([1.6, 1.6], 4, False),  # a third would end at 4.8
        ([1.6], 4, True),
        ([0.1, 0.1], 1, True),
        ([0.0, 0.0], 1, True),
        ([3.0], 2, False),
    ],
)
def test_another_trial_begins_if_it_fits(spent, amount, another):
    assert Budget(amount, "trainings").allows_another(spent) == another


def test_a_smaller_budget_is_the_beginning_of_a_search():
    budget = Budget([2, 4], "trainings")
    assert budget.trials_within([0.9, 0.9, 0.9, 0.9], 2) == 2
    assert budget.trials_within([0.9, 0.9, 0.9, 0.9], 4) == 4
    assert budget.trials_within([3.0, 1.0], 2) == 1  # overspent


def test_a_meter_counts_parts_of_a_training():
    meter = Meter(epochs=4)
    meter.set_params({"steps": 5})
    for epoch in range(2):
        meter.on_epoch_begin(epoch)
        for batch in (1, 3, 5):  # stacks of two steps, of which the last is behind the end
            meter.on_train_batch_end(batch)
    assert meter.trainings == pytest.approx(2 / 4)
    meter.start()
    meter.on_epoch_begin(2)
    meter.on_train_batch_end(0)
    assert meter.trainings == pytest.approx(1 / 20)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("several")


@pytest.fixture(scope="module")
def several(folder):
    """A comparison of all kinds of tuners that `fit` trains for."""
    pruner = optuna.pruners.ThresholdPruner(upper=0.0)  # all are pruned once they may be
    methods = {
        "plain": Method(build),  # with Keras's own `fit`
        "random": random_search(),
        "bayesian": Method(Quick(), keras_tuner.BayesianOptimization, num_initial_points=2),
        "hyperband": Method(Quick(), keras_tuner.Hyperband, factor=2),
        "grid": Method(Quick(), keras_tuner.GridSearch, max_trials=1),
        "pruned": Method(Quick(), "optuna", pruner=pruner),
        "oracle": Method(Quick(), keras_tuner.oracles.RandomSearchOracle),
    }
    return make(folder, methods, budget=[1, 3], epochs=3, seeds=1)


def test_each_method_spends_the_budget(several):
    rows = {row.method: row for row in several.rows()}
    for name in ("random", "bayesian", "oracle"):
        assert (rows[name].trials, rows[name].spent) == (3, pytest.approx(3.0))
    assert (rows["plain"].trials, rows["plain"].unused) == (1, pytest.approx(2.0))
    assert rows["grid"].trials == 1
    assert rows["hyperband"].trials > 3
    assert 2 < rows["hyperband"].spent <= 3 + 1
    assert not any(row.missing for row in rows.values())


def test_what_is_pruned_costs_what_was_trained(several):
    trials = next(o for o in several.outcomes if o.method == "pruned").trials
    assert {round(trial.cost, 6) for trial in trials} == {round(2 / 3, 6)}
    assert len(trials) == 4


def test_smaller_budgets_have_fewer_trials(several):
    rows = {row.method: row for row in several.rows(1)}
    assert rows["random"].trials == 1
    outcome = next(o for o in several.outcomes if o.method == "random")
    assert outcome.choices["1.0"].trial_id == outcome.trials[0].trial_id
    with pytest.raises(ValueError, match=r"`budget`.*\[1.0, 3.0\].*Received: budget=2"):
        several.rows(2)


def test_validation_data_choose_and_test_data_judge(several):
    outcome = next(o for o in several.outcomes if o.method == "random")
    choice = outcome.choices["3.0"]
    best = min(outcome.trials, key=lambda trial: trial.score)
    assert (choice.trial_id, choice.score) == (best.trial_id, best.score)
    assert choice.test.keys() == {"loss"}
    assert choice.test["loss"] != pytest.approx(choice.score)


def test_only_the_chosen_weights_are_kept(several, folder):
    kept = {
        path.parent.name
        for path in (folder / "random" / "seed_0" / "search").glob("trial_*/*.weights.h5")
    }
    outcome = next(o for o in several.outcomes if o.method == "random")
    assert kept == {f"trial_{choice.trial_id}" for choice in outcome.choices.values()}


def test_the_same_seed_gives_the_same(several, tmp_path):
    again = make(tmp_path, {"random": random_search()}, budget=[1, 3], epochs=3, seeds=1)
    assert scores(again, "random") == scores(several, "random")


def test_a_budget_of_seconds(tmp_path, monkeypatch):
    clock = iter(range(10**6))
    now = types.SimpleNamespace(perf_counter=lambda: next(clock))  # a second a look: one a trial
    monkeypatch.setattr("keras_drmad.tuners.comparison.search.time", now)
    found = make(tmp_path, {"tuned": random_search()}, budget=4, unit="seconds", seeds=1)
    row = found.rows()[0]
    assert (row.trials, row.spent, row.seconds) == (4, 4, 4)


def test_hypergradients_are_paid_for(tmp_path, monkeypatch):
    monkeypatch.setattr(price, "price", lambda *arguments: 1.5)
    model = lambda hp: compiled(DrMADSGD(0.01), eager=False)  # noqa: E731
    method = Method(model, DrMADTuner, jit_compile=False)
    found = make(tmp_path, {"ours": method}, budget=[2, 4], seeds=1)
    outcome = found.outcomes[0]
    assert [trial.cost for trial in outcome.trials] == pytest.approx([1.5, 1.5])
    assert outcome.trials[1].score < outcome.trials[0].score
    assert [choice.trials for choice in outcome.choices.values()] == [1, 2]
    assert found.rows()[0].unused == pytest.approx(1.0)


def test_the_price_of_a_hypergradient(monkeypatch):
    """With a clock that says what the engine has done, in steps."""
    clock = [0.0]
    monkeypatch.setattr(price.time, "perf_counter", lambda: clock[0])

    begin = price.DifferentiatedTraining.__init__

    def begun(self, *arguments, **more):
        begin(self, *arguments, **more, jit_compile=False)
        train, differentiate = self.engine.train, self.engine.differentiate

        def slow_train(start, batches, rates):
            clock[0] += len(rates)
            return train(start, batches, rates)

        def slow_differentiate(run, hyper):
            clock[0] += 0.5 * run.steps
            return differentiate(run, hyper)

        self.engine.train, self.engine.differentiate = slow_train, slow_differentiate

    monkeypatch.setattr(price.DifferentiatedTraining, "__init__", begun)
    model = lambda hp: compiled(DrMADSGD(0.01), eager=False)  # noqa: E731
    learned = Method(model, callbacks=lambda train, hyper: [LearnHyperparameters(hyper)])
    plain = types.SimpleNamespace()
    assert price.price(learned, plain, TRAIN, VALIDATION, 2, 20) == pytest.approx(2.5)
    assert price.price(Method(build), plain, TRAIN, VALIDATION, 2, 20) == 1.0


def test_an_agent_keeps_a_training_back(tmp_path):
    model = lambda hp: compiled(keras.optimizers.SGD(0.01), eager=False)  # noqa: E731
    few = {"schedule_trials": 2, "random_trials": 1, "guided_trials": 1, "contest": 1}
    method = Method(model, QANTuner, decision_every=1, gradient_steps=1, **few)
    found = make(tmp_path, {"agent": method}, budget=10, seeds=1)
    outcome = found.outcomes[0]
    assert outcome.error is None
    assert [trial.score is None for trial in outcome.trials] == [True] * 9 + [False]
    assert outcome.trials[-1].cost == pytest.approx(1.0)
    assert found.rows()[0].spent <= 10.001


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


def test_a_method_that_fails_is_a_row_and_stops_no_other(tmp_path):
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


def test_trials_that_diverge_leave_others(tmp_path):
    method = Method(Diverges(1e25, 0.01), keras_tuner.GridSearch)
    found = make(tmp_path, {"tuned": method}, seeds=1)
    assert [score is None for score in scores(found)] == [True, False]
    assert found.outcomes[0].choices["2.0"].trials == 2


@pytest.mark.parametrize(
    "argument, value",
    [
        ("budget", 0),
        ("budget", -1),
        ("budget", float("nan")),
        ("budget", 0.5),
        ("budget", []),
        ("budget", [2, 1]),
        ("unit", "hours"),
        ("seeds", 0),
        ("seeds", [1, 1]),
        ("seeds", []),
        ("epochs", 0),
        ("batch_size", 1.5),
        ("objective", "loss"),
        ("methods", {}),
        ("methods", {"a": build}),
        ("train", TRAIN[0]),
        ("validation", (VALIDATION[0], VALIDATION[1][:3])),
        ("test", (TEST[0][:0], TEST[1][:0])),
    ],
)
def test_bad_arguments_are_named(tmp_path, argument, value):
    arguments = {"methods": {"a": Method(build)}} | {argument: value}
    with pytest.raises(ValueError, match=f"`{argument}`.*Received"):
        make(tmp_path / "none", arguments.pop("methods"), **arguments)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    "arguments, name",
    [
        ({"hypermodel": 3}, "hypermodel"),
        ({"tuner": "tpe"}, "tuner"),
        ({"tuner": keras.Model}, "tuner"),
        ({"inputs": "x"}, "inputs"),
        ({"tuner": keras_tuner.RandomSearch, "seed": 1}, "seed"),
        ({"max_trials": 3}, "tuner"),
    ],
)
def test_bad_methods_are_named(arguments, name):
    with pytest.raises(ValueError, match=f"`{name}`.*Received"):
        Method(**{"hypermodel": build} | arguments)


def not_compiled(hp):
    return keras.Sequential([L.Input((3,)), L.Dense(1)])


@pytest.mark.parametrize("hypermodel", [not_compiled, lambda hp: None, lambda hp: 1 / 0])
def test_models_that_are_none_are_named(tmp_path, hypermodel):
    with pytest.raises(ValueError, match="'a'"):
        make(tmp_path, {"a": Method(hypermodel)})


# -- fairness ----------------------------------------------------------------------------------


def warned(folder, methods, **arguments):
    """What a comparison warns of; nothing is trained."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("keras_drmad.tuners.comparison.comparison._all", lambda *_: [])
        with pytest.warns(UserWarning) as found:
            make(folder, methods, **arguments)
    return " ".join(str(one.message) for one in found)


@pytest.mark.parametrize(
    "methods, arguments, words",
    [
        ({"a": Method(build), "b": random_search()}, {}, "'a' is not tuned, and others are"),
        ({"a": random_search()}, {"seeds": 1}, "one seed"),
        ({"a": random_search()}, {"test": VALIDATION}, "test data are validation data"),
        ({"a": random_search()}, {"test": (TRAIN[0].copy(), TRAIN[1])}, "test data are training"),
        ({"a": random_search()}, {"validation": TRAIN}, "validation data are training data"),
        (
            {"a": Method(lambda hp: compiled("sgd"), keras_tuner.RandomSearch)},
            {},
            "'a' has an empty search space",
        ),
        (
            {"a": Method(build, keras_tuner.BayesianOptimization)},
            {"budget": 3},
            "begins with 3 random trials",
        ),
        ({"a": Method(build, "optuna")}, {"budget": 10}, "begins with 10 random trials"),
        ({"a": random_search()}, {"budget": 1}, "too small for 'a', which has 1 hyperparameter"),
    ],
)
def test_what_is_unfair_is_said(tmp_path, methods, arguments, words):
    assert words in warned(tmp_path, methods, **arguments)


@pytest.mark.filterwarnings("error")
def test_nothing_is_said_of_what_is_fair(tmp_path, monkeypatch):
    monkeypatch.setattr("keras_drmad.tuners.comparison.comparison._all", lambda *_: [])
    methods = {
        "random": random_search(),
        "ours": Method(lambda hp: compiled(DrMADSGD(0.1)), DrMADTuner),
    }
    make(tmp_path, methods, budget=2)


# -- going on ----------------------------------------------------------------------------------


def test_methods_and_seeds_may_be_added(tmp_path):
    first = make(tmp_path, {"tuned": random_search()}, seeds=1)
    ended = os.path.getmtime(tmp_path / "tuned" / "seed_0" / "outcome.json")
    second = make(tmp_path, {"tuned": random_search(), "plain": Method(Quick())}, seeds=2)
    assert os.path.getmtime(tmp_path / "tuned" / "seed_0" / "outcome.json") == ended
    assert scores(second) == scores(first)
    assert len(second.outcomes) == 4


def test_other_settings_are_refused(tmp_path):
    make(tmp_path, {"tuned": random_search()}, seeds=1)
    with pytest.raises(ValueError, match="`directory`"):
        make(tmp_path, {"tuned": random_search()}, seeds=1, budget=3)
    with pytest.raises(ValueError, match="tuner"):
        make(tmp_path, {"tuned": Method(build)}, seeds=1)
    with pytest.raises(ValueError, match="data"):
        make(tmp_path, {"tuned": random_search()}, seeds=1, test=(TEST[0] + 1, TEST[1]))
    make(tmp_path, {"tuned": Method(Quick())}, seeds=1, overwrite=True)


@pytest.mark.parametrize("moment", ["on_trial_end", "run_trial", "load_model"])
def test_a_comparison_that_is_stopped_goes_on(tmp_path, monkeypatch, moment):
    whole = make(tmp_path / "whole", {"tuned": random_search()}, budget=3, seeds=1)
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


def slowly(folder):
    """A comparison with time to be killed in."""
    train = WatchedTuner.run_trial

    def slow(self, *arguments, **more):
        time.sleep(0.5)
        return train(self, *arguments, **more)

    WatchedTuner.run_trial = slow
    make(folder, {"tuned": random_search()}, budget=3)


def test_a_killed_comparison_goes_on(tmp_path):
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
    whole = make(tmp_path / "whole", {"tuned": random_search()}, budget=3)
    for seed in range(2):
        assert scores(found, seed=seed) == pytest.approx(scores(whole, seed=seed))


def test_one_search_is_one_process_s(tmp_path):
    path = str(tmp_path / "unit" / "claim")
    with claimed(path) as first, claimed(path) as second:
        assert first and not second
    with claimed(path) as again:
        assert again


def test_what_another_process_does_is_waited_for(tmp_path, monkeypatch):
    whole = make(tmp_path / "whole", {"tuned": random_search()}, seeds=1)
    claim = tmp_path / "shared" / "tuned" / "seed_0" / "claim"
    other = claimed(str(claim))
    other.__enter__()

    def meanwhile(seconds):
        whole.outcomes[0].write(str(claim.with_name("outcome.json")))

    sleep = types.SimpleNamespace(sleep=meanwhile)
    monkeypatch.setattr("keras_drmad.tuners.comparison.comparison.time", sleep)
    found = make(tmp_path / "shared", {"tuned": random_search()}, seeds=1)
    other.__exit__(None, None, None)
    assert found.outcomes == whole.outcomes


def test_searches_look_for_no_chief(monkeypatch):
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
    with alone():
        assert "KERASTUNER_ORACLE_IP" not in os.environ
    assert os.environ["KERASTUNER_ORACLE_IP"] == "127.0.0.1"


def test_outcomes_are_read_as_they_were_written(several, tmp_path):
    path = str(tmp_path / "outcome.json")
    several.outcomes[0].write(path)
    assert Outcome.read(path) == several.outcomes[0]
    assert json.loads(pathlib.Path(path).read_text())["method"] == "plain"


# -- data --------------------------------------------------------------------------------------


def test_data_may_differ_by_seed_and_methods_read_parts_of_them(tmp_path):
    seen = []

    def train(seed):
        return {"wide": TRAIN[0] + seed, "other": TRAIN[0]}, TRAIN[1]

    def wide(x):
        seen.append(float(np.mean(x["wide"]) - np.mean(x["other"])))
        return x["wide"]

    def both(part):
        return {"wide": part[0], "other": part[0]}, part[1]

    methods = {"plain": Method(Quick(), inputs=wide)}
    make(tmp_path, methods, train=train, validation=both(VALIDATION), test=both(TEST))
    assert np.round(seen, 3).tolist() == [0, 0, 0, 1, 0, 0]


def test_progress_says_what_is_left(tmp_path, capsys):
    make(tmp_path, {"tuned": random_search()}, verbose=1)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert "[0/2] tuned, seed 0: 1 of 2 trainings, val_loss" in lines[0]
    assert lines[-1].endswith("about 0 s left")
