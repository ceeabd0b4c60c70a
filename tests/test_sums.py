"""Sums over whole tensors, against NumPy's in float64."""

import numpy as np
import pytest
import tensorflow as tf

from keras_drmad import sums

# Below a window, cut into rows, a prime (which does not divide), several dimensions, and many rows.
SHAPES = [(7,), (50,), (1009,), (31, 40), (3, 5, 64), (400, 300)]


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_sums_are_those_of_numpy(dtype):
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=shape).astype(dtype) for shape in SHAPES]
    tensors = [tf.constant(a) for a in arrays]
    exact = [a.astype("float64") for a in arrays]
    tolerance = {"float16": 1e-3, "float32": 1e-5, "float64": 1e-12}[dtype]
    for tensor, array in zip(tensors, exact, strict=True):
        size = np.abs(array).sum()
        assert abs(float(sums.total(tensor)) - array.sum()) < tolerance * size
    products = sum(np.sum(a * a) for a in exact)
    assert float(sums.inner(tensors, tensors)) == pytest.approx(products, rel=tolerance)
    assert float(sums.norm(tensors)) == pytest.approx(np.sqrt(products), rel=tolerance)


def test_the_widest_dtype_counts():
    found = sums.norm([tf.constant([3.0]), tf.constant([4.0], "float64")])
    assert found.dtype == tf.float64 and float(found) == 5.0


@pytest.mark.parametrize("shape", [(), (31, 1)])
def test_a_scaled_tensor_has_the_derivatives_of_a_product(shape):
    rng = np.random.default_rng(0)
    x, upstream = (tf.constant(rng.normal(size=(31, 40))) for _ in range(2))
    by = tf.constant(rng.normal(size=shape))
    found = []
    for times in (sums.scaled, tf.multiply):
        with tf.GradientTape() as tape:
            tape.watch((x, by))
            y = times(x, by)
        found.append([y, *tape.gradient(y, (x, by), output_gradients=upstream)])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
