"""What a batch may be: targets or none, lengths of their own, every source, a size of the hyper set."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from keras_drmad import DrMADSGD, LearnHyperparameters, hypergradient
from keras_drmad.data import as_batches

STEPS_ARE_CHECKED = True

rng = np.random.default_rng(0)
X = rng.normal(size=(64, 6)).astype("float32")
Y = rng.normal(size=(64, 1)).astype("float32")


class Penalised(layers.Layer):
    def call(self, x, target=None):
        self.add_loss(keras.ops.mean(keras.ops.square(x)))
        return x


def autoencoder(hp=None):
    """Without targets: its loss is `add_loss`."""
    inputs = layers.Input((6,))
    outputs = Penalised()(layers.Dense(6, name="a")(inputs) - inputs)
    model = keras.Model(inputs, outputs)
    model.compile(DrMADSGD(0.05), jit_compile=False)
    return model


def test_targets_are_not_needed():
    assert not hypergradient(
        autoencoder(), X[:48], X[48:], batch_size=8, jit_compile=False, verbose=0
    ).diverged
    autoencoder().fit(X[:48], batch_size=8, verbose=0, callbacks=[LearnHyperparameters(X[48:])])


# -- ragged, sparse, text -------------------------------------------------------------------


def mlp(hp=None):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([layers.Input((6,)), layers.Dense(1)])
    model.compile(DrMADSGD(0.05), "mse", jit_compile=False)
    return model


RAGGED = tf.ragged.constant([[1.0, 2.0], [3.0]] * 8)
ODD = {
    "ragged": lambda: tf.data.Dataset.from_tensor_slices((RAGGED, Y[:16])).batch(4),
    "sparse": lambda: tf.data.Dataset.from_tensor_slices(
        (tf.sparse.from_dense(X[:16]), Y[:16])
    ).batch(4),
    "text": lambda: (np.array(["a", "b"] * 8), Y[:16]),
    "text in a data set": lambda: tf.data.Dataset.from_tensor_slices(
        (["a", "b"] * 8, Y[:16])
    ).batch(4),
    "objects": lambda: (np.array([{}, {}], dtype=object), Y[:2]),
    "complex": lambda: (X.astype("complex64"), Y),
    "unbatched": lambda: tf.data.Dataset.from_tensor_slices((X[:, 0], Y[:, 0])),
}


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("where", ["training", "hyper"])
def test_what_is_no_batch_is_named(kind, where):
    data = (ODD[kind](), (X, Y)) if where == "training" else ((X, Y), ODD[kind]())
    with pytest.raises(ValueError, match=r"(?i)ragged|sparse|text|numeric|complex|batch"):
        hypergradient(mlp(), *data, steps=2, jit_compile=False, verbose=0)


# -- lengths of their own -------------------------------------------------------------------


def recurrent():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            layers.Input((None, 2)),
            layers.Dense(4, "tanh"),
            layers.GlobalAveragePooling1D(),
            layers.Dense(1),
        ]
    )
    model.compile(DrMADSGD(0.05), "mse", jit_compile=False)
    return model


class Padded(keras.utils.PyDataset):
    """Each batch is as long as its longest sample."""

    def __len__(self):
        return 40

    def __getitem__(self, i):
        g = np.random.default_rng(i)
        return g.normal(size=(4, i + 1, 2)).astype("float32"), g.normal(size=(4, 1)).astype(
            "float32"
        )


def test_batches_of_many_lengths_do_not_compile_a_program_each():
    model = recurrent()
    hyper = (np.zeros((8, 5, 2), "float32"), np.zeros((8, 1), "float32"))
    found = hypergradient(model, Padded(), hyper, verbose=0)
    assert not found.diverged
    (engine,) = {id(e): e for e in model.optimizer.engines.by_key.values()}.values()
    assert engine.programs.forward.programs() <= 8 and engine.programs.reverse.programs() <= 8


def test_each_batch_is_made_once_a_pass():
    class Counted(Padded):
        def __getitem__(self, i):
            made.append(i)
            return super().__getitem__(i)

    made, data = [], Counted()
    batches = as_batches(data)

    def once_more():
        made.clear()
        for steps, capacity in batches.pieces(range(len(data))):
            batches.stack(steps, capacity)
        return len(made)

    assert once_more() <= 2 * len(data)  # the first pass asks for their shapes, too
    assert once_more() == len(data)


def test_they_are_trained_as_fit_trains_them():
    own, other = recurrent(), recurrent()
    hypergradient(
        own, Padded(), (np.zeros((8, 5, 2), "float32"), np.zeros((8, 1), "float32")), verbose=0
    )
    other.fit(Padded(), shuffle=False, verbose=0)
    for a, b in zip(own.get_weights(), other.get_weights(), strict=True):
        assert np.allclose(a, b, atol=1e-5)


# -- the size of the hyper set's batches ----------------------------------------------------


def fixed(hp=None):
    """A model of batches of 8, stateful."""
    keras.utils.set_random_seed(0)
    inputs = layers.Input(batch_shape=(8, 3, 2))
    model = keras.Model(inputs, layers.Dense(1)(layers.SimpleRNN(3, stateful=True)(inputs)))
    model.compile(DrMADSGD(0.01), "mse", jit_compile=False)
    return model


SEQUENCES = rng.normal(size=(64, 3, 2)).astype("float32")


def test_hyper_sets_may_have_a_batch_size():
    data = (SEQUENCES[:32], Y[:32]), (SEQUENCES[32:], Y[32:])
    found = hypergradient(
        fixed(), *data, batch_size=8, validation_batch_size=8, jit_compile=False, verbose=0
    )
    assert np.isfinite(found.validation_loss)


# -- every source at its own speed ----------------------------------------------------------


class Single(keras.utils.PyDataset):
    def __len__(self):
        return 400

    def __getitem__(self, i):
        return np.full((32, 50), i, "float32"), np.zeros((32, 1), "float32")


def test_stacks_are_made_at_once(monkeypatch):
    """Not batch by batch through TensorFlow: a thousand calls take longer than the training."""
    calls = []
    convert = tf.convert_to_tensor
    monkeypatch.setattr(
        tf, "convert_to_tensor", lambda *a, **k: calls.append(1) or convert(*a, **k)
    )
    batches = as_batches(Single())
    for steps, capacity in batches.pieces(range(400)):
        stacked = batches.stack(steps, capacity)
        assert stacked[0].shape[0] == capacity
        assert np.array_equal(np.asarray(stacked[0])[: len(steps), 0, 0], steps)
    assert len(calls) < 40
