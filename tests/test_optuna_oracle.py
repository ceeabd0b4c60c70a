"""`OptunaOracle`: the contract of KerasTuner's own oracles, and what goes wrong."""

import json
import sys
import threading

import keras_tuner
import numpy as np
import optuna
import pytest
from keras_tuner.src.distribute import oracle_chief
from optuna_task import Broken, all_kinds, end, make, play, scopes, square

from keras_drmad.tuners import OptunaOracle
from keras_drmad.tuners.optuna_parameters import parameter

ORACLES = [
    keras_tuner.oracles.RandomSearchOracle,
    keras_tuner.oracles.BayesianOptimizationOracle,
    OptunaOracle,
]
pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning",  # of KerasTuner's Gaussian process
    "ignore:All-NaN axis encountered",  # KerasTuner's, where all is NaN
)
every_oracle = pytest.mark.parametrize("kind", ORACLES, ids=lambda kind: kind.__name__)


# -- the contract of KerasTuner's oracles ------------------------------------------------------


@every_oracle
def test_values_are_those_of_the_hyperparameters(tmp_path, kind):
    space = all_kinds()
    trials = play(make(tmp_path, kind, all_kinds, max_trials=10), lambda values: values["float"])
    assert len(trials) == 10
    for hp in space.space:
        values = [trial[hp.name] for trial in trials]
        assert {type(value) for value in values} == {type(hp.default)}
        if getattr(hp, "step", 1) is None:
            assert all(hp.min_value <= value <= hp.max_value for value in values)
        else:
            possible = list(hp.values)
            assert set(values) <= {type(hp.default)(v) for v in possible}
            assert len(possible) == 1 or len(set(values)) > 1


@every_oracle
def test_only_active_hyperparameters_have_values(tmp_path, kind):
    trials = play(make(tmp_path, kind, scopes, max_trials=12), lambda values: len(values))
    for values in trials:
        expected = {"kind", "l2"} if values["kind"] == "linear" else {"kind", "deep"}
        assert set(values) == expected | ({"layers"} if values.get("deep") else set())
    assert len({tuple(values) for values in trials}) == 3


@every_oracle
def test_a_search_ends_after_so_many_trials(tmp_path, kind):
    oracle = make(tmp_path, kind, max_trials=3)
    play(oracle, square)
    assert len(oracle.trials) == 3
    assert oracle.remaining_trials() == 0
    assert not oracle.tuner_ids
    assert oracle.create_trial("b").status == "STOPPED"


@every_oracle
def test_workers_have_trials_of_their_own(tmp_path, kind):
    oracle = make(tmp_path, kind)
    trials = [oracle.create_trial(name) for name in "abc"]
    assert len({trial.trial_id for trial in trials}) == 3
    assert len({trial.hyperparameters.values["x"] for trial in trials}) == 3
    assert oracle.create_trial("b").trial_id == trials[1].trial_id
    for trial in reversed(trials):
        end(oracle, trial, 1.0)
    play(oracle, square)
    assert len(oracle.end_order) == 4


@every_oracle
def test_a_search_that_was_stopped_goes_on(tmp_path, kind):
    first = make(tmp_path, kind)
    for _ in range(2):
        end(first, trial := first.create_trial("a"), square(trial.hyperparameters.values))
    running = first.create_trial("a")
    first.update_trial(running.trial_id, {"val_loss": 3.0})
    second = make(tmp_path, kind)
    second.reload()
    again = second.create_trial("a")
    assert again.trial_id == running.trial_id
    assert again.hyperparameters.values == running.hyperparameters.values
    end(second, again, 1.0)
    play(second, square)
    assert len(second.trials) == 4
    assert {trial.status for trial in second.trials.values()} == {"COMPLETED"}
    json.dumps(second.get_state())


@every_oracle
def test_a_finished_search_can_have_more_trials(tmp_path, kind):
    play(make(tmp_path, kind, max_trials=2), square)
    more = make(tmp_path, kind, max_trials=4)
    more.reload()
    assert len(play(more, square)) == 4


@every_oracle
def test_failed_trials_are_repeated_and_do_not_count(tmp_path, kind):
    oracle = make(tmp_path, kind, max_trials=4, max_retries_per_trial=1)
    trial = oracle.create_trial("a")
    end(oracle, trial, status="INVALID")
    again = oracle.create_trial("a")
    assert again.trial_id == trial.trial_id
    end(oracle, again, status="INVALID")
    assert oracle.get_trial(trial.trial_id).status == "FAILED"
    end(oracle, oracle.create_trial("a"), status="FAILED")
    end(oracle, oracle.create_trial("a"), 5.0)
    nan = oracle.create_trial("a")
    end(oracle, nan, np.nan)
    repeated = oracle.create_trial("a")
    assert repeated.trial_id == nan.trial_id
    end(oracle, repeated, 7.0)
    assert oracle.create_trial("a").status == "STOPPED"
    assert oracle.get_best_trials()[0].score == 5.0


@every_oracle
def test_failures_one_after_another_end_the_search(tmp_path, kind):
    oracle = make(tmp_path, kind, max_consecutive_failed_trials=2)
    end(oracle, oracle.create_trial("a"), status="FAILED")
    with pytest.raises(RuntimeError, match="consecutive"):
        end(oracle, oracle.create_trial("a"), status="FAILED")


@every_oracle
@pytest.mark.parametrize("objective", ["val_loss", "val_accuracy", None, ["val_loss", "val_acc"]])
def test_objectives_have_a_direction(tmp_path, kind, objective):
    oracle = make(tmp_path, kind, objective=objective, max_trials=3)
    for score in (2.0, 1.0, 3.0):
        trial = oracle.create_trial("a")
        metrics = {"val_loss": score, "val_accuracy": score, "val_acc": 0.0}
        oracle.update_trial(trial.trial_id, {oracle.objective.name: score} | metrics)
        end(oracle, trial)
    best = [trial.score for trial in oracle.get_best_trials(3)]
    assert best == sorted([1.0, 2.0, 3.0], reverse=objective == "val_accuracy")


@every_oracle
def test_hyperparameters_that_are_found_later_are_tuned(tmp_path, kind):
    oracle = make(tmp_path, kind, max_trials=6)
    found = []
    while (trial := oracle.create_trial("a")).status == "RUNNING":
        found.append(trial.hyperparameters.Int("later", 0, 99))
        end(oracle, trial, square(trial.hyperparameters.values))
    assert found[0] == 0
    assert len(set(found)) > 3


@every_oracle
def test_new_entries_may_have_their_defaults(tmp_path, kind):
    oracle = make(tmp_path, kind, tune_new_entries=False)
    for _ in range(3):
        trial = oracle.create_trial("a")
        assert trial.hyperparameters.Int("later", 5, 99) == 5
        end(oracle, trial, 1.0)


@every_oracle
def test_new_entries_may_be_refused(tmp_path, kind):
    oracle = make(tmp_path, kind, allow_new_entries=False)
    trial = oracle.create_trial("a")
    trial.hyperparameters.Int("later", 5, 99)
    with pytest.raises(RuntimeError, match="allow_new_entries"):
        end(oracle, trial, 1.0)


@every_oracle
def test_the_seed_says_what_is_proposed(tmp_path, kind):
    def search(name, seed):
        return play(make(tmp_path / name, kind, seed=seed, max_trials=3), square)

    assert search("first", 1) == search("second", 1)
    assert search("first", 1) != search("third", 2)


# -- what goes wrong ---------------------------------------------------------------------------


def is_free(oracle):
    """Whether another thread can use an oracle."""
    other = threading.Thread(target=oracle_chief.exit_chief, args=(oracle,), daemon=True)
    other.start()
    other.join(10)
    return not other.is_alive()


def test_an_error_of_a_sampler_is_raised_and_leaves_nothing_locked(tmp_path):
    oracle = make(tmp_path, sampler=Broken())
    for _ in range(2):
        end(oracle, oracle.create_trial("a"), 1.0)
    with pytest.raises(LookupError, match="no such thing"):
        oracle.create_trial("a")
    assert not oracle.ongoing_trials
    assert is_free(oracle)
    again = make(tmp_path)
    again.reload()
    assert len(play(again, square)) == 4


class BrokenPruner(optuna.pruners.NopPruner):
    def prune(self, study, trial):
        raise LookupError("no such thing")


class BrokenEnd(optuna.samplers.RandomSampler):
    def after_trial(self, study, trial, state, values):
        raise LookupError("no such thing")


@pytest.mark.parametrize("given", [{"pruner": BrokenPruner()}, {"sampler": BrokenEnd()}])
def test_other_errors_are_raised_at_the_next_trial(tmp_path, given):
    oracle = make(tmp_path, **given)
    trial = oracle.create_trial("a")
    for step in range(2):
        assert oracle.update_trial(trial.trial_id, {"val_loss": 1.0}, step).status == "RUNNING"
    end(oracle, trial)
    with pytest.raises(LookupError, match="no such thing"):
        oracle.create_trial("a")
    assert oracle.get_trial(trial.trial_id).status == "COMPLETED"
    assert is_free(oracle)


@pytest.mark.parametrize(
    "argument, value",
    [
        ("max_trials", 0),
        ("max_trials", 1.5),
        ("sampler", "tpe"),
        ("sampler", optuna.samplers.TPESampler),
        ("pruner", optuna.samplers.TPESampler()),
        ("pruner", True),
        ("seed", -1),
        ("seed", 1.5),
        ("max_retries_per_trial", -1),
    ],
)
def test_bad_arguments_are_named(argument, value):
    with pytest.raises(ValueError, match=f"`{argument}`.*Received"):
        OptunaOracle(**{argument: value})


def test_kinds_that_are_none_are_named():
    class Strange(keras_tuner.engine.hyperparameters.HyperParameter):
        pass

    with pytest.raises(ValueError, match=r"`Choice`.*Strange"):
        parameter(Strange("strange", default=1))


def test_without_optuna_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ImportError, match=r"keras_drmad\[optuna\]"):
        OptunaOracle()


def test_a_project_of_another_oracle_is_refused(tmp_path):
    play(make(tmp_path, keras_tuner.oracles.RandomSearchOracle, max_trials=1), square)
    with pytest.raises(RuntimeError, match="existing project"):
        make(tmp_path).reload()


def test_optuna_is_quiet(tmp_path, capfd):
    before = optuna.logging.get_verbosity()
    play(make(tmp_path), square)
    assert capfd.readouterr().err == ""
    assert optuna.logging.get_verbosity() == before


def test_an_error_of_kerastuner_leaves_nothing_held(tmp_path):
    oracle = make(tmp_path, allow_new_entries=False)
    trial = oracle.create_trial("a")
    trial.hyperparameters.Float("new", 0.0, 1.0)
    with pytest.raises(RuntimeError, match="allow_new_entries"):
        end(oracle, trial, 1.0)
    assert not oracle.ongoing_trials  # for which a chief would wait
    assert is_free(oracle)
    with pytest.raises(RuntimeError, match="allow_new_entries"):
        oracle.create_trial("a")


def test_an_error_that_comes_in_between_leaves_nothing_held(tmp_path, monkeypatch):
    oracle = make(tmp_path, allow_new_entries=False)
    found = oracle.get_space()
    found.Float("new", 0.0, 1.0)
    with pytest.raises(RuntimeError, match="allow_new_entries"):
        oracle.update_space(found)
    with pytest.raises(KeyError):
        oracle.get_trial("x")
    assert is_free(oracle)

    def full(self):
        raise OSError("No space left on device")

    oracle = make(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(OptunaOracle, "save", full)
        with pytest.raises(OSError, match="No space left"):
            oracle.create_trial("a")
        monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
        monkeypatch.setenv("KERASTUNER_TUNER_ID", "chief")
        assert oracle.create_trial("a").status == "STOPPED"  # its worker ends
    assert not oracle.ongoing_trials and not oracle.tuner_ids
    assert is_free(oracle)


def test_a_search_whose_trials_all_failed_raises(tmp_path):
    oracle, patient = (make(tmp_path, max_trials=2) for _ in range(2))
    patient.max_consecutive_failed_trials = -1  # any number
    for one in (oracle, patient) * 2:
        trial = one.create_trial("a")
        trial.message = "no such layer"
        end(one, trial, status="FAILED")
    assert patient.create_trial("a").status == "STOPPED"
    with pytest.raises(RuntimeError, match=r"all its 2 trials failed.\n(.|\n)*no such layer"):
        oracle.create_trial("a")
