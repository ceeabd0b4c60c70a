"""A learned learning rate policy on MNIST, used afterwards in plain `fit` on another data set.

    python examples/qan_mnist.py [--mini-batches] [--trials 300] [--folder out/qan_mnist]

20 000 training and 5 000 validation images, an MLP 784-128-10, batch 128, starting at a learning rate of
0.005: training steps until 96.5 % validation accuracy, at most 1570. 300 episodes take about a
quarter of an hour. A search that is started again in the same folder goes on; one with other options
needs another folder. With `--mini-batches` the
policy also chooses whether the next samples are those of the epoch's order or the hardest of them.

What it has learned is then tried, without learning again, on Fashion-MNIST (85 %), beside the best
schedule that the search has found on MNIST.
"""

import argparse
import pathlib

import quiet  # noqa: F401 (first: TensorFlow's libraries have much to say)

# isort: split
import keras
from qan_digits import picture

from keras_drmad.tuners import Actions, Policy, QANTuner

L = keras.layers


def build_model(hp=None):
    model = keras.Sequential([L.Input((784,)), L.Dense(128, "relu"), L.Dense(10, "softmax")])
    optimizer = keras.optimizers.SGD(0.005, momentum=0.9)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def data(name):
    (x, y), _ = getattr(keras.datasets, name).load_data()
    x = x[:25_000].reshape(-1, 784).astype("float32") / 255
    return (x[:20_000], y[:20_000]), (x[20_000:], y[20_000:25_000])


def steps_until(goal, train, validation, policy, seed):
    """How many training steps `fit` takes to a goal; 1570 at most."""
    keras.utils.set_random_seed(seed)
    model = build_model()
    steered = policy.as_callback(validation, goal=goal, stop=True)
    x, y = train
    data = {"x": x, "y": y, "batch_size": 128}
    if policy.actions.chooses_samples():
        data = {"x": steered.batches(model, x, y, batch_size=128), "shuffle": False}
    model.fit(**data, epochs=10, callbacks=[steered], verbose=0)
    return int(model.optimizer.iterations)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--mini-batches", action="store_true")
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("out/qan_mnist"))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    actions = Actions()
    if options.mini_batches:
        actions = Actions((0.5, 1.0, 2.0), sample_selection=("uniform", "hardest"))
    tuner = QANTuner(
        build_model,
        goal=("val_accuracy", 0.965),
        max_trials=options.trials,
        decision_every=20,
        actions=actions,
        directory=str(options.folder.parent),
        project_name=options.folder.name,
        seed=options.seed,
    )
    train, validation = data("mnist")
    tuner.search(*train, batch_size=128, epochs=10, validation_data=validation)
    tuner.results_summary(0)
    picture(tuner, options.folder / "qan_mnist.png")
    path = options.folder / "policy.keras"
    tuner.get_best_policy().save(path)
    print(f"Wrote {path} and {options.folder / 'qan_mnist.png'}.")

    of = {"policy": Policy.load(path), "best schedule": tuner.get_best_policy("schedule")}
    train, validation = data("fashion_mnist")
    print("Steps until 85 % on Fashion-MNIST, with what was learned on MNIST:")
    for seed in range(3):
        goal = ("val_accuracy", 0.85)
        steps = {n: steps_until(goal, train, validation, p, seed) for n, p in of.items()}
        print(f"  seed {seed}: " + ", ".join(f"{name} {taken}" for name, taken in steps.items()))


if __name__ == "__main__":
    main()
