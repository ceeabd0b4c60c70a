"""How much a process grows while it searches: resident memory after each training.

    python benchmarks/memory.py [--trials 301]            # an hour, nearly all of it compiling (Linux)
    python benchmarks/memory.py --only configurations     # one of the searches

Searched are: a schedule for a model of two layers with SGD, and for one of twenty layers with Adam
(`QANTuner`); learning rates of one model, and of a new configuration in each trial (`DrMADTuner`).
Each runs in a process of its own. Growth is counted from trial 10 on, when all is compiled.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from functools import partial

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

from keras_drmad import DrMADSGD
from keras_drmad.tuners import DrMADTuner, QANTuner

FIRST = 10
X = np.random.default_rng(0).normal(size=(96, 6)).astype("float32")
Y = X.sum(axis=1)
DATA = {"x": X[:64], "y": Y[:64], "validation_data": (X[64:], Y[64:])}
DATA |= {"batch_size": 16, "epochs": 2, "verbose": 0}


def resident():
    """MiB of this process."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


class Measured:
    """A tuner that notes memory and time after each trial."""

    def on_trial_end(self, trial):
        super().on_trial_end(trial)
        self.seen = getattr(self, "seen", [])
        self.seen.append((resident(), time.perf_counter()))


class MeasuredQAN(Measured, QANTuner):
    pass


class MeasuredDrMAD(Measured, DrMADTuner):
    pass


def mlp(optimizer, *units):
    hidden = [keras.layers.Dense(n, "relu") for n in units]
    model = keras.Sequential([keras.layers.Input((6,)), *hidden, keras.layers.Dense(1)])
    model.compile(optimizer, "mse", jit_compile=False)
    return model


def qan(build, trials, folder):
    learner = {"decision_every": 4, "network": {"units": (8,)}}
    goal = ("val_loss", 1e-3)
    return MeasuredQAN(build, goal, max_trials=trials, directory=folder, seed=0, **learner)


def drmad(build, trials, folder, **arguments):
    return MeasuredDrMAD(build, max_trials=trials, directory=folder, seed=0, **arguments)


def one(hp):
    return mlp(DrMADSGD(0.01), 8)


def many(hp):
    return mlp(DrMADSGD(0.01), hp.Int("units", 1, 1000))


SEARCHES = {
    "QAN, 2 layers, SGD": partial(qan, lambda hp: mlp(keras.optimizers.SGD(0.01), 8)),
    "QAN, 20 layers, Adam": partial(qan, lambda hp: mlp(keras.optimizers.Adam(0.01), *[8] * 19)),
    "DrMAD, one model": partial(drmad, one),
    "DrMAD, many configurations": partial(drmad, many, meta_iterations=1),
    "DrMAD, many configurations without XLA": partial(
        drmad, many, meta_iterations=1, jit_compile=False
    ),
}


def measure(name, trials):
    """One search, in this process."""
    with tempfile.TemporaryDirectory() as folder:
        tuner = SEARCHES[name](trials, folder)
        tuner.search(**DATA)
    memory, times = np.transpose(tuner.seen)
    after = [n for n in (FIRST, 50, 100, 200, 300) if n < trials] + [trials - 1]
    growth = ", ".join(f"{memory[n] - memory[FIRST]:.1f} after {n}" for n in dict.fromkeys(after))
    seconds = (times[-1] - times[FIRST]) / (trials - 1 - FIRST)
    print(f"{name}: {growth} (MiB; {memory[FIRST]:.0f} at first); {seconds:.3f} s a trial")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--trials", type=int, default=301)
    parser.add_argument("--only", default="", help="searches with this in their names")
    parser.add_argument("--name", help=argparse.SUPPRESS)  # as one of the processes
    options = parser.parse_args()
    if options.name:
        measure(options.name, options.trials)
        return
    for name in SEARCHES:
        if options.only in name:
            command = [sys.executable, __file__, "--trials", str(options.trials), "--name", name]
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
