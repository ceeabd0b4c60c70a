"""Pictures of training: what is drawn is what was trained."""

import ast
import itertools
import pathlib
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from matplotlib import pyplot
from recorded_training import (
    DATA,
    HYPER,
    L,
    X,
    Y,
    curves,
    evaluated,
    line_path,
    make,
    plain_training,
)

from keras_drmad import DrMADSGD, LearnHyperparameters, paths, plots
from keras_drmad.plots import RecordedPath, Snapshot, figures
from keras_drmad.plots.lines import chord, segment_means
from keras_drmad.plots.plane import Plane

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def plain():
    return plain_training()


# -- residual --------------------------------------------------------------------------------


def test_a_straight_path_has_no_residual():
    a, b = RNG.normal(size=(2, 50))
    path = line_path(*[(1 - s) * a + s * b for s in (0, 0.1, 0.5, 0.7, 1)])
    ((along, away),) = [line.get_data() for line in plots.residual(path).get_lines()[-1:]]
    np.testing.assert_allclose(along, (0, 0.1, 0.5, 0.7, 1), atol=1e-12)
    np.testing.assert_allclose(away, 0, atol=1e-12)


def test_residuals_are_distances_from_the_chord():
    path = line_path((1, 1), (1, 4), (3, 0), (5, 1))  # the chord has length 4
    along, away = plots.residual(path).get_lines()[-1].get_data()
    assert along.tolist() == [0, 0, 0.5, 1]
    assert away.tolist() == [0, 0.75, 0.25, 0]


def test_residual_of_a_path_that_comes_back():
    with pytest.raises(ValueError, match="`path` must end elsewhere"):
        plots.residual(line_path((0, 0), (1, 1), (0, 0)))


# -- trajectory ------------------------------------------------------------------------------


def test_the_plane_contains_a_planar_path():
    basis = RNG.normal(size=(2, 40))
    places = RNG.normal(size=(6, 2)) @ basis + RNG.normal(size=40)
    path = line_path(*places)
    plane = Plane.of(path)
    for (weights,) in path.weights:
        (found,) = plane.point(*plane.coordinates([weights]))
        np.testing.assert_allclose(found, weights, atol=1e-10)
    assert sum(plane.shares) == pytest.approx(1)
    a, b = (direction[0] for direction in plane.directions)
    np.testing.assert_allclose([a @ a, b @ b, a @ b], [1, 1, 0], atol=1e-10)


def test_the_plane_is_that_of_pca():
    places = RNG.normal(size=(8, 5)) * (5, 1, 3, 0.5, 0.1)
    path = RecordedPath(
        [Snapshot(i, 0.0, [p[:2], p[2:].reshape(3, 1)], []) for i, p in enumerate(places)]
    )
    plane = Plane.of(path)
    _, values, directions = np.linalg.svd(places - places.mean(0))
    for k in range(2):
        found = np.concatenate([np.ravel(part) for part in plane.directions[k]])
        assert abs(found @ directions[k]) == pytest.approx(1)
        assert plane.shares[k] == pytest.approx(values[k] ** 2 / np.sum(values**2))


def test_trajectory_draws_path_chord_and_knots(plain):
    model, path = plain
    ax = plots.trajectory(model, path, DATA, knots=4, points=3, margin=0.0)
    plane = Plane.of(path)
    lines = {line.get_label(): np.array(line.get_data()).T for line in ax.get_lines()}
    trained_at = [plane.coordinates(w) for w in path.weights]
    np.testing.assert_allclose(lines["training"], trained_at)
    np.testing.assert_allclose(lines["Linear"], [trained_at[0], trained_at[-1]])
    np.testing.assert_allclose(lines["SegmentMeans"][[0, -1]], [trained_at[0], trained_at[-1]])
    assert len(lines["SegmentMeans"]) == 6  # four knots between the ends


def test_knots_are_means_of_segments():
    path = RecordedPath([Snapshot(t, 0.0, [np.array([float(t**2)])], []) for t in range(65)])
    line = segment_means(path, knots=4)
    ends = [0, *(round(64 * (i / 4) ** 1.5) for i in range(1, 5))]
    spans = [np.arange(a, b) for a, b in itertools.pairwise(ends)]
    assert line.times == [0, *(s.mean() for s in spans), 64]
    means = [0, *(np.mean(s**2) for s in spans), 64**2]
    np.testing.assert_allclose(np.ravel(line.weights), means)
    for time, value in zip(line.times, means, strict=True):
        np.testing.assert_allclose(line.at(time)[0][0], value)
    assert line.at(line.times[1] / 2)[0][0] == pytest.approx(means[1] / 2)


def test_segments_without_snapshots_have_no_knot():
    path = line_path(*np.eye(3)).snapshots
    sparse = RecordedPath([path[0], path[1]._replace(step=90), path[2]._replace(step=100)])
    line = segment_means(sparse, knots=16)
    assert line.times == [0, 90, 100]
    assert chord(sparse).times == [0, 100]


def test_contours_are_of_the_loss_in_the_plane(plain):
    model, path = plain
    with pytest.MonkeyPatch.context() as patch:
        drawn = {}
        module = sys.modules["keras_drmad.plots.trajectory"]
        patch.setattr(module, "_contours", lambda *args: drawn.update(at=args))
        plots.trajectory(model, path, (X, Y), points=2)
    _, grid, losses = drawn["at"]
    plane = Plane.of(path)
    for i in range(2):
        for j in range(2):
            weights = plane.point(grid[j, 0], grid[i, 1])
            expected = evaluated(model, Snapshot(0, 0.0, weights, []), (X, Y))["loss"]
            assert losses[i, j] == pytest.approx(expected, rel=1e-4)


# -- path_loss -------------------------------------------------------------------------------


def test_path_loss(plain):
    model, path = plain
    drawn = curves(plots.path_loss(model, path, DATA, points=5))
    assert list(drawn) == ["training", "Linear", "SegmentMeans"]
    ends = [evaluated(model, path.snapshots[i], (X, Y))["loss"] for i in (0, -1)]
    for losses in drawn.values():
        assert list(losses) == [0, 4, 9, 14, 18]
        assert [losses[0], losses[18]] == pytest.approx(ends, rel=1e-5)
    middle = evaluated(model, path.snapshots[9], (X, Y))["loss"]
    assert drawn["training"][9] == pytest.approx(middle, rel=1e-5)
    half = [(a + b) / 2 for a, b in zip(path.weights[0], path.weights[-1], strict=True)]
    middle = evaluated(model, Snapshot(0, 0.0, half, []), (X, Y))["loss"]
    assert drawn["Linear"][9] == pytest.approx(middle, rel=1e-5)


# -- hyperparameters -------------------------------------------------------------------------


@pytest.mark.slow
def test_hyperparameters_of_a_training():
    model = keras.Sequential([L.Input((3,)), L.Dense(1), L.Dense(1)])
    model.compile(DrMADSGD(0.05, l2=1e-4), "mse", jit_compile=False)
    learn = LearnHyperparameters(HYPER, path=paths.Linear())
    history = model.fit(X, Y, batch_size=20, epochs=3, verbose=0, callbacks=[learn])
    axes = plots.hyperparameters(history)
    found = {ax.get_ylabel(): ax for ax in axes}
    assert list(found) == ["learning rate", "momentum", "l2", "hyper loss"]
    scales = ["log", "linear", "log", "linear"]
    assert [ax.get_yscale() for ax in axes] == scales
    for kind, name in (("learning_rate", "learning rate"), ("momentum", "momentum"), ("l2", "l2")):
        groups = curves(found[name])
        assert len(groups) == 2  # layers
        for group, values in groups.items():
            assert list(values.values()) == history.history[f"{group}/{kind}"]
            assert list(values) == [1, 2, 3]


def test_hyperparameters_that_are_zero():
    axes = plots.hyperparameters({"a/l2": [0.0, 0.0], "b/l2": [0.0, 1e-6], "loss": [1.0, 1.0]})
    assert [ax.get_yscale() for ax in axes] == ["symlog"]
    (ax,) = plots.hyperparameters({"a/l2": [0.0, 0.0]})
    assert ax.get_yscale() == "linear"


def test_a_hyper_loss_that_comes_late():
    logs = {"a/momentum": [0.9] * 4, "hyper_loss": [2.0, 1.0]}
    ax = plots.hyperparameters(logs)[-1]
    assert ax.get_lines()[0].get_xdata().tolist() == [3, 4]


def test_one_epoch_can_be_seen():
    for panel in plots.hyperparameters({"a/momentum": [0.9], "hyper_loss": [1.0]}):
        assert [line.get_marker() for line in panel.get_lines()] == ["o"]
        panel.figure.canvas.draw()
        assert {text.get_text() for text in panel.get_xticklabels()} <= {"0", "1", "2"}


# -- what stands beside pictures -------------------------------------------------------------


@pytest.mark.parametrize(
    "values, shown",
    [((0.63, 0.652), {"0.63", "0.64", "0.65"}), ((0.03, 0.2), {"0.1"}), ((1e-6, 1.0), {"0.01"})],
)
def test_logarithmic_axes_have_plain_numbers(values, shown):
    panel = pyplot.axes()
    panel.plot(values)
    figures.log_scale(panel)
    panel.figure.canvas.draw()
    labels = [text.get_text() for text in panel.get_yticklabels(which="both")]
    assert shown <= set(labels)
    assert not any("times" in label for label in labels)


def test_levels_are_told_apart():
    assert figures.apart(np.array([0.6301, 0.6352, 0.6404])) == ["0.63", "0.635", "0.64"]
    assert figures.apart(np.array([1.0, 1.0])) == ["1", "1"]


@pytest.mark.parametrize("name", ["_hidden", "costs $5 or $x_$", "two\nlines", "long " * 50])
def test_any_name_is_shown(name):
    panel = pyplot.axes()
    panel.plot([1, 2], label=figures.words(name))
    figures.legend(panel)
    panel.figure.canvas.draw()
    (shown,) = [text.get_text() for text in panel.get_legend().get_texts()]
    assert len(shown) <= 42 and "\n" not in shown


# -- refusals --------------------------------------------------------------------------------


def test_refusals(plain):
    model, path = plain
    one = RecordedPath(path.snapshots[:1])

    def refused(message, draw, *args, **options):
        with pytest.raises(ValueError, match=message):
            draw(*args, **options)

    for draw in (plots.interpolation, plots.trajectory, plots.path_loss):
        other = make(L.Dense(5))
        refused("`path` was recorded with another model", draw, other, path, (X, Y))
        refused("`points` must be", draw, model, path, (X, Y), points=0)
        refused("`statistics` must be", draw, model, path, (X, Y), statistics="none")
        refused("`batch_size` must be a positive", draw, model, path, (X, Y), batch_size=0)
        refused("`path` must hold at least", draw, model, one, (X, Y))
        refused("`path` must be a `RecordedPath`", draw, model, plots.RecordPath(), (X, Y))
        bare = keras.Sequential(model.layers)
        refused("`model` must be compiled", draw, bare, path, (X, Y))
        endless = tf.data.Dataset.from_tensor_slices((X, Y)).batch(20).repeat()
        refused("`data` must have an end", draw, model, path, endless)
        refused("`data` must hold at least one", draw, model, path, {})
        refused("`data` must be a data set", draw, model, path, {1: (X, Y)})
        refused("`data` must hold targets", draw, model, path, (X,))
        refused("`data` holds .* NaN", draw, model, path, (X * np.nan, Y))
        refused("`data` must hold inputs of shape", draw, model, path, (X[:, :1], Y))
    refused("`path` must hold at least 2", plots.residual, one)
    refused("`label` must be text", plots.residual, path, label=5)
    refused("`label` must be text", plots.interpolation, model, path, (X, Y), label=5)
    refused("`points` must be", plots.path_loss, model, path, (X, Y), points=1)
    refused("`directory` must be", path.save, 5)
    refused("`range` must be", plots.interpolation, model, path, (X, Y), range=(1, 0))
    refused(
        "`metric` must be one of.*Compile", plots.interpolation, model, path, (X, Y), metric="auc"
    )
    refused("`ax` must be 2 axes", plots.interpolation, model, path, (X, Y), ax=pyplot.axes())
    refused("`knots` must be", plots.trajectory, model, path, (X, Y), knots=0)
    refused("`margin` must be", plots.trajectory, model, path, (X, Y), margin=-1)
    refused("`history` must hold", plots.hyperparameters, {"loss": [1.0]})
    refused("`tuner` must be a `DrMADTuner` or a `QANTuner`", plots.search, object())
    refused("must not lie on a line", Plane.of, line_path((0, 0), (1, 1), (2, 2)))
    unbuilt = keras.Sequential([L.Dense(1)])
    unbuilt.compile("sgd", "mse")
    refused("`model` must be built", plots.path_loss, unbuilt, path, (X, Y))


@pytest.mark.parametrize("package", ["matplotlib.pyplot", "PIL.Image", "scipy.optimize"])
def test_what_is_not_installed_is_named(package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=r"`pip install keras_drmad\[plots\]`"):
        if package == "matplotlib.pyplot":
            plots.residual(line_path((0, 0), (1, 1)))
        reference = np.ones((3, 2)) if package == "scipy.optimize" else None
        film = plots.FilterAnimation("out.gif", reference=reference, shape=(1, 3))
        make(L.Dense(2)).fit(X, Y, verbose=0, callbacks=[film])


def test_extras_are_imported_where_they_are_used():
    for file in pathlib.Path(plots.__file__).parent.glob("*.py"):
        for node in ast.parse(file.read_text()).body:
            names = {"matplotlib", "scipy", "PIL", "tensorboard"}
            found = [getattr(node, "module", None), *(a.name for a in getattr(node, "names", ()))]
            assert not names & {(name or "").partition(".")[0] for name in found}, file
