"""A learned learning rate policy on scikit-learn's digits: table and picture in some minutes.

    python examples/qan_digits.py [--trials 200] [--seed 0] [--folder FOLDER] [--output FILE]

1280 training and 517 validation images, an MLP 64-64-10, batch 16, starting at a learning rate of 0.01:
training steps until 96.5 % validation accuracy, at most 640. A search that is started again with
the same `--folder` goes on.
"""

import argparse
import pathlib
import tempfile

import quiet  # noqa: F401 (first: TensorFlow's libraries have much to say)

# isort: split
import keras
import matplotlib
import numpy as np
from sklearn.datasets import load_digits

from keras_drmad.tuners import Policy, QANTuner
from keras_drmad.tuners.qan import plots

L = keras.layers


def build_model(hp=None):
    model = keras.Sequential([L.Input((64,)), L.Dense(64, "relu"), L.Dense(10, "softmax")])
    optimizer = keras.optimizers.SGD(0.01, momentum=0.9)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def data():
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    x, y = (x[order] / 16).astype("float32"), y[order]
    return (x[:1280], y[:1280]), (x[1280:], y[1280:])


def make_tuner(trials, folder, seed=0):
    return QANTuner(
        build_model,
        goal=("val_accuracy", 0.965),
        max_trials=trials,
        decision_every=10,
        directory=str(folder.parent),
        project_name=folder.name,
        seed=seed,
    )


def search(tuner, verbose=1):
    train, validation = data()
    tuner.search(*train, batch_size=16, epochs=8, validation_data=validation, verbose=verbose)


def picture(tuner, path):
    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = 4 if tuner.oracle.actions.chooses_samples() else 3
    figure, axes = pyplot.subplots(1, panels, figsize=(5 * panels, 4), layout="constrained")
    plots.learning_curve(tuner, axes[0])
    plots.learning_rates(tuner, axes[1])
    plots.actions(tuner, axes[2:])
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--folder", type=pathlib.Path, help="defaults to a temporary one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=pathlib.Path, default="out/qan_digits.png")
    options = parser.parse_args()
    folder = options.folder or pathlib.Path(tempfile.mkdtemp()) / "qan_digits"
    tuner = make_tuner(options.trials, folder, options.seed)
    search(tuner)
    tuner.results_summary(0)
    picture(tuner, options.output)
    policy = options.output.with_suffix(".keras")
    tuner.get_best_policy().save(policy)
    print(f"Wrote {options.output} and {policy}. The policy in plain `fit`:")
    train, validation = data()
    callback = Policy.load(policy).as_callback(validation_data=validation)
    history = build_model().fit(*train, batch_size=16, epochs=3, callbacks=[callback], verbose=0)
    for epoch in range(3):
        rate, accuracy = (history.history[n][epoch] for n in ("learning_rate", "val_accuracy"))
        print(f"epoch {epoch + 1}: learning rate {rate:.3g}, validation accuracy {accuracy:.4f}")


if __name__ == "__main__":
    main()
