"""What `OptunaOracle` asks and tells: hyperparameters, samplers, pruners."""

import keras
import keras_tuner
import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState
from optuna_task import all_kinds, end, make, play, scopes, square

from keras_drmad.tuners import OptunaOracle
from keras_drmad.tuners.optuna_parameters import parameter

pytestmark = [
    pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning"),
    pytest.mark.slow,
]

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


def lists():
    hp = keras_tuner.HyperParameters()
    hp.Choice("units", [1, 2, 4, 8])
    hp.Int("batch", 2, 64, step=2, sampling="log")
    hp.Float("rate", 0.5, 0.9, sampling="reverse_log")
    return hp


def test_a_grid_is_one_of_the_hyperparameters_own_values(tmp_path):
    grid = {"units": [2, 8], "batch": [2, 64], "rate": [0.6]}
    sampler = optuna.samplers.GridSampler(grid)
    found = play(make(tmp_path, space=lists, sampler=sampler, max_trials=None))
    proposed = {(v["units"], v["batch"], v["rate"]) for v in found}
    assert proposed == {(2, 2, 0.6), (2, 64, 0.6), (8, 2, 0.6), (8, 64, 0.6)}


def test_a_fixed_value_is_the_hyperparameter_s_own(tmp_path):
    fixed = {"units": 8, "rate": 0.6}
    sampler = optuna.samplers.PartialFixedSampler(fixed, optuna.samplers.RandomSampler())
    found = play(make(tmp_path, space=lists, sampler=sampler, max_trials=4))
    assert {(v["units"], v["rate"]) for v in found} == {(8, 0.6)}


def test_a_grid_may_go_on_from_other_trials_and_others_from_a_grid(tmp_path):
    grid = optuna.samplers.GridSampler({"units": [4, 8], "batch": [2], "rate": [0.6]})
    for count, sampler in ((2, None), (4, grid), (6, optuna.samplers.RandomSampler())):
        oracle = make(tmp_path, space=lists, sampler=sampler, max_trials=count, seed=0)
        if count > 2:
            oracle.reload()
        play(oracle, lambda values: float(values["units"]))
        assert len(oracle.study.trials) == count
        assert all(len(trial.params) == 3 for trial in oracle.study.trials)


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
    tuner.search(x, y, batch_size=64, epochs=6, validation_data=(x, y), verbose=0)
    trials = oracle.study.trials
    pruned = [trial for trial in trials if trial.state == TrialState.PRUNED]
    assert len(trials) == 7 and 1 <= len(pruned) <= 5
    assert all(len(trial.intermediate_values) < 6 for trial in pruned)
    assert all(len(t.intermediate_values) == 6 for t in trials if t not in pruned)
    assert {trial.status for trial in oracle.trials.values()} == {"COMPLETED"}
    assert tuner.get_best_models()[0].evaluate(x, y, verbose=0) == pytest.approx(
        oracle.study.best_value, rel=1e-4
    )
