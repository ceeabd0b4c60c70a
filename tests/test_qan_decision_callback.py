"""When decisions come, what is reported for them, and how a training ends."""

import numpy as np
import pytest
from qan_task import training

from keras_drmad.tuners.qan.training.report import DIVERGED, REACHED, STOP, TRUNCATED

pytestmark = pytest.mark.slow


def test_decisions_come_every_few_steps_and_at_the_end_of_an_epoch():
    seen = []
    training(epochs=2).run(0, lambda report: seen.append(report.step) or 0.01)
    assert seen == [0, 3, 6, 8, 11, 14, 16]


def test_training_metrics_are_of_the_chunk_and_of_the_epoch():
    seen = []
    task = training()
    _, history = task.run(0, lambda report: seen.append(task.callback.view.losses[-1]) or 0.02)
    chunks = np.array(seen[1:4])  # of the first epoch: 3, 3 and 2 steps
    assert np.average(chunks, weights=[3, 3, 2]) == pytest.approx(
        history.history["loss"][0], rel=1e-5
    )


def test_divergence_ends_an_episode_and_pays_for_the_rest():
    reports, _ = training().run(0, lambda report: 1e30)
    assert reports[-1].ended == DIVERGED
    assert reports[-1].step < 16


def test_reaching_the_goal_ends_an_episode():
    reports, _ = training(goal=("val_loss", 0.95)).run(0, lambda report: 0.3)
    assert reports[-1].ended == REACHED
    assert reports[-1].metric <= 0.95


def test_an_episode_can_be_stopped():
    reports, _ = training().run(0, lambda report: STOP if report.step >= 6 else 0.01)
    assert (reports[-1].ended, reports[-1].step) == (TRUNCATED, 6)


@pytest.mark.parametrize("sign", [1, -1])
def test_an_explosion_is_seen_whatever_training_losses_are(sign):
    """Of validation losses: training ones may be weighted; and losses may be negative."""
    task = training(goal=("val_loss", -1e9))
    losses = iter([sign * 1.0, sign * 1.0 + 2.9, sign * 1.0 + 3.1] + [0.0] * 9)
    task.callback.validation.beside = lambda model, read: (
        {"val_loss": next(losses)},
        [tensor.numpy() for tensor in read()],
    )
    reports, _ = task.run(0, lambda report: 1e-9)
    assert [report.ended for report in reports] == ["", "", "diverged"]
