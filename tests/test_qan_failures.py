"""An error in the oracle of a search ends it, says why, and leaves nothing locked or lost."""

import threading

import keras
import pytest
from processes import all_killed, ended, starter
from qan_task import make, search

from keras_drmad.tuners.qan.agent.learner import Learner
from keras_drmad.tuners.qan.training.regressor import Regressor
from keras_drmad.tuners.qan.training.weight_path import WeightPathRecorder

pytestmark = pytest.mark.slow


def broken(*args):
    raise ValueError("no such thing")


def test_an_error_stops_the_search_which_can_go_on(tmp_path, monkeypatch):
    tuner = make(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(Learner, "learn", broken)
        with pytest.raises(RuntimeError, match=r"stopped by an error[\s\S]*no such thing"):
            search(tuner)
    other = threading.Thread(target=tuner.oracle.forget_the_dead, daemon=True)
    other.start()
    other.join(10)
    assert not other.is_alive()  # the lock is free
    (known,) = (e.cost for e in tuner.oracle.curriculum.episodes)
    tuner = search(make(tmp_path))
    assert tuner.oracle.curriculum.episodes[0].cost == known
    assert len(tuner.oracle.end_order) == 12
    assert tuner.get_best_policy() is not None


@pytest.mark.slow
def test_a_path_that_cannot_be_written_is_done_without(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError("No space left on device")

    monkeypatch.setattr(WeightPathRecorder, "write", full)
    tuner = search(make(tmp_path, regressor=Regressor()), epochs=1)
    assert "failed" not in {e.ended for e in tuner.oracle.curriculum.episodes}


def test_a_search_whose_episodes_all_fail_raises(tmp_path):
    fails = keras.callbacks.LambdaCallback(on_train_begin=broken)
    tuner = make(tmp_path)
    with pytest.raises(
        RuntimeError, match=r"all its 3 trials failed[\s\S]*no such thing[\s\S]*Mend"
    ):
        search(tuner, callbacks=[fails])
    with pytest.raises(RuntimeError, match="Let `search` go on"):
        tuner.get_best_policy()


def work(folder):
    Learner.learn = broken
    search(make(folder))


def test_a_chief_ends_with_an_error(tmp_path):
    start = starter(work, tmp_path)
    with all_killed({name: start(name) for name in ("chief", "worker0")}) as processes:
        assert ended(processes["worker0"], 120) == 1  # its only trial has failed
        assert ended(processes["chief"], 20) == 1
