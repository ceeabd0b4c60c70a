"""Filters that are filmed while they are trained."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_drmad.plots import FilterAnimation, filters

pytestmark = pytest.mark.slow

L = keras.layers
RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 6, 6, 1)).astype("float32")
Y = RNG.normal(size=(24, 1)).astype("float32")


def make(channels=1, filters=5):
    conv = L.Conv2D(filters, 3, activation="relu", name="conv")
    model = keras.Sequential(
        [L.Input((6, 6, channels)), conv, L.Flatten(name="flatten"), L.Dense(1, name="out")]
    )
    model.compile("sgd", "mse", jit_compile=False)
    return model


def fit(model, film, x=X, epochs=1):
    model.fit(x, Y, batch_size=4, epochs=epochs, verbose=0, callbacks=[film])
    return film


def test_frames_are_the_filters_of_their_steps(tmp_path):
    model = make()
    kernels = [np.array(model.layers[0].kernel)]
    spy = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: kernels.append(np.array(model.layers[0].kernel))
    )
    film = FilterAnimation(tmp_path / "a" / "filters.gif", every=2, zoom=1)
    model.fit(X, Y, batch_size=4, verbose=0, callbacks=[spy, film])
    shown = np.stack(kernels[::2])  # 6 steps: 0, 2, 4, 6
    np.testing.assert_array_equal(film.images[..., 0], np.moveaxis(shown[-1][:, :, 0], -1, 0))
    largest = np.abs(shown).max(axis=(0, 1, 2, 3))
    assert len(film.frames) == 4
    for frame, kernel in zip(film.frames, shown, strict=True):
        assert frame.shape == (2 * 4 + 1, 3 * 4 + 1, 1)  # two rows of three, one pixel between
        for i in range(5):
            top, left = 4 * (i // 3) + 1, 4 * (i % 3) + 1
            part = frame[top : top + 3, left : left + 3, 0]
            expected = kernel[:, :, 0, i] / largest[i] * 127 + 128
            np.testing.assert_allclose(part, expected, atol=1)
    with Image.open(tmp_path / "a" / "filters.gif") as gif:
        assert gif.n_frames == 4
        assert gif.size == (13, 9)
        assert gif.info["loop"] == 0
        gif.seek(3)
        read = np.asarray(gif.convert("L"))
    np.testing.assert_allclose(read, film.frames[-1][..., 0].astype("int16"), atol=8)


def test_max_frames_keep_both_ends(tmp_path):
    film = FilterAnimation(tmp_path / "filters.gif", max_frames=4)
    fit(make(), film, epochs=3)
    assert [step for step, _ in film.taken] == [0, 8, 16, 18]
    assert len(film.frames) == 4


def test_filters_are_aligned_with_a_reference(tmp_path):
    """The same training with its filters in another order is the same film."""
    model, other = make(), make()
    order = np.array([3, 0, 4, 1, 2])
    other.layers[0].set_weights([w[..., order] for w in model.layers[0].get_weights()])
    kernel, bias = model.layers[2].get_weights()
    shuffled = kernel.reshape(16, 5, 1)[:, order].reshape(80, 1)
    other.layers[2].set_weights([shuffled, bias])
    film = FilterAnimation(tmp_path / "a.gif")
    aligned = FilterAnimation(tmp_path / "b.gif", reference=film)
    again = FilterAnimation(tmp_path / "c.gif", reference=aligned)
    for one, callback in ((model, film), (other, aligned)):
        one.fit(X, Y, batch_size=4, verbose=0, shuffle=False, callbacks=[callback])
    np.testing.assert_allclose(aligned.images, film.images, atol=1e-5)
    plain = np.moveaxis(other.layers[0].get_weights()[0], -1, 0)
    assert np.abs(plain - film.images).max() > 0.1
    # A reference that is aligned itself counts in the order in which it is shown.
    fit(other, again)
    np.testing.assert_allclose(again.images, film.images, atol=0.3)


def test_matching_is_the_best_of_all():
    """The first filter does not take the best match of the second."""
    reference = np.array([[1.0, 0.0], [0.9, 0.5]]).reshape(2, 1, 2, 1)
    images = np.array([[0.5, 1.0], [1.0, 0.3]]).reshape(2, 1, 2, 1)
    assert filters.aligned(images * 7, reference).tolist() == [1, 0]
    assert filters.aligned(reference, reference).tolist() == [0, 1]


def test_colours_and_channels():
    kernel = RNG.normal(size=(2, 4, 3, 6))
    images = filters.images_of(kernel, None, None)
    assert images.shape == (6, 2, 4, 3)
    np.testing.assert_array_equal(images[5], kernel[..., 5])
    kernel = RNG.normal(size=(2, 4, 5, 6))
    images = filters.images_of(kernel, None, None)
    assert images.shape == (30, 2, 4, 1)
    np.testing.assert_array_equal(images[7, ..., 0], kernel[:, :, 1, 1])


def test_depthwise_filters_have_no_colours(tmp_path):
    x = RNG.normal(size=(8, 6, 6, 3)).astype("float32")
    model = keras.Sequential([L.Input((6, 6, 3)), L.DepthwiseConv2D(3, name="conv"), L.Flatten()])
    model.compile("sgd", "mse", jit_compile=False)
    film = FilterAnimation(tmp_path / "depthwise.gif", layer="conv")
    model.fit(x, np.zeros((8, 48)), verbose=0, callbacks=[film])
    kernel = np.array(model.layers[0].kernel)
    np.testing.assert_array_equal(film.images[..., 0], np.moveaxis(kernel[..., 0], -1, 0))


def test_filters_are_apart_however_large():
    picture = filters.grid(np.ones((4, 2, 2, 1)), np.ones(4), zoom=20)
    gap = 20 // filters.GAP
    assert picture.shape == (2 * 40 + 3 * gap, 2 * 40 + 3 * gap, 1)


def test_dense_kernels_are_images():
    kernel = RNG.normal(size=(24, 5))
    images = filters.images_of(kernel, (4, 6), None)
    np.testing.assert_array_equal(images[2, ..., 0], kernel[:, 2].reshape(4, 6))
    assert filters.images_of(kernel, None, (6, 4)).shape == (5, 6, 4, 1)
    assert filters.images_of(kernel, (4, 2, 3), None).shape == (5, 4, 2, 3)
    assert filters.images_of(RNG.normal(size=(16, 5)), None, (16,)).shape == (5, 4, 4, 1)
    assert filters.images_of(RNG.normal(size=(12, 5)), None, None).shape == (5, 2, 2, 3)


def test_a_dense_layer_by_name_and_by_itself(tmp_path):
    model = make()
    for layer in ("out", model.get_layer("out")):
        film = FilterAnimation(tmp_path / "out.gif", layer=layer, shape=(8, 10))
        assert fit(model, film).images.shape == (1, 8, 10, 1)


def test_layers_within_layers_are_found(tmp_path):
    inner = keras.Sequential([L.Conv2D(2, 3, name="deep"), L.Flatten()])
    model = keras.Sequential([L.Input((6, 6, 1)), inner, L.Dense(1)])
    model.compile("sgd", "mse", jit_compile=False)
    assert filters.layer_of(model, None).name == "deep"
    assert filters.layer_of(model, "deep").name == "deep"


def test_images_for_tensorboard(tmp_path):
    film = FilterAnimation(tmp_path / "a.gif", every=3, to_tensorboard=tmp_path / "logs")
    fit(make(), film)
    steps = [
        event.step
        for file in (tmp_path / "logs").iterdir()
        for event in tf.compat.v1.train.summary_iterator(str(file))
        for value in event.summary.value
        if value.tag == "filters/conv"
    ]
    assert steps == [0, 3, 6]


def test_max_filters(tmp_path):
    film = fit(make(), FilterAnimation(tmp_path / "a.gif", max_filters=2))
    assert len(film.images) == 2


def test_training_is_the_same_with_it(tmp_path):
    weights = []
    for callbacks in ([], [FilterAnimation(tmp_path / "a.gif")]):
        keras.utils.set_random_seed(0)
        model = make()
        model.fit(X, Y, verbose=0, callbacks=callbacks)
        weights.append(model.get_weights())
    for a, b in zip(*weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_training_that_diverges_is_filmed(tmp_path):
    model = make()
    model.optimizer.learning_rate = 1e30
    reference = np.asarray(model.layers[0].kernel)
    film = fit(model, FilterAnimation(tmp_path / "a.gif", reference=reference))
    assert not np.isfinite(film.images).all()
    assert len(film.frames) == 7
    assert film.frames[0].std() > 0


def test_refusals(tmp_path):
    def refused(message, **options):
        with pytest.raises(ValueError, match=message):
            fit(make(), FilterAnimation(**{"file": tmp_path / "a.gif"} | options))

    refused("`every` must be a positive integer", every=0)
    refused("`max_frames` must be an integer, 2 or more", max_frames=1)
    refused("`max_filters` must be", max_filters=0)
    refused("`zoom` must be", zoom=0)
    refused("`duration` must be", duration=0)
    refused("`file` must be in a folder that can be written", file="/dev/null/a.gif")
    refused("`file` must end in .gif", file=tmp_path / "a.png")
    refused("`layer` must be one of the model's.*conv.*out", layer="none")
    refused("`layer` must have a kernel", layer="flatten")
    # Built, and of another model: its filters would never change.
    other = make()
    refused("`layer` must be one of the model's.*'conv', which is not in it", layer=other.layers[0])
    refused("`layer` must be one of the model's", layer=L.Conv2D(5, 3))
    (tmp_path / "folder.gif").mkdir()
    refused("`file` must be the name of a file", file=tmp_path / "folder.gif")
    refused("`shape` must be given: the 80 inputs", layer="out")
    refused("`shape` must be .height, width.", layer="out", shape=(8, 8))
    refused("`reference` must have filters of shape", reference=np.ones((3, 3, 1, 4)))
    refused("`reference` must have been trained", reference=FilterAnimation(tmp_path / "b.gif"))
    with pytest.raises(ValueError, match="no Conv2D and no Dense"):
        filters.layer_of(keras.Sequential([L.Input((3,)), L.Rescaling(2.0)]), None)
