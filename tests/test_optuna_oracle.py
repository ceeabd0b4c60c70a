"""`OptunaOracle`: the contract of KerasTuner's own oracles, and what Optuna adds to it."""

import json
import sys
import threading
import time
import types

import keras
import keras_tuner
import numpy as np
import optuna
import pytest
from keras_tuner.src.distribute import oracle_chief
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState
from processes import ended, starter

from keras_drmad.tuners.optuna_oracle import OptunaOracle
from keras_drmad.tuners.optuna_parameters import parameter

ORACLES = [
    keras_tuner.oracles.RandomSearchOracle,
    keras_tuner.oracles.BayesianOptimizationOracle,
    OptunaOracle,
]
pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning",  # of KerasTuner's Gaussian process
    "ignore::optuna.exceptions.ExperimentalWarning",
    "ignore:All-NaN axis encountered",  # KerasTuner's, where all is NaN
)
every_oracle = pytest.mark.parametrize("kind", ORACLES, ids=lambda kind: kind.__name__)


def all_kinds():
    hp = keras_tuner.HyperParameters()
    hp.Int("int", 3, 11)
    hp.Int("int_steps", 2, 12, step=3)
    hp.Int("int_log", 1, 1000, sampling="log")
    hp.Int("int_log_steps", 2, 40, step=2, sampling="log")
    hp.Int("int_reverse_log", 1, 100, sampling="reverse_log")
    hp.Int("int_reverse_log_steps", 1, 64, step=4, sampling="reverse_log")
    hp.Float("float", -1.0, 2.0)
    hp.Float("float_steps", 0.1, 0.95, step=0.1)
    hp.Float("float_log", 1e-5, 1e-1, sampling="log")
    hp.Float("float_log_steps", 1e-4, 1.0, step=10, sampling="log")
    hp.Float("float_reverse_log", 0.1, 10.0, sampling="reverse_log")
    hp.Float("float_reverse_log_steps", 0.5, 8.0, step=2, sampling="reverse_log")
    hp.Choice("strings", ["a", "b", "c"])
    hp.Choice("ordered", [16, 64, 32])
    hp.Choice("unordered", [1, 2, 3], ordered=False)
    hp.Choice("floats", [0.5, 0.25])
    hp.Choice("bools", [True, False])
    hp.Boolean("boolean")
    hp.Fixed("fixed", 7)
    hp.Int("one", 4, 4)
    return hp


def scopes():
    hp = keras_tuner.HyperParameters()
    hp.Choice("kind", ["linear", "mlp"])
    with hp.conditional_scope("kind", ["mlp"]):
        hp.Boolean("deep")
        with hp.conditional_scope("deep", [True]):
            hp.Int("layers", 2, 5)
    with hp.conditional_scope("kind", ["linear"]):
        hp.Float("l2", 1e-6, 1e-2, sampling="log")
    return hp


def line():
    hp = keras_tuner.HyperParameters()
    hp.Float("x", -2.0, 2.0)
    return hp


def make(folder, kind=OptunaOracle, space=line, **arguments):
    given = {"objective": "val_loss", "max_trials": 4, "seed": 1, "hyperparameters": space()}
    oracle = kind(**{**given, **arguments})
    oracle.verbose = 0
    oracle._set_project_dir(folder, "project")
    return oracle


def end(oracle, trial, score=None, status="COMPLETED"):
    if score is not None:
        oracle.update_trial(trial.trial_id, {oracle.objective.name: score})
    trial.status = status
    oracle.end_trial(trial)


def play(oracle, score=lambda values: sum(map(float, values.values())), worker="a"):
    """Searches to the end; the values of each trial."""
    while (trial := oracle.create_trial(worker)).status == "RUNNING":
        end(oracle, trial, score(trial.hyperparameters.values))
    assert trial.status == "STOPPED"
    return [oracle.trials[name].hyperparameters.values for name in oracle.start_order]


def square(values):
    return (values["x"] - 1.0) ** 2


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


# -- hyperparameters in Optuna -----------------------------------------------------------------


DISTRIBUTIONS = {
    "int": IntDistribution(3, 11),
    "int_steps": IntDistribution(2, 11, step=3),
    "int_log": IntDistribution(1, 1000, log=True),
    "int_log_steps": IntDistribution(0, 4),  # steps that multiply: which one
    "int_reverse_log": IntDistribution(1, 100, log=True),
    "int_reverse_log_steps": IntDistribution(0, 3),
    "float": FloatDistribution(-1.0, 2.0),
    "float_steps": FloatDistribution(0.1, 0.9, step=0.1),
    "float_log": FloatDistribution(1e-5, 1e-1, log=True),
    "float_log_steps": IntDistribution(0, 4),
    "float_reverse_log": FloatDistribution(0.1, 10.0, log=True),
    "float_reverse_log_steps": IntDistribution(0, 4),
    "strings": CategoricalDistribution(["a", "b", "c"]),
    "ordered": IntDistribution(0, 2),
    "unordered": CategoricalDistribution([1, 2, 3]),
    "floats": IntDistribution(0, 1),
    "bools": IntDistribution(0, 1),  # KerasTuner makes numbers of them
    "boolean": CategoricalDistribution([False, True]),
    "one": IntDistribution(4, 4),
}


def test_each_kind_has_its_distribution(tmp_path):
    oracle = make(tmp_path, space=all_kinds)
    end(oracle, oracle.create_trial("a"), 1.0)
    assert oracle.study.trials[0].distributions == DISTRIBUTIONS


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_values_there_and_back(name):
    (hp,) = (hp for hp in all_kinds().space if hp.name == name)
    of = parameter(hp)
    for value in hp.values:
        value = type(hp.default)(value)
        assert of.decode(of.encode(value)) == pytest.approx(value)
    assert of.encode(hp.default) in getattr(of.distribution, "choices", [of.encode(hp.default)])


def test_reverse_log_is_dense_at_the_upper_end(tmp_path):
    def space():
        hp = keras_tuner.HyperParameters()
        hp.Float("x", 0.01, 1.0, sampling="reverse_log")
        return hp

    sampler = optuna.samplers.RandomSampler()
    values = [v["x"] for v in play(make(tmp_path, space=space, sampler=sampler, max_trials=60))]
    expected = np.quantile([space().space[0].prob_to_value(p) for p in np.arange(0, 1, 0.01)], 0.5)
    assert np.median(values) == pytest.approx(expected, abs=0.05)


def test_names_of_one_scope_are_told_from_those_of_another(tmp_path):
    oracle = make(tmp_path, space=scopes, max_trials=12)
    play(oracle, lambda values: len(values))
    names = {name for trial in oracle.study.trials for name in trial.params}
    assert names == {
        "kind",
        "l2 (kind=linear)",
        "deep (kind=mlp)",
        "layers (kind=mlp; deep=True)",
    }


def test_a_child_may_stand_before_its_parent(tmp_path):
    """In a space that a worker has sent."""

    def space():
        return keras_tuner.HyperParameters.from_proto(scopes().to_proto())

    assert next(hp.name for hp in space().space) != "kind"
    first, second = (
        play(make(tmp_path / name, space=space, max_trials=8), lambda values: len(values))
        for name in ("first", "second")
    )
    assert first == second  # KerasTuner would draw the children without a seed
    assert len({tuple(sorted(values)) for values in first}) == 3


def test_what_was_found_later_is_told_with_the_trial(tmp_path):
    oracle = make(tmp_path)
    trial = oracle.create_trial("a")
    trial.hyperparameters.Float("later", 0.1, 0.2)
    trial.hyperparameters.values["later"] = 0.1 - 1e-9  # a message rounds
    end(oracle, trial, 1.0)
    assert oracle.study.trials[0].params["later"] == 0.1


# -- samplers ----------------------------------------------------------------------------------


def test_tpe_is_better_than_random(tmp_path):
    def space():
        hp = keras_tuner.HyperParameters()
        hp.Float("x", -5.0, 5.0)
        hp.Float("y", 1e-4, 1e2, sampling="log")
        return hp

    def score(values):
        return (values["x"] - 1.0) ** 2 + np.log10(values["y"]) ** 2

    def best(name, seed, **arguments):
        oracle = make(
            tmp_path / f"{name}{seed}", space=space, seed=seed, max_trials=30, **arguments
        )
        play(oracle, score)
        return oracle.get_best_trials()[0].score

    tpe = [best("tpe", seed) for seed in range(3)]
    random = [best("random", s, sampler=optuna.samplers.RandomSampler()) for s in range(3)]
    assert np.mean(tpe) < 0.5 * np.mean(random)


def mixed():
    hp = scopes()
    hp.Float("x", -2.0, 2.0)
    hp.Int("n", 1, 8)
    return hp


class Own(optuna.samplers.RandomSampler):
    """A sampler of the user's, with a generator of its own."""

    def __init__(self, generator):
        super().__init__()
        self.generator = generator

    def sample_independent(self, study, trial, param_name, param_distribution):
        if isinstance(param_distribution, FloatDistribution):
            return self.generator.uniform(param_distribution.low, param_distribution.high)
        return super().sample_independent(study, trial, param_name, param_distribution)


SAMPLERS = {
    "own": lambda: Own(np.random.default_rng()),
    "own, old": lambda: Own(np.random.RandomState()),
    "default": lambda: None,
    "multivariate": lambda: optuna.samplers.TPESampler(multivariate=True, group=True),
    "random": optuna.samplers.RandomSampler,
    "genetic": lambda: optuna.samplers.NSGAIISampler(population_size=4),
    "quasi-random": lambda: optuna.samplers.QMCSampler(scramble=True, seed=3),
    "fixed": lambda: optuna.samplers.PartialFixedSampler({"n": 2}, optuna.samplers.TPESampler()),
}


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_reloaded_before_each_trial_it_proposes_the_same(tmp_path, sampler):
    def start(name):
        arguments = {"max_trials": 16, "sampler": SAMPLERS[sampler]()}
        return make(tmp_path / name, space=mixed, seed=0, **arguments)

    def score(values):
        return square(values) + values["n"]

    whole = start("whole")
    expected = play(whole, score)
    assert len({values["x"] for values in expected}) > 5  # genes are handed down
    for _ in range(16):
        oracle = start("parts")
        if (tmp_path / "parts").exists():
            oracle.reload()
        end(oracle, trial := oracle.create_trial("a"), score(trial.hyperparameters.values))
    oracle = start("parts")
    oracle.reload()
    assert [oracle.trials[name].hyperparameters.values for name in oracle.start_order] == expected
    assert studied(oracle) == studied(whole)


def studied(oracle):
    """What Optuna knows, but for times."""
    return [
        (
            t.number,
            t.state,
            t.values,
            list(t.params.items()),
            t.distributions,
            t.intermediate_values,
        )
        for t in oracle.study.trials
    ]


def test_trials_are_told(tmp_path):
    oracle = make(tmp_path, objective="val_accuracy", max_retries_per_trial=1)
    end(oracle, oracle.create_trial("a"), 0.5)
    end(oracle, oracle.create_trial("a"), status="FAILED")
    end(oracle, oracle.create_trial("a"), status="INVALID")
    oracle.create_trial("a")  # once more
    oracle.create_trial("b")
    assert oracle.study.direction == optuna.study.StudyDirection.MAXIMIZE
    states = [TrialState.COMPLETE, TrialState.FAIL, TrialState.RUNNING, TrialState.RUNNING]
    assert [trial.state for trial in oracle.study.trials] == states
    assert oracle.study.best_value == 0.5
    again = make(tmp_path, objective="val_accuracy", max_retries_per_trial=1)
    again.reload()
    assert studied(again) == studied(oracle)


def test_objectives_are_summed(tmp_path):
    oracle = make(tmp_path, objective=["val_loss", "val_accuracy"], max_trials=2)
    trial = oracle.create_trial("a")
    oracle.update_trial(trial.trial_id, {"val_loss": 3.0, "val_accuracy": 0.5}, step=0)
    metrics = {"val_loss": 1.0, "val_accuracy": 0.5, "multi_objective": 0.5}
    oracle.update_trial(trial.trial_id, metrics, step=1)
    end(oracle, trial)
    assert oracle.study.trials[0].value == 0.5
    assert oracle.study.trials[0].intermediate_values == {0: 2.5, 1: 0.5}


@pytest.mark.parametrize(
    "sampler",
    [optuna.samplers.BruteForceSampler, lambda: optuna.samplers.GridSampler({"x": [0, 1, 2]})],
    ids=["brute force", "grid"],
)
def test_a_sampler_that_has_tried_all_ends_the_search(tmp_path, sampler):
    def space():
        hp = keras_tuner.HyperParameters()
        hp.Int("x", 0, 2)
        return hp

    oracle = make(tmp_path, space=space, sampler=sampler(), max_trials=None)
    assert sorted(values["x"] for values in play(oracle)) == [0, 1, 2]
    again = make(tmp_path, space=space, sampler=sampler(), max_trials=None)
    again.reload()
    assert again.create_trial("a").status == "STOPPED"


def test_a_seed_of_zero_is_a_seed(tmp_path):
    oracle = make(tmp_path, seed=np.int64(0))
    play(oracle, square)
    assert oracle.get_state()["seed"] == 0


# -- pruners -----------------------------------------------------------------------------------


def reported(oracle, values):
    """A trial that reports values until it is told to stop."""
    trial = oracle.create_trial("a")
    for step, value in enumerate(values):
        answer = oracle.update_trial(trial.trial_id, {"val_loss": value}, step)
        if answer.status == "STOPPED":
            break
    end(oracle, trial, status=answer.status.replace("RUNNING", "COMPLETED"))
    return oracle.get_trial(trial.trial_id)


PRUNERS = {
    "median": lambda: optuna.pruners.MedianPruner(n_startup_trials=2),
    "halving": lambda: optuna.pruners.SuccessiveHalvingPruner(reduction_factor=2),
    "hyperband": lambda: optuna.pruners.HyperbandPruner(max_resource=8, reduction_factor=2),
    "threshold": lambda: optuna.pruners.ThresholdPruner(upper=5.0),
}


@pytest.mark.parametrize("pruner", PRUNERS)
def test_pruned_trials_count_and_a_reloaded_search_prunes_the_same(tmp_path, pruner):
    curves = [[9 - c * i * 0.2 for i in range(8)] for c in (3, 5, 1, 4, 0, 6, 2, 5, 0, 1)]
    whole = make(tmp_path / "whole", pruner=PRUNERS[pruner](), max_trials=10)
    trials = [reported(whole, curve) for curve in curves]
    states = [trial.state for trial in whole.study.trials]
    assert TrialState.PRUNED in states
    assert set(states) <= {TrialState.PRUNED, TrialState.COMPLETE}
    for trial, told in zip(trials, whole.study.trials, strict=True):
        assert trial.status == "COMPLETED"
        steps = list(told.intermediate_values.values())
        assert len(steps) < 8 or told.state == TrialState.COMPLETE or pruner != "median"
        assert trial.score == min(steps)
        assert told.value == (steps[-1] if told.state == TrialState.PRUNED else min(steps))
    for curve in curves:
        oracle = make(tmp_path / "parts", pruner=PRUNERS[pruner](), max_trials=10)
        if (tmp_path / "parts").exists():
            oracle.reload()
        reported(oracle, curve)
    assert studied(oracle) == studied(whole)


def test_who_reports_once_reports_the_result(tmp_path):
    """It has no intermediate values: nothing to prune."""
    oracle = make(tmp_path, pruner=optuna.pruners.ThresholdPruner(upper=0.0))
    play(oracle, square)
    assert {trial.state for trial in oracle.study.trials} == {TrialState.COMPLETE}


def test_a_pruner_may_change_its_mind(tmp_path):
    """A tuner that does not listen."""
    oracle = make(tmp_path, pruner=optuna.pruners.ThresholdPruner(upper=5.0))
    trial = oracle.create_trial("a")
    answers = [
        oracle.update_trial(trial.trial_id, {"val_loss": value}, step).status
        for step, value in enumerate([1.0, 9.0, 2.0])
    ]
    assert answers == ["RUNNING", "STOPPED", "RUNNING"]
    end(oracle, trial)
    assert oracle.study.trials[0].state == TrialState.COMPLETE


def build(hp):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    rate = hp.Float("learning_rate", 1e-4, 1e-1, sampling="log")
    model.compile(keras.optimizers.SGD(rate), "mse", run_eagerly=True)
    return model


class PruningTuner(keras_tuner.Tuner):
    """The guide's."""

    def on_epoch_end(self, trial, model, epoch, logs=None):
        answer = self.oracle.update_trial(trial.trial_id, logs, step=epoch)
        if answer.status == "STOPPED":
            model.stop_training = True


def test_trainings_are_pruned(tmp_path):
    random = np.random.default_rng(0)
    x = random.normal(size=(64, 2)).astype("float32")
    y = x @ np.float32([[1.0], [-2.0]])
    pruner = optuna.pruners.MedianPruner(n_startup_trials=2, n_warmup_steps=1)
    oracle = OptunaOracle("val_loss", max_trials=7, pruner=pruner, seed=0)
    tuner = PruningTuner(oracle, build, directory=tmp_path, project_name="pruned")
    tuner.search(x, y, epochs=6, validation_data=(x, y), verbose=0)
    trials = oracle.study.trials
    pruned = [trial for trial in trials if trial.state == TrialState.PRUNED]
    assert len(trials) == 7 and 1 <= len(pruned) <= 5
    assert all(len(trial.intermediate_values) < 6 for trial in pruned)
    assert all(len(t.intermediate_values) == 6 for t in trials if t not in pruned)
    assert {trial.status for trial in oracle.trials.values()} == {"COMPLETED"}
    assert tuner.get_best_models()[0].evaluate(x, y, verbose=0) == pytest.approx(
        oracle.study.best_value, rel=1e-4
    )


# -- what goes wrong ---------------------------------------------------------------------------


class Broken(optuna.samplers.RandomSampler):
    """A sampler that fails from the third trial on."""

    def sample_independent(self, study, trial, param_name, param_distribution):
        if trial.number >= 2:
            raise LookupError("no such thing")
        return super().sample_independent(study, trial, param_name, param_distribution)


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


# -- several processes -------------------------------------------------------------------------


class Scopes(keras_tuner.Tuner):
    """What the workers find, the chief has not seen."""

    def run_trial(self, trial):
        hp = trial.hyperparameters
        rate = hp.Float("rate", 0.1, 1.0, sampling="log")
        kind = hp.Choice("kind", ["a", "b"])
        with hp.conditional_scope("kind", ["b"]):
            steps = hp.Int("steps", 1, 9)
        score = rate + (steps if kind == "b" else 0)
        for step in range(3):
            time.sleep(0.01)
            answer = self.oracle.update_trial(trial.trial_id, {"default_objective": score}, step)
            if answer.status == "STOPPED":
                break
        return score


def work(folder, sampler=None):
    # KerasTuner's chief looks every 20 s whether its workers have left.
    oracle_chief.time = types.SimpleNamespace(sleep=lambda seconds: time.sleep(0.1))
    pruner = optuna.pruners.ThresholdPruner(upper=5.0)
    oracle = OptunaOracle(max_trials=12, sampler=sampler, pruner=pruner, seed=0)
    Scopes(oracle, directory=folder, project_name="project").search()


def run(folder, *arguments, offset):
    """The exit codes of a chief and two workers."""
    start = starter(work, folder, *arguments, offset=offset)
    processes = [start(name) for name in ("chief", "worker0", "worker1")]
    try:
        return [ended(process, 60) for process in processes]
    finally:
        for process in processes:
            process.kill()


def test_a_chief_and_its_workers(tmp_path):
    assert run(tmp_path, offset=21) == [0, 0, 0]
    oracle = OptunaOracle(max_trials=12, seed=0)
    oracle._set_project_dir(tmp_path, "project")
    oracle.reload()
    assert len(oracle.trials) == 12
    assert {trial.status for trial in oracle.trials.values()} == {"COMPLETED"}
    for trial in oracle.study.trials:
        is_pruned = trial.value > 5.0
        assert trial.state == (TrialState.PRUNED if is_pruned else TrialState.COMPLETE)
        assert len(trial.intermediate_values) == (2 if is_pruned else 3)
        b = trial.params["kind"] == "b"
        assert set(trial.params) == {"rate", "kind"} | ({"steps (kind=b)"} if b else set())
        assert trial.value == pytest.approx(
            trial.params["rate"] + (trial.params["steps (kind=b)"] if b else 0)
        )


def test_a_chief_with_a_broken_sampler_ends(tmp_path):
    assert run(tmp_path, Broken(), offset=22) == [0, 0, 0]
