"""Samples that are selected: by which rule, from what, in a search and in plain `fit`."""

import copy
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from qan_task import TRAIN, VAL, X, Y, build, training

from keras_drmad.tuners import Actions, Goal, Policy
from keras_drmad.tuners.qan.training import decision_callback
from keras_drmad.tuners.qan.training.sample_selection import SampleSelection
from keras_drmad.tuners.qan.training.states import Ratios

L = keras.layers


def fit(model, callback, epochs=5, data=TRAIN, callbacks_after=(), **arguments):
    arguments = {"batch_size": 8, "epochs": epochs, "verbose": 0} | arguments
    return model.fit(*data, callbacks=[callback, *callbacks_after], **arguments).history


def chooser(wanted=(1.1, 1.0, "hardest"), goal=("val_loss", 1e-9)):
    """A policy that always takes this action."""
    actions = Actions(sample_selection=("uniform", "hardest"))
    inputs = keras.Input((7,))
    bias = keras.initializers.Constant(np.eye(len(actions))[actions.all.index(wanted)])
    network = keras.Model(inputs, L.Dense(len(actions), "relu", True, "zeros", bias)(inputs))
    return Policy([Ratios()], actions, Goal.of(goal), 3, 0.02, 16, network=network)


def chosen_in(model, callback, **arguments):
    data = callback.batches(model, *TRAIN, batch_size=8)
    arguments = {"epochs": 2, "verbose": 0, "shuffle": False} | arguments
    return model.fit(data, callbacks=[callback], **arguments).history


def test_choosing_samples_is_time_of_training(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(decision_callback, "time", SimpleNamespace(perf_counter=lambda: clock[0]))

    def passes(seconds, value=None):
        clock[0] += seconds
        return value

    task = training(epochs=1)
    task.callback.select = lambda rule: passes(1.0)
    reports, _ = task.run(0, lambda report: passes(10.0, 0.02))
    assert [report.seconds for report in reports] == [0, 1, 2, 3]  # chunks take no time here
    assert task.callback.deciding == 40


def test_sample_selections_train_on_what_they_choose():
    model = build()
    selection = SampleSelection(model, X, np.arange(96) % 3, None, batch_size=4, every=3)
    selection.restart(0)
    selection.select("uniform")

    def samples():
        found = []
        for x, _ in selection.dataset:
            found.append(x.numpy())
            if len(found) == 3:
                return np.concatenate(found)

    def losses(x):
        indices = [int(np.argmin(np.abs(X - row).sum(1))) for row in x]
        return selection._losses(np.array(indices)).numpy(), set(indices)

    first, seen = losses(samples())
    selection.select("hardest")
    hard, hard_ones = losses(samples())
    assert not seen & hard_ones
    selection.select("easiest")
    easy, _ = losses(samples())
    assert hard.mean() > first.mean() * 0.9 and hard.min() > np.median(easy)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    "loss",
    [
        "sparse_categorical_crossentropy",
        keras.losses.SparseCategoricalCrossentropy(),
        keras.losses.sparse_categorical_crossentropy,
    ],
    ids=["name", "object", "function"],
)
def test_sample_selections_know_the_loss_of_each_sample(loss, weighted):
    model = keras.Sequential([keras.layers.Input((6,)), keras.layers.Dense(3, "softmax")])
    model.compile("sgd", loss)
    y, weight = np.arange(96) % 3, np.arange(96) / 96 if weighted else None
    selection = SampleSelection(model, X, y, weight, batch_size=4, every=3)
    expected = -np.log(model.predict(X, verbose=0)[np.arange(96), y])
    if weighted:
        expected *= weight
    np.testing.assert_allclose(selection._losses(np.arange(96)), expected, rtol=1e-4)
    selection.restart(0)
    selection.select("uniform")
    given = next(iter(selection.dataset))
    assert len(given) == (3 if weighted else 2)
    if weighted:
        found = [int(np.argmin(np.abs(X - row).sum(1))) for row in given[0].numpy()]
        np.testing.assert_allclose(given[2], weight[found], rtol=1e-6)


def test_sample_selections_refuse_what_they_cannot_rank():
    model = build()
    with pytest.raises(ValueError, match="as arrays"):
        SampleSelection(model, iter(X), np.zeros(96), None, 4, 3)
    model.compile("sgd", ["mse"])
    with pytest.raises(ValueError, match=r"one loss.*\['mse'\]"):
        SampleSelection(model, X, np.zeros(96), None, 4, 3)


@pytest.mark.parametrize("loss", ["hinge", "poisson", "binary_crossentropy", "mse"])
def test_sample_selections_rank_flat_targets_as_fit_does(loss):
    model = keras.Sequential([L.Input((6,)), L.Dense(1, "sigmoid")])
    model.compile("sgd", loss)
    y = (Y % 2).astype("float32")
    losses = SampleSelection(model, X, y, None, batch_size=4, every=3)._losses(np.arange(96))
    assert np.mean(losses) == pytest.approx(model.evaluate(X, y, verbose=0), rel=1e-5)


@pytest.mark.parametrize(("unit", "is_compiled"), [("steps", False), ("seconds", True)])
def test_no_episode_pays_in_seconds_for_what_is_compiled_once(unit, is_compiled):
    task = training(
        goal=("val_loss", 1e-9, unit), actions=Actions(sample_selection=("uniform", "hardest"))
    )
    task.check()
    assert (task.model.train_function is not None) == is_compiled
    assert bool(task._selection._losses.experimental_get_tracing_count()) == is_compiled
    assert task.start_rate == 0.02  # which that has not moved


@pytest.mark.parametrize("steps_per_execution", [1, 3])
def test_samples_are_chosen_as_in_a_search(monkeypatch, steps_per_execution):
    policy = chooser()
    task = training(actions=policy.actions, goal=policy.goal)
    task.run(4, policy.decide)
    again = training()
    again.restart(4)
    model = again.model
    model.steps_per_execution = steps_per_execution
    monkeypatch.setattr(np.random, "randint", lambda high: 4)  # what shuffles in the search
    chosen_in(model, policy.as_callback(VAL))
    for ours, searched in zip(model.get_weights(), task.model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, searched)


def test_the_order_of_chosen_samples_follows_from_the_seed():
    losses = []
    for _ in range(2):
        keras.utils.set_random_seed(1)
        losses.append(chosen_in(build(), chooser().as_callback())["loss"])
    assert losses[0] == losses[1]


def test_at_the_goal_samples_come_in_a_random_order():
    model = build()
    callback = chooser((1.0, 1.0, "hardest"), goal=("val_loss", 1.0)).as_callback(VAL)
    data = callback.batches(model, *TRAIN, batch_size=8)
    rules, select = [], callback.select
    callback.select = lambda rule: (rules.append(rule), select(rule))
    model.fit(data, epochs=8, shuffle=False, verbose=0, callbacks=[callback])
    at = [callback.goal.reached(report.metric) for report in callback.reports]
    assert rules == ["uniform" if reached else "hardest" for reached in at]
    assert len(set(rules)) == 2


def test_after_the_budget_samples_come_in_a_random_order():
    model, callback = build(), chooser().as_callback(VAL, budget=6)
    data = callback.batches(model, *TRAIN, batch_size=8)
    seen, select = [], callback.select
    callback.select = lambda rule: (
        select(rule),
        seen.append((rule, callback._selection._chosen.numpy())),
    )
    model.fit(data, epochs=4, shuffle=False, verbose=0, callbacks=[callback])
    rules, samples = zip(*seen, strict=True)
    assert list(rules) == ["hardest"] * 2 + ["uniform"] * 11  # of each epoch three, and one before
    assert len(set(np.concatenate(samples[2:]))) == 64  # all there are


def test_choices_are_passed_over_with_a_warning_where_fit_does_not_read_them():
    callback = chooser().as_callback(VAL)
    callback.batches(build(), *TRAIN, batch_size=8)
    for one in (chooser().as_callback(VAL), copy.deepcopy(callback)):  # tuners copy callbacks
        with pytest.warns(UserWarning, match="only the optimizer is steered"):
            fit(build(), one, epochs=1)


@pytest.mark.parametrize(
    ("settings", "arguments", "match"),
    [
        ({}, {"steps_per_epoch": 4}, "whole epochs of 8 steps. Received: epochs of 4"),
        ({"steps_per_execution": 2}, {}, "steps_per_execution=2, decision_every=3"),
        ({"other": True}, {}, "another model"),
    ],
)
def test_samples_that_cannot_be_chosen_are_refused(settings, arguments, match):
    model, callback = build(), chooser().as_callback(VAL)
    data = callback.batches(build() if settings.get("other") else model, *TRAIN, batch_size=8)
    model.steps_per_execution = settings.get("steps_per_execution", 1)
    with pytest.raises(ValueError, match=match):
        model.fit(data, shuffle=False, verbose=0, callbacks=[callback], **arguments)
    assert model.optimizer.iterations == 0
