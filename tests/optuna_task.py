"""Spaces and searches for the tests of `OptunaOracle`: trials are ended by hand."""

import keras_tuner
import optuna

from keras_drmad.tuners.optuna_oracle import OptunaOracle


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


class Broken(optuna.samplers.RandomSampler):
    """A sampler that fails from the third trial on."""

    def sample_independent(self, study, trial, param_name, param_distribution):
        if trial.number >= 2:
            raise LookupError("no such thing")
        return super().sample_independent(study, trial, param_name, param_distribution)
