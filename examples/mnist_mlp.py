"""The DrMAD paper's experiment: 934 L2 coefficients of an MLP on MNIST, one for each input unit.

Each meta-iteration trains a 784-50-50-50-10 network from scratch for 2000 steps of 50 images, takes
the derivatives of the loss on other images by all coefficients, and moves them on the log scale.
The paper (https://arxiv.org/abs/1601.00917) goes from 15.1 % to 8.4 % test error in 20
meta-iterations. What it starts from is not known to us; here 10 000 training images and L2
coefficients that are too large give about 15 %. The error of a single run moves by a percent or so
with the order of the batches, which is another one in each meta-iteration.

    python examples/mnist_mlp.py            # Adam on the log scale, path SegmentMeans()
    python examples/mnist_mlp.py --sign     # the paper's updates: a fixed step along the sign
    python examples/mnist_mlp.py --sign --path linear     # and the paper's path
"""

import argparse

import quiet  # noqa: F401 (first: TensorFlow's libraries have much to say)

# isort: split
import keras
import numpy as np

from keras_drmad import DrMADSGD, Sign, hypergradient, paths


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--meta-iterations", type=int, default=20)
    parser.add_argument("--steps", type=int, default=2000, help="training steps of each")
    parser.add_argument("--sign", action="store_true", help="move by the sign of the hypergradient")
    parser.add_argument("--path", choices=["means", "linear"], default="means")
    parser.add_argument("--l2", type=float, default=0.03, help="coefficient to start from")
    parser.add_argument("--learning-rate", type=float, default=0.03)
    parser.add_argument("--train-samples", type=int, default=10_000)
    parser.add_argument(
        "--meta-learning-rate", type=float, default=0.3, help="step on the log scale"
    )
    arguments = parser.parse_args()

    keras.utils.set_random_seed(0)
    (x, y), (x_test, y_test) = keras.datasets.mnist.load_data()
    x, x_test = (a.reshape(-1, 784).astype("float32") / 255 for a in (x, x_test))
    train = x[: arguments.train_samples], y[: arguments.train_samples]
    hyper = x[50_000:], y[50_000:]

    dense = [keras.layers.Dense(50, activation="tanh") for _ in range(3)]
    model = keras.Sequential([keras.layers.Input((784,)), *dense, keras.layers.Dense(10)])
    optimizer = DrMADSGD(arguments.learning_rate, l2=arguments.l2, per="unit", learn="l2")
    model.compile(
        optimizer=optimizer,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    optimizer.build(model.trainable_variables)
    start = model.get_weights()

    def l2():
        return {g: entry["l2"] for g, entry in optimizer.hyperparameters.items() if "l2" in entry}

    print(f"{sum(c.size for c in l2().values())} hyperparameters: {', '.join(l2())}")
    sign_or_adam = Sign if arguments.sign else keras.optimizers.Adam
    meta_optimizer = sign_or_adam(arguments.meta_learning_rate)
    path = paths.Linear() if arguments.path == "linear" else paths.SegmentMeans()

    print("meta-iteration   hyper loss   test error   (paper: 15.1 % before, 8.4 % after 20)")
    for iteration in range(arguments.meta_iterations + 1):
        model.set_weights(start)  # trains from scratch
        optimizer.reset()
        result = hypergradient(
            model,
            train,
            hyper,
            steps=arguments.steps,
            batch_size=50,
            path=path,
            seed=iteration,  # another order of the batches each time
            verbose=0,
        )
        scores = model.evaluate(x_test, y_test, batch_size=1000, verbose=0, return_dict=True)
        note = f"   diverged, adjoint grew {result.growth:.0e}-fold" * result.diverged
        print(
            f"{iteration:14} {result.validation_loss:12.4f} {1 - scores['accuracy']:12.2%}{note}",
            flush=True,
        )
        if iteration == arguments.meta_iterations:
            break
        # The paper moves by the sign however large the derivatives have grown.
        if arguments.sign or not result.diverged:
            optimizer.move_hyperparameters(result.gradients, meta_optimizer)

    print("\nLearned L2 coefficients      least     median   greatest")
    for group, coefficients in l2().items():
        least, median, greatest = np.quantile(coefficients, [0, 0.5, 1])
        print(f"{group:25}{least:9.1e}  {median:9.1e}  {greatest:9.1e}")


if __name__ == "__main__":
    main()
