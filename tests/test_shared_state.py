"""Parts of a model that are made outside of the hypermodel: trainings must not hear of each other."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from qan_task import TRAIN

from keras_drmad import DrMADSGD
from keras_drmad.tuners.retraining import Retraining

L = keras.layers


def retraining(build: Callable[[], keras.Model]) -> Retraining:
    return Retraining(build(), build, (TRAIN[0][:8], TRAIN[1][:8], ()))


def compiled(*layers: keras.Layer, loss: Any = None, **options: Any) -> keras.Model:
    model = keras.Sequential([L.Input((6,)), *layers, L.Dense(3)])
    loss = loss or keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(DrMADSGD(0.05, **options), loss, metrics=["accuracy"], jit_compile=False)
    return model


def fit(again: Retraining) -> None:
    again.model.fit(*TRAIN, epochs=1, batch_size=8, verbose=0)


def test_statistics_of_a_shared_layer_are_refused_by_name() -> None:
    statistics = L.BatchNormalization(center=False, scale=False, name="statistics")
    with pytest.raises(ValueError, match=r"statistics.*BatchNormalization.*moving_mean"):
        retraining(lambda: compiled(statistics)).restart(0)


def test_so_are_those_within_a_shared_base() -> None:
    inner = L.BatchNormalization(center=False, scale=False, name="statistics")
    base = keras.Sequential([L.Input((6,)), L.Dense(4, trainable=False), inner])
    with pytest.raises(ValueError, match="statistics"):
        retraining(lambda: compiled(base)).restart(0)


def test_a_frozen_base_is_allowed_and_never_written() -> None:
    base = keras.Sequential([L.Input((6,)), L.Dense(4), L.BatchNormalization(), L.Dropout(0.5)])
    base.trainable = False
    before = base.get_weights()[:6]  # beside the seeds
    again = retraining(lambda: compiled(base))
    for seed in range(2):
        again.restart(seed)
        fit(again)
    for weight, value in zip(base.get_weights(), before, strict=False):
        np.testing.assert_array_equal(weight, value)


def test_an_adapted_layer_is_allowed() -> None:
    normalization = L.Normalization()
    normalization.adapt(TRAIN[0])
    retraining(lambda: compiled(normalization)).restart(0)


def test_shared_seeds_begin_anew() -> None:
    noise = keras.Sequential([L.Input((6,)), L.GaussianNoise(0.5), L.Dropout(0.5)])
    again, seen = retraining(lambda: compiled(noise)), []
    for seed in (1, 2, 1):
        again.restart(seed)
        fit(again)
        seen.append(again.model.get_layer(index=-1).kernel.numpy())
    np.testing.assert_array_equal(seen[0], seen[2])
    assert not np.array_equal(seen[0], seen[1])


class Counts(L.Layer):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.count = self.add_weight(shape=(), dtype="int32", trainable=False, name="count")

    def call(self, x: Any) -> Any:  # without `training`
        self.count.assign_add(1)
        return x


def test_a_counter_is_refused() -> None:
    counter = Counts(name="counter")
    with pytest.raises(ValueError, match=r"counter.*`count`"):
        retraining(lambda: compiled(counter)).restart(0)


class Adapts(keras.losses.Loss):
    """A loss with a state of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = keras.Variable(1.0, trainable=False)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        self.scale.assign(0.9 * self.scale)
        return self.scale * keras.losses.sparse_categorical_crossentropy(
            y_true, y_pred, from_logits=True
        )


@pytest.mark.parametrize("is_shared", [False, True])
def test_the_state_of_a_loss_begins_anew(is_shared: bool) -> None:
    loss = Adapts()
    again = retraining(lambda: compiled(loss=loss if is_shared else Adapts()))
    again.restart(0)
    fit(again)
    assert again.model.loss.scale.numpy() < 0.9
    again.restart(0)
    assert again.model.loss.scale.numpy() == 1.0


def test_a_shared_metric_is_reset_by_fit() -> None:
    metric = keras.metrics.SparseCategoricalAccuracy()

    def build() -> keras.Model:
        model = compiled()
        model.compile(DrMADSGD(0.05), model.loss, metrics=[metric], jit_compile=False)
        return model

    again = retraining(build)
    again.restart(0)
    fit(again)
    again.restart(0)
