"""Losses between weights, of a model that is left as it was."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from recorded_training import (
    DATA,
    HYPER,
    L,
    X,
    Y,
    curves,
    evaluated,
    everything,
    make,
    plain_training,
    trained,
)

from keras_drmad import plots
from keras_drmad.plots import RecordedPath, Snapshot


@pytest.fixture(scope="module")
def plain():
    return plain_training()


# -- interpolation ---------------------------------------------------------------------------


@pytest.mark.parametrize("layers", [(), (L.BatchNormalization(momentum=0.5), L.Dropout(0.3))])
def test_interpolation_at_its_ends_is_what_keras_evaluates(layers):
    model = make(*layers)
    path = trained(model)
    loss, accuracy = plots.interpolation(model, path, DATA, points=4, batch_size=16)
    for name, data in DATA.items():
        for share, snapshot in ((0, path.snapshots[0]), (1, path.snapshots[-1])):
            expected = evaluated(model, snapshot, data)
            assert curves(loss)[name][share] == pytest.approx(expected["loss"], rel=1e-5)
            assert curves(accuracy)[name][share] == pytest.approx(expected["accuracy"])


def test_interpolation_between_its_ends(plain):
    model, path = plain
    first, last = path.weights[0], path.weights[-1]
    loss = plots.interpolation(model, path, (X, Y), range=(-0.5, 1.5), points=5)[0]
    drawn = curves(loss)["data"]
    assert list(drawn) == [-0.5, 0, 0.5, 1, 1.5]
    for share, value in drawn.items():
        weights = [(1 - share) * a + share * b for a, b in zip(first, last, strict=True)]
        expected = evaluated(model, Snapshot(0, 0.0, weights, []), (X, Y))["loss"]
        assert value == pytest.approx(expected, rel=1e-5)


def test_several_models_in_one_picture(plain):
    b = make(L.Dense(3, "relu"))
    axes = plots.interpolation(*plain, DATA, points=3, label="small")
    again = plots.interpolation(b, trained(b), DATA, points=3, label="other", ax=axes)
    assert all(one is two for one, two in zip(axes, again, strict=True))
    labels = ["small, training", "small, hyper", "other, training", "other, hyper"]
    assert list(curves(axes[0])) == labels
    lines = [line for line in axes[0].get_lines() if line.get_label() in labels]
    looks = {(line.get_color(), line.get_linestyle()) for line in lines}
    assert len(looks) == 4
    assert len({colour for colour, _ in looks}) == 2  # one a model


def test_recomputed_statistics_are_the_means_of_the_moments():
    model = make(L.BatchNormalization(momentum=0.9))
    path = trained(model, epochs=1)
    weights = path.snapshots[-1].weights
    batches = [X[i : i + 20] for i in (0, 20, 40)]
    state = [np.mean([b.mean(0) for b in batches], 0), np.mean([b.var(0) for b in batches], 0)]
    for name in ("training", "hyper"):
        expected = evaluated(model, Snapshot(0, 0.0, weights, state), DATA[name])["loss"]
        loss = plots.interpolation(
            model, path, DATA, points=2, statistics="recomputed", batch_size=20
        )[0]
        assert curves(loss)[name][1] == pytest.approx(expected, rel=1e-4)


def test_moving_statistics_stay_within_the_ends():
    """A moving variance that falls would be negative beyond."""
    model = make(L.BatchNormalization(momentum=0.1))
    path = trained(model, ((X * 0.1).astype("float32"), Y))  # from 1 to 0.01
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss = plots.interpolation(model, path, (X, Y), range=(0, 2), points=5)[0]
    assert np.isfinite(list(curves(loss)["data"].values())).all()


def test_losses_that_are_no_numbers_are_gaps(plain):
    model, path = plain
    last = path.snapshots[-1]
    broken = last._replace(weights=[last.weights[0] * np.inf, *last.weights[1:]])
    path = RecordedPath([*path.snapshots[:-1], broken])
    with pytest.warns(UserWarning, match="The loss of data is not finite at 2 of 3 points"):
        loss, _ = plots.interpolation(model, path, (X, Y), range=(0, 1), points=3)
    assert np.isnan(list(curves(loss)["data"].values())).tolist() == [False, True, True]


# -- the user's model ------------------------------------------------------------------------


def test_the_model_is_left_as_it_was():
    model = make(L.BatchNormalization(), L.Dropout(0.5))
    path = trained(model)
    model.train_on_batch(X, Y)  # metrics hold something
    before = everything(model)
    function = model.train_function
    for draw in (plots.interpolation, plots.trajectory, plots.path_loss):
        draw(model, path, DATA, points=3, statistics="recomputed")
    for a, b in zip(everything(model), before, strict=True):
        np.testing.assert_array_equal(a, b)
    assert model.train_function is function


class Fails(keras.Model):
    """Its evaluation raises, unless batches have ten samples."""

    def __init__(self):
        super().__init__()
        self.dense, self.norm = L.Dense(2), L.BatchNormalization()

    def call(self, x, training=False):
        if x.shape[0] != 10 and not training:
            raise RuntimeError("no")
        return self.dense(self.norm(x, training=training))


@pytest.mark.parametrize("size", [25, 10])  # while its metrics are made; while it is evaluated
def test_the_model_is_left_as_it_was_where_evaluation_raises(size):
    model = Fails()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, metrics=["accuracy"], jit_compile=False)
    model(X[:10])
    path = trained(model)
    before = everything(model)
    with pytest.raises(RuntimeError):
        plots.interpolation(model, path, HYPER, points=3, batch_size=size)
    for a, b in zip(everything(model), before, strict=True):
        np.testing.assert_array_equal(a, b)
    model.train_on_batch(X, Y)  # still works


def test_a_fresh_model_and_a_path_from_a_file(tmp_path):
    trained(make(), directory=tmp_path)
    model = make()  # nothing has made its metrics yet
    before = [np.array(v) for v in model.variables]
    path = RecordedPath.load(tmp_path)
    loss, accuracy = plots.interpolation(model, path, (X, Y), points=2)
    expected = evaluated(model, path.snapshots[-1], (X, Y))
    assert curves(loss)["data"][1] == pytest.approx(expected["loss"], rel=1e-5)
    assert curves(accuracy)["data"][1] == pytest.approx(expected["accuracy"])
    for a, b in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(a, b)
    assert model.get_metrics_result()["accuracy"] == 0  # made, and empty


def test_data_of_other_kinds(plain):
    model, path = plain
    arrays, dataset, weighted = (
        curves(plots.path_loss(model, path, data, points=2, batch_size=20))["training"]
        for data in (
            (X, Y),
            tf.data.Dataset.from_tensor_slices((X, Y)).batch(20),
            {"training": (X, Y, np.ones(len(X)))},
        )
    )
    assert arrays == pytest.approx(dataset)
    assert arrays == pytest.approx(weighted)
