"""Every kind of Keras model: its exact hypergradient against central differences in float64."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from keras_drmad import DrMADSGD, LearnHyperparameters, hypergradient, paths

STEPS, BATCH = 6, 5


def normal(*shape, seed=0):
    return np.random.default_rng((seed, *shape)).normal(size=shape)


def compiled(model, loss="mse", *, run_eagerly=False, jit_compile="auto", **options):
    """`model`, with a `DrMADSGD` whose L2 and momentum matter within a few steps."""
    optimizer = DrMADSGD(0.05, momentum=0.8, l2=0.01, learn=())
    model.compile(optimizer, loss, run_eagerly=run_eagerly, jit_compile=jit_compile, **options)
    return model


class Training:
    """Hypergradients of a model that is trained again and again from one start.

    Variables are put back rather than models rebuilt, so nothing is compiled again.
    """

    def __init__(self, model, train, validation, jit_compile=False):
        self.model, self.data, self.jit_compile = model, (train, validation), jit_compile
        self._differentiate(paths.Stored())  # the start has velocities and statistics
        (engine,) = model.optimizer.engines.by_key.values()
        seeds = engine.objective.random  # Keras's global seed is no variable of the model
        self.variables = [*model.variables, *model.optimizer.variables, *seeds]
        self.start = [v.numpy() for v in self.variables]

    def _differentiate(self, path):
        batch_size = BATCH if isinstance(self.data[0], tuple) else None
        return hypergradient(
            self.model,
            *self.data,
            steps=STEPS,
            path=path,
            batch_size=batch_size,
            seed=1,
            jit_compile=self.jit_compile,
            verbose=0,
        )

    def restore(self):
        for variable, value in zip(self.variables, self.start, strict=True):
            variable.assign(value)

    def run(self, path=None, shift=(), hyperparameters=None):
        """The hypergradient from the start, its weights shifted and its hyperparameters set."""
        self.restore()
        for weight, by in zip(self.model.trainable_variables, shift, strict=bool(shift)):
            weight.assign_add(by)
        self.model.optimizer.set_hyperparameters(hyperparameters or {})
        return self._differentiate(path or paths.Stored())


def check(training, rel=1e-6):
    """Derivatives along a random direction in the weights and in each kind of hyperparameter."""
    found = training.run()
    assert np.isfinite(found.validation_loss) and not found.diverged
    values = training.model.optimizer.hyperparameters
    rng = np.random.default_rng(3)

    shift = [rng.normal(size=g.shape) for g in found.initial_weights]
    size = np.sqrt(sum(np.sum(s**2) for s in shift))
    shift = [s / size for s in shift]
    expected = sum(np.sum(s * g) for s, g in zip(shift, found.initial_weights, strict=True))
    slope = central(lambda h: training.run(shift=[h * s for s in shift]))
    assert slope == pytest.approx(expected, rel=rel), "initial weights"

    for kind in ("learning_rate", "momentum", "l2"):
        # Relative changes: the kinds' sizes differ.
        moves = {group: rng.uniform(0.5, 1) * rng.choice([-1, 1]) for group in values}
        expected = sum(found.gradients[g][kind] * values[g][kind] * moves[g] for g in moves)

        def bumped(h, kind=kind, moves=moves):
            new = {g: {kind: values[g][kind] * (1 + h * moves[g])} for g in moves}
            return training.run(hyperparameters=new)

        assert central(bumped) == pytest.approx(expected, rel=rel), kind
    return found


def central(function, h=1e-5):
    """Derivative of the validation loss at 0."""
    return (function(h).validation_loss - function(-h).validation_loss) / (2 * h)


# -- the models ------------------------------------------------------------------------------


def mlp(*hidden):
    model = keras.Sequential([keras.Input((4,))])
    for width in hidden:
        model.add(layers.Dense(width, activation="tanh"))
    model.add(layers.Dense(2))
    return model


def vectors(samples):
    return normal(samples, 4), normal(samples, 2, seed=1)


def both(data, train=20):
    """Training and validation data out of one structure of arrays."""
    return tuple(
        tf.nest.map_structure(lambda a, s=s: a[s], data) for s in (np.s_[:train], np.s_[train:])
    )


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
        dense(kernel_regularizer=lambda w: 0.1 * keras.ops.mean(w**4)),
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


# -- what cannot be differentiated twice -----------------------------------------------------


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
