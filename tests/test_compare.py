"""`compare`: equal budgets, judgement by test data, failures, and going on after a kill."""

import json
import pathlib
import types

import keras
import keras_tuner
import numpy as np
import optuna
import pytest
from compare_task import (
    TEST,
    TRAIN,
    VALIDATION,
    Quick,
    build,
    compiled,
    make,
    random_search,
    scores,
)

from keras_drmad import DrMADSGD, LearnHyperparameters
from keras_drmad.tuners import DrMADTuner, Method, QANTuner
from keras_drmad.tuners.budget import Budget
from keras_drmad.tuners.comparison import price
from keras_drmad.tuners.comparison.meter import Meter
from keras_drmad.tuners.comparison.outcome import Outcome
from keras_drmad.tuners.drmad.place import DIFFERENTIATE

# What these tests compare is unfair: small budgets, few seeds, no tuners.
pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:test_compare|compare_task"),
    pytest.mark.slow,
]


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
    assert not any(outcome.error for outcome in several.outcomes)


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
    monkeypatch.setattr(price, "prices", lambda *arguments: {DIFFERENTIATE: 1.5})
    model = lambda hp: compiled(DrMADSGD(0.01), eager=False)  # noqa: E731
    method = Method(model, DrMADTuner, jit_compile=False)
    found = make(tmp_path / "retested", {"ours": method}, budget=4, seeds=1)
    assert [trial.cost for trial in found.outcomes[0].trials] == pytest.approx([1.5, 1.0, 1.5])
    method = Method(model, DrMADTuner, jit_compile=False, retests=False)
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
        begin(self, *arguments, **more | {"jit_compile": False})
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
    assert price.prices(learned, plain, TRAIN, VALIDATION, 2, 20) == {"": pytest.approx(1.5)}
    assert price.prices(Method(build), plain, TRAIN, VALIDATION, 2, 20) == {"": 1.0}


def test_an_agent_keeps_a_training_back(tmp_path):
    model = lambda hp: compiled(keras.optimizers.SGD(0.01), eager=False)  # noqa: E731
    few = {"schedule_trials": 2, "random_trials": 1, "guided_trials": 1, "contest": 1}
    method = Method(model, QANTuner, decision_every=1, gradient_steps=1, **few)
    found = make(tmp_path, {"agent": method}, budget=13, seeds=1)
    outcome = found.outcomes[0]
    assert outcome.error is None
    assert [trial.score is None for trial in outcome.trials] == [True] * 12 + [False]
    assert outcome.trials[-1].cost == pytest.approx(1.0)
    assert found.rows()[0].spent <= 13.001


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
    of_a_seed = [0, 0, 0]  # train, validation, test; those of the first are looked at before
    assert np.round(seen, 3).tolist() == [*of_a_seed, *of_a_seed, 1, 0, 0]


def test_progress_says_what_is_left(tmp_path, capsys):
    make(tmp_path, {"tuned": random_search()}, verbose=1)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert "[0/2] tuned, seed 0: 1 of 2 trainings, val_loss" in lines[0]
    assert lines[-1].endswith("about 0 s left")
