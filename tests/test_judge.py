"""The validation loss at the mean of the weights after each step, and its derivatives."""

import numpy as np
import pytest
from small_mlp import STEPS, XH, YH, mlp, restorable, run, slope

import keras_drmad
from keras_drmad import Knots, paths


@pytest.mark.parametrize(
    ("path", "arguments"),
    [
        (paths.Stored(), {"global_clipnorm": 0.1}),
        (paths.Checkpointed(), {"schedule": Knots(3, steps=STEPS)}),
        (paths.Reversible(), {}),
    ],
)
def test_the_loss_at_the_mean_iterate_is_exact(float64, path, arguments):
    """By every kind of hyperparameter, the initial weights and hyper-variables, through each path."""
    model = mlp(per="global", **arguments)
    strength, hidden = model.get_layer("weighted").strength, model.trainable_variables[0]
    restore = restorable(model)
    call = {"judge": "mean", "hyper_variables": [strength]}
    found = run(model, path, **call)
    restore()
    optimizer = model.optimizer
    ours = keras_drmad.hyperparameters.meta.by_displacement(
        optimizer, flat(optimizer, found.gradients)
    )
    slopes = [(d, ours[kind].numpy()) for kind, d in optimizer.displacements.items()]
    slopes += [(strength, found.hyper_variables[0]), (hidden, found.initial_weights[0])]
    for variable, gradient in slopes:
        direction = np.random.default_rng(0).normal(size=variable.shape)
        expected = slope(
            model,
            restore,
            paths.Stored(),
            lambda s, v=variable, d=direction: v.assign(v + s * d),
            1e-4,
            **call,
        )
        assert np.sum(gradient * direction) == pytest.approx(expected, rel=1e-6, abs=1e-11)


def flat(optimizer, gradients):
    vectors = {kind: np.zeros(size) for kind, size in optimizer.layout.sizes.items()}
    for _, kind, part, value in optimizer.layout.parse(gradients):
        optimizer.layout.write(vectors[kind], kind, part, value)
    vectors["learning_rate"] *= 0.1  # the global rate: displacements are of multipliers
    return vectors


def test_the_mean_iterate_is_that_of_the_weights_after_each_step():
    """The loss is that of a model with the mean of the weights of `fit`."""
    model = mlp()
    restore = restorable(model)
    loss = run(model, paths.Linear(), judge="mean").validation_loss
    seen = []
    for steps in range(1, STEPS + 1):
        restore()
        run(model, paths.Linear(), steps=steps)
        seen.append(model.get_weights())
    model.set_weights([np.mean(parts, axis=0) for parts in zip(*seen, strict=True)])
    model.get_layer("weighted").strength.assign(np.zeros(4))
    assert loss == pytest.approx(model.evaluate(XH, YH, verbose=0) - penalty(model), rel=1e-5)


def penalty(model):
    model(XH.astype("float32"))
    return float(sum(model.losses))


@pytest.mark.parametrize("path", [paths.SegmentMeans(), paths.Linear(backward_steps=4)])
def test_approximate_paths_judge_the_mean_of_training_itself(path):
    model = mlp(learning_rate=0.01)
    restore = restorable(model)
    exact = run(model, paths.Stored(), judge="mean", steps=8)
    restore()
    near = run(model, path, judge="mean", steps=8)
    assert near.validation_loss == pytest.approx(exact.validation_loss, rel=1e-5)
    ours, theirs = (
        np.array([g["learning_rate"] for g in found.gradients.values()]) for found in (near, exact)
    )
    assert ours @ theirs > 0.95 * np.linalg.norm(ours) * np.linalg.norm(theirs)
