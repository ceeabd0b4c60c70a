"""The training and the validation loss of a compiled model, as pure functions of tensors."""

import contextlib
import inspect
import re
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework.ops import gradient_registry  # has no public name

from keras_drmad.data import as_arguments

# Whose XLA programs, differentiated twice, take minutes to compile or run on CPU.
SLOW_UNDER_XLA_ON_CPU = ("Conv", "DepthwiseConv", "While")

# TensorFlow takes the derivatives of these gradient operations for zero, which they are not.
WRONG_SECOND_DERIVATIVES = (
    "FakeQuantWithMinMaxArgsGradient",
    "FakeQuantWithMinMaxVarsGradient",
    "FakeQuantWithMinMaxVarsPerChannelGradient",
    "ResizeBilinearGrad",
)

# Operations without a gradient that no derivative goes through; the list only saves time.
NEVER_DIFFERENTIATED = (
    "EmptyTensorList",
    "NoOp",
    "Placeholder",
    "StatelessRandomGetKeyCounter",
    "TensorListReserve",
)


class _Scope(keras.StatelessScope):
    """A stateless scope that remembers which variables were assigned in it."""

    def __init__(self, state_mapping):
        self.assigned = {}
        super().__init__(state_mapping=state_mapping, collect_losses=True)

    def add_update(self, update):
        self.assigned[id(update[0])] = update[0]
        super().add_update(update)


@contextlib.contextmanager
def _mended_moments():
    """Makes `tf.nn.moments`, as batch and group normalization call it, right in second derivatives.

    It takes the mean in `mean((x − mean)²)` for a constant, which leaves the variance and its
    first derivatives right. `mean((x − c)²) − (mean − c)²` is the variance for every constant, so
    it is right in all derivatives; and this one is the same to the last bit.
    """
    original = tf.nn.moments

    def moments(*args, **kwargs):
        mean, variance = original(*args, **kwargs)
        return mean, variance - tf.math.squared_difference(mean, tf.stop_gradient(mean))

    tf.nn.moments = moments
    try:
        yield
    finally:
        tf.nn.moments = original


class Objective:
    """Losses of `model` in which every variable that matters is an argument.

    All variables are replaced through a `keras.StatelessScope`, so no variable of the user's model
    is ever written here.

    Args:
        model: a compiled, built Keras model.
        example: one batch, to find out what a training step changes.
        hyper_variables: further variables to differentiate by.
        devices: names of the devices over which batches are split; None for the default one.
        loss_scale: the factor by which losses are multiplied before they are differentiated (and
            gradients divided after), against underflow in float16.

    Attributes:
        weights: the trainable variables.
        state: other floating-point variables that a training step changes (moving statistics). They
            are differentiated through.
        random: variables of other dtypes that it changes (seeds of dropout, counters).
        operations: the types of the TensorFlow operations in the loss and its gradient.
    """

    def __init__(self, model, example, hyper_variables=(), loss_scale=1.0, devices=(None,)):
        self.model = model
        self.devices = devices
        self.weights = list(model.trainable_variables)
        self.hyper_variables = list(hyper_variables)
        self.loss_scale = loss_scale
        self._model_takes_training = _takes(model.call, "training")
        self._loss_takes_training = _takes(model.compute_loss, "training")
        self.state, self.random = [], []
        operations = self._probe(example)
        self.operations = {kind for kind, _ in operations}
        self._check_second_derivatives(example, operations)

    def gradient(self, weights, state, random, hyper_variables, batch):
        """`(gradients, state, random, loss)` of the training loss; the states after the step."""
        parts = [
            (part.share, self._part_gradient(weights, state, random, hyper_variables, part.batch))
            for part in self._parts(batch)
        ]
        (_, first), *others = parts
        if not others:
            return first
        gradients, after, loss = _mean([(share, (g, s, loss)) for share, (g, s, _, loss) in parts])
        return gradients, after, first[2], loss

    def vjp(self, weights, state, random, hyper_variables, batch):
        """`(gradients, state, vjp)`: as `gradient`, and what takes their adjoints back.

        `vjp(gradients, state)` returns the adjoints of `(weights, state, hyper_variables)`: a
        product with the Hessian of the loss.
        """
        at, found = (weights, state, hyper_variables), []
        for part in self._parts(batch):
            with tf.device(part.device), tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(at)
                gradients, after, *_ = self._part_gradient(
                    weights, state, random, hyper_variables, part.batch
                )
            found.append((part, tape, (gradients, after)))

        def vjp(*adjoints):
            back = []
            for part, tape, results in found:
                with tf.device(part.device):
                    pulled = tape.gradient(
                        results, at, output_gradients=adjoints, unconnected_gradients="zero"
                    )
                    back.append((part.share, tf.nest.map_structure(_dense, pulled)))
            return _mean(back)

        return *_mean([(part.share, results) for part, _, results in found]), vjp

    def _part_gradient(self, weights, state, random, hyper_variables, batch):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(weights)
            loss, scope = self._loss(weights, state, random, hyper_variables, batch, training=True)
            scaled = loss * self.loss_scale
        gradients = tape.gradient(scaled, weights, unconnected_gradients="zero")
        gradients = [_dense(g) / self.loss_scale for g in gradients]
        after = [[scope.get_current_value(v) for v in vs] for vs in (self.state, self.random)]
        return gradients, *after, loss

    def _parts(self, batch):
        """A batch cut into a part for each device; their shares of the samples sum to 1."""
        leaves = tf.nest.flatten(batch)
        samples = leaves[0].shape[0]
        if len(self.devices) == 1 or samples is None or samples < len(self.devices):
            return [_Part(self.devices[0], 1.0, batch)]
        sizes = [len(part) for part in np.array_split(range(samples), len(self.devices))]
        split = [tf.split(leaf, sizes) for leaf in leaves]
        return [
            _Part(
                device, size / samples, tf.nest.pack_sequence_as(batch, [leaf[i] for leaf in split])
            )
            for i, (device, size) in enumerate(zip(self.devices, sizes, strict=True))
        ]

    def validation_loss(self, weights, state, random, hyper_variables, batch):
        """The compiled loss of a batch in inference mode.

        Penalties that layers add (regularizers, `add_loss`) belong to the training loss only,
        unless there is no other loss.
        """
        return self._loss(weights, state, random, hyper_variables, batch, training=False)[0]

    def _loss(self, weights, state, random, hyper_variables, batch, training):
        x, y, sample_weight = as_arguments(batch)
        mapping = [
            *zip(self.weights, weights, strict=True),
            *zip(self.state, state, strict=True),
            *zip(self.random, random, strict=True),
            *zip(self.hyper_variables, hyper_variables, strict=True),
        ]
        with _Scope(mapping) as scope, _mended_moments():
            predictions = self.model(
                x, **({"training": training} if self._model_takes_training else {})
            )
            loss = self.model.compute_loss(
                x=x,
                y=y,
                y_pred=predictions,
                sample_weight=sample_weight,
                **({"training": training} if self._loss_takes_training else {}),
            )
            # Keras divides a loss by the number of replicas, to be summed over them.
            loss *= tf.distribute.get_strategy().num_replicas_in_sync
            if not training and getattr(self.model, "loss", None) is not None:
                for penalty in self.model.losses:
                    loss -= tf.cast(tf.reduce_sum(penalty), loss.dtype)
        return loss, scope

    def _probe(self, example):
        """Traces one training step; fills `state` and `random`, returns its `_operations`."""
        ignored = {id(v) for v in (*self.weights, *self.hyper_variables)}
        ignored |= {id(v) for v in self.model.metrics_variables}

        def step(batch):
            self.state, self.random = [], []  # traced again if Keras makes its global seed in it
            weights = [tf.convert_to_tensor(w.value) for w in self.weights]
            hyper_variables = [tf.convert_to_tensor(v.value) for v in self.hyper_variables]
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(weights)
                loss, scope = self._loss(weights, [], [], hyper_variables, batch, training=True)
            # Whatever the step assigned, in the model or outside it (Keras's global seed).
            for variable in scope.assigned.values():
                if id(variable) in ignored:
                    continue
                floating = tf.as_dtype(variable.dtype).is_floating
                (self.state if floating else self.random).append(variable)
            return [_dense(g) for g in tape.gradient(loss, weights, unconnected_gradients="zero")]

        return _operations(tf.function(step, autograph=False).get_concrete_function(example).graph)

    def _check_second_derivatives(self, example, operations):
        """Raises a ValueError, before anything is trained, if there are none."""
        found = [o for o in operations if o[0] in WRONG_SECOND_DERIVATIVES]
        suspects = [o for o in operations if not _has_gradient(o[0])]
        if suspects and not found:
            # Whether derivatives go through them, only differentiating can tell.
            try:
                twice = tf.function(self._differentiate_twice, autograph=False)
                twice.get_concrete_function(example)
            except LookupError as error:
                found = [o for o in suspects if o[0] in str(error)] or suspects
        if found:
            kind, path = found[0]
            raise ValueError(
                f"{self._part(path)} cannot be differentiated twice, as a hypergradient must: "
                f"TensorFlow has no derivative of its operation `{kind}`. Use a layer or an option "
                'without it (`UpSampling2D(interpolation="nearest")` for images, '
                "`use_cudnn=False` in recurrent layers), or put it before all trainable layers."
            )

    def _differentiate_twice(self, batch):
        """What the reverse pass does to the loss."""
        variables = (self.weights, self.state, self.random, self.hyper_variables)
        weights, state, random, hyper_variables = [
            [tf.convert_to_tensor(v.value) for v in group] for group in variables
        ]
        gradients, state_after, vjp = self.vjp(weights, state, random, hyper_variables, batch)
        return vjp(gradients, state_after)

    def _part(self, path):
        """The part of the model in whose name scope an operation is, in words."""
        part = self.model
        for scope in path.split("/"):
            inner = {layer.name: layer for layer in part._flatten_layers(False, False)}
            # A layer that is called again gets a scope with a number.
            part = inner.get(scope) or inner.get(re.sub(r"_\d+$", "", scope)) or part
        if part is not self.model:
            return f"Layer {part.name!r} ({type(part).__name__})"
        return "The loss" if "compile_loss" in path else f"Model {part.name!r}"

    def slow_under_xla_on_cpu(self):
        """Whether XLA would take minutes where TensorFlow's own kernels take seconds."""
        return any(name in op for op in self.operations for name in SLOW_UNDER_XLA_ON_CPU)

    def draws_random_numbers(self):
        """Whether a training step does; XLA draws other ones from the same seeds."""
        return any("Random" in op for op in self.operations)


class _Part(NamedTuple):
    """Of a batch: what one device computes."""

    device: str | None
    share: float
    batch: tuple


def _mean(parts):
    """The mean of structures of tensors, from a list of `(share, structure)`."""
    (share, first), *others = parts
    if not others:
        return first
    total = tf.nest.map_structure(lambda a: a * share, first)
    for share, other in others:
        total = tf.nest.map_structure(lambda a, b, s=share: a + b * s, total, other)
    return total


def _takes(function, argument):
    parameters = inspect.signature(function).parameters.values()
    return any(p.name == argument or p.kind is p.VAR_KEYWORD for p in parameters)


def _dense(gradient):
    return tf.convert_to_tensor(gradient)


def _has_gradient(kind):
    """Whether an operation can be differentiated (if to zero), or never is."""
    if kind in NEVER_DIFFERENTIATED:
        return True
    if kind == "PreventGradient":
        return False
    try:
        gradient_registry.lookup(kind)
    except LookupError:
        return False
    return True


def _operations(graph):
    """`(type, name)` of all operations; names of those in functions begin with their caller's."""
    definition = graph.as_graph_def()
    functions = {f.signature.name: f.node_def for f in definition.library.function}

    def walk(nodes, prefix):
        for node in nodes:
            yield node.op, prefix + node.name
            for value in node.attr.values():
                for function in (value.func, *value.list.func):
                    if function.name in functions:
                        yield from walk(functions[function.name], f"{prefix}{node.name}/")

    return list(walk(definition.node, ""))
