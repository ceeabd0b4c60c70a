"""Update rules for some of an optimizer's variables, and for variables that no gradient reaches."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_drmad import DrMADSGD
from keras_drmad.update_rules.base import Iterate

SHAPES = {"base/kernel": (2, 3), "base/bias": (3,), "top/kernel": (3, 1)}


def optimizer_of(**arguments):
    rng = np.random.default_rng(0)
    variables = []
    for path, shape in SHAPES.items():
        layer, name = path.split("/")
        with keras.name_scope(layer):
            variables.append(keras.Variable(rng.normal(size=shape), dtype="float32", name=name))
    variables[2].constraint = keras.constraints.NonNeg()
    optimizer = DrMADSGD(**{"learning_rate": 0.1, "l2": 0.1, "weight_decay": 0.1} | arguments)
    optimizer.build(variables)
    optimizer.set_hyperparameters({"top": {"learning_rate": 0.3, "l2": 0.5}})
    return optimizer, variables


def stepped(rule, optimizer, weights, raw):
    """`(weights, velocities)` after one step from velocities of 1."""
    hyper = optimizer.hyper_values()
    start = Iterate(weights, {"velocity": [tf.ones_like(w) for w in weights]})
    gradients = rule.gradients(weights, raw, hyper)
    after = rule.move(start, gradients, hyper, tf.constant(0.1), tf.constant(0))
    return after.weights, after.slots["velocity"]


@pytest.mark.parametrize("clip", [{}, {"clipnorm": 0.1}, {"global_clipnorm": 0.1}])
def test_idle_variables_stay_as_they_are(clip):
    optimizer, variables = optimizer_of(**clip)
    weights = [tf.convert_to_tensor(v) for v in variables]
    raw = [2 * w for w in weights]
    rule = dataclasses.replace(optimizer.update_rule(), idle=(False, True, False))
    after = stepped(rule, optimizer, weights, [raw[0], tf.zeros(3), raw[2]])
    np.testing.assert_array_equal(after[0][1], weights[1])
    np.testing.assert_array_equal(after[1][1], np.ones(3))
    others = [0, 2]
    alone = stepped(
        optimizer.update_rule([variables[i] for i in others]),
        optimizer,
        [weights[i] for i in others],
        [raw[i] for i in others],
    )
    for with_idle, without in zip(after, alone, strict=True):
        for place, i in enumerate(others):
            np.testing.assert_array_equal(with_idle[i], without[place])


def test_none_is_idle_by_default():
    optimizer, variables = optimizer_of(global_clipnorm=0.1)
    weights = [tf.convert_to_tensor(v) for v in variables]
    rule = optimizer.update_rule()
    said = dataclasses.replace(rule, idle=(False,) * 3)
    for a, b in zip(
        stepped(rule, optimizer, weights, weights),
        stepped(said, optimizer, weights, weights),
        strict=True,
    ):
        for p, q in zip(a, b, strict=True):
            np.testing.assert_array_equal(p, q)


def test_variables_are_paired_by_identity():
    optimizer, variables = optimizer_of()
    weights = [tf.convert_to_tensor(v) for v in variables]
    whole = stepped(optimizer.update_rule(), optimizer, weights, weights)
    order = [2, 0]
    trained = [variables[i] for i in order]
    some = [weights[i] for i in order]
    part = stepped(optimizer.update_rule(trained), optimizer, some, some)
    for all_of, some_of in zip(whole, part, strict=True):
        for place, i in enumerate(order):
            np.testing.assert_array_equal(some_of[place], all_of[i])
    velocity = optimizer.slots["velocity"]
    assert optimizer.slots_of(trained)["velocity"] == [velocity[2], velocity[0]]
    assert optimizer.slots_of()["velocity"] == velocity


def test_a_variable_that_was_frozen_is_named():
    optimizer, _ = optimizer_of()
    with keras.name_scope("new"):
        thawed = keras.Variable([1.0], name="kernel")
    for use in (
        lambda: optimizer.update_rule([thawed]),
        lambda: optimizer.slots_of([thawed]),
        lambda: optimizer.apply([tf.ones(1)], [thawed]),
    ):
        with pytest.raises(ValueError, match=r"`new/kernel` is trained, but was frozen.*compile"):
            use()


@pytest.mark.parametrize("clip", ["clipnorm", "global_clipnorm", "clipvalue"])
def test_a_norm_of_zero_does_not_clip(clip):
    optimizer, variables = optimizer_of(l2=0.0, **{clip: 0.0})
    optimizer.set_hyperparameters({"top": {"l2": 0.0}})
    weights = [tf.convert_to_tensor(v) for v in variables]
    gradients = optimizer.update_rule().gradients(weights, weights, optimizer.hyper_values())
    for g, w in zip(gradients, weights, strict=True):
        np.testing.assert_array_equal(g, w)


@pytest.mark.parametrize("clip", ["clipnorm", "global_clipnorm"])
def test_gradients_of_zero_are_clipped_and_differentiated(clip):
    """As of a batch whose samples all have the weight 0."""
    optimizer, variables = optimizer_of(l2=0.0, **{clip: 0.1})
    optimizer.set_hyperparameters({"top": {"l2": 0.0}})
    rule, hyper = optimizer.update_rule(), optimizer.hyper_values()
    weights = [tf.convert_to_tensor(v) for v in variables]
    raw = [tf.zeros_like(w) for w in weights]
    with tf.GradientTape() as tape:
        tape.watch(raw)
        gradients = rule.gradients(weights, raw, hyper)
    for g, back in zip(gradients, tape.gradient(gradients, raw), strict=True):
        np.testing.assert_array_equal(g, np.zeros(g.shape))
        np.testing.assert_array_equal(back, np.ones(g.shape))
