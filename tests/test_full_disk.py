"""A search on a full disk waits for room, or ends with an error: nothing in memory is lost."""

import errno
import math
import os
import threading
import types

import numpy as np
import pytest
import qan_task
from distributed_task import Tuner, ran

from keras_drmad.tuners.qan.decision_channel import KIND
from keras_drmad.tuners.qan.search.episode import CONTEST, SCHEDULE


@pytest.fixture
def disk(monkeypatch):
    """Full while `disk.room` is less than 1, of which each file takes one."""
    disk, replace = types.SimpleNamespace(room=math.inf), os.replace

    def put(source, target):
        if disk.room < 1:
            raise OSError(errno.ENOSPC, "No space left on device", str(target))
        disk.room -= 1
        replace(source, target)

    monkeypatch.setattr(os, "replace", put)
    monkeypatch.setattr("keras_drmad.tuners.distributed.oracle.WRITE_AGAIN", 0.1)
    return disk


def test_a_search_waits_for_room(tmp_path, disk):
    disk.room = 6
    timer = threading.Timer(2, setattr, (disk, "room", math.inf))
    timer.start()
    Tuner(tmp_path).search()
    timer.join()
    assert len(ran(tmp_path)) == 4
    scores = [trial.score for trial in Tuner(tmp_path).oracle.trials.values()]
    assert scores == [0.0, 1.0, 2.0, 3.0]


@pytest.mark.parametrize("room", [6, 15])  # in the middle, at the end
def test_a_search_on_a_full_disk_ends_with_an_error_and_goes_on(tmp_path, disk, monkeypatch, room):
    monkeypatch.setattr("keras_drmad.tuners.distributed.oracle.GIVE_UP", 0.5)
    disk.room = room
    with pytest.raises(RuntimeError, match=f"{tmp_path}.*[Mm]ake room"):
        Tuner(tmp_path).search()
    disk.room = math.inf
    Tuner(tmp_path).search()
    assert len(Tuner(tmp_path).oracle.end_order) == 4


def test_a_disk_that_is_full_at_the_start_is_named(tmp_path, disk):
    disk.room = 0
    with pytest.raises(OSError, match=rf"{tmp_path}.*No space left.*another `directory`"):
        Tuner(tmp_path).search()
    assert not ran(tmp_path)


@pytest.mark.parametrize("kind", [SCHEDULE, CONTEST])
def test_a_learning_search_on_a_full_disk_loses_nothing(tmp_path, disk, kind):
    """Whatever its files are, all of its episodes are there when there is room again."""
    tuner = qan_task.make(tmp_path)
    timer = threading.Timer(1.5, setattr, (disk, "room", math.inf))

    def fill(trial):
        if trial.hyperparameters.values[KIND] == kind and timer.ident is None:
            disk.room = 0
            timer.start()

    tuner.on_trial_begin = fill
    qan_task.search(tuner, epochs=1)
    timer.join()
    again = qan_task.make(tmp_path).oracle
    assert all(episode.cost is not None for episode in again.curriculum.episodes)
    assert again.learner.learned == tuner.oracle.learner.learned > 0
    assert len(again.learner.agent.replay) == len(tuner.oracle.learner.agent.replay)
    assert len(again.end_order) == 12


def test_a_search_is_not_ahead_of_its_agent(tmp_path, monkeypatch):
    """Small files may find room where large ones do not: then what was not learned is repeated."""
    whole = qan_task.search(qan_task.make(tmp_path / "whole"), epochs=1)
    put, learners = os.replace, []

    def refuse_large(source, target):
        if "learner_" in target:
            learners.append(target)
            if len(learners) > 4:
                raise OSError(errno.ENOSPC, "No space left on device", target)
        put(source, target)

    with monkeypatch.context() as full:
        full.setattr(os, "replace", refuse_large)
        full.setattr("keras_drmad.tuners.distributed.oracle.GIVE_UP", 0.5)
        full.setattr("keras_drmad.tuners.distributed.oracle.WRITE_AGAIN", 0.1)
        with pytest.raises(RuntimeError, match="Make room"):
            qan_task.search(qan_task.make(tmp_path / "full"), epochs=1)
    again = qan_task.search(qan_task.make(tmp_path / "full"), epochs=1)
    assert qan_task.outcomes(again) == qan_task.outcomes(whole)
    weights, expected = (t.oracle.learner.agent.network.get_weights() for t in (again, whole))
    for one, other in zip(weights, expected, strict=True):
        np.testing.assert_array_equal(one, other)
