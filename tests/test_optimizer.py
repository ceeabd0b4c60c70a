"""`DrMADSGD` and `DrMADAdamW` against `keras.optimizers.SGD` and `AdamW`."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from classifier import X, Y, classifier, layers, train, weights
from optimizers import ADAMW, SGD, both

from keras_drmad import Knots

DECAYING = keras.optimizers.schedules.ExponentialDecay(0.05, 10, 0.9)
TWINS = {
    SGD: {
        "plain": {},
        "nesterov": {"nesterov": True},
        "clipnorm": {"clipnorm": 0.1},
        "clipvalue": {"clipvalue": 0.01},
        "global_clipnorm": {"global_clipnorm": 0.1},
        "weight_decay": {"weight_decay": 0.01},
        "use_ema": {"use_ema": True},
        "ema_overwrite": {"use_ema": True, "ema_overwrite_frequency": 20},
        "accumulation": {"gradient_accumulation_steps": 4},
        "loss_scale": {"loss_scale_factor": 8.0},
        "no momentum": {"momentum": 0.0},
        "schedule": {"learning_rate": DECAYING},
    },
    ADAMW: {
        "plain": {},
        "Adam": {"weight_decay": 0.0, "use_ema": True},
        "betas": {"beta_1": 0.5, "beta_2": 0.9, "epsilon": 1e-3, "loss_scale_factor": 8.0},
        "no momentum": {"beta_1": 0.0, "clipvalue": 0.01},
        "clipnorm": {"clipnorm": 0.1, "use_ema": True, "ema_overwrite_frequency": 20},
        "global_clipnorm": {"global_clipnorm": 0.1},
        "accumulation": {"gradient_accumulation_steps": 4},
        "schedule": {"learning_rate": DECAYING},
    },
}
# With XLA, which takes long to compile, what branches or keeps more state.
COMPILED = {
    SGD: ("plain", "global_clipnorm", "ema_overwrite", "accumulation", "schedule"),
    ADAMW: ("clipnorm",),
}


@pytest.mark.parametrize(
    ("kind", "name", "jit_compile", "l2"),
    [(kind, name, False, 0.01 * (kind is SGD)) for kind in TWINS for name in TWINS[kind]]
    + [(kind, name, True, 0.0) for kind in COMPILED for name in COMPILED[kind]],
    ids=str,
)
def test_is_keras_optimizer_plus_l2(kind, name, jit_compile, l2):
    arguments = {"learning_rate": kind.rate}
    arguments |= {SGD: {"momentum": 0.9}, ADAMW: {"weight_decay": 0.1}}[kind] | TWINS[kind][name]
    theirs = train(classifier(kind.twin(**arguments), l2, jit_compile=jit_compile))
    extra = {"l2": l2} if kind is SGD else {}
    ours = train(classifier(kind.make(**arguments, **extra, learn=()), jit_compile=jit_compile))
    start = weights(classifier("sgd"))
    assert np.linalg.norm(weights(theirs) - start) > 0.1  # there was something to compare
    np.testing.assert_allclose(weights(ours), weights(theirs), rtol=1e-6, atol=1e-6)


@both
def test_is_keras_optimizer_under_a_loss_scale_optimizer(kind):
    def trained(optimizer):
        scaled = keras.optimizers.LossScaleOptimizer(optimizer)
        return train(classifier(scaled, jit_compile="auto"), epochs=3)

    theirs = trained(kind.twin(kind.rate, **{"momentum": 0.9} if kind is SGD else {}))
    ours = trained(kind.make(kind.rate, learn=()))
    np.testing.assert_allclose(weights(ours), weights(theirs), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("per", ["layer", "unit"])
def test_two_replicas_train_like_one(per, two_replicas):
    def trained(strategy):
        with strategy.scope():
            model = classifier(SGD.of(per=per, learn=(), l2=0.01), metrics=[])
        data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(20, drop_remainder=True)
        model.fit(data.repeat(3), shuffle=False, verbose=0)
        return weights(model)

    two, one = trained(two_replicas), trained(tf.distribute.OneDeviceStrategy("CPU:0"))
    np.testing.assert_allclose(two, one, rtol=1e-5, atol=1e-6)


def test_replicas_train_as_with_keras_adamw(two_replicas):
    def trained(optimizer):
        with two_replicas.scope():
            model = classifier(optimizer(0.01, weight_decay=0.1), metrics=[])
        data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(20, drop_remainder=True)
        model.fit(data.repeat(3), shuffle=False, verbose=0)
        return weights(model)

    ours, theirs = trained(ADAMW.make), trained(ADAMW.twin)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)


def embedded(optimizer, words):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([layers.Embedding(20, 4), layers.Flatten(), layers.Dense(1)])
    model.compile(optimizer, "mse", jit_compile=False)
    model.fit(words, words.sum(1) / 30.0, batch_size=6, epochs=5, shuffle=False, verbose=0)
    return weights(model)


def test_sparse_gradients():
    words = np.random.default_rng(0).integers(0, 20, (60, 3))
    ours = embedded(SGD.make(0.05, learn=()), words)
    theirs = embedded(SGD.twin(0.05, momentum=0.9), words)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_sparse_gradients_of_adamw():
    """Keras squares the parts of a row that is used several times in a batch apart."""
    rng = np.random.default_rng(0)
    words = np.concatenate([rng.permutation(20)[:18].reshape(6, 3) for _ in range(10)])
    ours = embedded(ADAMW.make(0.01, learn=()), words)
    np.testing.assert_allclose(ours, embedded(ADAMW.twin(0.01), words), rtol=1e-5, atol=1e-6)

    def stepped(optimizer, gradient):
        table = keras.Variable(np.ones((4, 2)), dtype="float32")
        optimizer.build([table])
        optimizer.apply([gradient])
        return table.numpy()

    sparse = tf.IndexedSlices(tf.ones((3, 2)), tf.constant([0, 0, 2]), tf.constant([4, 2]))
    ours = stepped(ADAMW.make(0.01, clipnorm=0.1, learn=()), sparse)
    theirs = stepped(ADAMW.twin(0.01, clipnorm=0.1), tf.convert_to_tensor(sparse))
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


APART = {
    "no gradient": {},
    "weight_decay": {"weight_decay": 0.1},
    "without decay by path": {"weight_decay": 0.1},
    "clipnorm": {"clipnorm": 0.1},
    "global_clipnorm": {"global_clipnorm": 0.1},
    "clipvalue": {"clipvalue": 0.01},
    "clipnorm of 0": {"clipnorm": 0.0},
    "use_ema": {"use_ema": True},
    "accumulation": {"gradient_accumulation_steps": 2},
}


@both
@pytest.mark.parametrize("name", APART)
@pytest.mark.filterwarnings("ignore:Gradients do not exist")
def test_variables_are_treated_apart_as_keras_does(kind, name):
    """One without a gradient, one that is overwritten by it, one with a constraint."""
    momentum = {"momentum": 0.9} if kind is SGD else {}
    penalty = {"l2": 0.1} if kind is SGD else {}

    def trained(make, in_gradients, **arguments):
        rng = np.random.default_rng(0)
        variables = []
        for layer in ("moving", "idle", "scale", "bound"):
            with keras.name_scope(layer):
                variables.append(keras.Variable(rng.normal(size=3), dtype="float32", name="kernel"))
        variables[2].overwrite_with_gradient = True
        variables[3].constraint = keras.constraints.NonNeg()
        optimizer = make(0.05, **momentum, **APART[name], **arguments)
        if name == "without decay by path":
            optimizer.exclude_from_weight_decay(var_names=["moving"])
        optimizer.build(variables)
        for step in range(4):
            gradients = [v.value * (step + 1) for v in variables]
            gradients = [
                g + in_gradients * v.value for g, v in zip(gradients, variables, strict=True)
            ]
            gradients[1] = None if step else gradients[1]  # with a velocity, at first
            gradients[2] = tf.fill((3,), 0.5 + step)
            optimizer.apply(gradients, variables)
        optimizer.apply([], [])
        if name != "use_ema":  # Keras does not average what is overwritten
            optimizer.finalize_variable_values(variables)
        return [v.numpy() for v in variables]

    theirs = trained(kind.twin, penalty.get("l2", 0.0))
    ours = trained(kind.make, 0.0, learn=(), **penalty)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@both
def test_what_is_overwritten_by_its_gradient_has_no_update_rule(kind):
    scale = keras.Variable([1.0], name="scale")
    scale.overwrite_with_gradient = True
    optimizer = kind.of()
    optimizer.build([keras.Variable([1.0], name="kernel"), scale])
    with pytest.raises(ValueError, match="'scale' is replaced by its gradient"):
        optimizer.update_rule()


def test_the_engine_asks_for_weight_decay_as_keras_does():
    """By the path, which the name of a Keras variable has not."""
    optimizer = SGD.make(0.05, weight_decay=0.1)
    optimizer.exclude_from_weight_decay(var_names=["hidden"])
    model = classifier(optimizer)
    optimizer.build(model.trainable_variables)
    assert optimizer.update_rule().decays == (0.0, 0.0, 0.1, 0.1)


@both
def test_learned_schedules_go_with_accumulated_gradients(kind):
    optimizer = kind.of(schedule=Knots(2, steps=8), learn=(), gradient_accumulation_steps=2)
    train(classifier(optimizer), epochs=1)
    assert optimizer.steps_taken() > 0


@both
def test_learned_schedules_span_batches(kind):
    """Four batches are one step of the optimizer, which knots are counted by."""
    optimizer = kind.of(schedule=Knots(2), gradient_accumulation_steps=4)
    optimizer.span_schedule(100)
    assert optimizer.schedule.steps == 25
    optimizer.stretch_schedule(202)
    assert optimizer.schedule.steps == 51
