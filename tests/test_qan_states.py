"""What states observe of a training."""

import numpy as np
import pytest
from qan_task import build, training

from keras_drmad.tuners.qan.training.filters import BagOfFilters, RawFilters
from keras_drmad.tuners.qan.training.states import Ratios
from keras_drmad.tuners.qan.training.view import View


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
