"""Small methods and data, and comparisons of them, for the tests of `compare`."""

from typing import Any

import keras
import keras_tuner
import numpy as np

from keras_drmad.tuners import Comparison, Method, compare

rng = np.random.default_rng(0)
X = rng.normal(size=(80, 3)).astype("float32")
Y = X @ np.array([1.0, -2.0, 0.5], "float32") + rng.normal(size=80).astype("float32")
TRAIN, VALIDATION, TEST = (X[:40], Y[:40]), (X[40:60], Y[40:60]), (X[60:], Y[60:])
L = keras.layers


class Quick(keras_tuner.HyperModel):
    """What `build` builds, trained by a few lines of NumPy: `fit` would take most of the time."""

    def build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        return build(hp)

    @np.errstate(all="ignore")  # of rates that are too high
    def fit(
        self, hp: keras_tuner.HyperParameters, model: keras.Model, x: Any, y: Any, **arguments: Any
    ) -> keras.callbacks.History:
        epochs, size = arguments["epochs"], arguments["batch_size"]
        history = keras.callbacks.History()
        callbacks = keras.callbacks.CallbackList(
            [history, *arguments["callbacks"]], model=model, epochs=epochs, steps=len(x) // size
        )
        rate, weights = hp.get("rate"), model.get_weights()
        callbacks.on_train_begin()
        for epoch in range(arguments.get("initial_epoch", 0), epochs):
            callbacks.on_epoch_begin(epoch)
            for step in range(len(x) // size):
                part = slice(step * size, (step + 1) * size)
                error = (x[part] @ weights[0] + weights[1])[:, 0] - y[part]
                weights[0] -= rate * 2 * x[part].T @ error[:, None] / size
                weights[1] -= rate * 2 * error.mean()
                callbacks.on_train_batch_end(step)
            model.set_weights(weights)
            tested, targets = arguments["validation_data"]
            residual = (tested @ weights[0] + weights[1])[:, 0] - targets
            callbacks.on_epoch_end(epoch, {"val_loss": float(np.mean(residual**2))})
            if model.stop_training:
                break
        callbacks.on_train_end()
        return history


def build(hp: keras_tuner.HyperParameters) -> keras.Model:
    rate = hp.Float("rate", 1e-3, 0.3, sampling="log", default=0.01)
    return compiled(keras.optimizers.SGD(rate))


def compiled(optimizer: keras.optimizers.Optimizer, eager: bool = True) -> keras.Model:
    """Eager: compiling would take most of the time."""
    model = keras.Sequential([L.Input((3,)), L.Dense(1, name="out")])
    model.compile(optimizer, "mse", run_eagerly=eager, jit_compile=False)
    return model


def make(folder: Any, methods: dict[str, Method], **arguments: Any) -> Comparison:
    defaults = {"train": TRAIN, "validation": VALIDATION, "test": TEST, "budget": 2, "seeds": 2}
    defaults |= {"epochs": 2, "batch_size": 20, "directory": str(folder), "verbose": 0}
    return compare(methods, **{**defaults, **arguments})


def random_search(**arguments: Any) -> Method:
    return Method(Quick(), keras_tuner.RandomSearch, **arguments)


def scores(comparison: Comparison, method: str = "tuned", seed: int = 0) -> list[float | None]:
    of = [o for o in comparison.outcomes if (o.method, o.seed) == (method, seed)]
    return [trial.score for trial in of[0].trials]
