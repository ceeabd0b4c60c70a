"""`DrMADTuner` on scikit-learn's digits: each layer's hyperparameters, and the network's width.

A random choice of the width begins a run of meta-iterations, each of which trains from scratch and
moves all learning rates, momenta and L2 coefficients at once. Trials are compared on a selection
set. The best optimizer then trains longer, on training and hyper set together, beside one that was
not tuned, with three seeds; the test set has had no part in anything before.

    python examples/tuner_digits.py
"""

import argparse
import itertools
import pathlib

import quiet  # noqa: F401 (first: TensorFlow's libraries have much to say)

# isort: split
import keras
import keras_tuner
import matplotlib
import numpy as np
from sklearn.datasets import load_digits

from keras_drmad import DrMADSGD, plots
from keras_drmad.tuners import DrMADTuner


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--epochs", type=int, default=10, help="of each trial")
    parser.add_argument("--final-epochs", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=pathlib.Path, default="out/tuner_digits")
    arguments = parser.parse_args()

    matplotlib.use("Agg")  # needs no screen
    train, hyper, selection, test = digits(arguments.seed)
    tuner = DrMADTuner(
        build_model,
        max_trials=arguments.trials,
        meta_iterations=arguments.trials // 2,  # of each width
        seed=arguments.seed,
        directory=str(arguments.folder.parent),
        project_name=arguments.folder.name,
        overwrite=True,
    )
    print(f"{arguments.trials} trainings of {arguments.epochs} epochs …", flush=True)
    data = {"validation_data": hyper, "selection_data": selection}
    tuner.search(*train, **data, batch_size=30, epochs=arguments.epochs, verbose=0)
    tuner.results_summary(3)
    picture = arguments.folder.with_suffix(".png")
    plots.search(tuner)[0].figure.savefig(picture, dpi=100)
    print(f"\nSaved {picture}. Learned:")
    for group, values in tuner.get_best_models()[0].optimizer.hyperparameters.items():
        for kind, value in values.items():  # of rates and momenta a schedule: a value each knot
            print(f"{group:8} {kind:14}" + "".join(f"{v:9.3g}" for v in np.atleast_1d(value)))

    both = [np.concatenate(parts) for parts in zip(train, hyper, strict=True)]
    best = tuner.get_best_hyperparameters()[0]  # the width; what was learned is in the optimizer
    steps = arguments.final_epochs * -(-len(both[0]) // 30)
    print(f"\nTest error after {arguments.final_epochs} epochs, 3 seeds, and their mean")
    for name in ("untuned", "tuned"):
        errors = []
        for seed in range(arguments.seed, arguments.seed + 3):
            optimizer = tuner.get_best_optimizer(steps) if name == "tuned" else None
            keras.utils.set_random_seed(seed)
            model = build_model(best, optimizer)
            model.optimizer.learn = ()  # it only trains
            model.fit(*both, batch_size=30, epochs=arguments.final_epochs, verbose=0)
            errors.append(1 - model.evaluate(*test, verbose=0)[1])
        print(f"{name:8}" + "".join(f"{e:8.2%}" for e in [*errors, np.mean(errors)]))


def digits(seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Training, hyper, selection and test set."""
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(x))
    x, y = x[order] / 16, y[order]
    parts = (0, 500, 800, 1000, len(x))
    return [(x[a:b], y[a:b]) for a, b in itertools.pairwise(parts)]


def build_model(hp: keras_tuner.HyperParameters, optimizer: DrMADSGD | None = None) -> keras.Model:
    width = hp.Choice("width", [16, 64])
    names = ("first", "second")
    hidden = [keras.layers.Dense(width, activation="relu", name=name) for name in names]
    output = keras.layers.Dense(10, name="output")
    model = keras.Sequential([keras.layers.Input((64,)), *hidden, output])
    model.compile(
        optimizer=optimizer or DrMADSGD(learning_rate=0.01, momentum=0.9, l2=1e-4),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


if __name__ == "__main__":
    main()
