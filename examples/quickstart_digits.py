"""One training learns its own learning rate, momentum and L2, from a bad start.

Trains a small network on handwritten digits from a learning rate that is far too small, and from one
that is far too large: once as they are, and once with `LearnHyperparameters`. Beside them stand five
learning rates set by hand, of which the one with the least loss on the hyper set counts. Prints a
table of test errors and saves a plot.

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

STARTS = (1e-4, 0.5)
BY_HAND = (0.001, 0.003, 0.01, 0.03, 0.1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--output", type=pathlib.Path, default="out/quickstart_digits.png")
    arguments = parser.parse_args()

    runs, by_hand = {}, []
    for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
        print(f"Seed {seed} …", flush=True)
        data = digits(seed)
        tried = [train(data, seed, arguments.epochs, rate, False) for rate in BY_HAND]
        by_hand.append(min(tried, key=lambda run: run["hyper_loss"]))
        for learn in (False, True):
            for rate in STARTS:
                run = train(data, seed, arguments.epochs, rate, learn)
                runs.setdefault((rate, learn), []).append(run)

    print("\nTest error of each seed" + "mean".rjust(8 * arguments.seeds + 20))
    for (rate, learn), found in runs.items():
        row(f"{'learned from' if learn else 'fixed at'} {rate:g}", found)
    row(f"fixed, best of {len(BY_HAND)} rates by hand", by_hand)
    plot(runs, by_hand, arguments.output)
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


def plot(runs, by_hand, output):
    import matplotlib

    matplotlib.use("Agg")  # needs no screen
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(10, 7), layout="constrained")
    curves, *panels = axes.flat
    lines = {
        (f"fixed at {rate:g}", f"C{i}", ":"): runs[rate, False] for i, rate in enumerate(STARTS)
    }
    lines |= {(f"learned from {r:g}", f"C{i}", "-"): runs[r, True] for i, r in enumerate(STARTS)}
    lines["best rate by hand", "0.4", "--"] = by_hand
    for (name, colour, style), found in lines.items():
        mean = np.mean([run["error"] for run in found], axis=0)
        epochs = np.arange(1, len(mean) + 1)
        curves.plot(epochs, 100 * mean, style, color=colour, linewidth=2, label=name)
    curves.set(ylabel="test error (%)", title="Learning curves")
    logarithmic(curves)

    kinds = {"learning_rate": "learning rate", "momentum": "momentum", "l2": "L2 coefficient"}
    for ax, (kind, name) in zip(panels, kinds.items(), strict=True):
        for i, rate in enumerate(STARTS):
            for layer, style in (("first", "-"), ("second", "--"), ("output", ":")):
                values = [run["history"][f"{layer}/{kind}"] for run in runs[rate, True]]
                label = f"from {rate:g}, {layer}"
                ax.plot(epochs, np.median(values, axis=0), style, color=f"C{i}", label=label)
        ax.set(ylabel=name, title=f"Learned {name} of each layer")
        if kind != "momentum":
            ax.set_yscale("symlog", linthresh=1e-6)  # an L2 coefficient may be 0
    for ax in axes.flat:
        ax.set_xlabel("epoch")
        ax.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
        ax.grid(alpha=0.3)
        ax.legend(fontsize="small")
    figure.suptitle(f"Digits: mean error and median hyperparameters of {len(by_hand)} seeds")
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
