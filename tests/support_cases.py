"""What the rows of the table in `docs/reference/support.md` stand for: tiny trainings, by name."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import support_layers as own
import tensorflow as tf
from keras import layers
from support_layers import HYPER, TRAIN, X, Y, rng

from keras_drmad import DrMADAdamW, DrMADSGD, Knots, LearnHyperparameters, hypergradient, paths

QUICK = {"steps": 2, "batch_size": 8, "seed": 0, "jit_compile": False, "verbose": 0}


@dataclass
class Case:
    """A training by `hypergradient`, or by `fit` with the callback; `data()` is `(train, hyper)`."""

    model: Callable[[], keras.Model]
    data: Callable[[], tuple[Any, Any]] = lambda: (TRAIN, HYPER)
    options: Mapping[str, Any] = field(default_factory=dict)
    by_fit: bool = False
    replicas: bool = False  # whether it is made and trained on two devices

    def run(self, model: keras.Model) -> None:
        """Trains, and fails if the result is not finite, or is not one to go by."""
        train, hyper = self.data()
        if not self.by_fit:
            found = hypergradient(model, train, hyper, **{**QUICK, **self.options})
            assert np.isfinite(found.validation_loss) and not found.diverged
            assert all(np.isfinite(g).all() for g in found.initial_weights)
            return
        learn = LearnHyperparameters(hyper)
        history = model.fit(
            *train, batch_size=8, epochs=1, verbose=0, callbacks=[learn], **self.options
        )
        assert np.isfinite(history.history["hyper_loss"]).all()


def compiled(model: keras.Model, loss: Any = "mse", **optimizer: Any) -> keras.Model:
    options = {"learning_rate": 0.05, "l2": 1e-3, **optimizer}
    model.compile(DrMADSGD(**options), loss, jit_compile=False)
    return model


def small(
    *more: Callable[[], layers.Layer],
    model: Callable[[list[Any]], keras.Model] = keras.Sequential,
    loss: Any = "mse",
    constraint: Any = None,
    **optimizer: Any,
) -> Callable[[], keras.Model]:
    """One dense layer after some others: what is compiled most often, so the least that trains."""

    def build() -> keras.Model:
        last = layers.Dense(1, kernel_constraint=constraint)
        parts = [layers.Input((6,)), *(make() for make in more), last]
        return compiled(model(parts), loss, **optimizer)

    return build


def sequential(*parts: Callable[[], layers.Layer], loss: Any = "mse", **optimizer: Any) -> Any:
    return lambda: compiled(keras.Sequential([part() for part in parts]), loss, **optimizer)


def one(model: Callable[[], keras.Model] | None = None, **arguments: Any) -> list[Case]:
    return [Case(model or small(), **arguments)]


def each(options: list[dict[str, Any]], **arguments: Any) -> list[Case]:
    """A case for each of some settings of the optimizer."""
    return [Case(small(**of), **arguments) for of in options]


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).normal(size=shape).astype("float32")


def halves(*arrays: np.ndarray) -> Callable[[], tuple[Any, Any]]:
    """Training and hyper set from arrays of 16 samples."""
    return lambda: (tuple(a[:8] for a in arrays), tuple(a[8:] for a in arrays))


def on_both_sides(odd: Callable[[], Any]) -> list[Case]:
    """Data that are no batches, to train on and as the hyper set."""
    return [
        Case(small(), lambda: (odd(), HYPER)),
        Case(small(), lambda: (TRAIN, odd())),
    ]


# -- models ---------------------------------------------------------------------------------

adding, unreduced = map(keras.losses.MeanSquaredError, ("sum", "none"))
dense, flat = lambda: layers.Dense(1), layers.Flatten
images = (lambda: layers.Input((5, 5, 1)), lambda: layers.Conv2D(2, 3, activation="tanh"))
tokens = lambda: layers.Input((4,), dtype="int32")  # noqa: E731
embedding = lambda: layers.Embedding(6, 3, mask_zero=True)  # noqa: E731
rotating = lambda *of: sequential(*of, lambda: layers.RandomRotation(0.1), flat, dense)  # noqa: E731
IMAGES = halves(normal(16, 5, 5, 1), normal(16, 1))
TOKENS = halves(rng.integers(0, 6, (16, 4)).astype("int32"), normal(16, 1))
SEQUENCES = halves(normal(16, 3, 2), normal(16, 1))


def attention() -> keras.Model:
    inputs = layers.Input((3, 4))
    x = layers.MultiHeadAttention(1, 2, dropout=0.2)(inputs, inputs)
    return compiled(keras.Model(inputs, dense()(layers.GlobalAveragePooling1D()(inputs + x))))


def two_in_two_out() -> keras.Model:
    a, b = layers.Input((3,), name="a"), layers.Input((2,), name="b")
    x = layers.Concatenate()([layers.Dense(3)(a), layers.Dense(3)(b)])
    outputs = {"kind": layers.Dense(3, "softmax", name="kind")(x), "size": layers.Dense(1)(x)}
    model = keras.Model({"a": a, "b": b}, outputs)
    return compiled(model, {"kind": "sparse_categorical_crossentropy", "size": "mse"})


def named() -> tuple[Any, Any]:
    x = {"a": normal(8, 3), "b": normal(8, 2)}
    y = {"kind": np.arange(8) % 3, "size": normal(8, 1)}
    return (x, y), (x, y)


def autoencoder() -> keras.Model:
    inputs = layers.Input((6,))
    outputs = own.Squares()(layers.Dense(6)(inputs) - inputs)
    model = keras.Model(inputs, outputs)
    model.compile(DrMADSGD(0.05), jit_compile=False)
    return model


def stateful() -> keras.Model:
    inputs = layers.Input(batch_shape=(8, 3, 2))
    return compiled(keras.Model(inputs, dense()(layers.SimpleRNN(3, stateful=True)(inputs))))


def frozen(**optimizer: Any) -> keras.Model:
    model = small(lambda: layers.Dense(5, name="base"), **optimizer)()
    model.optimizer.build(model.trainable_variables)
    model.get_layer("base").trainable = False
    return model


def unfrozen() -> keras.Model:
    model = small(lambda: layers.Dense(5, name="base"))()
    model.get_layer("base").trainable = False
    model.optimizer.build(model.trainable_variables)
    model.get_layer("base").trainable = True
    return model


def half_precision(initial_scale: float) -> Callable[[], keras.Model]:
    def build() -> keras.Model:
        dtype = "mixed_float16"
        model = keras.Sequential(
            [layers.Input((6,)), layers.Dense(4, "tanh", dtype=dtype), layers.Dense(1, dtype=dtype)]
        )
        inner = DrMADSGD(0.05)
        scaled = keras.optimizers.LossScaleOptimizer(inner, initial_scale=initial_scale)
        model.compile(scaled, "mse", jit_compile=False)
        return model

    return build


def by(optimizer: Callable[[], Any]) -> Callable[[], keras.Model]:
    def build() -> keras.Model:
        model = small()()
        model.compile(optimizer(), "mse", jit_compile=False)
        return model

    return build


def of_dtype(dtype: str) -> Callable[[], keras.Model]:
    parts = lambda: layers.Dense(4, "tanh", dtype=dtype), dense
    return sequential(lambda: layers.Input((6,)), *parts)


# -- the rows -------------------------------------------------------------------------------

schedules = keras.optimizers.schedules
reversible = {"path": paths.Reversible()}
exact = {"path": paths.Checkpointed()}
ACCUMULATES = {"gradient_accumulation_steps": 2}
OVERWRITES = {"use_ema": True, "ema_overwrite_frequency": 2}

CASES: dict[str, list[Case]] = {
    # layers
    "dense layers": one(small(lambda: layers.Dense(4, "tanh"), lambda: layers.Dense(3, "relu"))),
    "convolutions and batch normalization": one(
        sequential(*images, layers.BatchNormalization, flat, dense), data=IMAGES
    ),
    "dropout and noise layers": one(
        small(lambda: layers.Dropout(0.3), lambda: layers.GaussianNoise(0.1), own.DrawsByKeras)
    ),
    "embeddings": one(sequential(tokens, lambda: layers.Embedding(6, 3), flat, dense), data=TOKENS),
    "recurrent layers": [
        Case(sequential(tokens, embedding, functools.partial(kind, 3), dense), TOKENS)
        for kind in (layers.SimpleRNN, layers.LSTM)
    ],
    "stateful recurrent layers, batches of a fixed size": one(
        stateful, data=SEQUENCES, options={"validation_batch_size": 8}
    ),
    "layer and group normalization": one(
        small(
            lambda: layers.Dense(4), layers.LayerNormalization, lambda: layers.GroupNormalization(2)
        )
    ),
    "attention": one(attention, data=halves(normal(16, 3, 4), normal(16, 1))),
    "several inputs and outputs": one(two_in_two_out, data=named),
    "layers of several dtypes": [Case(of_dtype(d)) for d in ("float64", "bfloat16", "float16")],
    "state in a Keras variable": one(small(own.Counts)),
    "a `tf.Variable` that a layer only reads": one(small(own.ReadsByHand)),
    "a `tf.Variable` that a layer changes": one(small(own.CountsByHand)),
    "`tf.random` or a `tf.random.Generator` in a layer": [
        Case(small(own.DrawsByHand)),
        Case(small(own.DrawsByGenerator)),
    ],
    "`tf.numpy_function` or `tf.py_function` in a layer": one(small(own.AsksPython)),
    "models whose `call` has no argument `training`": [
        Case(lambda of=of: compiled(of())) for of in (own.Untold, own.UntoldByKeywords)
    ],
    "`stop_gradient`": one(small(lambda: layers.Dense(3), own.Detaches)),
    "`stop_gradient` within a loop, a branch or a `tf.function`": one(small(own.DetachesInside)),
    "`custom_gradient`": one(small(lambda: layers.Dense(3), own.Reverses)),
    "layers that assign their trained variables": [
        Case(small(lambda: layers.SpectralNormalization(layers.Dense(6)))),
        Case(small(own.AssignsWhenCalled)),
    ],
    "bilinear and bicubic resizing after trained layers": [
        Case(
            sequential(*images, functools.partial(layers.Resizing, 2, 2, how), flat, dense),
            IMAGES,
        )
        for how in ("bilinear", "bicubic")
    ],
    "rotations of images before trained layers": one(rotating(images[0]), data=IMAGES),
    "rotations of images after trained layers": one(rotating(*images), data=IMAGES),
    # losses and training steps
    "`add_loss` without targets": one(autoencoder, data=lambda: (X[:16], X[16:])),
    '`reduction="sum"` or `"none"`': [Case(small(loss=of)) for of in (adding, unreduced)],
    "a `compute_loss` of one's own": one(small(model=own.OwnLoss)),
    "a `train_step` of one's own that trains as Keras's": one(small(model=own.AsKeras)),
    "a `train_step` of one's own that trains otherwise": [
        Case(small(model=own.Otherwise)),
        Case(small(model=own.Otherwise), by_fit=True),
    ],
    "targets that change with the weights, or do not sum to 1": one(small(model=own.Distils)),
    "`keras.losses.CTC`": one(
        sequential(lambda: layers.Input((6, 2)), lambda: layers.Dense(4), loss=keras.losses.CTC()),
        data=halves(normal(16, 6, 2), rng.integers(1, 4, (16, 2)).astype("int32")),
    ),
    # variables
    "frozen layers": one(frozen),
    "layers unfrozen after the optimizer was built": [
        Case(unfrozen),
        Case(unfrozen, by_fit=True),
    ],
    "weights that no gradient reaches": [
        Case(small(own.Idle, l2=0.1)),
        Case(small(own.Idle, weight_decay=0.1)),
    ],
    "constraints": one(small(constraint=keras.constraints.MaxNorm(0.5))),
    # optimizers
    "`DrMADAdamW`": [
        Case(by(lambda: DrMADAdamW(0.01))),
        Case(by(lambda: DrMADAdamW(0.01)), by_fit=True),
    ],
    "another optimizer than `DrMADSGD` or `DrMADAdamW`": [
        Case(by(kind), by_fit=by_fit)
        for kind in (keras.optimizers.SGD, keras.optimizers.Adam)
        for by_fit in (False, True)
    ],
    "an optimizer derived from `DrMADSGD` that steps otherwise": one(
        by(lambda: own.StepsTwice(0.05))
    ),
    "learning rate schedules": each(
        [
            {"learning_rate": of}
            for of in (
                own.Noam(),
                schedules.ExponentialDecay(0.05, 1, 0.5, staircase=True),
                schedules.InverseTimeDecay(0.05, 1, 0.5),
                schedules.PiecewiseConstantDecay([1], [0.05, 0.01]),
                schedules.PolynomialDecay(0.05, 2, 0.0),
                schedules.CosineDecay(0.0, 4, warmup_steps=2, warmup_target=0.1),
                schedules.CosineDecayRestarts(0.05, 2),
            )
        ]
    ),
    "learned schedules": each([{"schedule": Knots(2, steps=2)}]),
    "Nesterov momentum": each([{"nesterov": True}]),
    "`clipnorm`, `clipvalue`, `global_clipnorm`": each(
        [{"clipnorm": 0.05}, {"clipvalue": 0.02}, {"global_clipnorm": 0.1}]
    ),
    "`weight_decay`": each([{"weight_decay": 0.1}]),
    "`use_ema`": [
        Case(small(use_ema=True)),
        Case(small(use_ema=True, constraint=keras.constraints.MaxNorm(0.5)), options=exact),
    ],
    "`ema_overwrite_frequency`": [
        Case(small(**OVERWRITES), options=exact),
        Case(small(**OVERWRITES), by_fit=True),
    ],
    "`gradient_accumulation_steps`": [
        Case(small(**ACCUMULATES), options=exact),
        Case(small(**ACCUMULATES), by_fit=True),
    ],
    "`ema_overwrite_frequency` with layers that were frozen after the optimizer was built": one(
        lambda: frozen(**OVERWRITES), options=exact
    ),
    "`gradient_accumulation_steps` or `ema_overwrite_frequency` on several replicas": [
        Case(small(**ACCUMULATES), options=exact, replicas=True),
        Case(small(**OVERWRITES), by_fit=True, replicas=True),
    ],
    "`mixed_float16` with a dynamic loss scale": [
        Case(half_precision(scale), options={"steps": 8})
        for scale in (2.0**10, 2.0**24)  # from which the first steps overflow
    ],
    # paths
    "`Reversible()`": one(options=reversible),
    "`Reversible()` with `DrMADAdamW`": one(by(lambda: DrMADAdamW(0.01)), options=reversible),
    "`Checkpointed(slots=...)`": one(
        small(), options={"path": paths.Checkpointed(every=1, slots=1), "steps": 3}
    ),
    "`SegmentMeans()`, `Linear()` or `Reversible()` with `gradient_accumulation_steps`, "
    "`ema_overwrite_frequency`, or `use_ema` and constraints": [
        Case(small(**arguments), options={"path": path})
        for arguments in (
            ACCUMULATES,
            OVERWRITES,
            {"use_ema": True, "constraint": keras.constraints.MaxNorm(0.5)},
        )
        for path in (paths.SegmentMeans(), paths.Linear(), paths.Reversible())
    ],
    "`Reversible()` with Nesterov momentum, weight decay, constraints or idle weights": [
        Case(model, options=reversible)
        for model in (
            small(nesterov=True),
            small(weight_decay=0.1),
            small(constraint=keras.constraints.MaxNorm(0.5)),
            small(own.Idle),
        )
    ],
    # data
    "arrays": one(data=lambda: (TRAIN, HYPER)),
    "sample weights": one(
        data=lambda: ((*TRAIN, np.linspace(0.1, 2, 16)), (*HYPER, np.linspace(0.1, 2, 8)))
    ),
    "class weights of `fit`": one(
        sequential(
            lambda: layers.Input((6,)),
            lambda: layers.Dense(3, "softmax"),
            loss="sparse_categorical_crossentropy",
        ),
        data=lambda: ((X[:16], np.arange(16) % 3), (X[16:], np.arange(8) % 3)),
        by_fit=True,
        options={"class_weight": {0: 1.0, 1: 2.0, 2: 0.5}},
    ),
    "`tf.data.Dataset`": one(data=lambda: (own.dataset(), own.dataset())),
    "`keras.utils.PyDataset`": one(data=lambda: (own.Indexed(), own.Indexed())),
    "generators": one(data=lambda: (own.generated(), HYPER)),
    "batches of several lengths": one(
        sequential(lambda: layers.Input((None, 2)), lambda: layers.GlobalAveragePooling1D(), dense),
        data=lambda: (own.Padded(), (normal(4, 5, 2), normal(4, 1))),
        options={"steps": 6},
    ),
    "a hyper set in batches of a given size": one(options={"validation_batch_size": 3}),
    "a hyper set without an end": one(data=lambda: (TRAIN, own.endless())),
    "ragged tensors": on_both_sides(
        lambda: tf.data.Dataset.from_tensor_slices(
            (tf.ragged.constant([[1.0, 2.0], [3.0]] * 8), Y[:16])
        ).batch(4)
    ),
    "sparse tensors": on_both_sides(
        lambda: tf.data.Dataset.from_tensor_slices((tf.sparse.from_dense(X), Y)).batch(4)
    ),
    "text": on_both_sides(lambda: (np.array(["a", "b"] * 8), Y[:16])),
    "objects": on_both_sides(lambda: (np.array([{}, {}], dtype=object), Y[:2])),
    "complex numbers": on_both_sides(lambda: (X.astype("complex64"), Y)),
    "unbatched data": on_both_sides(lambda: tf.data.Dataset.from_tensor_slices((X[:, 0], Y[:, 0]))),
    # devices (of `DrMADTuner`: `test_tuner.test_two_devices_find_what_one_finds`)
    "`MirroredStrategy` with `hypergradient` or `DrMADTuner`": one(replicas=True),
    # (Of the others: `test_replicas.test_losses_that_keras_does_not_divide`.)
    "losses that are sums or one number, and a `compute_loss` of one's own, on several replicas": one(
        small(model=own.OwnLoss), replicas=True, by_fit=True
    ),
    "`synchronized=True` of layers on several replicas": one(
        small(lambda: layers.BatchNormalization(synchronized=True)), replicas=True
    ),
    "`MirroredStrategy` with `LearnHyperparameters`": one(replicas=True, by_fit=True),
}
