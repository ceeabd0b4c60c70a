"""Workers that a chief does not know hear how it has ended; a chief removes no other one's search."""

import os
import time

import pytest
from distributed_task import Oracle, Tuner, ran, run
from keras_tuner.errors import FatalRuntimeError
from processes import all_killed, ended, starter, wait_for

from keras_drmad.tuners.distributed import last_word


class Failing(Tuner):
    def train_trial(self, trial, verbose=0):
        super().train_trial(trial)
        raise ValueError("no such layer")


def fail(folder):
    """As chief or worker; worker1 searches once it may."""
    name = os.environ["KERASTUNER_TUNER_ID"]
    tuner = Failing(folder)
    (folder / f"{name}.made").touch()
    while name == "worker1" and not (folder / "go").exists():
        time.sleep(0.05)
    with open(folder / f"{name}.txt", "w") as said:
        try:
            tuner.search()
        except Exception as error:
            print(error, file=said, flush=True)
            raise


class Broken(Oracle):
    def populate_space(self, trial_id):
        if trial_id == "1":
            raise ValueError("no such layer")
        return super().populate_space(trial_id)


def search_and_break(folder):
    with open(folder / f"{os.environ['KERASTUNER_TUNER_ID']}.txt", "w") as said:
        try:
            Tuner(folder, Broken()).search()
        except RuntimeError as error:
            print(error, file=said, flush=True)
            raise


class Exhausted(Oracle):
    """Has one trial only."""

    def populate_space(self, trial_id):
        if trial_id == "0":
            return super().populate_space(trial_id)
        return {"status": "STOPPED", "values": None}


def search_little(folder):
    Tuner(folder, Exhausted()).search()


def as_worker(monkeypatch, start):
    """This process, for tuners that are made from now on."""
    for name, value in start.variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "worker5")


def test_an_error_is_heard_by_workers_that_the_chief_does_not_know(tmp_path, monkeypatch):
    start = starter(fail, tmp_path)
    with all_killed({name: start(name) for name in ("worker1", "chief")}) as processes:
        wait_for(lambda: (tmp_path / "worker1.made").exists())
        processes["worker0"] = start("worker0")
        assert [ended(processes[name], 60) for name in ("worker0", "chief")] == [1, 1]
        (tmp_path / "go").touch()
        assert ended(processes["worker1"], 20) == 1
    assert "trials failed" in (tmp_path / "worker1.txt").read_text()
    # One that begins later cannot know whether the chief will be started again: it waits, for a while.
    as_worker(monkeypatch, start)
    monkeypatch.setattr(last_word, "OLD_SECONDS", 1.0)
    began = time.monotonic()
    with pytest.raises(FatalRuntimeError, match=r"ended with an error[\s\S]*Mend what it says"):
        Tuner(tmp_path).search()
    assert time.monotonic() - began >= 1


def test_a_worker_that_is_told_to_stop_says_why(tmp_path):
    start = starter(search_and_break, tmp_path)
    with all_killed({name: start(name) for name in ("chief", "worker0")}) as processes:
        assert [ended(process, 60) for process in processes.values()] == [1, 1]
    for name in ("chief", "worker0"):
        assert "no such layer" in (tmp_path / f"{name}.txt").read_text()


def test_a_worker_that_comes_after_the_end_ends_too(tmp_path, monkeypatch, caplog):
    """Of a search that had no more to do before it had all its trials."""
    start = starter(search_little, tmp_path)
    with all_killed({name: start(name) for name in ("chief", "worker0")}) as processes:
        assert [ended(process, 60) for process in processes.values()] == [0, 0]
    as_worker(monkeypatch, start)
    monkeypatch.setattr(last_word, "OLD_SECONDS", 1.0)
    tuner = Tuner(tmp_path)
    tuner.search()
    assert len(tuner.oracle.end_order) == len(ran(tmp_path)) == 1
    assert "The last chief of this search has ended. Another one is waited for" in caplog.text


def test_a_chief_that_is_started_again_is_waited_for(tmp_path, monkeypatch):
    word = last_word.LastWord(str(tmp_path / "p" / "ended.json"))
    word.say(ValueError("as it was"))
    start = starter(run, tmp_path)
    with all_killed({"worker0": start("worker0")}) as processes:
        time.sleep(1)
        processes["chief"] = start("chief")
        assert [ended(process, 60) for process in processes.values()] == [0, 0]
    assert len(ran(tmp_path)) == 4
    assert last_word.LastWord(str(tmp_path / "p" / "ended.json")).ends(0) is False  # it is old now


def test_a_second_chief_does_not_remove_the_search_of_the_first(tmp_path, monkeypatch):
    start = starter(run, tmp_path)
    with all_killed({"chief": start("chief")}):
        wait_for(lambda: (tmp_path / "p" / "settings.json").exists())
        as_worker(monkeypatch, start)
        monkeypatch.setenv("KERASTUNER_TUNER_ID", "chief")
        with pytest.raises(RuntimeError, match=r"cannot listen at .* choose other"):
            Tuner(tmp_path, overwrite=True)
        assert (tmp_path / "p" / "settings.json").exists()
    Tuner(tmp_path, overwrite=True)  # and may, once that has ended
    assert not (tmp_path / "p" / "settings.json").exists()
