"""How close the hypergradients of approximate paths come to the exact ones.

    python benchmarks/accuracy.py [--optimizer sgd|adamw] [--seeds 3] [--orders 5] [--quick]

Scikit-learn's digits, MLP 64-32-32-10, batch 50, float64, one value of each hyperparameter a
variable: momentum SGD with momentum 0.9 and L2 1e-3, or AdamW with its defaults. A seed draws the
split and the initial weights, an order the batches. The reference of an estimate from one order is
the mean exact hypergradient over the *other* orders: so one exact run is judged as an estimator too
(the noise ceiling), by the same measure as the paths.

Prints, for each regime and path, the median cosine of the part of each kind of hyperparameter, and
the median and range of its norm over the median norm of the exact runs.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from sklearn.datasets import load_digits

from keras_drmad import DrMADAdamW, DrMADSGD, hypergradient, paths

REGIMES = {  # steps, learning rate, activation
    "sgd": [
        (1000, 0.05, "tanh"),
        (2000, 0.02, "tanh"),
        (400, 0.1, "tanh"),
        (1000, 0.05, "relu"),
        (2000, 0.02, "relu"),
        (400, 0.1, "relu"),
        (2000, 0.1, "relu"),
    ],
    "adamw": [
        (steps, rate, activation)
        for activation in ("tanh", "relu")
        for rate in (1e-3, 5e-3)
        for steps in (400, 1000, 2000)
    ],
}
OPTIMIZERS = {
    "sgd": lambda: DrMADSGD(0.1, momentum=0.9, l2=1e-3, per="variable"),
    "adamw": lambda: DrMADAdamW(1e-3, per="variable"),
}
PATHS = {
    "one exact run": paths.Stored(),
    "Linear": paths.Linear(),
    "SegmentMeans": paths.SegmentMeans(),
    "SegmentMeans, no floor": paths.SegmentMeans(floor=False),
    "SegmentMeans, 32 knots": paths.SegmentMeans(32),
}


class Problem:
    """One model, started again for every run, so that its programs are compiled once."""

    def __init__(self, optimizer, activation):
        layers = keras.layers
        self.model = keras.Sequential(
            [
                layers.Input((64,)),
                layers.Dense(32, activation),
                layers.Dense(32, activation),
                layers.Dense(10),
            ]
        )
        self.model.compile(
            OPTIMIZERS[optimizer](),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        self.model.optimizer.build(self.model.trainable_variables)
        x, y = load_digits(return_X_y=True)
        self.x, self.y = x / 16, y

    def run(self, path, steps, rate, seed, order):
        """`{kind: vector}` of one hypergradient."""
        split = np.random.default_rng(seed).permutation(len(self.x))
        train, hyper = split[:1000], split[1000:1400]
        initializer = keras.initializers.GlorotUniform(seed)
        for variable in self.model.trainable_variables:
            kernel = len(variable.shape) > 1
            variable.assign(initializer(variable.shape) if kernel else np.zeros(variable.shape))
        optimizer = self.model.optimizer
        optimizer.reset()
        optimizer.learning_rate = rate
        found = hypergradient(
            self.model,
            (self.x[train], self.y[train]),
            (self.x[hyper], self.y[hyper]),
            batch_size=50,
            steps=steps,
            path=path,
            seed=1000 * seed + order,
            verbose=0,
        )
        groups = found.gradients.values()
        return {k: np.array([group[k] for group in groups]) for k in optimizer.rule.kinds}


def cosine(a, b):
    with np.errstate(over="ignore", invalid="ignore"):
        a, b = a / np.abs(a).max(), b / np.abs(b).max()
        return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def judge(problem, steps, rate, seeds, orders):
    """`{path: {kind: (cosines, norm ratios)}}`."""
    kinds = problem.model.optimizer.rule.kinds
    results = {name: {kind: ([], []) for kind in kinds} for name in PATHS}
    for seed in seeds:
        runs = {
            name: [problem.run(path, steps, rate, seed, order) for order in range(orders)]
            for name, path in PATHS.items()
        }
        exact = runs["one exact run"]
        for name, found in runs.items():
            for kind in kinds:
                cosines, ratios = results[name][kind]
                size = np.median([np.linalg.norm(e[kind]) for e in exact])
                for order in range(orders):
                    others = [e[kind] for i, e in enumerate(exact) if i != order]
                    cosines.append(cosine(found[order][kind], np.mean(others, 0)))
                    ratios.append(np.linalg.norm(found[order][kind]) / size)
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--optimizer", choices=REGIMES, default="sgd")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--orders", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="the first regime only")
    options = parser.parse_args()
    keras.config.set_floatx("float64")
    if options.optimizer == "adamw":
        del PATHS["SegmentMeans, no floor"]  # it has none
    problems = {a: Problem(options.optimizer, a) for a in ("tanh", "relu")}
    kinds = problems["tanh"].model.optimizer.rule.kinds
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    columns = ["T, α, activation", "path", "cosine:", *kinds, "norm:", *kinds]
    print("| " + " | ".join(columns) + " |")
    print("|---" * len(columns) + "|")
    regimes = REGIMES[options.optimizer]
    for steps, rate, activation in regimes[:1] if options.quick else regimes:
        results = judge(problems[activation], steps, rate, seeds, options.orders)
        for name, parts in results.items():
            cosines = " | ".join(f"{np.median(found):.2f}" for found, _ in parts.values())
            norms = " | ".join(
                f"{np.median(ratios):.2g} ({min(ratios):.1g}–{max(ratios):.1g})"
                for _, ratios in parts.values()
            )
            print(
                f"| {steps}, {rate}, {activation} | {name} | | {cosines} | | {norms} |", flush=True
            )


if __name__ == "__main__":
    main()
