"""Validation in the middle of an epoch is what `evaluate` says."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from qan_task import VAL, Dense, build

from keras_drmad.tuners import Actions, Goal
from keras_drmad.tuners.qan.training.evaluation import Validation
from keras_drmad.tuners.qan.training.states import Ratios
from keras_drmad.tuners.qan.training.steered_training import SteeredTraining


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 4

    def __getitem__(self, i):
        return tuple(part[8 * i : 8 * i + 8] for part in VAL)


def halves(model):
    """The same model, which takes its input in two parts."""
    parts = {"a": keras.Input((2,), name="a"), "b": keras.Input((4,), name="b")}
    both = keras.layers.Concatenate()([parts["a"], parts["b"]])
    split = keras.Model(parts, model(both))
    split.compile("sgd", model.loss, metrics=["accuracy"])
    return split


L = keras.layers


class Eager(Dense):
    """Its steps are no graph."""

    def test_step(self, data):
        size = float(np.mean(self(data[0]).numpy() ** 2))
        return {"loss": size, "size": size}


class Returned(Dense):
    """What its steps return is in no metric."""

    def test_step(self, data):
        size = keras.ops.mean(self(data[0]) ** 2)
        return {"loss": size, "size": size}


@pytest.mark.parametrize("form", ["arrays", "weights", "dataset", "pydataset"])
def test_validation_is_what_evaluate_says(form):
    x, y = VAL
    model = halves(build())
    parts = {"a": x[:, :2], "b": x[:, 2:]}
    if form == "pydataset":
        model = model.layers[-1]
        model.compile("sgd", build().loss, metrics=["accuracy"])
    data = {
        "arrays": (parts, y),
        "weights": (parts, y, np.linspace(0, 1, len(y))),
        "dataset": tf.data.Dataset.from_tensor_slices((parts, y)).batch(5),
        "pydataset": Batches(),
    }[form]
    if isinstance(data, tuple):
        given = dict(zip(("x", "y", "sample_weight"), (*data, None)[:3], strict=True))
    else:
        given = {"x": data}
    expected = model.evaluate(**given, verbose=0, return_dict=True)
    found = Validation(data)(model)
    assert found == pytest.approx({f"val_{k}": v for k, v in expected.items()}, rel=1e-5)


@pytest.mark.parametrize("model", [Eager, Returned])
def test_what_a_test_step_returns_counts(model):
    model = model()
    model.compile("sgd", "mse", run_eagerly=isinstance(model, Eager))
    size = np.mean(model(VAL[0]).numpy() ** 2)
    assert Validation(VAL)(model)["val_size"] == pytest.approx(size, rel=1e-5)


def test_lists_of_inputs_are_validated():
    a, b = keras.Input((3,)), keras.Input((3,))
    model = keras.Model([a, b], L.Dense(3)(L.Concatenate()([a, b])))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x = [VAL[0][:, :3], VAL[0][:, 3:]]
    found = Validation((x, VAL[1]))(model)["val_loss"]
    assert found == pytest.approx(model.evaluate(x, VAL[1], verbose=0), rel=1e-5)


def test_validation_may_have_other_lengths():
    def made():
        model = keras.Sequential(
            [L.Input((None,)), L.Embedding(3, 2), L.GlobalAveragePooling1D(), L.Dense(1)]
        )
        model.compile(keras.optimizers.SGD(0.02), "mse")
        return model

    task = SteeredTraining(
        made,
        np.zeros((16, 7)),
        np.ones(16),
        validation_data=(np.zeros((8, 9)), np.ones(8)),
        batch_size=8,
        every=2,
        states=[Ratios()],
        actions=Actions(),
        goal=Goal.of(("val_loss", 1e-9)),
    )
    task.check()
    assert task.run(0, lambda report: 0.01)[0][-1].step == 2
