"""Trained again from scratch: both tuners keep one contract."""

import gc
import os
import pathlib
import random
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from qan_task import TRAIN, VAL

from keras_drmad import DrMADSGD
from keras_drmad.data import ArrayBatches, as_validation
from keras_drmad.paths import Linear
from keras_drmad.tuners import Actions, DrMADTuner, Goal, QANTuner
from keras_drmad.tuners.drmad import trained_model
from keras_drmad.tuners.drmad.training import DifferentiatedTraining
from keras_drmad.tuners.qan.training.states import Ratios
from keras_drmad.tuners.qan.training.steered_training import SteeredTraining
from keras_drmad.tuners.retraining import Retraining

L = keras.layers
Build = Callable[..., keras.Model]


def compiled(
    layers: list[keras.layers.Layer], optimizer: keras.optimizers.Optimizer | None = None
) -> keras.Model:
    model = keras.Sequential(layers)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer or DrMADSGD(0.05), loss, jit_compile=False)
    return model


def build(hp: Any = None) -> keras.Model:
    return compiled([L.Input((6,)), L.Dense(4), L.Dense(3)])


def recurrent(hp: Any = None) -> keras.Model:
    layers = [L.Input((6,), batch_size=8), L.Reshape((6, 1)), L.GRU(2, stateful=True), L.Dense(3)]
    return compiled(layers)


def drmad(build: Build) -> tuple[DifferentiatedTraining, Callable[[], object]]:
    """What trains, and a training of an epoch."""
    batches = ArrayBatches(TRAIN, 8, seed=0)
    again = DifferentiatedTraining(
        build(), build, batches.batch(0), steps=8, path=Linear(), jit_compile=False
    )
    arguments = {"validation_data": VAL, "validation_batch_size": 8, "verbose": 0}
    return again, lambda: again.train(batches, as_validation(VAL, 8), 1, None, **arguments)


def qan(build: Build) -> tuple[SteeredTraining, Callable[[], object]]:
    goal = Goal("loss", 1e-9)
    again = SteeredTraining(
        build, *TRAIN, batch_size=8, every=3, states=[Ratios()], actions=Actions(), goal=goal
    )
    return again, lambda: again.run(1, lambda report: 0.05)


@pytest.fixture(params=[drmad, qan])
def training(request: pytest.FixtureRequest) -> Callable[[Build], Any]:
    return request.param


@pytest.fixture(params=["drmad", "qan"])
def refused(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> Callable[[Build, str], None]:
    """By `search`, before anything is trained."""

    def search(hypermodel: Build, match: str) -> None:
        begun: list[object] = []
        watch = keras.callbacks.LambdaCallback(on_train_begin=begun.append)
        if request.param == "drmad":
            tuner = DrMADTuner(hypermodel, directory=tmp_path, jit_compile=False)
        else:
            tuner = QANTuner(hypermodel, ("val_loss", 0.1), max_trials=12, directory=str(tmp_path))
        with pytest.raises(ValueError, match=match):
            tuner.search(*TRAIN, validation_data=VAL, batch_size=8, callbacks=[watch], verbose=0)
        assert not begun

    return search


def test_weights_are_new_and_follow_from_the_seed(training: Callable[[Build], Any]) -> None:
    again, _ = training(build)
    seen = []
    for seed in (1, 2, 1):
        again.restart(seed)
        seen.append(again.model.get_weights()[0])
    assert not np.array_equal(seen[0], seen[1])
    np.testing.assert_array_equal(seen[0], seen[2])


def test_the_optimizer_has_taken_no_step(training: Callable[[Build], Any]) -> None:
    again, train = training(build)
    again.restart(1)
    fresh = [variable.numpy() for variable in again.model.optimizer.variables]
    train()
    again.model.optimizer.learning_rate = 0.7  # as a callback may have left it
    assert int(again.model.optimizer.iterations.numpy()) == 8
    again.restart(1)
    for variable, value in zip(again.model.optimizer.variables, fresh, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


def test_states_of_recurrent_layers_begin_anew(training: Callable[[Build], Any]) -> None:
    again, train = training(recurrent)
    again.restart(1)
    train()
    (states,) = again.model.layers[1].states
    assert np.any(states.numpy())
    again.restart(1)
    assert not np.any(states.numpy())


def test_a_training_is_repeated(training: Callable[[Build], Any]) -> None:
    def noisy() -> keras.Model:
        return compiled([L.Input((6,)), L.Dense(8), L.Dropout(0.5), L.Dense(3)])

    again, train = training(noisy)
    seen = []
    for _ in range(2):
        again.restart(1)
        train()
        seen.append(again.model.get_weights())
    for first, second in zip(*seen, strict=True):
        np.testing.assert_array_equal(first, second)


def test_the_global_generators_are_seeded_and_tensorflows_is_not(
    training: Callable[[Build], Any],
) -> None:
    """After a new seed, TensorFlow prepares all functions anew."""
    again, _ = training(build)
    drawn = []
    for _ in range(2):
        again.restart(3)
        drawn.append((random.random(), np.random.rand(), float(keras.random.uniform(()))))
    assert drawn[0] == drawn[1]
    tf.random.set_seed(0)
    undisturbed = [float(tf.random.uniform(())) for _ in range(2)]
    tf.random.set_seed(0)
    first = float(tf.random.uniform(()))
    again.restart(3)
    assert [first, float(tf.random.uniform(()))] == undisturbed


# -- what would not begin anew --------------------------------------------------------------


def test_the_same_model_is_refused(refused: Callable[[Build, str], None]) -> None:
    model = build()
    refused(lambda hp: model, "return a new model each time")


def test_the_same_optimizer_is_refused(refused: Callable[[Build, str], None]) -> None:
    optimizer = DrMADSGD(0.05)
    layers = lambda: [L.Input((6,)), L.Dense(3)]  # noqa: E731
    refused(lambda hp: compiled(layers(), optimizer), "a new model each time, with a new optimizer")


def test_a_part_that_is_trained_and_made_outside_is_refused(
    refused: Callable[[Build, str], None],
) -> None:
    base = keras.Sequential([L.Input((6,)), L.Dense(4)])
    refused(
        lambda hp: compiled([L.Input((6,)), base, L.Dense(3)]),
        "a new model each time: what it trains must be made in it",
    )


def test_the_same_optimizer_within_a_loss_scale_is_refused() -> None:
    """`compile` wraps it by itself where models compute in float16."""
    inner = keras.optimizers.SGD(0.05)

    def scaled() -> keras.Model:
        return compiled(
            [L.Input((6,)), L.Dense(3)], keras.optimizers.LossScaleOptimizer(inner_optimizer=inner)
        )

    again = Retraining(scaled(), scaled, (*TRAIN, ()))
    with pytest.raises(ValueError, match="with a new optimizer"):
        again.restart(0)


def test_parts_that_are_not_trained_may_be_shared(training: Callable[[Build], Any]) -> None:
    base = keras.Sequential([L.Input((6,)), L.Dense(4)])
    base.trainable = False
    again, train = training(lambda: compiled([L.Input((6,)), base, L.Dense(3)]))
    before = base.get_weights()
    again.restart(1)
    train()
    np.testing.assert_array_equal(base.get_weights()[0], before[0])


# -- memory ---------------------------------------------------------------------------------


def resident() -> float:
    """MiB of this process."""
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="memory is read from /proc")
def test_a_process_does_not_grow_with_the_number_of_trainings() -> None:
    """TensorFlow keeps something for each new name of a variable: here more than 1 MiB a model."""

    def deep() -> keras.Model:
        return compiled([L.Input((6,)), *[L.Dense(4) for _ in range(8)]], keras.optimizers.Adam())

    again = Retraining(deep(), deep, (TRAIN[0][:8], TRAIN[1][:8], None))
    seen = []
    for seed in range(24):
        again.restart(seed)
        gc.collect()
        seen.append(resident())
    assert seen[-1] - seen[8] < 5


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="memory is read from /proc")
def test_a_process_does_not_grow_with_the_number_of_checkpoints(tmp_path: pathlib.Path) -> None:
    model, seen = build(), []
    model.optimizer.build(model.trainable_variables)
    for _ in range(60):
        trained_model.save(model, str(tmp_path / "trained.weights.h5"))
        gc.collect()
        seen.append(resident())
    assert seen[-1] - seen[9] < 1.5


def test_names_outside_go_on_as_if_no_model_had_been_made_again() -> None:
    again = Retraining(build(), build, (TRAIN[0][:8], TRAIN[1][:8], None))
    before = keras.layers.Dropout(0.1).name
    again.restart(0)
    again.restart(1)
    assert keras.layers.Dropout(0.1).name != before
    names = [L.Dense(1).name for _ in range(2)]
    assert len({*names, *(layer.name for layer in again.model.layers)}) == 4
