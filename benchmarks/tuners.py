"""`DrMADTuner` beside random search, Bayesian optimization and TPE, at equal training cost.

    python benchmarks/tuners.py [mlp|cnn] [--per global layer variable unit] [--seeds 5] [--budget 40]
    python benchmarks/tuners.py --tuners drmad --per layer --first-seed 100 --seeds 3 \
        --meta-optimizers rmsprop:0.1 adam:0.5 adam:0.5:0.5 sign:0.3 --paths SegmentMeans Checkpointed

MNIST: 2000 training images and 5000 of the hyper set, drawn by seed; 10 000 test images. Budgets, costs,
tables and pictures are `keras_drmad.tuners.compare`'s: the trial with the lowest loss on the hyper set
is judged by its accuracy on the test set, for the whole budget, a half and a quarter of it. Stopped, it
goes on. KerasTuner's tuners and Optuna keep the best epoch of a training, `DrMADTuner` has the last one.

`drmad` is `DrMADTuner` without trials that learn while they train, `online` with them, `scouted` also
tries starts first, from the same ranges. Beside them what they are without a part: `no-retests`,
`no-pruning` (of starts), `schedules` (learned ones, but not while it trains).

The ranges, log-uniform: learning rate 1e-3 – 0.5, 1 − momentum 0.01 – 0.5, L2 1e-6 – 0.1; with
`--optimizer adamw` learning rate 1e-4 – 0.05, weight decay 1e-4 – 1, 1 − β₁ 0.02 – 0.5, and for the
others a warm-up over 0, 10 or 30 % of the training. `--rates-by 0.1` multiplies the range of the rates.
The first trial of every tuner is the geometric middle of them; `start` is that setting again and again,
each time from new weights as in every other row: what choosing among runs gives without tuning. DrMAD is
not held to the ranges. KerasTuner's Bayesian optimization draws its first 3 trials a hyperparameter at
random; where these are the whole budget, it is left out.
"""

import argparse
import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import keras_tuner
import numpy as np
import optuna

from keras_drmad import DrMADAdamW, DrMADSGD, Knots, Sign, paths
from keras_drmad.hyperparameters import meta
from keras_drmad.tuners import DrMADTuner, Method, compare

L = keras.layers
Ranges = dict[str, tuple[float, float]]
OPTIMIZERS = {"sgd": DrMADSGD, "adamw": DrMADAdamW}
RANGES: dict[str, Ranges] = {
    "sgd": {"learning_rate": (1e-3, 0.5), "momentum": (0.01, 0.5), "l2": (1e-6, 0.1)},
    "adamw": {"learning_rate": (1e-4, 0.05), "weight_decay": (1e-4, 1.0), "beta_1": (0.02, 0.5)},
}
FROM_ONE = ("momentum", "beta_1")  # whose ranges are those of 1 − x
WARM_UPS = [0.0, 0.1, 0.3]  # shares of a training


def middle(pair: tuple[float, float]) -> float:
    return float(np.sqrt(pair[0] * pair[1]))


def mlp() -> list[L.Layer]:
    hidden = [L.Dense(50, "tanh", name=f"hidden_{i}") for i in range(3)]
    return [L.Input((784,)), *hidden, L.Dense(10, name="out")]


def cnn() -> list[L.Layer]:
    blocks = []
    for i, filters in enumerate((16, 32)):
        blocks += [L.Conv2D(filters, 3, name=f"conv_{i}"), L.BatchNormalization(name=f"norm_{i}")]
        blocks += [L.ReLU(), L.MaxPooling2D()]
    return [L.Input((28, 28, 1)), *blocks, L.Flatten(), L.Dropout(0.5), L.Dense(10, name="out")]


class Task:
    """A model, its data, and how long it is trained."""

    def __init__(self, layers, shape: tuple[int, ...], batch_size: int, epochs: int) -> None:
        self.layers, self.shape = layers, shape
        self.batch_size, self.epochs = batch_size, epochs
        self.optimizer, self.ranges = OPTIMIZERS["sgd"], RANGES["sgd"]
        self._images = None

    def tuned(self, optimizer: str, rates_by: float) -> "Task":
        """Of an optimizer, and ranges whose learning rates are multiplied."""
        self.optimizer, self.ranges = OPTIMIZERS[optimizer], dict(RANGES[optimizer])
        low, high = self.ranges["learning_rate"]
        self.ranges["learning_rate"] = (rates_by * low, rates_by * high)
        return self

    @property
    def steps(self) -> int:
        return self.epochs * -(-2000 // self.batch_size)

    def build(self, per: str, learn: tuple[str, ...] | None = None, schedule=None) -> keras.Model:
        model = keras.Sequential(self.layers())
        values = {kind: middle(pair) for kind, pair in self.ranges.items()}
        values |= {kind: 1 - values[kind] for kind in FROM_ONE if kind in values}
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        learn = tuple(self.ranges) if learn is None else learn
        optimizer = self.optimizer(**values, per=per, learn=learn, schedule=schedule)
        model.compile(optimizer, loss, metrics=["accuracy"])
        return model

    def asking(self, per: str, decays: bool = False):
        """A hypermodel that asks for each number of its optimizer by itself.

        With `decays` also for a cosine decay of the rate, and for an average of the weights.
        """

        def build(hp: keras_tuner.HyperParameters) -> keras.Model:
            model = self.build(per, learn=())
            if decays:
                self._average(hp, model.optimizer)
            model.optimizer.build(model.trainable_variables)
            asked = {
                group: {kind: self._ask(hp, group, kind, value) for kind, value in entries.items()}
                for group, entries in model.optimizer.hyperparameters.items()
            }
            model.optimizer.set_hyperparameters(asked)
            # Afterwards: rates are multiples of the one that is in force when they are set.
            if decays:
                self._decay(hp, model.optimizer)
            if self.optimizer is DrMADAdamW:
                self._warm_up(hp, model.optimizer)
            return model

        return build

    def _decay(self, hp: keras_tuner.HyperParameters, optimizer) -> None:
        if hp.Boolean("cosine decay"):
            rate = middle(self.ranges["learning_rate"])
            optimizer.learning_rate = keras.optimizers.schedules.CosineDecay(rate, self.steps)

    def _average(self, hp: keras_tuner.HyperParameters, optimizer) -> None:
        optimizer.use_ema = True  # with 0 the average is the last weights
        optimizer.ema_momentum = hp.Choice("average", [0.0, 0.9, 0.97])

    def _warm_up(self, hp: keras_tuner.HyperParameters, optimizer) -> None:
        share, rate = hp.Choice("warm-up", WARM_UPS), middle(self.ranges["learning_rate"])
        if share:
            schedule = keras.optimizers.schedules.CosineDecay(
                0.0, self.steps, alpha=1.0, warmup_target=rate, warmup_steps=int(share * self.steps)
            )
            optimizer.learning_rate = schedule

    def _ask(self, hp: keras_tuner.HyperParameters, group: str, kind: str, value) -> np.ndarray:
        if kind not in self.ranges:
            return value
        pair = self.ranges[kind]
        ranges = {"sampling": "log", "default": middle(pair)}
        values = [hp.Float(f"{group} {kind} {i}", *pair, **ranges) for i in range(np.size(value))]
        array = np.reshape(values, np.shape(value))
        return 1 - array if kind in FROM_ONE else array

    def part(self, name: str):
        """The data of a seed, as a function of it."""

        def of(seed: int) -> tuple[np.ndarray, np.ndarray]:
            if self._images is None:
                self._images = keras.datasets.mnist.load_data()
            (x, y), test = self._images
            order = np.random.default_rng(seed).permutation(len(x))
            parts = {"train": order[:2000], "hyper": order[2000:7000]}
            x, y = test if name == "test" else (x[parts[name]], y[parts[name]])
            return x.reshape(-1, *self.shape).astype("float32") / 255, y

        return of


TASKS = {"mlp": Task(mlp, (784,), 50, 10), "cnn": Task(cnn, (28, 28, 1), 100, 5)}


# -- tuners ----------------------------------------------------------------------------------


class Start(keras_tuner.Oracle):
    """The defaults, again and again."""

    def populate_space(self, trial_id: str) -> dict:
        values = {hp.name: hp.default for hp in self.hyperparameters.space}
        return {"status": "RUNNING", "values": values}


class RandomSearch(keras_tuner.oracles.RandomSearchOracle):
    """Random search whose first trial has the defaults."""

    def populate_space(self, trial_id: str) -> dict:
        if not self.start_order:
            return Start.populate_space(self, trial_id)
        return super().populate_space(trial_id)


class Bayesian(keras_tuner.oracles.BayesianOptimizationOracle):
    """Bayesian optimization whose first trial has the defaults."""

    def populate_space(self, trial_id: str) -> dict:
        if not self.start_order:
            return Start.populate_space(self, trial_id)
        return super().populate_space(trial_id)


class FromTheMiddle(optuna.samplers.TPESampler):
    """TPE whose first trial is the geometric middle of the ranges, the defaults."""

    def sample_independent(self, study, trial, param_name, param_distribution):
        if trial.number:
            return super().sample_independent(study, trial, param_name, param_distribution)
        if isinstance(param_distribution, optuna.distributions.CategoricalDistribution):
            return param_distribution.choices[0]
        return float(np.sqrt(param_distribution.low * param_distribution.high))


def meta_optimizer(name: str) -> keras.optimizers.Optimizer:
    """From its name, its step and, if given, its `beta_1` or `rho`."""
    kind, *numbers = name.split(":")
    step, *decay = map(float, numbers)
    if kind == "sign":
        return Sign(step)
    if kind == "adam":
        return keras.optimizers.Adam(step, *decay, epsilon=meta.EPSILON)
    return keras.optimizers.RMSprop(step, *decay, epsilon=meta.EPSILON)


def methods(task: Task, per: str, options: argparse.Namespace) -> dict[str, Method]:
    asking, decaying = task.asking(per), task.asking(per, decays=True)
    known = {
        "start": ("start", lambda: Method(asking, Start)),
        "random": ("random search", lambda: Method(asking, RandomSearch)),
        "bayesian": ("Bayesian optimization", lambda: Method(asking, Bayesian)),
        "tpe": (
            "Optuna TPE, median pruner",
            lambda: Method(
                asking, "optuna", sampler=FromTheMiddle(), pruner=optuna.pruners.MedianPruner()
            ),
        ),
        "tpe-decay": (
            "Optuna TPE, median pruner, decay and averages",
            lambda: Method(
                decaying,
                "optuna",
                callbacks=[keras.callbacks.SwapEMAWeights(swap_on_epoch=True)],
                sampler=FromTheMiddle(),
                pruner=optuna.pruners.MedianPruner(),
            ),
        ),
        "tpe-hyperband": (
            "Optuna TPE, Hyperband's pruner",
            lambda: Method(
                asking, "optuna", sampler=FromTheMiddle(), pruner=optuna.pruners.HyperbandPruner()
            ),
        ),
        "online": ("DrMAD, online", lambda: ours(online=True)),
        "no-retests": ("DrMAD, online, no retests", lambda: ours(online=True, retests=False)),
        "schedules": (
            "DrMAD, schedules, not online",
            lambda: ours(schedule=Knots(10), online=False),
        ),
        "scouted": ("DrMAD, online, starts scouted", lambda: ours(**scouting)),
        "no-pruning": ("DrMAD, starts scouted, no pruning", lambda: ours(**scouting, prunes=False)),
    }
    scouting = {"online": True, "scouts": max(options.budget // 8, 2), "starts": starts(task)}

    def ours(schedule=None, **arguments) -> Method:
        return Method(lambda hp: task.build(per, schedule=schedule), DrMADTuner, **arguments)

    found = {}
    for key in options.tuners:
        if key == "drmad":
            for path in options.paths:
                for name in options.meta_optimizers:
                    found[f"DrMAD, {name}, {path}"] = Method(
                        lambda hp: task.build(per),
                        DrMADTuner,
                        online=False,
                        meta_optimizer=meta_optimizer(name),
                        path=getattr(paths, path)(),
                    )
        elif key == "bayesian" and 3 * numbers(asking) >= options.budget:
            print(f"Bayesian optimization, {per}: left out, as all its trials would be random ones")
        else:
            name, make = known[key]
            found[name] = make()
    return found


def starts(task: Task) -> Ranges:
    """The ranges, as `DrMADTuner` has them; without β₁, which it does not scout."""
    found = {kind: pair for kind, pair in task.ranges.items() if kind != "beta_1"}
    if "momentum" in found:
        low, high = found["momentum"]
        found["momentum"] = (1 - high, 1 - low)
    return found


def numbers(hypermodel) -> int:
    """How many hyperparameters it asks for."""
    hp = keras_tuner.HyperParameters()
    hypermodel(hp)
    return len(hp.space)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    known = ["start", "random", "bayesian", "tpe", "tpe-hyperband", "tpe-decay"]
    known += ["drmad", "online", "scouted", "no-retests", "no-pruning", "schedules"]
    parser.add_argument("task", nargs="?", default="mlp", choices=TASKS)
    parser.add_argument("--per", nargs="+", default=["global", "layer", "variable", "unit"])
    parser.add_argument("--tuners", nargs="+", default=known, choices=known)
    parser.add_argument("--optimizer", choices=OPTIMIZERS, default="sgd")
    parser.add_argument("--rates-by", type=float, default=1.0, help="another middle of the ranges")
    parser.add_argument("--meta-optimizers", nargs="+", default=["rmsprop:0.1"])
    parser.add_argument("--paths", nargs="+", default=["SegmentMeans"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--budget", type=int, default=40)
    parser.add_argument("--epochs", type=int, help="of each training")
    parser.add_argument("--folder", type=pathlib.Path, default="out/tuners")
    options = parser.parse_args()
    task = TASKS[options.task].tuned(options.optimizer, options.rates_by)
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    for per in options.per:
        name = f"{options.task}_{per}_{options.optimizer}_{options.rates_by:g}"
        folder = options.folder / name.removesuffix("_sgd_1")
        result = compare(
            methods(task, per, options),
            train=task.part("train"),
            validation=task.part("hyper"),
            test=task.part("test"),
            budget=[b for b in (options.budget // 4, options.budget // 2, options.budget) if b],
            seeds=list(seeds),
            epochs=options.epochs or task.epochs,
            batch_size=task.batch_size,
            metric="accuracy",
            directory=str(folder),
        )
        print(f"\nper={per}\n")
        result.table()
        result.report(str(folder / "comparison.html"))


if __name__ == "__main__":
    main()
