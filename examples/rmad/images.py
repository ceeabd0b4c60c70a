"""10 learned training images: what would you show a network once, to teach it the ten digits?

Logistic regression is trained on ten images, one a class, that begin blank. The images are the
hyperparameters (7840 pixels): they are moved so that the trained network is right on real digits. The
picture shows them (the paper's figure 7) for both paths.

    python examples/rmad/images.py
"""

import common
import keras
import numpy as np

from keras_drmad import DrMADSGD


@keras.saving.register_keras_serializable(package="keras_drmad_examples")
class TaughtByImages(keras.Model):
    """Logistic regression that sees its own ten images in training, and real ones otherwise."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.classify = keras.layers.Dense(10)

    def build(self, shape):
        self.images = self.add_weight(
            shape=(10, 784), initializer="zeros", trainable=False, name="images"
        )
        self.classify.build(shape)

    def call(self, inputs, training=False):
        if training:  # inputs say which of the images, in their first ten numbers
            inputs = keras.ops.matmul(inputs[:, :10], self.images)
        return self.classify(inputs)


def main():
    options = common.arguments(
        __doc__,
        "rmad_images",
        meta_iterations=40,
        steps=30,
        learning_rate=0.3,
        meta_learning_rate=0.03,
    )
    _, hyper, test = common.mnist(0, 10_000)
    train = np.eye(10, 784, dtype="float32"), np.arange(10)
    meta_optimizers = {}

    def make():
        model = TaughtByImages()
        model.build((None, 784))
        common.compiled(model, DrMADSGD(options.learning_rate, momentum=0.9, learn=()))
        meta_optimizers[model] = keras.optimizers.Adam(options.meta_learning_rate)
        return model, [model.images]

    def move(model, result):
        meta_optimizers[model].apply(result.hyper_variables, [model.images])

    models, errors = common.meta_optimize(
        make,
        move,
        (train, hyper, test),
        options.meta_iterations,
        steps=options.steps,
        batch_size=10,
    )

    fig, axes = common.figure(2, 10, figsize=(14, 3.4))
    for digit, ax in enumerate(axes[0]):
        ax.set_title(str(digit))
    for row, (name, model) in zip(axes, models.items(), strict=True):
        images = model.images.numpy()
        limit = np.abs(images).max()
        for digit, ax in enumerate(row):
            ax.imshow(images[digit].reshape(28, 28), cmap="RdBu", vmin=-limit, vmax=limit)
            ax.set(xticks=[], yticks=[])
        row[0].set_ylabel(f"{name}\n{errors[name][-1]:.1%} test error")
    common.save(fig, options.output)


if __name__ == "__main__":
    main()
