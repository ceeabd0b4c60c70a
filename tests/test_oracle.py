"""The oracle of `DrMADTuner`, without any training: trials are ended by hand."""

import json
import os
import socket
import threading
import types

import keras
import keras_tuner
import numpy as np
import optuna
import pytest
from oracle_trials import BOUNDS, end, make, place, rate

from keras_drmad import Sign
from keras_drmad.tuners import OptunaOracle
from keras_drmad.tuners.distributed import server
from keras_drmad.tuners.drmad.meta_step import BACK_OFF
from keras_drmad.tuners.storage import files


@pytest.fixture
def oracle(tmp_path):
    return make(tmp_path, meta_optimizer=keras.optimizers.SGD(1.0))


def test_one_worker_goes_meta_iteration_by_meta_iteration(oracle):
    rates = []
    for _ in range(4):
        trial = oracle.create_trial("a")
        rates.append(rate(oracle, trial))
        end(oracle, trial, g=0.25)
    assert rates == [0.0, -0.25, -0.5, -0.75]


def test_several_workers_take_one_meta_iteration(tmp_path):
    oracle = make(tmp_path, gradients_per_step=2, meta_optimizer=keras.optimizers.SGD(1.0))
    a, b, c = (oracle.create_trial(name) for name in "abc")
    assert [place(a), place(b)] == [(0, 0, 0), (0, 0, 1)]
    assert c.status == "IDLE"
    end(oracle, b, g=0.5)
    assert oracle.create_trial("b").status == "IDLE"  # a's trial is missing
    end(oracle, a, g=0.1)
    following = oracle.create_trial("c")
    assert place(following) == (0, 1, 0)
    assert rate(oracle, following) == pytest.approx(-0.3)


def test_a_diverged_trial_does_not_count(tmp_path):
    oracle = make(tmp_path, gradients_per_step=2, meta_optimizer=keras.optimizers.SGD(1.0))
    a, b = oracle.create_trial("a"), oracle.create_trial("b")
    end(oracle, a, g=0.5)
    end(oracle, b, g=np.nan, score=np.inf, finite=False)
    assert rate(oracle, oracle.create_trial("a")) == pytest.approx(-0.5)


@pytest.mark.parametrize("how", [{"finite": False, "score": np.inf}, {"growth": 1e6}])
def test_a_diverged_trial_is_complete_and_says_so(oracle, how):
    trial = oracle.create_trial("a")
    end(oracle, trial, **how)
    ended = oracle.get_trial(trial.trial_id)
    assert ended.status == "COMPLETED"
    assert "Diverged" in ended.message
    assert rate(oracle, oracle.create_trial("a")) == pytest.approx(-BACK_OFF)


def test_a_run_that_diverges_backs_off_until_it_does_not(tmp_path):
    """It does not go back to the best of values that all diverged."""
    oracle = make(tmp_path, return_after=2)
    rates = []
    for _ in range(6):
        trial = oracle.create_trial("a")
        rates.append(rate(oracle, trial))
        end(oracle, trial, finite=False, score=np.inf)
    lowest = BOUNDS["learning_rate"][0]
    np.testing.assert_allclose(rates, [0.0, -BACK_OFF, *[lowest] * 4], rtol=1e-6)


def test_the_papers_meta_optimizer_minds_no_growth(tmp_path):
    oracle = make(tmp_path, meta_optimizer=Sign(0.1))
    end(oracle, oracle.create_trial("a"), growth=1e30)
    assert rate(oracle, oracle.create_trial("a")) == pytest.approx(-0.1)


def test_a_lost_workers_trial_is_repeated_by_another(tmp_path):
    oracle = make(tmp_path, gradients_per_step=2, timeout=100)
    lost = oracle.create_trial("a")
    end(oracle, oracle.create_trial("b"))
    oracle.workers._seen["a"] -= 101
    again = oracle.create_trial("b")
    assert again.trial_id == lost.trial_id
    end(oracle, again, score=0.5)
    assert place(oracle.create_trial("b")) == (0, 1, 0)
    # The lost worker was only slow: its result is late, and changes nothing.
    before = json.dumps(oracle.get_state())
    end(oracle, lost, score=9.0)
    assert json.dumps(oracle.get_state()) == before
    assert oracle.get_trial(lost.trial_id).score == 0.5


def test_no_worker_is_dead_where_nobody_was_heard(tmp_path, monkeypatch):
    """The chief was cut off for longer than the timeout: whoever is back first takes nothing over."""
    clock = types.SimpleNamespace(monotonic=lambda: clock.now, now=0.0)
    monkeypatch.setattr("keras_drmad.tuners.distributed.workers.time", clock)
    oracle = make(tmp_path, gradients_per_step=2, timeout=100)
    lost = oracle.create_trial("a")
    end(oracle, oracle.create_trial("b"))
    for clock.now in (150.0, 200.0, 249.0):  # from then on only b is heard
        assert oracle.create_trial("b").status == "IDLE"
    clock.now = 251.0
    assert oracle.create_trial("b").trial_id == lost.trial_id


def test_idle_workers_are_stopped_together_and_dead_ones_not_waited_for(tmp_path):
    oracle = make(tmp_path, max_trials=2, gradients_per_step=2)
    a, b = oracle.create_trial("a"), oracle.create_trial("b")
    oracle.create_trial("dead")
    end(oracle, a)
    assert oracle.create_trial("a").status == "IDLE"  # b's trial might have to be repeated
    end(oracle, b)
    assert oracle.create_trial("a").status == "STOPPED"
    assert oracle.create_trial("b").status == "STOPPED"
    assert oracle.tuner_ids == {"dead"}
    oracle.forget_the_dead()
    assert oracle.tuner_ids  # it might only be slow
    oracle.workers._seen["dead"] -= 1000
    oracle.forget_the_dead()
    assert not oracle.tuner_ids
    assert not oracle.ongoing_trials


def test_a_chief_whose_last_worker_has_died_ends(tmp_path, monkeypatch):
    """Between its last result and the question that would tell it to stop."""
    oracle = make(tmp_path, max_trials=1, timeout=0.5)
    end(oracle, oracle.create_trial("worker"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("KERASTUNER_ORACLE_PORT", str(free.getsockname()[1]))
    with server.bound(oracle, "search", lambda: None) as serve:
        serving = threading.Thread(target=serve, daemon=True)
        serving.start()
        serving.join(timeout=30)
    assert not serving.is_alive()


def test_each_configuration_has_a_run_of_its_own(tmp_path):
    oracle = make(tmp_path, space=True, meta_iterations=3)
    places, widths = [], []
    for _ in range(9):
        trial = oracle.create_trial("a")
        places.append(place(trial))
        widths.append(trial.hyperparameters.values["width"])
        end(oracle, trial, score=float(widths[-1]))
    assert places == [(run, iteration, 0) for run in range(3) for iteration in range(3)]
    assert [widths[0]] * 3 + [widths[3]] * 3 + [widths[6]] * 3 == widths
    assert len(set(widths)) == 3
    scores = [t.score for t in oracle.outer.oracle.trials.values() if t.score is not None]
    assert scores == [widths[0], widths[3]]  # the third has not been asked to go on


def test_the_outer_oracle_is_the_users(tmp_path):
    outer = keras_tuner.oracles.GridSearchOracle()
    oracle = make(tmp_path, space=True, meta_iterations=1, outer_oracle=outer, max_trials=5)
    widths = []
    while (trial := oracle.create_trial("a")).status == "RUNNING":
        widths.append(trial.hyperparameters.values["width"])
        end(oracle, trial)
    assert widths == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("seed", [0, 1])
def test_the_seed_is_that_of_the_configurations_too(tmp_path, seed):
    def widths(name):
        oracle = make(tmp_path / name, space=True, meta_iterations=1, seed=seed, max_trials=5)
        found = []
        while (trial := oracle.create_trial("a")).status == "RUNNING":
            found.append(trial.hyperparameters.values["width"])
            end(oracle, trial)
        return found

    assert widths("first") == widths("second")


@pytest.mark.parametrize("objective", ["val_accuracy", ["val_loss", "val_mae"]])
def test_the_outer_oracle_has_the_searchs_objective(tmp_path, objective):
    given = "val_loss" if objective == "val_accuracy" else None
    outer = keras_tuner.oracles.RandomSearchOracle(given, max_trials=None)
    oracle = make(tmp_path, space=True, meta_iterations=1, outer_oracle=outer, objective=objective)
    for score in (1.0, 3.0, 2.0):
        trial = oracle.create_trial("a")
        more = {"val_accuracy": score, "val_mae": 0.0, "multi_objective": score}
        end(oracle, trial, score=score, **more)
    oracle.create_trial("a")
    scores = [trial.score for trial in outer.get_best_trials(3)]
    assert scores == ([3.0, 2.0, 1.0] if objective == "val_accuracy" else [1.0, 2.0, 3.0])


@pytest.mark.parametrize("chief", [False, True])
def test_an_error_of_the_outer_oracle_ends_the_search_and_is_said(tmp_path, monkeypatch, chief):
    class Broken(optuna.samplers.RandomSampler):
        def sample_independent(self, *arguments):
            raise RuntimeError("of the sampler's")

    outer = OptunaOracle(sampler=Broken())
    oracle = make(tmp_path, space=True, meta_iterations=1, outer_oracle=outer)
    if chief:
        monkeypatch.setenv("KERASTUNER_ORACLE_IP", "localhost")
        monkeypatch.setenv("KERASTUNER_TUNER_ID", "chief")
    assert oracle.create_trial("a").status == "STOPPED"
    assert "of the sampler's" in oracle.broken and not oracle.exhausted


def test_the_outer_oracle_writes_nothing(tmp_path):
    """What it knows is in ours; a full disk cannot stop it."""
    oracle = make(tmp_path, space=True, meta_iterations=1)
    for _ in range(2):
        end(oracle, oracle.create_trial("a"))
    assert not list((tmp_path / "project").glob("configurations/**/*.json"))


def test_a_summary_says_where_only_one_configuration_was_tried(tmp_path):
    oracle = make(tmp_path, space=True, meta_iterations=2)
    for count in (2, 1):
        for _ in range(count):
            end(oracle, oracle.create_trial("a"))
        said = oracle.display.costs()[-1]
        assert ("Only one configuration was tried" in said) == (len(oracle.runs) == 1)
    assert len(oracle.runs) == 2


def test_fixed_values_are_no_configurations(tmp_path):
    oracle = make(tmp_path)
    oracle.hyperparameters.Fixed("width", 3)
    for _ in range(12):
        trial = oracle.create_trial("a")
        assert trial.hyperparameters.values["width"] == 3
        end(oracle, trial)
    assert place(trial) == (0, 11, 0)


def test_an_outer_oracle_may_wait(tmp_path):
    """Grid search hands out the next width when the one before has ended."""
    outer = keras_tuner.oracles.GridSearchOracle()
    oracle = make(tmp_path, space=True, meta_iterations=1, outer_oracle=outer, max_trials=5)
    widths = []
    for _ in range(20):
        ongoing = [oracle.create_trial(name) for name in "ab"]
        for trial in ongoing:
            if trial.status == "RUNNING":
                widths.append(trial.hyperparameters.values["width"])
                end(oracle, trial)
    assert sorted(widths) == [1, 2, 3, 4, 5]


def test_a_configuration_that_diverges_is_no_good_news_to_the_outer_oracle(tmp_path):
    oracle = make(tmp_path, space=True, meta_iterations=1)
    end(oracle, oracle.create_trial("a"), score=np.inf, finite=False)
    oracle.create_trial("a")
    assert [t.status for t in oracle.outer.oracle.trials.values()] == ["FAILED", "RUNNING"]


def test_retries_come_before_the_end(tmp_path):
    oracle = make(tmp_path, max_trials=1, max_retries_per_trial=1)
    end(oracle, oracle.create_trial("a"), status="INVALID")
    again = oracle.create_trial("a")
    assert (again.trial_id, again.status) == ("0", "RUNNING")


def test_a_meta_iteration_that_failed_is_repeated(oracle):
    end(oracle, oracle.create_trial("a"), status="FAILED")
    again = oracle.create_trial("a")
    assert place(again) == (0, 0, 0)
    end(oracle, again, g=0.5)
    assert place(oracle.create_trial("a")) == (0, 1, 0)


def test_after_failures_a_search_can_go_on(tmp_path):
    """Once what made it fail is mended."""
    first = make(tmp_path)
    for _ in range(3):
        end(first, first.create_trial("a"), status="FAILED")
    assert first.has_failed()
    assert first.create_trial("a").status == "STOPPED"
    second = make(tmp_path)
    second.reload()
    assert not second.has_failed()
    end(second, second.create_trial("a"))
    assert place(second.create_trial("a")) == (0, 1, 0)


def test_a_result_that_is_late_is_waited_for(oracle, monkeypatch):
    """Another machine has written it into a shared folder."""
    trial = oracle.create_trial("a")
    path, read = oracle.project.result(trial.trial_id), files.read_arrays
    left = iter(range(3))
    late = lambda of: None if of == path and next(left, None) is not None else read(of)  # noqa: E731
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setattr(files, "read_arrays", late)
    end(oracle, trial, g=0.5)
    assert oracle.get_trial(trial.trial_id).status == "COMPLETED"
    assert rate(oracle, oracle.create_trial("a")) == pytest.approx(-0.5)


def test_a_meta_step_waits_for_its_files(oracle, monkeypatch):
    trial = oracle.create_trial("a")
    end(oracle, trial, g=0.5)
    path = oracle.project.result(trial.trial_id)
    os.rename(path, path + ".late")
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    assert oracle.create_trial("a").status == "IDLE"
    os.rename(path + ".late", path)
    assert rate(oracle, oracle.create_trial("a")) == pytest.approx(-0.5)
    assert oracle.runs[0].stale == 0  # waiting did not count as a meta-iteration without progress
    best = files.read_arrays(oracle.project.state(0, 1))["best"]
    np.testing.assert_array_equal(best["learning_rate"], [0.0])


def test_patience_ends_a_run(tmp_path):
    oracle = make(tmp_path, patience=2)
    for score in (3.0, 2.0, 2.5, 2.2):
        end(oracle, oracle.create_trial("a"), score=score)
    assert oracle.create_trial("a").status == "STOPPED"


def test_a_run_that_gets_worse_goes_back_to_its_best(tmp_path):
    """The best is the second trial, at −0.5; three worse ones follow."""
    oracle = make(tmp_path, return_after=3, meta_optimizer=keras.optimizers.SGD(1.0))
    rates = []
    for score in (3.0, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0):
        trial = oracle.create_trial("a")
        rates.append(rate(oracle, trial))
        end(oracle, trial, score=score, g=0.5)
    assert rates == [0.0, -0.5, -1.0, -1.5, -2.0, -0.5, -0.75]


def test_failing_trials_stop_the_search_without_an_exception(tmp_path):
    oracle = make(tmp_path, space=True)
    for _ in range(3):
        end(oracle, oracle.create_trial("a"), status="FAILED")
    assert oracle.create_trial("a").status == "STOPPED"


def test_disk_use_does_not_grow(oracle, tmp_path):
    def large():
        return sorted(
            os.path.relpath(os.path.join(folder, name), tmp_path / "project")
            for folder, _, names in os.walk(tmp_path)
            for name in names
            if not name.endswith((".json", ".json.before"))
        )

    for score in (5.0, 1.0, 4.0, 3.0, 2.0):
        end(oracle, oracle.create_trial("a"), score=score)
    best, last = "trial_01", "trial_04"
    assert large() == sorted(
        [
            f"{best}/checkpoint.weights.h5",
            f"{best}/result.npz",
            f"{last}/result.npz",  # the next meta-step needs it
            "run_000/state_00003.npz",
            "run_000/state_00004.npz",
        ]
    )


def test_of_equally_good_trials_the_one_that_is_shown_is_kept(tmp_path):
    """Accuracies are often equal, and workers do not end in the order in which they began."""
    oracle = make(tmp_path, gradients_per_step=2)
    first, second = oracle.create_trial("a"), oracle.create_trial("b")
    end(oracle, second)
    end(oracle, first)
    best = oracle.get_best_trials()[0].trial_id
    assert os.path.exists(oracle.project.checkpoint(best))


def test_what_an_old_state_on_disk_needs_stays(oracle, monkeypatch):
    """`oracle.json` could not be written: killed now, the search goes on from the one before."""
    end(oracle, oracle.create_trial("a"))
    trial = oracle.create_trial("a")
    write = files.write_json

    def full(path, value):
        if path.endswith("oracle.json"):
            raise OSError(28, "No space left on device")
        write(path, value)

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_json", full)
        end(oracle, trial, score=0.5)
        assert oracle.create_trial("a").status == "IDLE"  # until there is room
    again = make(oracle._directory, meta_optimizer=keras.optimizers.SGD(1.0))
    again.reload()
    trial = again.create_trial("a")
    assert place(trial) == (0, 1, 0)
    assert os.path.exists(again.project.state(0, 1))
