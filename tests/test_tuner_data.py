"""What data the searches take: without targets, in batches of a size of their own, as streams."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from drmad_task import HYPER, SELECTION, TRAIN, L, build, make, scores, search, trials

from keras_drmad import DrMADSGD
from keras_drmad.tuners import DrMADTuner, QANTuner

pytestmark = pytest.mark.slow

X = TRAIN[0]
QAN = {"goal": ("val_loss", 1e-9), "max_trials": 10, "contest": 0, "decision_every": 2, "seed": 0}


class Squares(L.Layer):
    def call(self, x: Any) -> Any:
        self.add_loss(keras.ops.mean(keras.ops.square(x)))
        return x


def autoencoder(hp: Any = None) -> keras.Model:
    """Its loss needs no targets."""
    inputs = L.Input((5,))
    outputs = Squares()(L.Dense(5, name="a")(L.Dense(2, name="b")(inputs)) - inputs)
    model = keras.Model(inputs, outputs)
    model.compile(DrMADSGD(0.05), jit_compile=False)
    return model


BARE = {
    "an array": X[60:],
    "a tuple": (X[60:],),
    "tf.data": tf.data.Dataset.from_tensor_slices(X[60:]).batch(10),
}


@pytest.mark.parametrize("kind", BARE)
def test_drmad_needs_no_targets(tmp_path: Any, kind: str) -> None:
    tuner = make(tmp_path, autoencoder, max_trials=2)
    tuner.search(X[:60], validation_data=BARE[kind], batch_size=10, verbose=0)
    assert np.isfinite(scores(tuner)).all()


@pytest.mark.parametrize("kind", BARE)
def test_qan_needs_no_targets(tmp_path: Any, kind: str) -> None:
    tuner = QANTuner(autoencoder, directory=tmp_path, **QAN)
    tuner.search(X[:60], validation_data=BARE[kind], batch_size=10, verbose=0)
    assert len(tuner.oracle.end_order) == 10


def test_streams_without_targets(tmp_path: Any) -> None:
    stream = tf.data.Dataset.from_tensor_slices(X[:60]).batch(10)
    tuner = make(tmp_path, autoencoder, max_trials=2)
    tuner.search(stream, validation_data=X[60:], selection_data=(X[60:],), verbose=0)
    assert np.isfinite(scores(tuner)).all()


def test_a_list_without_targets_is_one_of_inputs(tmp_path: Any) -> None:
    def two(hp: Any) -> keras.Model:
        inputs = [L.Input((5,)), L.Input((5,))]
        model = keras.Model(inputs, Squares()(L.Dense(5)(inputs[0]) - inputs[1]))
        model.compile(DrMADSGD(0.05), jit_compile=False)
        return model

    tuner = make(tmp_path, two, max_trials=1)
    tuner.search([X[:60], X[:60]], validation_data=([X[60:], X[60:]],), batch_size=10, verbose=0)
    assert np.isfinite(tuner.get_best_models()[0].evaluate([X, X], verbose=0))


def test_overlaps_are_found_without_targets(tmp_path: Any) -> None:
    with pytest.raises(ValueError, match="overlaps"):
        make(tmp_path, autoencoder).search(X, validation_data=X[40:].copy(), verbose=0)


# -- batches of the hyper set -----------------------------------------------------------------


def fixed(hp: Any = None) -> keras.Model:
    """Batches of 8, and a state that goes on from one to the next."""
    inputs = L.Input(batch_shape=(8, 3, 2))
    model = keras.Model(inputs, L.Dense(1)(L.SimpleRNN(3, stateful=True)(inputs)))
    model.compile(DrMADSGD(0.01), "mse", jit_compile=False)
    return model


SEQUENCES = np.random.default_rng(0).normal(size=(64, 3, 2)).astype("float32")
FIXED = {
    "x": SEQUENCES[:32],
    "y": TRAIN[1][:32],
    "validation_data": (SEQUENCES[32:], TRAIN[1][32:64]),
    "batch_size": 8,
    "validation_batch_size": 8,
    "verbose": 0,
}


def test_drmad_takes_models_of_fixed_batches(tmp_path: Any) -> None:
    tuner = make(tmp_path, fixed, max_trials=2)
    tuner.search(**FIXED)
    assert np.isfinite(scores(tuner)).all()
    assert tuner.get_best_models()[0].built


def test_qan_takes_models_of_fixed_batches(tmp_path: Any) -> None:
    tuner = QANTuner(fixed, directory=tmp_path, **QAN)
    tuner.search(**FIXED)
    assert len(tuner.oracle.end_order) == 10


@pytest.mark.parametrize("tuner", [DrMADTuner, QANTuner])
@pytest.mark.parametrize("size", [0, 1.5])
def test_sizes_must_be_numbers(tmp_path: Any, tuner: Any, size: Any) -> None:
    made = tuner(build, directory=tmp_path, **(QAN if tuner is QANTuner else {}))
    with pytest.raises(ValueError, match="validation_batch_size"):
        made.search(*TRAIN, validation_data=HYPER, validation_batch_size=size, verbose=0)


# -- streams ----------------------------------------------------------------------------------


def firsts(tmp_path: Any, **arguments: Any) -> list[list[float]]:
    """The first samples of the batches of each training."""
    seen: list[float] = []

    def note(x: Any, y: Any) -> Any:
        tf.numpy_function(lambda value: seen.append(float(value)), [x[0, 0]], [])
        return x, y

    data = tf.data.Dataset.from_tensor_slices(TRAIN).shuffle(80, seed=1).batch(10).map(note)
    trained: list[list[float]] = []
    watch = keras.callbacks.LambdaCallback(on_train_begin=lambda logs: trained.append(seen[-8:]))
    make(tmp_path, **arguments, max_trials=3).search(
        data, validation_data=HYPER, verbose=0, callbacks=[watch]
    )
    return trained


def test_streams_are_read_anew(tmp_path: Any) -> None:
    first, second, third = firsts(tmp_path)
    assert first != second != third != first


def test_without_resampling_they_are_read_once(tmp_path: Any) -> None:
    first, *others = firsts(tmp_path, resample=False)
    assert others == [first] * 2


def test_a_stream_must_keep_its_length(tmp_path: Any) -> None:
    lengths = iter([3, 3, 2])

    class Shrinking:
        def __len__(self) -> int:
            return 3

        def __iter__(self) -> Any:
            return iter([TRAIN] * next(lengths, 2))

    tuner = make(tmp_path, max_trials=2)
    tuner.search(Shrinking(), validation_data=HYPER, verbose=0)
    first, second = trials(tuner)
    assert first.status == "COMPLETED"
    assert "same number of batches" in second.message


class Batches(keras.utils.PyDataset):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, i: int) -> Any:
        return tuple(part[10 * i : 10 * i + 10] for part in SELECTION)


def test_validation_data_may_be_a_pydataset(tmp_path: Any) -> None:
    sets = make(tmp_path, max_trials=2), make(tmp_path, max_trials=2, project_name="arrays")
    search(sets[0], validation_data=Batches())
    search(sets[1], validation_data=SELECTION)
    np.testing.assert_allclose(scores(sets[0]), scores(sets[1]), rtol=1e-5)
    search(make(tmp_path, max_trials=1, project_name="both"), selection_data=Batches())
