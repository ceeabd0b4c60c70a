"""Learning rates and weight decays of each layer of a small attention model, learned under AdamW.

Reads scikit-learn's digits as sequences of eight rows, and trains the same model twice from the same
start: with Keras's AdamW at a learning rate that is too low, and with `DrMADAdamW` from there. Prints
both test errors, and what was learned.

    python examples/adamw_digits.py
"""

import argparse

import quiet  # noqa: F401 (first: TensorFlow's libraries have much to say)

# isort: split
import keras
import numpy as np
from sklearn.datasets import load_digits

from keras_drmad import DrMADAdamW, LearnHyperparameters


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    train, hyper, test = digits(arguments.seed)
    print("Test error")
    for name, optimizer, callbacks in (
        ("fixed hyperparameters", keras.optimizers.AdamW(arguments.learning_rate), []),
        (
            "learned hyperparameters",
            DrMADAdamW(arguments.learning_rate),
            [LearnHyperparameters(hyper, horizon=25)],
        ),
    ):
        keras.utils.set_random_seed(arguments.seed)
        model = attention()
        model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
        fit = {"batch_size": 32, "epochs": arguments.epochs, "verbose": 0}
        model.fit(*train, **fit, callbacks=callbacks)
        accuracy = model.evaluate(*test, verbose=0)[1]
        print(f"{name:26}{1 - accuracy:7.2%}", flush=True)

    print(f"\n{'layer':26}{'learning rate':>14}{'weight decay':>14}")
    for layer, values in model.optimizer.hyperparameters.items():
        print(f"{layer:26}{values['learning_rate']:14.2e}{values['weight_decay']:14.2e}")


def digits(seed):
    """Training, hyper and test set. The hyper set is what the hyperparameters are learned from."""
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(x))
    x, y = x[order].astype("float32").reshape(-1, 8, 8) / 16, y[order]
    return (x[:800], y[:800]), (x[800:1200], y[800:1200]), (x[1200:], y[1200:])


def attention():
    inputs = keras.layers.Input((8, 8))
    rows = keras.layers.Dense(32, name="embed")(inputs)
    attended = keras.layers.MultiHeadAttention(2, 16, name="attention")(rows, rows)
    rows = keras.layers.LayerNormalization(name="norm")(rows + attended)
    outputs = keras.layers.Dense(10, activation="softmax", name="output")
    return keras.Model(inputs, outputs(keras.layers.Flatten()(rows)))


if __name__ == "__main__":
    main()
