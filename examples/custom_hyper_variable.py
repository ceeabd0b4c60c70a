"""A hyperparameter of your own: one L2 coefficient for each weight of logistic regression on MNIST.

Any `keras.Variable` that the training loss reads can be learned. Here it holds 7840 coefficients,
read by a regularizer. Each meta-iteration trains from scratch on 1000 images, takes the derivatives
of the loss on 5000 other images by all 7840, and moves them with Adam. Saves a picture of the
coefficients: the network keeps the weights where strokes tell digits apart.

    python examples/custom_hyper_variable.py
    python examples/custom_hyper_variable.py --path reversible      # exact, as the RMAD paper has it
"""

import argparse
import pathlib

import quiet  # noqa: F401 (first: TensorFlow's libraries have much to say)

# isort: split
import keras
import numpy as np

from keras_drmad import DrMADSGD, hypergradient, paths

PATHS = {"means": paths.SegmentMeans(), "reversible": paths.Reversible()}


class PerWeightL2(keras.Regularizer):
    """Σ exp(log_l2) · w² / 2, with one coefficient for each weight."""

    def __init__(self, log_l2):
        self.log_l2 = log_l2

    def __call__(self, weights):
        return 0.5 * keras.ops.sum(keras.ops.exp(self.log_l2) * weights**2)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--meta-iterations", type=int, default=20)
    parser.add_argument("--steps", type=int, default=500, help="training steps of each")
    parser.add_argument("--l2", type=float, default=1e-3, help="coefficient to start from")
    parser.add_argument("--meta-learning-rate", type=float, default=0.2)
    parser.add_argument("--path", choices=PATHS, default="means")
    parser.add_argument("--output", type=pathlib.Path, default="out/custom_hyper_variable.png")
    arguments = parser.parse_args()

    keras.utils.set_random_seed(0)
    (x, y), (x_test, y_test) = keras.datasets.mnist.load_data()
    x, x_test = (a.reshape(-1, 784).astype("float32") / 255 for a in (x, x_test))
    train, hyper, test = (x[:1000], y[:1000]), (x[1000:6000], y[1000:6000]), (x_test, y_test)

    initial = keras.initializers.Constant(np.log(arguments.l2))
    log_l2 = keras.Variable(initial, shape=(784, 10), name="log_l2")
    model = keras.Sequential(
        [
            keras.layers.Input((784,)),
            keras.layers.Dense(10, kernel_regularizer=PerWeightL2(log_l2)),
        ]
    )
    model.compile(
        optimizer=DrMADSGD(learning_rate=0.05, learn=()),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.optimizer.build(model.trainable_variables)
    start = model.get_weights()
    meta_optimizer = keras.optimizers.Adam(arguments.meta_learning_rate)

    print("meta-iteration   hyper loss   test error")
    for iteration in range(arguments.meta_iterations + 1):
        model.set_weights(start)  # trains from scratch
        model.optimizer.reset()
        result = hypergradient(
            model,
            train,
            hyper,
            steps=arguments.steps,
            batch_size=50,
            path=PATHS[arguments.path],
            hyper_variables=[log_l2],
            seed=iteration,  # another order of the batches each time
            verbose=0,
        )
        error = 1 - model.evaluate(*test, batch_size=1000, verbose=0, return_dict=True)["accuracy"]
        print(f"{iteration:14} {result.validation_loss:12.4f} {error:12.2%}", flush=True)
        if iteration < arguments.meta_iterations:
            meta_optimizer.apply(result.hyper_variables, [log_l2])

    picture(log_l2.numpy() / np.log(10), arguments.output)
    print(f"Saved {arguments.output}")


def picture(log10_l2, output):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 5, figsize=(10, 4.6), layout="constrained")
    limits = {"vmin": log10_l2.min(), "vmax": log10_l2.max()}
    for digit, ax in enumerate(axes.flat):
        image = ax.imshow(log10_l2[:, digit].reshape(28, 28), cmap="viridis", **limits)
        ax.set(title=f"class {digit}", xticks=[], yticks=[])
    figure.colorbar(image, ax=axes, label="log₁₀ of the L2 coefficient", shrink=0.9)
    figure.suptitle("Learned L2 of each weight of logistic regression on MNIST")
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=120)


if __name__ == "__main__":
    main()
