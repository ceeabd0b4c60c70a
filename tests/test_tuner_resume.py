"""`DrMADTuner`: divergence, killed searches, several processes."""

import os
import pydoc
import signal
import time

import keras
import keras_tuner
import numpy as np
import pytest
from drmad_task import L, build, build_with_adamw, make, scores, search, trials
from processes import ended, started, starter

from keras_drmad import DrMADSGD, Sign, paths
from keras_drmad.tuners.drmad.place import GRADIENT_NUMBER, ITERATION
from keras_drmad.tuners.storage import files

pytestmark = pytest.mark.slow

# -- divergence and coming back -------------------------------------------------------------


def test_a_diverging_trial_is_a_data_point(tmp_path):
    tuner = search(make(tmp_path, lambda hp: build(hp, learning_rate=1e4)), epochs=3)
    first = trials(tuner)[0]
    assert first.status == "COMPLETED"
    assert first.score == np.inf
    assert "Diverged" in first.message
    rates = files.read_arrays(tuner.oracle.project.state(0, 3))["values"]["learning_rate"]
    np.testing.assert_allclose(np.exp(rates), 4.0**-3, rtol=1e-4)


@pytest.mark.slow
def test_a_diverging_trial_may_be_broken_off(tmp_path):
    tuner = make(tmp_path, lambda hp: build(hp, learning_rate=1e4), max_trials=2)
    search(tuner, epochs=4, validation_freq=4, callbacks=[keras.callbacks.TerminateOnNaN()])
    assert scores(tuner) == [np.inf] * 2


def test_a_hypergradient_that_is_not_finite_is_not_used(tmp_path, monkeypatch):
    """The adjoint of the weights may be finite where sums over it are not."""

    def overflown(self, adjoint):
        return {name: np.full_like(value, np.inf) for name, value in self.values.items()}

    monkeypatch.setattr("keras_drmad.tuners.drmad.training.Learned.gradients", overflown)
    tuner = search(make(tmp_path, max_trials=2, meta_optimizer=Sign(0.1)))
    assert "not finite" in trials(tuner)[0].message
    rates = files.read_arrays(tuner.project.state(0, 1))["values"]["learning_rate"]
    np.testing.assert_allclose(np.exp(rates), 0.25, rtol=1e-4)


def test_a_training_that_cannot_write_is_repeated(tmp_path, monkeypatch):
    write, calls = files.write_arrays, iter(range(9))

    def full_at_first(*arguments, **groups):
        if next(calls) == 0:
            raise OSError(28, "No space left on device")
        write(*arguments, **groups)

    monkeypatch.setattr(files, "write_arrays", full_at_first)
    tuner = search(make(tmp_path, max_trials=3))
    assert [t.status for t in trials(tuner)] == ["FAILED", "COMPLETED", "COMPLETED"]
    assert [t.hyperparameters.values[ITERATION] for t in trials(tuner)] == [0, 0, 1]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The scores of a search that nothing has stopped."""
    keras.utils.set_random_seed(0)
    return scores(search(make(tmp_path_factory.mktemp("whole"), max_trials=3), epochs=10))


def test_a_search_goes_on_where_it_ended(tmp_path, whole):
    search(make(tmp_path, max_trials=2), epochs=10)
    parts = search(make(tmp_path, max_trials=3), epochs=10)
    np.testing.assert_allclose(scores(parts), whole, rtol=1e-6)


@pytest.mark.slow
def test_a_search_with_adamw_goes_on_where_it_ended(tmp_path):
    keras.utils.set_random_seed(0)
    whole = search(make(tmp_path / "whole", build_with_adamw, max_trials=3), epochs=1)
    search(make(tmp_path, build_with_adamw, max_trials=2), epochs=1)
    parts = search(make(tmp_path, build_with_adamw, max_trials=3), epochs=1)
    np.testing.assert_allclose(scores(parts), scores(whole), rtol=1e-6)
    assert len(set(scores(whole))) == 3


MOMENTS = {
    "forward": "keras_drmad.engine.engine.Engine.advance",
    "reverse": "keras_drmad.engine.engine.Engine.differentiate",
    "write": "os.replace",
}


def kill_at(moment):
    """This process, by SIGKILL: in its second training, or in the middle of a write."""
    left = iter(range({"forward": 15, "reverse": 1, "write": 2}[moment]))
    owner, _, name = MOMENTS[moment].rpartition(".")
    owner = pydoc.locate(owner)
    call = getattr(owner, name)

    def killing(*arguments, **more):
        if next(left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments, **more)

    setattr(owner, name, killing)


def killed_search(folder, moment):
    kill_at(moment)
    search(make(folder, max_trials=3), epochs=10)


def test_killed_it_ends_the_same(tmp_path, whole):
    """SIGKILL on the way forth, on the way back, in a write; what was being done is done again."""
    folder = tmp_path / "killed"
    for moment in MOMENTS:
        assert ended(started(killed_search, folder, moment), 60) == -signal.SIGKILL
    killed = make(folder, max_trials=3)
    assert 1 <= len(killed.oracle.end_order) < 3
    np.testing.assert_allclose(scores(search(killed, epochs=10)), whole, rtol=1e-6)


def wider(model):
    """Another model, with the same optimizer."""
    other = keras.Sequential([L.Input((5,)), L.Dense(1)])
    other.compile(model.optimizer, "mse")
    return other


def test_other_settings_are_refused(tmp_path):
    search(make(tmp_path, max_trials=1))
    with pytest.raises(ValueError, match=r"epochs: 2 before, 3 now"):
        search(make(tmp_path, max_trials=1), epochs=3)
    with pytest.raises(ValueError, match=r"model.variable 0: '\(5, 4\)' before, '\(5, 1\)' now"):
        search(make(tmp_path, lambda hp: wider(build(hp)), max_trials=1))
    with pytest.raises(ValueError, match=r"path: .*SegmentMeans.* before, 'Linear"):
        search(make(tmp_path, max_trials=1, path=paths.Linear()))
    with pytest.raises(
        ValueError, match=r"optimizer.learning_rate: 0.0[12]\d* before, 0.0[23]\d* now"
    ):
        search(make(tmp_path, lambda hp: build(hp, learning_rate=0.03), max_trials=1))
    search(make(tmp_path, max_trials=1, overwrite=True), epochs=3)


@pytest.mark.slow
@pytest.mark.parametrize("widths", [[4], [2, 3, 4]])
def test_memory_holds_one_model(tmp_path, widths):
    """A weak reference to each model that was built: all but the last are gone."""
    import gc
    import weakref

    built = []

    def watched(hp):
        model = keras.Sequential([L.Input((5,)), L.Dense(hp.Choice("w", widths)), L.Dense(1)])
        model.compile(DrMADSGD(0.02), "mse", jit_compile=False)
        built.append(weakref.ref(model))
        return model

    search(make(tmp_path, watched, max_trials=5, meta_iterations=2 if len(widths) > 1 else None))
    gc.collect()
    assert len(built) >= 5
    assert sum(model() is not None for model in built) <= 2


# -- many workers ---------------------------------------------------------------------------


def test_a_worker_that_is_asked_again_does_not_train_again(tmp_path, monkeypatch):
    """As by a chief that was killed before it had written down what the training gave."""
    tuner, done = make(tmp_path), []
    monkeypatch.setattr(
        tuner, "train_trial", lambda trial: done.append(trial.trial_id) or len(done)
    )
    monkeypatch.setattr(tuner, "tell_again", lambda: done.append("again"))
    trials = [keras_tuner.engine.trial.Trial(None, trial_id=name) for name in "abb"]
    assert [tuner.run_trial(trial) for trial in trials] == [1, 2, 3]  # alone nobody is killed
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "worker0")
    assert [tuner.run_trial(trial) for trial in trials] == [4, 5, 5]
    assert done[3:] == ["a", "b", "again"]


def test_a_worker_that_comes_first_waits_for_the_chief_that_overwrites(tmp_path, monkeypatch):
    """What it finds is of another search: it neither ends with it nor compares settings."""
    search(make(tmp_path, max_trials=1))
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
    monkeypatch.setenv("KERASTUNER_ORACLE_PORT", "1")
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "worker0")
    assert make(tmp_path, max_trials=1)._is_over()

    class Asked(Exception):
        pass

    def asked():
        raise Asked

    tuner = make(tmp_path, max_trials=1, overwrite=True, patience=3)
    assert not tuner._is_over()
    monkeypatch.setattr(tuner.oracle, "get_space", asked)
    with pytest.raises(Asked):
        search(tuner)


def work(folder):
    """As chief or worker."""
    if os.environ["KERASTUNER_TUNER_ID"] == "worker2":
        kill_at("reverse")
    tuner = make(folder, gradients_per_step=2, timeout=5, seed=None)
    search(tuner)
    tuner.results_summary()  # a worker has nobody to ask any more


def test_chief_and_workers_find_what_one_process_finds(tmp_path):
    """One of the workers is killed in a training; another one repeats that."""
    start = starter(work, tmp_path / "many")
    processes = [start("chief"), start("worker2")]
    end = time.monotonic() + 180
    try:
        assert ended(processes[1], 60) == -signal.SIGKILL
        processes += [start("worker0"), start("worker1")]
        for process in processes[2:] + processes[:1]:
            assert ended(process, end - time.monotonic()) == 0
    finally:
        for process in processes:
            process.kill()
    many = make(tmp_path / "many", gradients_per_step=2, seed=None)
    assert len(scores(many)) == 4
    alone = search(make(tmp_path / "alone", gradients_per_step=2, seed=many.oracle.seed))
    # Which worker has which trial is chance; what a trial gives is not.
    places = [
        {
            tuple(t.hyperparameters.values[name] for name in (ITERATION, GRADIENT_NUMBER)): t.score
            for t in trials(tuner)
        }
        for tuner in (alone, many)
    ]
    assert places[0].keys() == places[1].keys()
    for name, score in places[0].items():
        assert places[1][name] == pytest.approx(score, rel=1e-5)
