"""One search by a chief and several workers on this host: the DrMAD paper's hyperparameter server.

Without KerasTuner's environment variables this file starts itself as the processes of a search: a
chief, which holds the oracle, and workers, which train. It ends them all on Ctrl-C or when one
fails, and shows the results. With the variables set it is one of these processes.

    python examples/drmad_workers.py --workers 2 --gradients-per-step 2
    python examples/drmad_workers.py --workers 1 --gradients-per-step 2 --pin --time   # how fast is one
    python examples/drmad_workers.py --workers 2 --gradients-per-step 2 --pin --time   # how fast are two
"""

import argparse
import os
import pathlib
import shutil
from typing import Any

import quiet  # noqa: F401 (first: TensorFlow's libraries have much to say)

# isort: split
import keras
import keras_tuner
import launch
import numpy as np
from keras_tuner.engine.trial import Trial
from sklearn.datasets import load_digits

from keras_drmad import DrMADSGD
from keras_drmad.tuners import DrMADTuner


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=2, help="processes that train")
    parser.add_argument(
        "--gradients-per-step", type=int, default=2, help="trainings a meta-iteration"
    )
    parser.add_argument("--meta-iterations", type=int, default=12)
    parser.add_argument("--epochs", type=int, default=20, help="of each training")
    if hasattr(os, "sched_setaffinity"):
        parser.add_argument("--pin", action="store_true", help="each worker to a core")
    parser.add_argument("--time", action="store_true", help="start afresh, and say how fast it was")
    parser.add_argument("--folder", type=pathlib.Path, default="out/drmad_workers")
    arguments = parser.parse_args()
    if launch.is_launched():
        search(make_tuner(arguments), arguments)
        return
    if arguments.time:
        shutil.rmtree(arguments.folder, ignore_errors=True)
    launch.launch(arguments.workers, vars(arguments).get("pin"))
    tuner = make_tuner(arguments)  # from what is in the folder
    tuner.results_summary(3)
    if arguments.time:
        trials = list(tuner.oracle.trials.values())
        print(
            f"\nMeta-iterations a minute: {rate(trials, 0):.1f}; {rate(trials, 1):.1f} once compiled"
        )


def build_model(hp: keras_tuner.HyperParameters) -> keras.Model:
    hidden = [keras.layers.Dense(256, activation="relu", name=n) for n in ("first", "second")]
    output = keras.layers.Dense(10, activation="softmax", name="output")
    model = keras.Sequential([keras.layers.Input((64,)), *hidden, output])
    model.compile(DrMADSGD(0.01, l2=1e-4), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


class Tuner(DrMADTuner):
    """Notes when each trial began and ended, as metrics of it."""

    def run_trial(self, *arguments: Any, **more: Any) -> dict[str, float]:
        began = launch.seconds()
        metrics = super().run_trial(*arguments, **more)
        return metrics | {"began": began, "ended": launch.seconds()}


def make_tuner(arguments: argparse.Namespace) -> Tuner:
    return Tuner(
        build_model,
        max_trials=arguments.meta_iterations * arguments.gradients_per_step,
        gradients_per_step=arguments.gradients_per_step,
        seed=0,  # the same in all processes
        directory=str(arguments.folder.parent),
        project_name=arguments.folder.name,
    )


def search(tuner: Tuner, arguments: argparse.Namespace) -> None:
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    x, y = x[order] / 16, y[order]
    data = {"validation_data": (x[600:1000], y[600:1000]), "selection_data": (x[1000:], y[1000:])}
    tuner.search(x[:600], y[:600], batch_size=30, epochs=arguments.epochs, verbose=0, **data)


def rate(trials: list[Trial], first: int) -> float:
    """Meta-iterations a minute, from the beginning of number `first` to the end of the last."""
    iterations = [t.hyperparameters.values["drmad/iteration"] for t in trials]
    timed = [t.metrics for t, i in zip(trials, iterations, strict=True) if i >= first]
    seconds = max(m.get_best_value("ended") for m in timed)
    seconds -= min(m.get_best_value("began") for m in timed)
    return 60 * (max(iterations) + 1 - first) / seconds


if __name__ == "__main__":
    main()
