"""Learning rates, momenta and L2 coefficients of each layer, learned while a network trains.

Trains the same small network on scikit-learn's digits with hyperparameters that stay where they are
and with learned ones, from the same start and with three seeds; prints a table of test errors and
saves a plot. A third row says what trying learning rates by hand would have given: three trainings,
of which the one with the least loss on the hyper set counts.

    python examples/quickstart_digits.py
"""

import argparse
import pathlib

import quiet  # noqa: F401 (first: TensorFlow's libraries have much to say)

# isort: split
import keras
import numpy as np
from sklearn.datasets import load_digits

from keras_drmad import DrMADSGD, LearnHyperparameters

LEARNING_RATE = 0.01
TRIED_BY_HAND = (0.01, 0.03, 0.1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--output", type=pathlib.Path, default="out/quickstart_digits.png")
    arguments = parser.parse_args()

    fixed, learned, by_hand = [], [], []
    for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
        print(f"Seed {seed} …", flush=True)
        data = digits(seed)
        tried = [train(data, seed, arguments.epochs, rate, False) for rate in TRIED_BY_HAND]
        fixed.append(tried[TRIED_BY_HAND.index(LEARNING_RATE)])
        by_hand.append(min(tried, key=lambda run: run["hyper_loss"]))
        learned.append(train(data, seed, arguments.epochs, LEARNING_RATE, True))

    print("\nTest error of each seed" + "mean".rjust(8 * arguments.seeds + 20))
    row("fixed hyperparameters", fixed)
    row("learned hyperparameters", learned)
    row("fixed, best of 3 learning rates", by_hand)
    plot(fixed, learned, arguments.output)
    print(f"\nSaved {arguments.output}")


def digits(seed):
    """Training, hyper and test set. The hyper set is what the hyperparameters are learned from."""
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(x))
    x, y = x[order] / 16, y[order]
    return (x[:600], y[:600]), (x[600:1000], y[600:1000]), (x[1000:], y[1000:])


def train(data, seed, epochs, learning_rate, learn):
    train_set, hyper_set, test_set = data
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.layers.Input((64,)),
            keras.layers.Dense(64, activation="relu", name="first"),
            keras.layers.Dense(64, activation="relu", name="second"),
            keras.layers.Dense(10, name="output"),
        ]
    )
    names = ("learning_rate", "momentum", "l2") if learn else ()
    model.compile(
        optimizer=DrMADSGD(learning_rate, momentum=0.9, l2=1e-4, learn=names),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    callbacks = []
    if learn:
        callbacks = [LearnHyperparameters(hyper_set)]
    history = model.fit(
        *train_set,
        batch_size=30,
        epochs=epochs,
        validation_data=test_set,
        validation_batch_size=len(test_set[1]),
        callbacks=callbacks,
        verbose=0,
    ).history
    return {
        "hyper_loss": model.evaluate(*hyper_set, batch_size=400, verbose=0)[0],
        "error": 1 - np.array(history["val_accuracy"]),  # after each epoch
        "history": history,
    }


def row(name, runs):
    errors = [run["error"][-1] for run in runs]
    print(f"{name:34}" + "".join(f"{e:8.2%}" for e in [*errors, np.mean(errors)]))


def plot(fixed, learned, output):
    import matplotlib

    matplotlib.use("Agg")  # needs no screen
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(10, 7), layout="constrained")
    curves, *panels = axes.flat
    epochs = np.arange(1, len(fixed[0]["error"]) + 1)
    for name, runs, colour in (("fixed", fixed, "0.4"), ("learned", learned, "C3")):
        for run in runs:
            curves.plot(epochs, 100 * run["error"], color=colour, alpha=0.25, linewidth=1)
        mean = np.mean([run["error"] for run in runs], axis=0)
        curves.plot(epochs, 100 * mean, color=colour, linewidth=2, label=f"{name} hyperparameters")
    curves.set(ylabel="test error (%)", title="Learning curves")
    logarithmic(curves)

    kinds = {"learning_rate": "learning rate", "momentum": "momentum", "l2": "L2 coefficient"}
    for ax, (kind, name) in zip(panels, kinds.items(), strict=True):
        for layer, colour in (("first", "C0"), ("second", "C1"), ("output", "C2")):
            values = np.array([run["history"][f"{layer}/{kind}"] for run in learned])
            ax.plot(epochs, values.T, color=colour, alpha=0.25, linewidth=1)
            ax.plot(epochs, np.median(values, axis=0), color=colour, linewidth=2, label=layer)
        ax.set(ylabel=name, title=f"Learned {name} of each layer")
        if values.max() > 2 * values.min():
            logarithmic(ax)
        else:
            ax.ticklabel_format(axis="y", scilimits=(-2, 3))
    for ax in axes.flat:
        ax.set_xlabel("epoch")
        ax.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
        ax.grid(alpha=0.3)
        ax.legend()
    figure.suptitle(f"Digits, {len(fixed)} seeds (thin lines) and their mean or median (thick)")
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=120)


def logarithmic(ax):
    from matplotlib import ticker

    ax.set_yscale("log")
    ax.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 3, 5)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter(ticker.NullFormatter())


if __name__ == "__main__":
    main()
