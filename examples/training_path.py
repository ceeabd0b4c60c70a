"""The way that the weights go during training, beside the lines that DrMAD takes instead.

    python examples/training_path.py [--output out]

Trains an MLP 784-32-10 on 4000 images of MNIST, with and without batch normalization, and a third time
with learned hyperparameters. Writes four pictures: losses on the line between first and last weights
(Goodfellow et al., arXiv 1412.6544), the distance from that line, the trajectory in its plane with the
loss along three paths, and the learned hyperparameters. Takes about a minute.
"""

import argparse
import pathlib

import quiet  # noqa: F401 (first: TensorFlow's libraries have much to say)

# isort: split
import keras
import matplotlib

from keras_drmad import DrMADSGD, LearnHyperparameters, plots

L = keras.layers
EPOCHS = 8


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("out"))
    folder = parser.parse_args().output
    folder.mkdir(parents=True, exist_ok=True)
    matplotlib.use("Agg")  # needs no screen

    data = mnist()
    plain, plain_path = trained(data["training"], [])
    normed, normed_path = trained(data["training"], [L.BatchNormalization()])

    axes = plots.interpolation(plain, plain_path, data, label="plain")
    plots.interpolation(
        normed, normed_path, data, label="batch norm", statistics="recomputed", ax=axes
    )
    axes[0].set_yscale("log")
    save(axes[0], folder / "interpolation.png")

    ax = plots.residual(plain_path, label="plain")
    plots.residual(normed_path, label="batch norm", ax=ax)
    save(ax, folder / "residual.png")

    _, (left, right) = matplotlib.pyplot.subplots(
        1, 2, figsize=(12, 4.8), layout="constrained", width_ratios=(1.2, 1)
    )
    plots.trajectory(plain, plain_path, data, ax=left)
    plots.path_loss(plain, plain_path, data, ax=right)
    save(left, folder / "trajectory.png")

    save(plots.hyperparameters(learned(data))[0], folder / "hyperparameters.png")


def mnist():
    """4000 images to train on, and 1000 for the hyper set."""
    (x, y), _ = keras.datasets.mnist.load_data()
    x, y = x[:5000].reshape(-1, 784).astype("float32") / 255, y[:5000]
    return {"training": (x[:4000], y[:4000]), "hyper": (x[4000:], y[4000:])}


def trained(train, layers, optimizer=None, callbacks=(), epochs=EPOCHS):
    """A trained model, and its path."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            L.Input((784,)),
            L.Dense(32, name="hidden"),
            *layers,
            L.Activation("tanh"),
            L.Dense(10, name="output"),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer or keras.optimizers.SGD(0.1, momentum=0.9), loss, metrics=["accuracy"])
    record = plots.RecordPath()
    model.fit(*train, batch_size=50, epochs=epochs, verbose=0, callbacks=[record, *callbacks])
    return model, record.path


def learned(data):
    """The history of a training with learned hyperparameters."""
    learn = LearnHyperparameters(data["hyper"], horizon=20)
    optimizer = DrMADSGD(0.02, momentum=0.9, l2=1e-4)
    model, _ = trained(data["training"], [], optimizer, [learn], epochs=12)
    return model.history


def save(ax, file):
    ax.figure.savefig(file, dpi=100)
    print(f"Saved {file}")


if __name__ == "__main__":
    main()
