"""A film of filters that are trained, as one of 2007 that gave QAN its idea.

    python examples/filters.py [--output out]

Trains two small convolutional networks on 5000 images of Fashion-MNIST, from other weights and in
another order. The second film shows each filter beside the one of the first that it is most like.
Writes `filters.gif` and `filters_aligned.gif`, and the last frames of both runs as `filters.png`.
Takes about a minute.
"""

import argparse
import pathlib

import quiet  # noqa: F401 (first: TensorFlow's libraries have much to say)

# isort: split
import keras
import matplotlib

from keras_drmad import plots

L = keras.layers


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("out"))
    folder = parser.parse_args().output
    matplotlib.use("Agg")  # needs no screen

    first = plots.FilterAnimation(folder / "filters.gif")
    second = plots.FilterAnimation(folder / "filters_aligned.gif", reference=first)
    own_order = plots.FilterAnimation(folder / "filters_second.gif")
    train(0, [first])
    train(1, [second, own_order])

    shown = {"first run": first, "second run": own_order, "second run, aligned": second}
    figure, axes = matplotlib.pyplot.subplots(1, 3, figsize=(9, 3.3), layout="constrained")
    for ax, (title, film) in zip(axes, shown.items(), strict=True):
        ax.imshow(film.frames[-1], cmap="gray", vmin=0, vmax=255)
        ax.set_title(title)
        ax.axis("off")
    figure.savefig(folder / "filters.png", dpi=100)
    print(f"Saved filters.gif, filters_aligned.gif, filters_second.gif, filters.png in {folder}")


def train(seed, callbacks):
    (x, y), _ = keras.datasets.fashion_mnist.load_data()
    x, y = x[:5000, ..., None].astype("float32") / 255, y[:5000]
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            L.Input((28, 28, 1)),
            L.Conv2D(25, 7, strides=2, activation="relu", kernel_regularizer="l2"),
            L.MaxPooling2D(),
            L.Flatten(),
            L.Dense(10),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.003), loss)
    model.fit(x, y, batch_size=50, epochs=8, verbose=0, callbacks=callbacks)


if __name__ == "__main__":
    main()
