"""A small MLP in whose hypergradients everything has a part, and how it is trained."""

import keras
import numpy as np

from keras_drmad import DrMADAdamW, DrMADSGD, hypergradient

layers = keras.layers
rng = np.random.default_rng(0)
X, Y = rng.normal(size=(50, 5)), rng.integers(0, 3, 50)
XH, YH = rng.normal(size=(30, 5)), rng.integers(0, 3, 30)
STEPS = 12
# With which every hyperparameter matters within a few steps.
ARGUMENTS = {
    DrMADSGD: {"learning_rate": 0.1, "momentum": 0.8, "l2": 0.01},
    DrMADAdamW: {"learning_rate": 0.03, "weight_decay": 0.2, "beta_1": 0.8, "beta_2": 0.9},
}


class Weighted(layers.Layer):
    """Adds Σ exp(strength) · input² to the loss: a hyper-variable that the training loss reads."""

    def build(self, shape):
        self.strength = self.add_weight(
            shape=shape[-1:], initializer="zeros", trainable=False, name="strength"
        )

    def call(self, inputs):
        self.add_loss(0.01 * keras.ops.mean(keras.ops.exp(self.strength) * inputs**2))
        return inputs


def mlp(make=DrMADSGD, **arguments):
    model = keras.Sequential(
        [
            layers.Input((5,)),
            layers.Dense(4, "tanh", name="hidden"),
            Weighted(name="weighted"),
            layers.Dense(3, name="out"),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(make(**ARGUMENTS[make] | arguments), loss)
    model.optimizer.build(model.trainable_variables)
    # Biases start at zero, where L2 has no gradient at first; and start with a velocity.
    state = np.random.default_rng(1)
    for variable in [*model.trainable_variables, *model.optimizer.slots["velocity"]]:
        push = 0.1 * state.normal(size=variable.shape)
        variable.assign(variable + (push if make is DrMADSGD else push**2))
    return model


def restorable(model):
    variables = [*model.variables, *model.optimizer.variables]
    values = [v.numpy() for v in variables]

    def restore():
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)

    return restore


def run(model, path, samples=48, **arguments):
    """Of whole batches, for others need programs of their own, unless there are 50 samples.

    Without XLA, whose programs take longer to compile than these runs take, unless asked for.
    """
    arguments = {
        "jit_compile": False,
        "steps": STEPS,
        "batch_size": 16,
        "seed": 3,
        "verbose": 0,
    } | arguments
    return hypergradient(model, (X[:samples], Y[:samples]), (XH, YH), path=path, **arguments)


def slope(model, restore, path, bump, size, **arguments):
    """Central difference of the validation loss when `bump(±size)` was applied at the start."""
    losses = []
    for signed in (size, -size):
        restore()
        bump(signed)
        losses.append(run(model, path, **arguments).validation_loss)
    restore()
    return (losses[0] - losses[1]) / (2 * size)
