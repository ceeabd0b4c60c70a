"""Chief and workers where something fails: no call hangs, no trial is lost or trained twice."""

import os
import shutil
import signal
import subprocess
import time
from functools import partial

import drmad_task
import grpc
import keras
import keras_tuner
import numpy as np
import pytest
import qan_task
from distributed_task import Oracle, Tuner, client, ran, run
from keras_tuner.errors import FatalRuntimeError
from keras_tuner.src import protos
from processes import all_killed, ended, starter, wait_for

from keras_drmad import paths
from keras_drmad.tuners.distributed.errors import SearchIsOver
from keras_drmad.tuners.distributed.guard import Refused
from keras_drmad.tuners.distributed.interrupt import Interrupt

OracleStub = protos.get_service_grpc().OracleStub
GetSpaceRequest = protos.get_service().GetSpaceRequest


class Narrow(Tuner):
    """Asks for a hyperparameter in some trials only."""

    def train_trial(self, trial, verbose=0):
        metrics = super().train_trial(trial)
        if trial.hyperparameters.values["number"] == 1:
            trial.hyperparameters.Float("rate", 0.0, 1.0)
        return metrics


def fixed_space():
    space = keras_tuner.HyperParameters()
    space.Fixed("width", 1)
    return Oracle(hyperparameters=space, allow_new_entries=False)


def search_narrowly(folder):
    with open(folder / f"{os.environ['KERASTUNER_TUNER_ID']}.txt", "w") as said:
        try:
            Narrow(folder, fixed_space()).search()
        except Exception as error:
            print(error, file=said, flush=True)
            raise


def address(start):
    return f"127.0.0.1:{start.variables['KERASTUNER_ORACLE_PORT']}"


# -- errors in the chief --------------------------------------------------------------------


def test_an_error_in_the_chiefs_oracle_ends_it(tmp_path):
    """Raised by KerasTuner, with its lock held."""
    start = starter(search_narrowly, tmp_path)
    with all_killed({name: start(name) for name in ("chief", "worker0")}) as processes:
        assert ended(processes["worker0"], 60) == 1
        assert ended(processes["chief"], 20) == 1
    for name in ("chief", "worker0"):
        assert "allow_new_entries" in (tmp_path / f"{name}.txt").read_text()


def test_an_error_of_kerastuner_leaves_a_search_alone_unlocked(tmp_path):
    tuner = Narrow(tmp_path, fixed_space())
    with pytest.raises(RuntimeError, match="allow_new_entries"):
        tuner.search()
    tuner.oracle.hyperparameters.Float("rate", 0.0, 1.0)
    tuner = Narrow(tmp_path, Oracle())  # it goes on, once that is mended
    tuner.search()
    assert len(tuner.oracle.end_order) == 4


def test_a_call_that_makes_no_sense_is_refused_alone(tmp_path, monkeypatch):
    start = starter(run, tmp_path)
    with all_killed({"chief": start("chief")}) as processes:
        worker = client(monkeypatch, start, tmp_path, "worker0")
        trial = worker.create_trial("worker0")
        for metrics in ({}, {"other": 1.0}):
            with pytest.raises(Refused, match=r"refused.*score"):
                worker.update_trial(trial.trial_id, metrics)
        with pytest.raises(Refused, match="no trial 'x'"):
            worker.get_trial("x")
        with pytest.raises(Refused, match="ends as one of"):
            worker.end_trial(trial)  # as "RUNNING"
        processes["worker0"] = start("worker0")
        assert ended(processes["worker0"], 60) == 0
        assert ended(processes["chief"], 20) == 0
    assert len(ran(tmp_path)) == 4


def test_nobody_ends_or_scores_the_trial_of_another(tmp_path, monkeypatch):
    start = starter(run, tmp_path)
    with all_killed({"chief": start("chief")}) as processes:
        worker = client(monkeypatch, start, tmp_path, "worker0")
        rogue = client(monkeypatch, start, tmp_path, "worker1")
        trial = worker.create_trial("worker0")
        with pytest.raises(Refused, match="not given to worker1"):
            rogue.update_trial(trial.trial_id, {"score": -1.0})
        trial.status = "FAILED"
        with pytest.raises(Refused, match="not given to worker1"):
            rogue.end_trial(trial)
        with pytest.raises(Refused, match="in the name of worker0"):
            rogue.create_trial("worker0")
        processes["worker0"] = start("worker0")
        assert ended(processes["worker0"], 60) == 0
        assert ended(processes["chief"], 20) == 0
    scores = [trial.score for trial in Tuner(tmp_path).oracle.trials.values()]
    assert scores == [0.0, 1.0, 2.0, 3.0]


# -- signs of life --------------------------------------------------------------------------


def test_a_slow_worker_keeps_its_trial(tmp_path):
    """It is at it for longer than the timeout, and another one waits for work."""
    start = starter(partial(run, seconds=6, timeout=3, max_trials=1), tmp_path)
    names = ("chief", "worker0", "worker1")
    with all_killed({name: start(name) for name in names}) as processes:
        assert [ended(processes[name], 60) for name in reversed(names)] == [0, 0, 0]
    assert len(ran(tmp_path)) == 1


def test_a_silent_worker_loses_its_trial(tmp_path):
    """It is frozen; when it goes on, what it brings is dropped."""
    start = starter(partial(run, seconds=3, timeout=3, max_trials=2), tmp_path)
    with all_killed({name: start(name) for name in ("chief", "worker0")}) as processes:
        wait_for(lambda: ran(tmp_path))
        os.kill(processes["worker0"].pid, signal.SIGSTOP)
        processes["worker1"] = start("worker1")
        wait_for(lambda: ["worker1", "0"] in ran(tmp_path))
        os.kill(processes["worker0"].pid, signal.SIGCONT)
        assert [ended(process, 60) for process in processes.values()] == [0, 0, 0]
    trainings = ran(tmp_path)
    assert sorted(trial for _, trial in trainings) == ["0", "0", "1"]


# -- the chief vanishes ---------------------------------------------------------------------


def run_impatiently(folder, **arguments):
    from keras_drmad.tuners.distributed import client

    client.CALL_SECONDS = 3.0
    run(folder, **arguments)


def test_a_search_survives_a_chief_that_vanishes(tmp_path):
    """Frozen, it closes no connection; then another chief is at its address."""
    work = partial(run_impatiently, seconds=1, max_trials=6)
    start = starter(work, tmp_path)
    with all_killed({name: start(name) for name in ("chief", "worker0")}) as processes:
        wait_for(lambda: len(ran(tmp_path)) == 2)
        os.kill(processes["chief"].pid, signal.SIGSTOP)
        time.sleep(5)  # in which the worker's calls find nobody
        processes["chief"].kill()
        processes["chief"].join()
        processes["chief"] = start("chief")
        assert [ended(process, 60) for process in processes.values()] == [0, 0]
    assert sorted(trial for _, trial in ran(tmp_path)) == list("012345")


def test_a_worker_says_for_whom_it_waits(tmp_path, monkeypatch, caplog):
    start = starter(run, tmp_path)
    over = iter([False, False, True])
    with pytest.raises(SearchIsOver):
        client(
            monkeypatch, start, tmp_path, "worker0", is_over=lambda waited: next(over)
        ).get_space()
    assert (
        f"Waiting for the chief at {address(start)}, for 0 s so far, at most 60 minutes"
        in caplog.text
    )


# -- two searches at one address ------------------------------------------------------------


def test_a_second_chief_at_an_address_is_refused(tmp_path, monkeypatch):
    start = starter(run, tmp_path)
    with all_killed({"chief": start("chief")}):
        client(monkeypatch, start, tmp_path, "worker0").get_space()  # it is there
        for name, value in start.variables.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("KERASTUNER_TUNER_ID", "chief")
        with pytest.raises(RuntimeError, match=rf"listen at {address(start)}: .* choose other"):
            run(tmp_path / "other")
    assert not (tmp_path / "other" / "p" / "oracle.json").exists()


def test_a_worker_of_another_search_is_refused_before_it_trains(tmp_path, monkeypatch):
    start = starter(run, tmp_path)
    with all_killed({"chief": start("chief")}):
        for folder, settings in ((tmp_path / "other", 0), (tmp_path, 1)):
            stranger = client(monkeypatch, start, folder, "worker0", settings)
            with pytest.raises(FatalRuntimeError, match=f"another search, that of .*{tmp_path}"):
                stranger.create_trial("worker0")
        for name, value in (*start.variables.items(), ("KERASTUNER_TUNER_ID", "worker0")):
            monkeypatch.setenv(name, value)
        with pytest.raises(FatalRuntimeError, match="another search"):
            run(tmp_path / "other")
    assert not ran(tmp_path) and not ran(tmp_path / "other")


# -- who may call ---------------------------------------------------------------------------


def test_who_does_not_know_the_secret_is_refused(tmp_path, monkeypatch):
    start = starter(run, tmp_path, KERAS_DRMAD_TOKEN="Straße")
    with all_killed({"chief": start("chief")}):
        worker = client(monkeypatch, start, tmp_path, "worker0")
        assert worker.get_space().space == []
        for token in ("", "another"):
            monkeypatch.setitem(start.variables, "KERAS_DRMAD_TOKEN", token)
            stranger = client(monkeypatch, start, tmp_path, "worker0")
            with pytest.raises(FatalRuntimeError, match="KERAS_DRMAD_TOKEN"):
                stranger.create_trial("worker0")
        plain = OracleStub(grpc.insecure_channel(address(start)))
        with pytest.raises(grpc.RpcError) as refused:
            plain.GetSpace(GetSpaceRequest())
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


def tls(folder):
    """A certificate of this host that signs itself, as the variables of chief and workers."""
    key, certificate = str(folder / "key.pem"), str(folder / "certificate.pem")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-keyout", key, "-out", certificate]
    subprocess.run(command, check=True, capture_output=True)
    return {
        "KERAS_DRMAD_TLS_CERTIFICATE": certificate,
        "KERAS_DRMAD_TLS_KEY": key,
        "KERAS_DRMAD_TLS_AUTHORITY": certificate,
    }


@pytest.mark.skipif(not shutil.which("openssl"), reason="makes a certificate")
def test_calls_are_encrypted(tmp_path, monkeypatch):
    start = starter(run, tmp_path, **tls(tmp_path))
    with all_killed({name: start(name) for name in ("chief", "worker0")}) as processes:
        assert [ended(process, 60) for process in processes.values()] == [0, 0]
    start = starter(run, tmp_path / "b", **tls(tmp_path))
    with all_killed({"chief": start("chief")}):
        assert client(monkeypatch, start, tmp_path / "b", "worker0").get_space().space == []
        plain = OracleStub(grpc.insecure_channel(address(start)))
        with pytest.raises(grpc.RpcError):
            plain.GetSpace(GetSpaceRequest(), timeout=5)


def test_a_tls_file_that_is_not_there_is_named(tmp_path, monkeypatch):
    for name, value in (("ORACLE_IP", ""), ("ORACLE_PORT", "1"), ("TUNER_ID", "chief")):
        monkeypatch.setenv(f"KERASTUNER_{name}", value)
    monkeypatch.setenv("KERAS_DRMAD_TLS_CERTIFICATE", "lost.pem")
    with pytest.raises(ValueError, match=r"KERAS_DRMAD_TLS_CERTIFICATE .*'lost.pem'"):
        run(tmp_path)
    monkeypatch.delenv("KERAS_DRMAD_TLS_CERTIFICATE")
    monkeypatch.setenv("KERAS_DRMAD_TLS_KEY", __file__)
    with pytest.raises(ValueError, match="must be set together"):
        run(tmp_path)


# -- Ctrl-C ---------------------------------------------------------------------------------


class Late:
    """Is interrupted in its destructor, where Python drops the exception."""

    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_in_a_destructor_is_not_lost(tmp_path):
    # What runs in the background may have been started with interrupts ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    begun = []

    def interrupt(batch, logs):
        begun.append(batch)
        Late()

    callback = keras.callbacks.LambdaCallback(on_train_batch_begin=interrupt)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        qan_task.search(qan_task.make(tmp_path), callbacks=[callback])
    assert len(begun) == 1
    assert signal.getsignal(signal.SIGINT) is before


class Interrupted(paths.Linear):
    """Its way back is interrupted in a destructor."""

    def visited_steps(self, segment):
        Late()
        return super().visited_steps(segment)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_on_the_way_back_does_not_wait_for_its_end(tmp_path):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    tuner = drmad_task.make(tmp_path, path=Interrupted(), check=False)
    tuner.prepare = lambda *data, **more: None  # which walks back, too
    with pytest.raises(KeyboardInterrupt):
        drmad_task.search(tuner, epochs=1)
    assert tuner.oracle.ongoing_trials and not tuner.oracle.end_order


def search_with_adamw(folder):
    keras.utils.set_random_seed(0)
    make = partial(drmad_task.make, max_trials=6, gradients_per_step=2)
    return drmad_task.search(make(folder, drmad_task.build_with_adamw), epochs=1)


@pytest.mark.slow
def test_chief_and_workers_search_with_adamw_as_one_process_does(tmp_path):
    """Each step is of two gradients, which two workers take side by side."""
    start = starter(search_with_adamw, tmp_path / "many")
    names = ("chief", "worker0", "worker1")
    with all_killed({name: start(name) for name in names}) as processes:
        for name in names[1:]:
            assert ended(processes[name], 120) == 0
        assert ended(processes["chief"], 30) == 0
    many = drmad_task.make(
        tmp_path / "many", drmad_task.build_with_adamw, max_trials=6, gradients_per_step=2
    )
    alone = search_with_adamw(tmp_path / "alone")
    assert len({*drmad_task.scores(alone)}) == 6  # they differ, so to be equal says something
    np.testing.assert_allclose(
        sorted(drmad_task.scores(many)), sorted(drmad_task.scores(alone)), rtol=1e-5
    )


def search_noting_its_end(folder):
    try:
        Tuner(folder, seconds=60).search()
    except KeyboardInterrupt:
        name = os.environ.get("KERASTUNER_TUNER_ID", "alone")
        (folder / f"{name}.txt").write_text("as by Ctrl-C")


def test_sigterm_ends_a_search_as_an_interrupt_does(tmp_path):
    start = starter(search_noting_its_end, tmp_path)
    with all_killed({name: start(name) for name in ("worker0", "chief")}) as processes:
        wait_for(lambda: ran(tmp_path))
        for process in processes.values():
            process.terminate()
            assert ended(process, 20) == 0
    assert (tmp_path / "worker0.txt").exists() and (tmp_path / "chief.txt").exists()


def test_a_programs_own_handler_stays():
    heard = []
    before = signal.signal(signal.SIGTERM, lambda *_: heard.append(1))
    try:
        with Interrupt():
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [1]


# -- what a user sees -----------------------------------------------------------------------


class Failing(Tuner):
    def train_trial(self, trial, verbose=0):
        super().train_trial(trial)
        raise ValueError("no such layer")


def fail(folder):
    with open(folder / f"{os.environ['KERASTUNER_TUNER_ID']}.txt", "w") as said:
        try:
            Failing(folder, max_trials=2).search()
        except RuntimeError as error:
            print(error, file=said)


def test_a_search_whose_trials_all_failed_does_not_end_as_if_it_had_not(tmp_path):
    for _ in range(2):  # also when it is started again
        with pytest.raises(RuntimeError, match=r"all its 2 trials[\s\S]*no such layer[\s\S]*Mend"):
            Failing(tmp_path, max_trials=2).search()
    folder = tmp_path / "many"
    folder.mkdir()
    start = starter(fail, folder)
    with all_killed({name: start(name) for name in ("chief", "worker0")}) as processes:
        assert [ended(process, 60) for process in processes.values()] == [0, 0]
    for name in ("chief", "worker0"):
        assert "all its 2 trials failed" in (folder / f"{name}.txt").read_text()
