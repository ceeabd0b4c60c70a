"""Around an optimizer's steps: accumulated gradients, and weights overwritten by averages."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_mlp import STEPS, XH, YH, X, Y, mlp, restorable, run, slope

from keras_drmad import (
    DrMADAdamW,
    DrMADSGD,
    LearnHyperparameters,
    compat,
    hypergradient,
    paths,
)
from keras_drmad.callbacks import window
from keras_drmad.callbacks.mover import Mover
from keras_drmad.data import as_batch, as_batches
from keras_drmad.engine import model_setup
from keras_drmad.engine.engine import Engine

layers = keras.layers

ACCUMULATES = {"gradient_accumulation_steps": 3}
NEVER = {"ema_overwrite_frequency": None}
OVERWRITES = {"use_ema": True, "ema_momentum": 0.6, "ema_overwrite_frequency": 2}
DECAYING = keras.optimizers.schedules.ExponentialDecay(0.1, 5, 0.5)
slow = pytest.mark.slow


@pytest.mark.parametrize(
    ("make", "arguments"),
    [
        (DrMADSGD, ACCUMULATES | {"clipnorm": 0.05}),
        pytest.param(DrMADSGD, OVERWRITES | {"weight_decay": 0.1}, marks=slow),
        pytest.param(DrMADAdamW, ACCUMULATES | {"learning_rate": DECAYING}, marks=slow),
        (DrMADAdamW, ACCUMULATES | OVERWRITES),
    ],
    ids=["SGD, accumulates", "SGD, overwrites", "AdamW, accumulates", "AdamW, both"],
)
def test_derivatives_are_exact(float64, make, arguments):
    """To 1e-6 of finite differences, over a training that ends within a step."""
    model = mlp(make, **arguments)
    optimizer, restore = model.optimizer, restorable(model)
    steps = {"steps": STEPS - 1}
    found = []
    for path in (paths.Stored(), paths.Checkpointed(every=4)):
        found.append(run(model, path, **steps))
        restore()
    mean = "momentum" if make is DrMADSGD else "beta_1"
    rate = optimizer.learning_rates(STEPS - 1)[-1]
    # Through the logit, and the logarithm.
    for kind, slope_of_scale in ((mean, 0.8 * 0.2), ("learning_rate", rate)):
        displacement = optimizer.displacements[kind]
        expected = slope(
            model,
            restore,
            paths.Stored(),
            lambda s, of=displacement: of.assign(of + s),
            1e-4,
            **steps,
        )
        for each in found:
            ours = sum(g[kind] * slope_of_scale for g in each.gradients.values())
            assert ours == pytest.approx(expected, rel=1e-6), kind
    kernel, gradient = model.trainable_variables[0], found[0].initial_weights[0]
    d = np.random.default_rng(0).normal(size=kernel.shape)
    bump = lambda s: kernel.assign(kernel + s * d)  # noqa: E731
    expected = slope(model, restore, paths.Stored(), bump, 1e-4, **steps)
    assert np.sum(gradient * d) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("arguments", "constraint"),
    [(ACCUMULATES | OVERWRITES, None), (OVERWRITES, 0.6), (OVERWRITES | NEVER, 0.6)],
    ids=["both", "overwrites constrained weights", "averages of constrained weights"],
)
def test_steps_are_those_of_keras(float64, arguments, constraint):
    """All variables, after a number of batches that ends within a step."""

    def made():
        keras.utils.set_random_seed(0)
        kernel = keras.constraints.MaxNorm(constraint) if constraint else None
        model = keras.Sequential(
            [layers.Input((5,)), layers.Dense(3, kernel_constraint=kernel), layers.Dense(1)]
        )
        model.compile(DrMADAdamW(0.3, learn=(), **arguments), "mse", jit_compile=False)
        return model

    ours, theirs = made(), made()
    hypergradient(
        ours,
        (X, Y),
        (XH, YH),
        batch_size=10,
        steps=5,
        seed=3,
        path=paths.Checkpointed(),
        jit_compile=False,
        verbose=0,
    )
    batches = as_batches((X, Y), 10, 3)
    for step in range(5):
        theirs.train_on_batch(*batches.batch(step)[:2])
    for model in (ours, theirs):
        assert int(model.optimizer.steps_taken()) == 5
    for a, b in zip(
        [*ours.variables, *ours.optimizer.variables],
        [*theirs.variables, *theirs.optimizer.variables],
        strict=True,
    ):
        if "loss" not in a.path and "metric" not in a.path:
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7, err_msg=a.path)


@pytest.mark.parametrize("arguments", [ACCUMULATES, OVERWRITES], ids=["accumulates", "overwrites"])
def test_windows_of_the_callback(monkeypatch, caplog, arguments):
    """Derivatives are those of `hypergradient`; windows end with steps of the optimizer."""
    found = []
    monkeypatch.setattr(model_setup, "prefers_xla", lambda *arguments: False)
    monkeypatch.setattr(Mover, "move", lambda mover, gradients, boldness: found.append(gradients))
    model, twin = mlp(**arguments), mlp(**arguments)
    for variable, other in zip(twin.optimizer.variables, model.optimizer.variables, strict=True):
        variable.assign(other)
    twin.set_weights(model.get_weights())
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(10)  # 5 batches
    exact = {"judge": "mean", "guard": False, "samples": 30}
    learn = LearnHyperparameters((XH, YH), horizon=5, **exact)
    model.fit(data, epochs=3, shuffle=False, verbose=0, callbacks=[learn])
    assert "skipped" not in caplog.text
    length = 6 if arguments is ACCUMULATES else 5
    assert len(found) == 15 // length
    for number, gradients in enumerate(found):
        batches = data.repeat(3).skip(number * length).take(length)
        expected = hypergradient(
            twin,
            batches,
            (XH, YH),
            path=paths.Stored(),
            judge="mean",
            jit_compile=False,
            verbose=0,
        ).gradients
        for kind, per_value in (("learning_rate", 0.1), ("momentum", 1.0), ("l2", 1.0)):
            ours = gradients[kind] / per_value
            theirs = [of[kind] for of in expected.values()]
            np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-6, err_msg=kind)


def test_a_training_that_begins_within_a_step():
    """Its first window is shorter, so that those after it end with steps."""
    optimizer = DrMADSGD(0.1, **ACCUMULATES)
    optimizer.build([keras.Variable([1.0], name="w")])
    compat.step_counter(optimizer).assign(4)
    engine = SimpleNamespace(path=None, optimizer=optimizer, read=lambda: None)
    going, lengths = window.Window(engine, 6), []
    for number in range(1, 12):
        going._rates.append(0.1)
        compat.step_counter(optimizer).assign(4 + number)
        if going.is_full:
            lengths.append(len(going))
            going = window.Window(engine, 6)
    assert lengths == [5, 6]


def test_a_window_that_is_taken_back_keeps_averages_and_no_gradients():
    model = mlp(**ACCUMULATES, **OVERWRITES)
    engine = Engine.of(
        model, as_batch((X[:16], Y[:16])), paths.Stored(), jit_compile=False, check=False
    )
    state = engine.read()
    state = state._replace(slots=tf.nest.map_structure(tf.ones_like, state.slots))
    rested = engine.rested(state).slots
    for name, value in (("velocity", 0), ("accumulated", 0), ("averages", 1)):
        np.testing.assert_array_equal(rested[name][0], np.full((5, 4), value))


@pytest.mark.parametrize(
    "path", [paths.SegmentMeans(), paths.Linear(), paths.Reversible()], ids=str
)
@pytest.mark.parametrize("arguments", [ACCUMULATES, OVERWRITES], ids=["accumulates", "overwrites"])
def test_paths_that_do_not_follow(path, arguments):
    name = list(arguments)[-1]
    with pytest.raises(ValueError, match=rf"{name}.*`path=keras_drmad.paths.Checkpointed\(\)`"):
        run(mlp(**arguments), path)


def test_layers_frozen_later_are_overwritten():
    model = mlp(**OVERWRITES)
    model.layers[0].trainable = False
    with pytest.raises(ValueError, match="frozen after the optimizer was built"):
        run(model, paths.Stored())


def test_large_models_are_trained_again(monkeypatch):
    """Rather than taken along a path that does not follow."""
    monkeypatch.setattr(window, "STORED_BYTES", 0)
    assert window.path_for(mlp(), mlp().optimizer, 10) == paths.SegmentMeans()
    accumulating = mlp(**ACCUMULATES)
    assert window.path_for(accumulating, accumulating.optimizer, 10) == paths.Checkpointed()
