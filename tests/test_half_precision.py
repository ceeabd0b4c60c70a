"""Half precision: loss scales as Keras has them, norms in float32, and hyperparameters in reach."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_drmad import DrMADSGD, LearnHyperparameters, hypergradient, paths
from keras_drmad.data import BufferedBatches, as_batches, as_validation
from keras_drmad.engine.engine import Engine

STEPS_ARE_CHECKED = True

rng = np.random.default_rng(0)
X = rng.normal(size=(64, 6)).astype("float32")
Y = rng.normal(size=(64, 1)).astype("float32")


@pytest.fixture(params=["mixed_float16"])
def policy(request):
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy("float32")


class Ordered(keras.utils.PyDataset):
    def __len__(self):
        return 6

    def __getitem__(self, i):
        return X[8 * i : 8 * i + 8], Y[8 * i : 8 * i + 8]


def model(initial_scale, growth=2000, **optimizer):
    keras.utils.set_random_seed(0)
    built = keras.Sequential(
        [layers.Input((6,)), layers.Dense(8, "tanh", name="a"), layers.Dense(1, name="b")]
    )
    inner = DrMADSGD(**{"learning_rate": 0.05, "l2": 1e-3, **optimizer})
    scaled = keras.optimizers.LossScaleOptimizer(
        inner, initial_scale=initial_scale, dynamic_growth_steps=growth
    )
    built.compile(scaled, "mse", jit_compile=False)
    built.optimizer.build(built.trainable_variables)
    return built


def state(of):
    return [v.numpy() for v in (*of.trainable_variables, *of.optimizer.variables)]


SCHEDULE = keras.optimizers.schedules.ExponentialDecay(0.05, 2, 0.5)


@pytest.mark.parametrize(
    "path", [paths.Stored(), paths.SegmentMeans(), paths.Checkpointed(), paths.Reversible()]
)
@pytest.mark.parametrize("growth", [2000, 3])
def test_steps_that_overflow_are_skipped_as_keras_does(policy, path, growth):
    scale = 2.0**24  # the first steps overflow
    own, keras_own = (model(scale, growth, learning_rate=SCHEDULE) for _ in range(2))
    found = hypergradient(
        own, Ordered(), (X[48:], Y[48:]), steps=12, path=path, jit_compile=False, verbose=0
    )
    keras_own.fit(Ordered(), epochs=2, shuffle=False, verbose=0)
    assert np.isfinite(found.validation_loss) and not found.diverged
    for a, b in zip(state(own), state(keras_own), strict=True):
        # What half precision rounds, it may round otherwise in another program.
        assert np.allclose(a, b, rtol=2e-2, atol=2e-3)
    assert int(own.optimizer.iterations.numpy()) == int(keras_own.optimizer.iterations.numpy()) < 12


def test_windows_are_learned_from_after_an_overflow(policy, caplog):
    own = model(2.0**24)
    learn = LearnHyperparameters((X[48:], Y[48:]))
    before = own.optimizer.hyperparameters
    history = own.fit(Ordered(), epochs=3, shuffle=False, verbose=0, callbacks=[learn])
    assert np.isfinite(history.history["hyper_loss"]).all()
    assert "skipped" not in caplog.text
    assert own.optimizer.hyperparameters != before


def test_a_skipped_step_passes_the_adjoint_on(policy):
    """A training with overflows is the one of the steps that were taken."""
    overflowing, plain = model(2.0**20), model(2.0**10)
    hyper = as_validation((X[48:], Y[48:]))

    def found(of, batches, steps):
        engine = Engine.of(of, batches.batch(0), paths.Stored(), jit_compile=False)
        rates = of.optimizer.inner_optimizer.learning_rates(steps)
        run = engine.train(engine.read(), batches, rates)
        return run, engine.differentiate(run, hyper).adjoint

    run, adjoint = found(overflowing, as_batches(Ordered()), 12)
    assert not run.taken[0] and any(run.taken)
    batches = as_batches(Ordered())
    taken = [batches.batch(step) for step in range(12) if run.taken[step]]
    _, expected = found(plain, BufferedBatches(taken), len(taken))
    for a, b in zip(adjoint.weights, expected.weights, strict=True):
        assert np.allclose(a, b, rtol=2e-2, atol=1e-2)


@pytest.mark.parametrize("dtype", ["float64", "bfloat16", "float16"])
def test_layers_of_other_dtypes_stand_side_by_side(dtype):
    keras.utils.set_random_seed(0)
    built = keras.Sequential(
        [layers.Input((6,)), layers.Dense(4, "tanh", dtype=dtype), layers.Dense(1, dtype="float32")]
    )
    built.compile(DrMADSGD(0.01), "mse", jit_compile=False)
    found = hypergradient(
        built, (X, Y), (X[48:], Y[48:]), steps=8, batch_size=8, jit_compile=False, verbose=0
    )
    assert np.isfinite(found.validation_loss) and not found.diverged and np.isfinite(found.growth)
    built.fit(X[:48], Y[:48], verbose=0, callbacks=[LearnHyperparameters((X[48:], Y[48:]))])


def test_norms_of_half_precision_do_not_overflow():
    keras.utils.set_random_seed(0)
    built = keras.Sequential([layers.Input((6,)), layers.Dense(1, use_bias=False, dtype="float16")])
    built.compile(DrMADSGD(1e-6, momentum=0.0, l2=0.0), "mse", jit_compile=False)
    y = np.full((64, 1), 400.0)  # the norm's square is beyond float16
    found = hypergradient(
        built, (X, y), (X, y), steps=4, batch_size=8, jit_compile=False, verbose=0
    )
    assert np.isfinite(found.growth) and not found.diverged


def test_hyperparameters_are_reached_through_the_wrapper(policy):
    built = keras.Sequential([layers.Input((6,)), layers.Dense(1, name="out")])
    built.compile(DrMADSGD(0.05), "mse", jit_compile=False)
    built.fit(X[:48], Y[:48], verbose=0, callbacks=[LearnHyperparameters((X[48:], Y[48:]))])
    assert built.optimizer.hyperparameters == built.optimizer.inner_optimizer.hyperparameters
    built.optimizer.set_hyperparameters({"out": {"learning_rate": 0.01}})
    assert built.optimizer.hyperparameters["out"]["learning_rate"] == pytest.approx(0.01)
    plain = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD())
    assert not hasattr(plain, "hyperparameters")
