"""What cannot be differentiated twice is refused by name; what can be, is not."""

import threading

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from repeated_training import Training, both, check, compiled, mlp, normal, vectors

from keras_drmad import LearnHyperparameters, hypergradient
from keras_drmad.engine.second_derivatives import mended


def resizing(interpolation, *, first=False, **options):
    if interpolation == "nearest":
        resize = layers.UpSampling2D(2, interpolation="nearest")
    else:
        resize = layers.Resizing(3, 3, interpolation=interpolation, name="resize")
    resize = keras.Sequential([resize], name="inner")
    conv = layers.Conv2D(2, 3, padding="same", activation="tanh", name="conv")
    model = keras.Sequential([keras.Input((4, 4, 1))])
    for layer in (resize, conv) if first else (conv, resize):
        model.add(layer)
    model.add(layers.Flatten())
    model.add(layers.Dense(2))
    return compiled(model, **options), (normal(30, 4, 4, 1), normal(30, 2))


@pytest.mark.parametrize("mode", ["graph", "XLA", "eager"])
@pytest.mark.parametrize(
    ("interpolation", "operation"),
    # TensorFlow says that bicubic cannot be differentiated twice; of bilinear it says "zero".
    [("bicubic", "ResizeBicubicGrad"), ("bilinear", "ResizeBilinearGrad")],
)
def test_what_cannot_be_differentiated_twice_is_named(interpolation, operation, mode):
    model, data = resizing(interpolation, run_eagerly=mode == "eager")
    before = [v.numpy() for v in model.variables]
    with pytest.raises(ValueError, match=rf"'resize' \(Resizing\).*twice.*{operation}"):
        hypergradient(model, *both(data), jit_compile=mode == "XLA", verbose=0)
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


@pytest.mark.usefixtures("collected")
def test_fit_names_what_cannot_be_differentiated_twice():
    model, data = resizing("bicubic")
    model.optimizer.learn = ("l2",)
    train, validation = both(data)
    with pytest.raises(ValueError, match=r"'resize' \(Resizing\).*twice"):
        model.fit(*train, verbose=0, callbacks=[LearnHyperparameters(validation)])


def test_a_loss_that_cannot_be_differentiated_twice_is_named():
    def loss(y_true, y_pred):
        return tf.reduce_mean(tf.image.resize(y_pred[:, None, :, None], (1, 3)), axis=(1, 2, 3))

    with pytest.raises(ValueError, match=r"^The loss .*twice.*ResizeBilinearGrad"):
        hypergradient(compiled(mlp(3), loss), *both(vectors(30)), verbose=0)


@pytest.mark.parametrize(("interpolation", "first"), [("nearest", False), ("bicubic", True)])
def test_resizing_that_can_be_differentiated_is_not_refused(interpolation, first, float64):
    model, data = resizing(interpolation, first=first)
    check(Training(model, *both(data)))


def test_what_xla_does_not_have_is_compiled_without_it():
    model = keras.Sequential([keras.Input((4, 4, 1)), layers.Resizing(3, 3, "bicubic")])
    model.add(layers.Flatten())
    model.add(layers.Dense(2))
    data = both((normal(30, 4, 4, 1), normal(30, 2)))
    found = Training(compiled(model), *data, jit_compile="auto").run()
    assert np.isfinite(found.validation_loss)
    with pytest.raises(tf.errors.InvalidArgumentError, match="ResizeBicubic"):
        hypergradient(model, *data, jit_compile=True, verbose=0)


def test_tensorflow_is_mended_in_the_threads_that_are_inside_only():
    original, x = (tf.nn.moments, tf.stop_gradient), tf.constant([[1.0], [3.0]])

    def curvature():
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as tape:
                tape.watch(x)
                variance = tf.nn.moments(x, [0])[1]
            gradient = tape.gradient(variance, x)
        return outer.gradient(gradient, x).numpy().tolist()

    before, seen = curvature(), {}
    first_in, second_in, first_out = (threading.Event() for _ in range(3))

    def first():
        with mended():
            first_in.set()
            second_in.wait(20)
        first_out.set()

    def second():
        first_in.wait(20)
        seen["outside"] = curvature()
        with mended(), mended():
            second_in.set()
            first_out.wait(20)
            seen["inside"] = curvature()
        seen["after"] = curvature()

    threads = [threading.Thread(target=target) for target in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tf.nn.moments, tf.stop_gradient) == original
    assert seen["outside"] == seen["after"] == before
    assert seen["inside"] == [[0.0], [0.0]] != before  # rows of [[½, −½], [−½, ½]] sum to 0
