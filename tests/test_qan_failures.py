"""An error in the oracle of a search ends it, says why, and leaves nothing locked or lost."""

import threading

import pytest
from processes import ended, starter
from qan_task import make, search

from keras_drmad.tuners.qan.learner import Learner


def broken(*args):
    raise ValueError("no such thing")


def after(calls, function):
    """A function that fails from a number of calls on."""
    left = [calls]

    def wrapped(*args):
        left[0] -= 1
        return function(*args) if left[0] >= 0 else broken()

    return wrapped


def costs(tuner):
    return [e.cost for e in tuner.oracle.curriculum.episodes]


def test_an_error_stops_the_search_which_can_go_on(tmp_path, monkeypatch):
    """While it learns, decides, and keeps a snapshot, in turn."""
    known = []
    for name, calls in (("learn", 2), ("act", 8), ("keep", 0)):
        tuner = make(tmp_path)
        with monkeypatch.context() as patched:
            patched.setattr(Learner, name, after(calls, getattr(Learner, name)))
            with pytest.raises(RuntimeError, match=r"stopped by an error[\s\S]*no such thing"):
                search(tuner)
        other = threading.Thread(target=tuner.oracle.forget_the_dead, daemon=True)
        other.start()
        other.join(10)
        assert not other.is_alive()  # the lock is free
        assert costs(tuner)[: len(known)] == known
        known = costs(tuner)[: len(tuner.oracle.trials)]
    tuner = search(make(tmp_path))
    assert costs(tuner)[: len(known)] == known
    assert len(costs(tuner)) == 12 and len(known) < 12
    assert tuner.get_best_policy() is not None


def work(folder):
    Learner.learn = broken
    search(make(folder))


def test_a_chief_ends_with_an_error(tmp_path):
    start = starter(work, tmp_path, offset=11)
    processes = {name: start(name) for name in ("chief", "worker0")}
    try:
        assert ended(processes["worker0"], 60) == 0  # it is told to stop
        assert ended(processes["chief"], 3) == 1
    finally:
        for process in processes.values():
            process.kill()
