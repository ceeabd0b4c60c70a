"""What is observed of a training, what decisions do to it, and policies in plain `fit`."""

import gc
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from qan_task import TRAIN, VAL, X, Y, build, training

from keras_drmad import DrMADSGD
from keras_drmad.tuners import Actions, Goal
from keras_drmad.tuners.qan.training import decision_callback
from keras_drmad.tuners.qan.training.evaluation import Validation
from keras_drmad.tuners.qan.training.filters import BagOfFilters, RawFilters
from keras_drmad.tuners.qan.training.regressor import Regressor
from keras_drmad.tuners.qan.training.report import DIVERGED, REACHED, STOP, TRUNCATED
from keras_drmad.tuners.qan.training.sample_selection import SampleSelection
from keras_drmad.tuners.qan.training.states import Ratios
from keras_drmad.tuners.qan.training.steered_training import SteeredTraining
from keras_drmad.tuners.qan.training.view import View
from keras_drmad.tuners.qan.training.weight_path import WeightPath

# -- callback -------------------------------------------------------------------------------


def test_decisions_come_every_few_steps_and_at_the_end_of_an_epoch():
    seen = []
    training(epochs=2).run(0, lambda report: seen.append(report.step) or 0.01)
    assert seen == [0, 3, 6, 8, 11, 14, 16]


def test_steered_constant_rates_train_as_fit_does():
    """A rate that is set again and again changes nothing, nor does validation in between."""
    steered = training()
    steered.run(5, lambda report: 0.02)
    plain = training()
    plain.restart(5)
    tf.random.set_seed(5)  # of the order
    plain.model.fit(*TRAIN, batch_size=8, epochs=2, verbose=0)
    for a, b in zip(steered.model.weights, plain.model.weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_training_metrics_are_of_the_chunk_and_of_the_epoch():
    seen = []
    task = training()
    _, history = task.run(0, lambda report: seen.append(task.callback.view.losses[-1]) or 0.02)
    chunks = np.array(seen[1:4])  # of the first epoch: 3, 3 and 2 steps
    assert np.average(chunks, weights=[3, 3, 2]) == pytest.approx(
        history.history["loss"][0], rel=1e-5
    )


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


def test_ratios_are_what_they_say():
    task = training([Ratios(Ratios.ALL)], epochs=1)
    weights, reports = [], []

    def decide(report):
        weights.append(np.concatenate([w.numpy().ravel() for w in task.model.trainable_variables]))
        reports.append(dict(zip(Ratios.ALL, report.observation[0], strict=True)))
        return 0.04

    task.run(0, decide)
    view, last = task.callback.view, reports[2]
    first, second = weights[1] - weights[0], weights[2] - weights[1]
    update = np.log10(50 * np.linalg.norm(second) / np.linalg.norm(weights[2]))
    assert last["rate"] == pytest.approx(np.log10(2), abs=1e-5)
    assert last["time"] == pytest.approx(6 / 8)
    assert last["update"] == pytest.approx(update, abs=1e-4)
    assert last["gradient"] == pytest.approx(update - np.log10(0.04), abs=1e-4)
    angle = first @ second / np.linalg.norm(first) / np.linalg.norm(second)
    assert last["angle"] == pytest.approx(angle, abs=1e-4)
    assert last["loss_slope"] == pytest.approx(
        5 * np.log(view.losses[2] / view.losses[1]), abs=1e-4
    )
    gaps = np.log(np.array(view.val_losses) / 0.6)
    assert last["gap"] == pytest.approx(gaps[2], abs=1e-5)
    assert last["gap_mean"] == pytest.approx(gaps[:3].mean(), abs=1e-5)
    assert last["loss_mean"] == pytest.approx(
        np.mean(np.log(view.losses[:3])) - np.log(view.losses[0]), abs=1e-5
    )


def test_divergence_ends_an_episode_and_pays_for_the_rest():
    reports, _ = training().run(0, lambda report: 1e30)
    assert reports[-1].ended == DIVERGED
    assert reports[-1].step < 16


class Batch(keras.utils.PyDataset):
    def __len__(self):
        return 8

    def __getitem__(self, index):
        return X[:8], Y[:8]


def test_a_stopped_episode_leaves_no_iterator_of_keras():
    """Each of many takes up to a minute to end, and searches stop most of their episodes."""
    task = SteeredTraining(
        build, Batch(), every=3, states=[Ratios()], actions=Actions(), goal=Goal.of(("loss", 1e-9))
    )
    gc.disable()
    try:
        for _ in range(2):
            task.run(0, lambda report: report and STOP)
        left = [o for o in gc.get_objects() if isinstance(o, tf.data.Iterator)]
    finally:
        gc.enable()
    assert not left


def test_reaching_the_goal_ends_an_episode():
    reports, _ = training(goal=("val_loss", 0.95)).run(0, lambda report: 0.3)
    assert reports[-1].ended == REACHED
    assert reports[-1].metric <= 0.95


def test_an_episode_can_be_stopped():
    reports, _ = training().run(0, lambda report: STOP if report.step >= 6 else 0.01)
    assert (reports[-1].ended, reports[-1].step) == (TRUNCATED, 6)


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 4

    def __getitem__(self, i):
        return tuple(part[8 * i : 8 * i + 8] for part in VAL)


def halves(model):
    """The same model, which takes its input in two parts."""
    parts = {"a": keras.Input((2,), name="a"), "b": keras.Input((4,), name="b")}
    both = keras.layers.Concatenate()([parts["a"], parts["b"]])
    split = keras.Model(parts, model(both))
    split.compile("sgd", model.loss, metrics=["accuracy"])
    return split


@pytest.mark.parametrize("form", ["arrays", "weights", "dataset", "pydataset"])
def test_validation_is_what_evaluate_says(form):
    x, y = VAL
    model = halves(build())
    parts = {"a": x[:, :2], "b": x[:, 2:]}
    if form == "pydataset":
        model = model.layers[-1]
        model.compile("sgd", build().loss, metrics=["accuracy"])
    data = {
        "arrays": (parts, y),
        "weights": (parts, y, np.linspace(0, 1, len(y))),
        "dataset": tf.data.Dataset.from_tensor_slices((parts, y)).batch(5),
        "pydataset": Batches(),
    }[form]
    if isinstance(data, tuple):
        given = dict(zip(("x", "y", "sample_weight"), (*data, None)[:3], strict=True))
    else:
        given = {"x": data}
    expected = model.evaluate(**given, verbose=0, return_dict=True)
    found = Validation(data)(model)
    assert found == pytest.approx({f"val_{k}": v for k, v in expected.items()}, rel=1e-5)


def test_nothing_is_compiled_again_in_a_later_episode():
    task = training()
    task.run(0, lambda report: 0.02)
    functions = [task.model.train_function, task.callback.probes._read]
    task.run(1, lambda report: 0.05)
    assert functions[0] is task.model.train_function
    assert functions[1] is task.callback.probes._read


def test_an_episode_does_not_set_tensorflows_seed():
    """After which all functions are prepared anew."""
    task = training()
    tf.random.set_seed(1)
    expected = [tf.random.uniform(()).numpy() for _ in range(2)]
    tf.random.set_seed(1)
    found = [tf.random.uniform(()).numpy()]
    task.run(0, lambda report: 0.02)
    assert [*found, tf.random.uniform(()).numpy()] == expected


def test_an_episode_repeats_with_its_seed():
    def build():
        layers = [keras.layers.Input((6,)), keras.layers.Dropout(0.5), keras.layers.Dense(3)]
        model = keras.Sequential(layers)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(0.02), loss, jit_compile=False)
        return model

    def trained(seed):
        task.run(seed, lambda report: 0.02)
        return task.model.get_weights()[0]

    task = training(build=build)
    kernel = trained(1)
    assert (kernel != trained(2)).any()
    np.testing.assert_array_equal(kernel, trained(1))


# -- actions --------------------------------------------------------------------------------


def test_actions_multiply_within_bounds():
    task = training(actions=Actions((0.5, 2.0), bounds=(0.01, 0.1)))
    reports, _ = task.run(0, lambda report: [1])
    np.testing.assert_allclose(
        [r.rates[0] for r in reports[:4]], [0.02, 0.04, 0.08, 0.1], rtol=1e-6
    )


def test_layers_have_actions_of_their_own():
    actions = Actions((0.5, 1.0, 2.0), per="layer")
    task = training(actions=actions, build=lambda: build(optimizer=DrMADSGD(0.02, learn=())))
    reports, _ = task.run(0, lambda report: [0, 2])
    np.testing.assert_allclose(reports[2].rates, [0.005, 0.08], rtol=1e-5)
    assert reports[2].observation.shape == (2, len(Ratios.FEW))


def test_momentum_moves():
    actions = Actions((1.0,), momentum=(0.5, 1.0))
    task = training(actions=actions, build=lambda: build(optimizer=DrMADSGD(0.02, learn=())))
    task.run(0, lambda report: [0] if report.step == 0 else [1])
    np.testing.assert_allclose(task.callback.control.read()[1], [0.95], rtol=1e-5)


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


@pytest.mark.parametrize(
    "arguments, match",
    [
        ({"learning_rate": ()}, "at least one"),
        ({"learning_rate": (1.0,)}, "nothing to decide"),
        ({"learning_rate": (0.5, -1)}, "must be more than 0.*-1"),
        ({"bounds": (1, 0.1)}, "bounds"),
        ({"sample_selection": ("worst",)}, "sample_selection"),
        ({"per": "unit"}, "per"),
    ],
)
def test_bad_actions_are_refused(arguments, match):
    with pytest.raises(ValueError, match=match):
        Actions(**arguments)


def test_the_nearest_action_is_usable_if_it_is_near():
    actions = Actions()
    assert actions.nearest(1.02) == (2, True)
    assert actions.nearest(0.1) == (0, False)


# -- states ---------------------------------------------------------------------------------


def test_a_bag_of_filters_counts_the_nearest_words():
    state = BagOfFilters(words=2, layer="a", codebook=[[1, 0, 0, 0, 0, 0], [-1, 0, 0, 0, 0, 0]])
    task = training([Ratios(), state], epochs=1)
    reports, _ = task.run(0, lambda report: 0.01)
    signs = task.model.get_layer("a").kernel.numpy()[0] > 0
    np.testing.assert_allclose(
        reports[-1].observation[0, len(Ratios.FEW) :], [signs.mean() * 2, 2 - signs.mean() * 2]
    )


def test_raw_filters_are_the_kernel():
    task = training([RawFilters(6, 4, layer="a")], epochs=1)
    reports, _ = task.run(0, lambda report: 0.01)
    kernel = task.model.get_layer("a").kernel.numpy()
    expected = kernel / np.sqrt(np.mean(kernel**2))
    np.testing.assert_allclose(reports[-1].observation.reshape(6, 4), expected, rtol=1e-5)
    with pytest.raises(ValueError, match="filters of 6 inputs"):
        training([RawFilters(7, 4)]).run(0, lambda report: 0.01)


@pytest.mark.parametrize("weight", [1e38, np.inf, np.nan])
def test_filters_that_have_diverged_are_still_numbers(weight):
    states = [RawFilters(6, 4), BagOfFilters(words=2, codebook=np.eye(2, 6))]
    model = build()
    model.set_weights([np.full_like(w, weight) for w in model.get_weights()])
    view = View(model, [], 10, 0.1, 2, rates=np.array([0.1]))
    assert all(np.isfinite(state.observe(view)).all() for state in states)


def test_chunks_are_alike_whatever_steps_they_have():
    """Ones of smaller batches with so many more steps; and the shorter ones at the ends of epochs."""

    def update(every, steps, moved):
        view = View(None, [], 400, 0.1, every, steps=steps, losses=[1.0], gaps=[1.0])
        view.rates, view.momenta = np.full((2, 1), 0.1)
        view.motion = np.array([[4.0, moved**2, 0.0, 0.0]])
        return Ratios(["update"]).observe(view)[0, 0]

    assert update(20, 20, 0.04) == pytest.approx(0.0, abs=1e-6)
    assert update(80, 80, 0.04) == pytest.approx(0.0, abs=1e-6)
    assert update(20, 10, 0.02) == pytest.approx(0.0, abs=1e-6)


def test_the_regressor_pulls_toward_the_path():
    model, regressor = build(), Regressor(strength=0.1, until=0.5)
    before = [w.numpy() for w in model.trainable_variables]
    path = WeightPath([0, 4], [[w + 1 for w in before], [w + 3 for w in before]])
    view = type("View", (), {"step": 2, "steps": 2, "budget": 8})
    regressor.regularize(model, path, view)
    for variable, old in zip(model.trainable_variables, before, strict=True):
        np.testing.assert_allclose(variable, old + (1 - 0.9**2) * 2, rtol=1e-5)
    view.step = 5
    regressor.regularize(model, path, view)
    np.testing.assert_allclose(model.trainable_variables[0], before[0] + 0.19 * 2, rtol=1e-5)
