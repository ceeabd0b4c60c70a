"""Small trainings whose paths are recorded, for the tests of pictures."""

import functools

import keras
import numpy as np

from keras_drmad import plots
from keras_drmad.plots import RecordedPath, Snapshot

L = keras.layers
RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 3)).astype("float32")
Y = (X.sum(1) > 0).astype("int32")
HYPER = (X[:25] * 0.9, Y[:25])
DATA = {"training": (X, Y), "hyper": HYPER}


def make(*layers, **options):
    model = keras.Sequential([L.Input((3,)), *(layers or [L.Dense(4, "tanh")]), L.Dense(2)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    options = {"metrics": ["accuracy"], "jit_compile": False} | options
    model.compile(keras.optimizers.SGD(0.3, momentum=0.5), loss, **options)
    return model


def trained(model, data=(X, Y), epochs=3, **options):
    record = plots.RecordPath(**{"dtype": "float32", **options})
    model.fit(*data, epochs=epochs, batch_size=10, verbose=0, callbacks=[record])
    return record.path


def plain_training():
    """A model and its path, for tests that change neither."""
    keras.utils.set_random_seed(0)
    model = make()
    return model, trained(model)


@functools.cache
def copied(model):
    copy = keras.models.clone_model(model)
    copy.compile(loss=model.loss, metrics=["accuracy"], run_eagerly=True)
    return copy


def evaluated(model, snapshot, data):
    """What Keras says of a copy of the model with these weights."""
    copy = copied(model)
    state = [v for v in copy.non_trainable_weights if "seed" not in v.path]
    for variable, value in zip(copy.trainable_variables, snapshot.weights, strict=True):
        variable.assign(value)
    for variable, value in zip(state, snapshot.state, strict=True):
        variable.assign(value)
    return copy.evaluate(*data, batch_size=16, verbose=0, return_dict=True)


def curves(ax):
    """`{label: {x: y}}`"""
    lines = [line for line in ax.get_lines() if not line.get_label().startswith("_")]
    return {
        line.get_label(): dict(zip(line.get_xdata(), line.get_ydata(), strict=True))
        for line in lines
    }


def everything(model):
    """All that a user could find changed."""
    variables = [*model.variables, *model.metrics_variables, *model.optimizer.variables]
    return [np.array(v) for v in variables]


def line_path(*places, state=()):
    return RecordedPath(
        [Snapshot(10 * i, 1.0, [np.asarray(p, float)], list(state)) for i, p in enumerate(places)]
    )
