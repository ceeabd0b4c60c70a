"""The engine's training step is Keras's own, or it is refused before anything is trained."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from keras_drmad import DrMADAdamW, DrMADSGD, Knots, LearnHyperparameters, hypergradient, paths

STEPS_ARE_CHECKED = True

rng = np.random.default_rng(0)
X = rng.normal(size=(48, 6)).astype("float32")
Y = rng.normal(size=(48, 1)).astype("float32")
TRAIN, HYPER = (X[:32], Y[:32]), (X[32:], Y[32:])
QUICK = {"batch_size": 8, "seed": 0, "jit_compile": False, "verbose": 0}


def mlp(*more, model=keras.Sequential, **optimizer):
    keras.utils.set_random_seed(0)
    built = model(
        [layers.Input((6,)), *more, layers.Dense(4, "tanh", name="a"), layers.Dense(1, name="b")]
    )
    optimizer = {"learning_rate": 0.05, "l2": 1e-3, **optimizer}
    built.compile(DrMADSGD(**optimizer), "mse", jit_compile=False)
    return built


def state(model):
    return [v.numpy() for v in (*model.variables, *model.optimizer.variables)]


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


# -- what differs is named ------------------------------------------------------------------


class Doubled(keras.Sequential):
    """Trains on twice the loss that it is compiled with."""

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = 2 * self.compute_loss(x=x, y=y, y_pred=self(x, training=True))
        self.optimizer.apply(
            tape.gradient(loss, self.trainable_variables), self.trainable_variables
        )
        return {"loss": loss}


class Counted(keras.Sequential):
    """Trains as Keras does, by a `train_step` of its own."""

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x=x, y=y, y_pred=self(x, training=True))
        self.optimizer.apply(
            tape.gradient(loss, self.trainable_variables), self.trainable_variables
        )
        return {"loss": loss}


class Noisy(DrMADSGD):
    """Steps in another way than it says."""

    def update_step(self, gradient, variable, learning_rate):
        super().update_step(gradient, variable, 2 * learning_rate)


@pytest.mark.parametrize("make", [DrMADSGD, DrMADAdamW])
def test_a_train_step_that_trains_otherwise_is_refused(make):
    """Twice the loss is the same step of AdamW, with other moments."""
    model = mlp(model=Doubled)
    model.compile(make(0.01), "mse", jit_compile=False)
    before = state(model)
    with pytest.raises(ValueError, match="train_step"):
        hypergradient(model, TRAIN, HYPER, **QUICK)
    assert same(state(model)[: len(before)], before)


def test_a_train_step_that_trains_as_keras_does_is_followed():
    model, plain = mlp(model=Counted), mlp()
    hypergradient(model, TRAIN, HYPER, **QUICK)
    hypergradient(plain, TRAIN, HYPER, **QUICK)
    assert same(state(model), state(plain))


def test_an_optimizer_that_steps_otherwise_is_refused_and_the_variable_named():
    model = mlp()
    model.compile(Noisy(0.05), "mse", jit_compile=False)
    with pytest.raises(ValueError, match="a/kernel"):
        hypergradient(model, TRAIN, HYPER, **QUICK)


def test_the_check_can_be_left_out():
    model = mlp(model=Doubled)
    assert not hypergradient(model, TRAIN, HYPER, **QUICK, check=False).diverged
    with pytest.raises(ValueError, match="train_step"):  # not for good
        hypergradient(model, TRAIN, HYPER, **QUICK)
    model.fit(*TRAIN, verbose=0, callbacks=[LearnHyperparameters(HYPER, check=False)])


def test_the_callback_refuses_before_the_first_step():
    model = mlp(model=Doubled)
    model.optimizer.build(model.trainable_variables)
    before = state(model)
    with pytest.raises(ValueError, match="train_step"):
        model.fit(*TRAIN, verbose=0, callbacks=[LearnHyperparameters(HYPER)])
    assert same(state(model), before)


def test_a_callback_that_changes_weights_is_noticed(caplog):
    """The replayed window must end where `fit` did, not only near it."""

    class Nudge(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            kernel = self.model.layers[0].kernel
            kernel.assign(kernel * 0.999)

    model = mlp(learning_rate=0.001)
    model.fit(*TRAIN, batch_size=8, verbose=0, callbacks=[LearnHyperparameters(HYPER), Nudge()])
    assert "end elsewhere" in caplog.text


# -- what the check must not disturb --------------------------------------------------------


@pytest.mark.slow
def test_dropout_under_xla_is_followed(caplog):
    """XLA draws other masks from the same seeds: steps that are compared are both compiled with it."""
    model = mlp(layers.Dropout(0.3))
    model.compile(model.optimizer, "mse", jit_compile=True)
    model.fit(*TRAIN, batch_size=4, epochs=2, verbose=0, callbacks=[LearnHyperparameters(HYPER)])
    assert "skipped" not in caplog.text


def test_the_check_disturbs_nothing():
    def trained(check):
        keras.utils.set_random_seed(0)
        model = mlp(layers.BatchNormalization(), layers.Dropout(0.3))
        model.compile(DrMADSGD(0.05), "mse", metrics=["mae"], jit_compile=False)
        hypergradient(model, TRAIN, HYPER, **QUICK, check=check)
        function = model.train_function
        model.fit(*TRAIN, batch_size=8, shuffle=False, verbose=0)
        metrics = [v.numpy() for v in model.metrics_variables]
        return [*state(model), *metrics, np.random.rand(), tf.random.uniform(()).numpy()], function

    (a, f), (b, g) = trained(True), trained(False)
    assert same(a, b)
    assert f is None and g is None  # the model's own function was not made


# -- what it found --------------------------------------------------------------------------


def fitted(model, epochs=2):
    keras.utils.set_random_seed(1)
    model.fit(*TRAIN, batch_size=8, epochs=epochs, shuffle=False, verbose=0)
    return [v.numpy() for v in model.trainable_variables]


class Ordered(keras.utils.PyDataset):
    """Batches in the order of the arrays, as `fit(shuffle=False)` has them."""

    def __len__(self):
        return 4

    def __getitem__(self, i):
        return TRAIN[0][8 * i : 8 * i + 8], TRAIN[1][8 * i : 8 * i + 8]


def followed(model, path=None, epochs=2):
    """Weights after the same steps by the engine."""
    keras.utils.set_random_seed(1)
    quick = {k: v for k, v in QUICK.items() if k not in ("batch_size", "seed")}
    found = hypergradient(model, Ordered(), HYPER, steps=4 * epochs, path=path, **quick)
    assert not found.diverged
    return [v.numpy() for v in model.trainable_variables]


def close(a, b, tolerance=1e-5):
    return all(np.allclose(x, y, atol=tolerance, rtol=tolerance) for x, y in zip(a, b, strict=True))


class Unused(layers.Layer):
    """Has a weight that no loss reads."""

    def build(self, shape):
        self.idle = self.add_weight(shape=(3,), initializer="ones", name="idle")

    def call(self, x):
        return x


@pytest.mark.parametrize(
    "decay", [{"l2": 0.1}, {"weight_decay": 0.1}, {"l2": 0.1, "nesterov": True}]
)
@pytest.mark.filterwarnings("ignore:Gradients do not exist")
def test_variables_without_a_gradient_stay_as_they_are(decay):
    a, b = fitted(mlp(Unused(), **decay)), followed(mlp(Unused(), **decay))
    assert close(a, b)
    assert any(np.array_equal(w, np.ones(3)) for w in b)


@keras.saving.register_keras_serializable()
class Noam(keras.optimizers.schedules.LearningRateSchedule):
    def __call__(self, step):
        return 0.05 * (keras.ops.cast(step, "float32") + 1) ** -0.5

    def get_config(self):
        return {}


@keras.saving.register_keras_serializable()
class ReadsDtype(Noam):
    def __call__(self, step):
        assert step.dtype is not None and step.shape is not None
        return 0.05 / (1.0 + keras.ops.cast(step, "float32"))


SCHEDULES = [
    Noam(),
    ReadsDtype(),
    keras.optimizers.schedules.PiecewiseConstantDecay([2, 4], [0.05, 0.02, 0.01]),
    keras.optimizers.schedules.CosineDecay(0.05, 6, warmup_steps=2, warmup_target=0.1),
    keras.optimizers.schedules.ExponentialDecay(0.05, 3, 0.5, staircase=True),
]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
def test_schedules_are_called_as_keras_calls_them(schedule):
    assert close(fitted(mlp(learning_rate=schedule)), followed(mlp(learning_rate=schedule)))


def test_schedules_are_evaluated_in_one_call(monkeypatch):
    calls = []
    schedule = keras.optimizers.schedules.CosineDecay

    class Spied(schedule):
        def __call__(self, step):
            calls.append(step)
            return super().__call__(step)

    model = mlp(learning_rate=Spied(0.05, 1000))
    model.optimizer.build(model.trainable_variables)
    rates = model.optimizer.learning_rates(1000)
    assert len(calls) <= 2
    assert rates[[0, 500, 999]] == pytest.approx(
        [float(schedule(0.05, 1000)(t)) for t in (0, 500, 999)], rel=1e-5
    )


@pytest.mark.parametrize(
    "schedule",
    [
        keras.optimizers.schedules.PolynomialDecay(0.05, 4, 0.0),
        keras.optimizers.schedules.CosineDecay(0.0, 8, warmup_steps=4, warmup_target=0.1),
    ],
    ids=["ends at 0", "begins at 0"],
)
@pytest.mark.parametrize("steps", [0, 8])
def test_learned_rates_move_where_the_schedule_is_zero(schedule, steps):
    model = mlp(learning_rate=schedule)
    model.optimizer.build(model.trainable_variables)
    if steps:
        model.fit(*TRAIN, batch_size=4, epochs=1, verbose=0)
    optimizer = model.optimizer
    before = optimizer.displacements["learning_rate"].numpy().copy()
    down = {g: {"learning_rate": 1.0} for g in optimizer.hyperparameters}
    optimizer.move_hyperparameters(down, keras.optimizers.SGD(0.1))
    assert np.all(optimizer.displacements["learning_rate"].numpy() < before)
    optimizer.set_hyperparameters({"a": {"learning_rate": 0.02}})
    assert optimizer.hyperparameters["a"]["learning_rate"] == pytest.approx(0.02, rel=1e-5)


class AssignsWhenCalled(layers.Layer):
    def build(self, shape):
        self.scale = self.add_weight(shape=(), initializer="ones", name="scale")

    def call(self, x):
        self.scale.assign(self.scale * 0.9)
        return x * self.scale


@pytest.mark.parametrize(
    "layer",
    [
        lambda: layers.SpectralNormalization(layers.Dense(6), name="sn"),
        lambda: AssignsWhenCalled(name="sn"),
    ],
    ids=["SpectralNormalization", "own"],
)
def test_layers_that_assign_trainable_variables_are_refused(layer):
    with pytest.raises(ValueError, match=r"'sn'.*assigns"):
        hypergradient(mlp(layer()), TRAIN, HYPER, **QUICK)


@pytest.mark.parametrize("change", [{"nesterov": True}, {"clipnorm": 0.01}, {"weight_decay": 0.3}])
def test_a_changed_optimizer_is_followed(change):
    path = paths.Stored()
    model, fresh = mlp(), mlp(**change)
    for each in (model, fresh):
        each.optimizer.build(each.trainable_variables)
    followed(model, path)
    for name, value in change.items():
        setattr(model.optimizer, name, value)
    for own, other in zip(
        (*model.variables, *model.optimizer.variables),
        (*fresh.variables, *fresh.optimizer.variables),
        strict=True,
    ):
        own.assign(other)
    assert close(followed(model, path), followed(fresh, path), 1e-7)


def test_differentiating_does_not_change_a_trajectory():
    from keras_drmad.data import as_batches, as_validation
    from keras_drmad.engine.engine import Engine

    model = mlp(momentum=0.8)
    batches = as_batches(TRAIN, 8, 0)
    engine = Engine.of(model, batches.batch(0), paths.Reversible(), jit_compile=False)
    run = engine.train(engine.read(), batches, np.full(12, 0.05))
    first, second = (engine.differentiate(run, as_validation(HYPER)) for _ in range(2))
    for kind in first.adjoint.hyper:
        assert np.array_equal(first.adjoint.hyper[kind], second.adjoint.hyper[kind])


def test_reversible_does_not_overflow_silently():
    model = mlp(learning_rate=1e-6, l2=0.0)
    model.build()
    model.layers[0].kernel.assign(np.full((6, 4), 40_000.0))
    before = model.layers[0].kernel.numpy()
    with pytest.raises(ValueError, match="fixed point"):
        hypergradient(model, TRAIN, HYPER, path=paths.Reversible(), **QUICK)
    assert np.array_equal(model.layers[0].kernel.numpy(), before)


def test_reversible_that_leaves_its_range_has_diverged():
    model = mlp(learning_rate=1e3, l2=0.0)
    found = hypergradient(model, TRAIN, HYPER, path=paths.Reversible(), steps=40, **QUICK)
    assert found.diverged


@pytest.mark.slow
def test_tensorflow_stays_as_it_is_in_other_threads():
    import threading

    original, seen = tf.nn.moments, []
    inside, done = threading.Event(), threading.Event()

    class Waits(layers.Layer):
        def call(self, x):
            inside.set()
            done.wait(20)
            return x

    def other():
        inside.wait(20)
        x = tf.constant([[1.0], [3.0]])
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as tape:
                tape.watch(x)
                variance = tf.nn.moments(x, [0])[1]
            gradient = tape.gradient(variance, x)
        seen.append(outer.gradient(gradient, x).numpy())
        done.set()

    model = mlp(layers.BatchNormalization(), Waits())
    thread = threading.Thread(target=other)
    thread.start()
    hypergradient(model, TRAIN, HYPER, **QUICK)
    thread.join()
    x = tf.constant([[1.0], [3.0]])
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as tape:
            tape.watch(x)
            variance = original(x, [0])[1]
        gradient = tape.gradient(variance, x)
    assert np.array_equal(seen[0], outer.gradient(gradient, x).numpy())
    assert tf.nn.moments is original


def test_a_gradient_that_is_rounding_is_let_through():
    """A bias before batch normalization has no other, and a moving mean has it in it."""
    model = mlp(layers.Dense(6), layers.BatchNormalization(), layers.Dense(6))
    model.compile(DrMADAdamW(0.05), "mse", jit_compile=False)
    arguments = QUICK | {"jit_compile": True}  # rounds otherwise than Keras's step
    hypergradient(model, TRAIN, HYPER, steps=2, path=paths.Linear(), **arguments)


def test_knots_are_followed():
    schedule = {"schedule": Knots(3, steps=8)}
    assert close(fitted(mlp(**schedule)), followed(mlp(**schedule)))
