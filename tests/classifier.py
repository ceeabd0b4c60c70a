"""A small classifier for tests of optimizers."""

import keras
import numpy as np

layers = keras.layers
rng = np.random.default_rng(0)
X = rng.normal(size=(400, 8)).astype("float32")
Y = rng.integers(0, 3, 400)


def classifier(optimizer, l2=0.0, jit_compile=False, **compile_arguments):
    """A small MLP; `l2` as Keras regularizers, for the twin that has no L2 of its own."""
    keras.utils.set_random_seed(1)
    penalty = keras.regularizers.L2(l2 / 2) if l2 else None
    regularizers = {"kernel_regularizer": penalty, "bias_regularizer": penalty}
    model = keras.Sequential(
        [
            layers.Input((8,)),
            layers.Dense(6, "tanh", name="hidden", **regularizers),
            layers.Dense(3, name="out", **regularizers),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, jit_compile=jit_compile, **compile_arguments)
    return model


def train(model, epochs=10):
    """20 steps an epoch; in one epoch for `fit`, as it takes long to begin one."""
    # In `fit` that would make everything be traced twice.
    model.optimizer.build(model.trainable_variables)
    keras.utils.set_random_seed(2)
    model.fit(np.tile(X, (epochs, 1)), np.tile(Y, epochs), batch_size=20, verbose=0)
    return model


def weights(model):
    return np.concatenate([v.numpy().ravel() for v in model.trainable_variables])
