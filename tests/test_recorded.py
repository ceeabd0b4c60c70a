"""Windows that were recorded step by step: they find what the engine finds."""

import copy

import keras
import numpy as np
import pytest
import tensorflow as tf
from test_learn import HYPER, X, Y, mlp

from keras_drmad import DrMADSGD, paths
from keras_drmad.data import ArrayBatches, BufferedBatches, as_validation
from keras_drmad.engine import model_setup
from keras_drmad.engine.engine import Engine
from keras_drmad.engine.flat import Flat
from keras_drmad.engine.recorded import RecordedWindows, Step


@pytest.mark.parametrize("judge", ["mean", "last", "mean_of_ragged"])
@pytest.mark.parametrize("xla", [False, True])
def test_recorded_windows_find_what_the_engine_finds(judge, xla, request):
    """Compiled or not, short of the capacity, and with smaller batches at the ends of epochs."""
    engine, run, expected, hyper = request.getfixturevalue("trained_" + judge)
    windows = RecordedWindows(_Xla(engine, xla), 5)
    steps = [
        Step(
            windows.packed(
                run.start._replace(
                    **{k: [a[i] for a in record[k]] for k in ("weights", "state")}
                )._replace(slots={"velocity": [a[i] for a in record["slots"]["velocity"]]})
            ),
            run.batches.batch(step),
            0.1,
        )
        for piece, record in run.records.items()
        for i, step in enumerate(piece)
    ]
    assert len(steps) == 4
    batch = tf.nest.map_structure(lambda a: a[None], hyper.batch(0))
    found = windows.differentiate(steps, run.end, 0, batch, float(judge == "last"))
    assert found.loss == pytest.approx(expected.validation_loss, rel=1e-5)
    for kind, vector in expected.adjoint.hyper.items():
        np.testing.assert_allclose(found.hyper[kind], vector, rtol=1e-4, atol=1e-7)
    assert found.off < 1e-5 * found.way
    losses = run.losses
    assert (found.first_loss, found.training_loss) == pytest.approx((losses[0], np.mean(losses)))


def test_tensors_of_several_dtypes_are_packed():
    tensors = [
        tf.reshape(tf.range(6, dtype=dtype), shape)
        for dtype, shape in (("float32", (2, 3)), ("float16", (6,)), ("float32", (3, 1, 2)))
    ]
    flat = Flat(tensors)
    vectors = flat.pack(tensors)
    assert {dtype: v.shape for dtype, v in vectors.items()} == {"float32": (12,), "float16": (6,)}
    for one, other in zip(flat.unpack(vectors), tensors, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("steps", "is_compiled"), [(80, False), (4000, True), (None, True)])
def test_xla_where_it_pays(steps, is_compiled, request):
    objective = request.getfixturevalue("trained_mean")[0].objective
    assert model_setup.prefers_xla(mlp(), objective, steps) == is_compiled


@pytest.mark.parametrize(
    ("jit_compile", "rate", "stays"),
    [
        ("auto", 0.0, False),
        (True, 0.0, True),  # who asks for XLA gets it
        ("auto", 0.5, True),  # `fit` draws with XLA: without, the masks would be others
    ],
)
def test_one_program_serves_many_shapes_where_it_may(jit_compile, rate, stays):
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dropout(rate), keras.layers.Dense(1)])
    model.compile(DrMADSGD(0.1), "mse", jit_compile=True)
    batches = BufferedBatches((X[:size], Y[:size], ()) for size in range(1, 6))
    engine = Engine.of(model, batches.batch(0), paths.Stored(), jit_compile=jit_compile)
    for step in range(len(batches)):
        engine.see(batches.signature(step))
    assert (engine.xla, engine.stacks.is_relaxed) == (stays, not stays)


class _Xla:
    """An engine whose programs say of themselves whether they are compiled."""

    def __init__(self, engine, xla):
        self.__dict__ |= vars(engine) | {"programs": copy.copy(engine.programs)}
        self.programs.xla = xla


def _trained(judge, batch_size=20):
    model = mlp()
    hyper = as_validation(HYPER)
    batches = ArrayBatches((X, Y), batch_size)
    engine = Engine.of(model, batches.batch(0), paths.Stored(), jit_compile=False)
    run = engine.train(engine.read(), batches, np.full(4, 0.1), judge=judge)
    return engine, run, engine.differentiate(run, hyper), hyper


@pytest.fixture(scope="module")
def trained_mean():
    return _trained("mean")


@pytest.fixture(scope="module")
def trained_last():
    return _trained("last")


@pytest.fixture(scope="module")
def trained_mean_of_ragged():
    batch_size = len(X) * 2 // 3
    engine, run, *found = _trained("mean", batch_size)
    shapes = [run.batches.batch(step)[0].shape[0] for step in range(4)]
    assert shapes == [batch_size, len(X) - batch_size] * 2
    return engine, run, *found
