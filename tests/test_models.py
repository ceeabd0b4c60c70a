"""Every kind of Keras model: its exact hypergradient against central differences in float64."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from repeated_training import BATCH, STEPS, Training, both, check, compiled, mlp, normal, vectors

from keras_drmad import paths


def conv_batchnorm_dropout():
    model = keras.Sequential(
        [
            keras.Input((5, 5, 2)),
            layers.Conv2D(3, 3, activation="tanh"),
            # Fast statistics: within a few steps the validation loss depends on the batches' own.
            layers.BatchNormalization(momentum=0.6),
            layers.Dropout(0.3),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(2),
        ]
    )
    return compiled(model), (normal(30, 5, 5, 2), normal(30, 2))


def attention():
    inputs = keras.Input((4, 6))
    x = layers.LayerNormalization()(inputs)
    x = inputs + layers.MultiHeadAttention(2, 3, dropout=0.2)(x, x)
    x = layers.Dense(4, activation="gelu")(x)
    outputs = layers.Dense(3, activation="softmax")(layers.GlobalAveragePooling1D()(x))
    model = compiled(keras.Model(inputs, outputs), "sparse_categorical_crossentropy")
    return model, (normal(30, 4, 6), np.arange(30) % 3)


def recurrent(layer, **options):
    def case():
        model = keras.Sequential(
            [keras.Input((4,), dtype="int32"), layers.Embedding(6, 3, **options)]
        )
        model.add(layer(3))
        model.add(layers.Dense(1, activation="sigmoid"))
        tokens = np.random.default_rng(0).integers(0, 6, (30, 4)).astype("int32")
        return compiled(model, "binary_crossentropy"), (tokens, (tokens.sum(1) % 2)[:, None])

    return case


def two_in_two_out(as_dict):
    def case():
        a, b = keras.Input((3,), name="a"), keras.Input((2,), name="b")
        shared = layers.Dense(4, activation="silu")
        x = layers.Concatenate()([shared(a), shared(layers.Dense(3)(b))])
        kind = layers.Dense(3, activation="softmax", name="kind")(x)
        size = layers.Dense(1, name="size")(x)
        x, y = (normal(30, 3), normal(30, 2)), (np.arange(30) % 3, normal(30, 1))
        losses, loss_weights = ["sparse_categorical_crossentropy", "mse"], [0.3, 2.0]
        if not as_dict:
            model = keras.Model([a, b], [kind, size])
            return compiled(model, losses, loss_weights=loss_weights), (x, y)

        def named(keys, values):
            return dict(zip(keys, values, strict=True))

        outputs = ("kind", "size")
        model = keras.Model({"a": a, "b": b}, {"kind": kind, "size": size})
        losses, loss_weights = named(outputs, losses), named(outputs, loss_weights)
        data = (named("ab", x), named(outputs, y))
        return compiled(model, losses, loss_weights=loss_weights), data

    return case


class Residual(keras.Model):
    def __init__(self):
        super().__init__()
        self.blocks = [layers.Dense(4, activation="tanh") for _ in range(2)]
        self.drop, self.out = layers.Dropout(0.2), layers.Dense(2)

    def call(self, x, training=False):
        for block in self.blocks:
            x = x + self.drop(block(x), training=training)
        return self.out(x)


class Penalty(layers.Layer):
    def call(self, x):
        self.add_loss(0.3 * keras.ops.mean(x**4))
        return x


class GlobalNoise(layers.Layer):
    """Noise from Keras's global seed: the layer has no seed generator of its own."""

    def call(self, x, training=False):
        return x + 0.3 * keras.random.normal(keras.ops.shape(x), dtype=x.dtype) if training else x


def sequential(*parts, loss="mse"):
    def case():
        model = keras.Sequential([keras.Input((4,)), *(part() for part in parts), layers.Dense(2)])
        return compiled(model, loss), vectors(30)

    return case


def subclassed():
    return compiled(Residual()), vectors(30)


def custom_loss():
    def loss(y_true, y_pred):
        return keras.ops.logsumexp((y_true - y_pred) ** 2, axis=-1)

    return compiled(mlp(4), loss), vectors(30)


def sample_weights():
    x, y = vectors(30)
    return compiled(mlp(4)), (x, y, np.random.default_rng(0).uniform(0.1, 2, 30))


class Fourth(keras.regularizers.Regularizer):
    def __call__(self, w):
        return 0.1 * keras.ops.mean(w**4)


def dense(**options):
    return lambda: layers.Dense(4, activation="tanh", **options)


CASES = {
    "dense": lambda: (compiled(mlp(5, 4)), vectors(28)),
    "conv, batch norm, dropout": conv_batchnorm_dropout,
    "layer norm, attention": attention,
    "embedding, LSTM": recurrent(layers.LSTM),
    "embedding, GRU, mask": recurrent(layers.GRU, mask_zero=True),
    "dicts": two_in_two_out(as_dict=True),
    "lists": two_in_two_out(as_dict=False),
    "subclassed": subclassed,
    "custom loss": custom_loss,
    "add_loss": sequential(dense(), Penalty),
    "regularizers": sequential(
        dense(kernel_regularizer=keras.regularizers.L2(0.1), activity_regularizer="l2"),
        dense(kernel_regularizer=Fourth()),
    ),
    "sample weights": sample_weights,
    # Under XLA the same seeds would give other masks than `fit` draws without it.
    "dropout, global seed": sequential(dense(), lambda: layers.Dropout(0.3), GlobalNoise),
    "batch and group norm": sequential(
        dense(),
        lambda: layers.BatchNormalization(momentum=0.6),
        dense(),
        lambda: layers.GroupNormalization(2),
    ),
}
PENALIZED = ("add_loss", "regularizers")


AUTO = ("dense", "conv, batch norm, dropout", "dropout, global seed")


@functools.cache  # compiled once for all tests
def training_of(name):
    model, data = CASES[name]()
    # Most cases spare XLA's compilation.
    return Training(model, *both(data), jit_compile="auto" if name in AUTO else False)


@pytest.mark.parametrize("name", CASES)
def test_exact_hypergradient_agrees_with_central_differences(name, float64):
    training = training_of(name)
    found = check(training)
    model = training.model
    x, y, *weights = training.data[1]
    training.run()
    if name in PENALIZED:  # trained on penalties, not validated on them
        loss = np.mean((model(x) - y) ** 2)
    else:
        loss = model.evaluate(x, y, BATCH, 0, *weights, return_dict=True)["loss"]
    assert loss == pytest.approx(found.validation_loss, rel=1e-10)


def test_moving_statistics_carry_a_part_of_the_hypergradient(float64, monkeypatch):
    training = training_of("conv, batch norm, dropout")
    with_statistics = training.run()
    (engine,) = training.model.optimizer.engines.by_key.values()
    validation = engine._validation

    def without(*arguments):
        loss, adjoint = validation(*arguments)
        return loss, adjoint._replace(state=[tf.zeros_like(s) for s in adjoint.state])

    monkeypatch.setattr(engine, "_validation", without)
    difference = vector(with_statistics) - vector(training.run())
    assert np.linalg.norm(difference) > 0.01 * np.linalg.norm(vector(with_statistics))


def vector(found):
    """All derivatives in one vector."""
    hyper = [v for entries in found.gradients.values() for v in entries.values()]
    return np.concatenate([np.ravel(g) for g in (*found.initial_weights, *hyper)])


def test_frozen_layers_stay_and_have_no_hyperparameters(float64):
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(4, activation="tanh", name="first"),
            layers.BatchNormalization(name="norm"),
            layers.Dense(4, activation="tanh", name="second"),
            layers.Dense(2, name="third"),
        ]
    )
    for name in ("first", "norm"):
        model.get_layer(name).trainable = False
    training = Training(compiled(model), *both(vectors(30)))
    frozen = [v.numpy() for v in model.non_trainable_variables]
    found = check(training)
    assert list(found.gradients) == ["second", "third"]
    assert len(found.initial_weights) == len(model.trainable_variables) == 4
    for before, after in zip(frozen, model.non_trainable_variables, strict=True):
        np.testing.assert_array_equal(before, after.numpy())


# -- the same training as `fit` --------------------------------------------------------------


@pytest.mark.parametrize("name", ["dense", "conv, batch norm, dropout", "dropout, global seed"])
def test_trains_as_fit_does(name, float64):
    # Each test has another global seed generator.
    training = (training_of.__wrapped__ if "global" in name else training_of)(name)
    model, arrays = training.model, training.data
    train, validation = (tf.data.Dataset.from_tensor_slices(a).batch(BATCH) for a in arrays)
    training.data = (train, validation)
    training.run()
    training.data = arrays
    ours = [v.numpy() for v in training.variables]
    training.restore()
    model.fit(train.repeat(), steps_per_epoch=STEPS, shuffle=False, verbose=0)
    metrics = {id(v) for v in model.metrics_variables}
    for value, variable in zip(ours, training.variables, strict=True):
        if id(variable) not in metrics:
            np.testing.assert_allclose(value, variable.numpy(), rtol=1e-10, atol=1e-10)


def test_exact_paths_agree(float64):
    model, data = CASES["dense"]()
    training = Training(model, *both(data))
    stored = training.run()
    scale = np.abs(vector(stored)).max()
    for path in (paths.Checkpointed(), paths.Reversible()):
        other = training.run(path)
        assert other.validation_loss == pytest.approx(stored.validation_loss, rel=1e-9)
        np.testing.assert_allclose(
            vector(other), vector(stored), rtol=1e-9, atol=1e-9 * scale, err_msg=repr(path)
        )


# -- precision -------------------------------------------------------------------------------


def test_mixed_bfloat16_is_close_to_float32():
    def found(dtype):
        keras.utils.set_random_seed(0)
        parts = [
            layers.Dense(8, activation="tanh", dtype=dtype),
            layers.LayerNormalization(dtype=dtype),
            layers.Dense(2, dtype=dtype),
        ]
        model = compiled(keras.Sequential([keras.Input((4,)), *parts]))
        return vector(Training(model, *both(vectors(30))).run())

    full, mixed = found("float32"), found("mixed_bfloat16")
    assert full.dtype == mixed.dtype  # float32 variables either way
    assert np.all(np.isfinite(mixed)) and np.any(mixed != full)
    assert full @ mixed > 0.95 * np.linalg.norm(full) * np.linalg.norm(mixed)
