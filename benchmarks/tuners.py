"""`DrMADTuner` beside random search, Bayesian optimization and TPE, at equal training cost.

    python benchmarks/tuners.py [mlp|cnn] [--per global layer variable unit] [--seeds 5] [--budget 40]
    python benchmarks/tuners.py --tuners drmad --per layer --first-seed 100 --seeds 3 \
        --meta-optimizers rmsprop:0.1 adam:0.5 adam:0.5:0.5 sign:0.3 --paths SegmentMeans Checkpointed

MNIST: 2000 training images and 5000 of the hyper set, drawn by seed; 10 000 test images. Prints the test
error (mean ± standard error over seeds) of the trial with the lowest loss on the hyper set among those
that a budget pays for: a search with the whole budget, and its beginning for a half and a quarter of it.

Cost: a training run is 1; Optuna pays for the epochs before it prunes. A trial of DrMAD is 1 + r, r the
time of `Engine.differentiate` (loss of the hyper set, its gradient, the way back) over that of
`Engine.train`, compiled and alone, the fastest of several taken alternately. Evaluation of the hyper
set and what a tuner does between trainings are free.

The ranges, log-uniform: learning rate 1e-3 – 0.5, 1 − momentum 0.01 – 0.5, L2 1e-6 – 0.1. The first
trial of every tuner is the geometric middle of them; `start` is that setting again and again, each time
from new weights as in every other row: what choosing among runs gives without tuning. DrMAD is not held
to the ranges. KerasTuner's Bayesian optimization draws its first 3 trials a hyperparameter at random;
where these are the whole budget, it is left out.
"""

import argparse
import functools
import gc
import os
import tempfile
import time
from typing import NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import keras_tuner
import numpy as np

from keras_drmad import DrMADSGD, Sign, paths
from keras_drmad.data import ArrayBatches, as_validation
from keras_drmad.hyperparameters import meta
from keras_drmad.tuners import DrMADTuner
from keras_drmad.tuners.drmad.training import DifferentiatedTraining

L = keras.layers
RANGES = {"learning_rate": (1e-3, 0.5), "momentum": (0.01, 0.5), "l2": (1e-6, 0.1)}  # 1 − momentum
MIDDLE = {kind: float(np.sqrt(low * high)) for kind, (low, high) in RANGES.items()}
WORST = 10.0  # the loss of what diverged, for tuners that fit a model to losses


def mlp():
    hidden = [L.Dense(50, "tanh", name=f"hidden_{i}") for i in range(3)]
    return [L.Input((784,)), *hidden, L.Dense(10, name="out")]


def cnn():
    blocks = []
    for i, filters in enumerate((16, 32)):
        blocks += [L.Conv2D(filters, 3, name=f"conv_{i}"), L.BatchNormalization(name=f"norm_{i}")]
        blocks += [L.ReLU(), L.MaxPooling2D()]
    return [L.Input((28, 28, 1)), *blocks, L.Flatten(), L.Dropout(0.5), L.Dense(10, name="out")]


class Task(NamedTuple):
    layers: object
    shape: tuple
    batch_size: int
    epochs: int

    def build(self, per, learn=("learning_rate", "momentum", "l2")):
        model = keras.Sequential(self.layers())
        values = MIDDLE | {"momentum": 1 - MIDDLE["momentum"]}
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(DrMADSGD(**values, per=per, learn=learn), loss)
        return model

    def data(self, seed):
        """Training, hyper and test data."""
        (x, y), (x_test, y_test) = keras.datasets.mnist.load_data()
        order = np.random.default_rng(seed).permutation(len(x))
        parts = [(x[i], y[i]) for i in (order[:2000], order[2000:7000])] + [(x_test, y_test)]
        return [(x.reshape(-1, *self.shape).astype("float32") / 255, y) for x, y in parts]

    def batches(self, data, seed=None):
        return ArrayBatches(data[0], self.batch_size, seed)

    def training(self, per, path, **arguments):
        """A model that is compiled once for any number of searches."""
        batches = self.batches(self.data(0))
        return DifferentiatedTraining(
            model=self.build(per, **arguments),
            build=lambda: self.build(per, **arguments),
            example=batches.batch(0),
            steps=self.epochs * batches.epoch_steps,
            path=path,
        )


TASKS = {"mlp": Task(mlp, (784,), 50, 10), "cnn": Task(cnn, (28, 28, 1), 100, 5)}


class Trial(NamedTuple):
    cost: float
    loss: float  # of the hyper set
    error: float  # of the test set


def judge(model, data):
    """Loss, and error in percent."""
    x, y = data
    logits = np.concatenate([model.predict_on_batch(part) for part in np.split(x, 5)])
    loss = keras.losses.sparse_categorical_crossentropy(y, logits, from_logits=True)
    loss = float(np.nan_to_num(np.mean(loss), nan=WORST, posinf=WORST))
    return min(loss, WORST), 100 * float(np.mean(logits.argmax(-1) != y))


# -- DrMAD -----------------------------------------------------------------------------------


class Watched(DrMADTuner):
    def _prepared(self, *_):
        return self.compiled  # not compiled anew for each search

    def on_epoch_end(self, trial, model, epoch, logs=None):
        if epoch + 1 == self.epochs:
            loss, error = judge(model, self.data[1])[0], judge(model, self.data[2])[1]
            self.results.append(Trial(self.cost, loss, error))


def meta_optimizer(name):
    """From its name, its step and, if given, its `beta_1` or `rho`."""
    kind, *numbers = name.split(":")
    step, *decay = map(float, numbers)
    if kind == "sign":
        return Sign(step)
    if kind == "adam":
        return keras.optimizers.Adam(step, *decay, epsilon=meta.EPSILON)
    return keras.optimizers.RMSprop(step, *decay, epsilon=meta.EPSILON)


def drmad(task, per, training, cost, meta_name, data, seed, budget):
    with tempfile.TemporaryDirectory() as folder:
        tuner = Watched(
            lambda hp: task.build(per),
            max_trials=int(budget / cost),
            meta_optimizer=meta_optimizer(meta_name),
            path=training.engine.path,
            seed=seed,
            directory=folder,
        )
        tuner.compiled, tuner.epochs, tuner.data = training, task.epochs, data
        tuner.cost, tuner.results = cost, []
        arguments = {"batch_size": task.batch_size, "validation_freq": task.epochs, "verbose": 0}
        tuner.search(*data[0], epochs=task.epochs, validation_data=data[1], **arguments)
    return tuner.results


def trial_cost(task, training):
    """1 + r."""
    data, engine, fastest = task.data(0), training.engine, [np.inf, np.inf]
    batches, hyper = task.batches(data, seed=0), as_validation(data[1])
    rates = [MIDDLE["learning_rate"]] * (task.epochs * batches.epoch_steps)
    for repeat in range(9):
        begun = time.perf_counter()
        run = engine.train(engine.read(), batches, rates)
        halfway = time.perf_counter()
        engine.differentiate(run, hyper)
        times = halfway - begun, time.perf_counter() - halfway
        fastest = np.minimum(fastest, times) if repeat else fastest  # the first one compiles
    return 1 + fastest[1] / fastest[0]


# -- the others ------------------------------------------------------------------------------


class Trainer:
    """Trains with given hyperparameters, each a number under a name of its own."""

    def __init__(self, task, per):
        self.task = task
        self.training = task.training(per, paths.Linear(), learn=())
        self.kinds = {  # by name
            f"{group} {kind} {i}": kind
            for group, entries in self.training.optimizer.hyperparameters.items()
            for kind, value in entries.items()
            for i in range(np.size(value))
        }
        self.middle = {name: MIDDLE[kind] for name, kind in self.kinds.items()}

    def train(self, data, values, *seed):
        """From scratch; yields after each epoch."""
        training, nested = self.training, {}
        seed = int(np.random.SeedSequence(seed).generate_state(1)[0])
        for name in self.kinds:
            group, kind, _ = name.split()
            value = 1 - values[name] if kind == "momentum" else values[name]
            nested.setdefault(group, {}).setdefault(kind, []).append(value)
        training.restart(seed)
        training.optimizer.set_hyperparameters(
            {g: {kind: np.squeeze(v) for kind, v in e.items()} for g, e in nested.items()}
        )
        batches, engine = self.task.batches(data, seed), training.engine
        run = engine.begin(engine.read(), batches, self.task.epochs * batches.epoch_steps)
        for _ in range(self.task.epochs):
            rates = training.optimizer.learning_rates(batches.epoch_steps)
            engine.write(engine.advance(run, rates), len(rates))
            yield

    def trial(self, data, values, *seed):
        for _ in self.train(data, values, *seed):
            pass
        loss, error = judge(self.training.model, data[1])[0], judge(self.training.model, data[2])[1]
        return Trial(1.0, loss, error)


def start(trainer, data, seed, budget):
    return [trainer.trial(data, trainer.middle, seed, i) for i in range(budget)]


class Tuner(keras_tuner.Tuner):
    def run_trial(self, trial, trainer, data, seed, **_):
        values, number = trial.hyperparameters.values, len(self.results)
        self.results.append(trainer.trial(data, values, seed, number))
        return {"val_loss": self.results[-1].loss}


def kerastuner(oracle_class, trainer, data, seed, budget):
    class FromTheMiddle(oracle_class):
        def populate_space(self, trial_id):
            if self.start_order:
                return super().populate_space(trial_id)
            return {"status": "RUNNING", "values": dict(trainer.middle)}

    space = keras_tuner.HyperParameters()
    for name, kind in trainer.kinds.items():
        space.Float(name, *RANGES[kind], sampling="log")
    oracle = FromTheMiddle(
        objective=keras_tuner.Objective("val_loss", "min"),
        max_trials=budget,
        hyperparameters=space,
        seed=seed + 1,  # KerasTuner takes 0 for none
    )
    with tempfile.TemporaryDirectory() as folder:
        tuner = Tuner(oracle, directory=folder)
        tuner.results = []
        tuner.search(trainer=trainer, data=data, seed=seed, verbose=0)
    return tuner.results


def tpe(trainer, data, seed, budget):
    try:
        import optuna
    except ImportError as error:
        raise SystemExit("Optuna is not installed: pip install optuna") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler, pruner = optuna.samplers.TPESampler(seed=seed), optuna.pruners.MedianPruner()
    study = optuna.create_study(sampler=sampler, pruner=pruner)
    study.enqueue_trial(trainer.middle)
    log_uniform = optuna.distributions.FloatDistribution
    space = {name: log_uniform(*RANGES[kind], log=True) for name, kind in trainer.kinds.items()}
    model, epochs, results = trainer.training.model, trainer.task.epochs, []
    while sum(trial.cost for trial in results) < budget:
        trial = study.ask(space)
        trainings = trainer.train(data, trial.params, seed, len(results))
        for epoch, _ in enumerate(trainings, 1):
            loss = judge(model, data[1])[0]
            trial.report(loss, epoch)
            if epoch < epochs and trial.should_prune():
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                results.append(Trial(epoch / epochs, np.inf, np.nan))  # cannot be chosen
                break
        else:
            study.tell(trial, loss)
            results.append(Trial(1.0, loss, judge(model, data[2])[1]))
    return results


OTHERS = {
    "start": start,
    "random": functools.partial(kerastuner, keras_tuner.oracles.RandomSearchOracle),
    "bayesian": functools.partial(kerastuner, keras_tuner.oracles.BayesianOptimizationOracle),
    "tpe": tpe,
}


# -- the table -------------------------------------------------------------------------------


def chosen(trials, budget):
    """The trial with the lowest loss among the first ones that the budget pays for."""
    spent = np.cumsum([trial.cost for trial in trials])
    affordable = [t for t, cost in zip(trials, spent, strict=True) if cost <= budget + 1e-6]
    return min(affordable, key=lambda trial: trial.loss)


def row(name, per, search, task, seeds, budget):
    """One row of the table."""
    errors, begun = [], time.perf_counter()
    for seed in seeds:
        trials = search(task.data(seed), seed, budget)
        best = [chosen(trials, b) for b in (budget // 4, budget // 2, budget)]
        errors.append([trial.error for trial in best])
        words = ", ".join(f"{trial.loss:.4f} {trial.error:.2f} %" for trial in best)
        print(f"{name}, {per}, seed {seed}: {len(trials)} trials; {words}", flush=True)
    means = np.mean(errors, 0)
    spread = np.std(errors, 0, ddof=min(1, len(seeds) - 1)) / np.sqrt(len(seeds))
    cells = " | ".join(f"{m:.2f} ± {s:.2f}" for m, s in zip(means, spread, strict=True))
    print(f"| {name} | {per} | {cells} | in {time.perf_counter() - begun:.0f} s", flush=True)
    return f"| {name} | {per} | {cells} |"


def searches(task, per, options):
    """Yields `(name, function of data, seed and budget)`."""
    # `restart` collects garbage; what is compiled is none, and takes long to look through.
    gc.unfreeze()
    others = [name for name in options.tuners if name != "drmad"]
    if others:
        trainer = Trainer(task, per)
        gc.freeze()
    for name in others:
        if name == "bayesian" and 3 * len(trainer.kinds) >= options.budget:
            print(f"bayesian, {per}: left out, as all its trials would be random ones", flush=True)
        else:
            yield name, functools.partial(OTHERS[name], trainer)
    for path in options.paths if "drmad" in options.tuners else ():
        training = task.training(per, getattr(paths, path)())
        cost = trial_cost(task, training)
        gc.freeze()
        print(f"a trial of DrMAD, {per}, {path}: 1 + r = {cost:.2f}", flush=True)
        for name in options.meta_optimizers:
            search = functools.partial(drmad, task, per, training, cost, name)
            yield f"DrMAD, {name}, {path}", search


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    known = [*OTHERS, "drmad"]
    parser.add_argument("task", nargs="?", default="mlp", choices=TASKS)
    parser.add_argument("--per", nargs="+", default=["global", "layer", "variable", "unit"])
    parser.add_argument("--tuners", nargs="+", default=known, choices=known)
    parser.add_argument("--meta-optimizers", nargs="+", default=["rmsprop:0.1"])
    parser.add_argument("--paths", nargs="+", default=["SegmentMeans"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--budget", type=int, default=40)
    options = parser.parse_args()
    task, budget, begun = TASKS[options.task], options.budget, time.perf_counter()
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    table = []
    for per in options.per:
        for name, search in searches(task, per, options):
            table.append(row(name, per, search, task, seeds, budget))
    print(f"\n| tuner | per | {budget // 4} | {budget // 2} | {budget} |\n|---|---|---|---|---|")
    print("\n".join(table))
    print(f"\n{(time.perf_counter() - begun) / 60:.0f} minutes")


if __name__ == "__main__":
    main()
