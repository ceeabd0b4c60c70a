"""The training and the validation loss of a compiled model, as pure functions of tensors."""

import inspect

import keras
import tensorflow as tf

from keras_drmad.data import as_arguments

# Whose XLA programs, differentiated twice, take minutes to compile or run on CPU.
SLOW_UNDER_XLA_ON_CPU = ("Conv", "DepthwiseConv", "While")


class _Scope(keras.StatelessScope):
    """A stateless scope that remembers which variables were assigned in it."""

    def __init__(self, state_mapping):
        self.assigned = {}
        super().__init__(state_mapping=state_mapping, collect_losses=True)

    def add_update(self, update):
        self.assigned[id(update[0])] = update[0]
        super().add_update(update)


class Objective:
    """Losses of `model` in which every variable that matters is an argument.

    All variables are replaced through a `keras.StatelessScope`, so no variable of the user's model
    is ever written here.

    Args:
        model: a compiled, built Keras model.
        example: one batch, to find out what a training step changes.
        hyper_variables: further variables to differentiate by.
        loss_scale: the factor by which losses are multiplied before they are differentiated (and
            gradients divided after), against underflow in float16.

    Attributes:
        weights: the trainable variables.
        state: other floating-point variables that a training step changes (moving statistics). They
            are differentiated through.
        random: variables of other dtypes that it changes (seeds of dropout, counters).
        operations: the types of the TensorFlow operations in the loss and its gradient.
    """

    def __init__(self, model, example, hyper_variables=(), loss_scale=1.0):
        self.model = model
        self.weights = list(model.trainable_variables)
        self.hyper_variables = list(hyper_variables)
        self.loss_scale = loss_scale
        self._model_takes_training = _takes(model.call, "training")
        self._loss_takes_training = _takes(model.compute_loss, "training")
        self.state, self.random = [], []
        self.operations = self._probe(example)

    def gradient(self, weights, state, random, eta, batch):
        """`(gradients, state, random)`: of the training loss at `weights`, and after the step."""
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(weights)
            loss, scope = self._loss(weights, state, random, eta, batch, training=True)
            loss = loss * self.loss_scale
        gradients = tape.gradient(loss, weights, unconnected_gradients="zero")
        gradients = [_dense(g) / self.loss_scale for g in gradients]
        after = [[scope.get_current_value(v) for v in vs] for vs in (self.state, self.random)]
        return gradients, *after

    def validation_loss(self, weights, state, random, eta, batch):
        """The compiled loss of a batch in inference mode.

        Penalties that layers add (regularizers, `add_loss`) belong to the training loss only, unless
        there is no other loss.
        """
        loss, scope = self._loss(weights, state, random, eta, batch, training=False)
        return loss

    def _loss(self, weights, state, random, eta, batch, training):
        x, y, sample_weight = as_arguments(batch)
        mapping = [
            *zip(self.weights, weights, strict=True),
            *zip(self.state, state, strict=True),
            *zip(self.random, random, strict=True),
            *zip(self.hyper_variables, eta, strict=True),
        ]
        with _Scope(mapping) as scope:
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
            if not training and getattr(self.model, "loss", None) is not None:
                for penalty in self.model.losses:
                    loss -= tf.cast(tf.reduce_sum(penalty), loss.dtype)
        return loss, scope

    def _probe(self, example):
        """Traces one training step; fills `state` and `random`, returns the operations' types."""
        ignored = {id(v) for v in (*self.weights, *self.hyper_variables)}
        ignored |= {id(v) for v in self.model.metrics_variables}

        def step(batch):
            weights = [tf.convert_to_tensor(w.value) for w in self.weights]
            eta = [tf.convert_to_tensor(v.value) for v in self.hyper_variables]
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(weights)
                loss, scope = self._loss(weights, [], [], eta, batch, training=True)
            # Whatever the step assigned, in the model or outside it (Keras's global seed).
            for variable in scope.assigned.values():
                if id(variable) in ignored:
                    continue
                floating = tf.as_dtype(variable.dtype).is_floating
                (self.state if floating else self.random).append(variable)
            return [_dense(g) for g in tape.gradient(loss, weights, unconnected_gradients="zero")]

        graph = tf.function(step, autograph=False).get_concrete_function(example).graph
        return _operation_types(graph)

    def slow_under_xla_on_cpu(self):
        """Whether XLA would take minutes where TensorFlow's own kernels take seconds."""
        return any(name in op for op in self.operations for name in SLOW_UNDER_XLA_ON_CPU)


def _takes(function, argument):
    parameters = inspect.signature(function).parameters.values()
    return any(p.name == argument or p.kind is p.VAR_KEYWORD for p in parameters)


def _dense(gradient):
    return tf.convert_to_tensor(gradient)


def _operation_types(graph):
    definition = graph.as_graph_def()
    types = {node.op for node in definition.node}
    for function in definition.library.function:
        types |= {node.op for node in function.node_def}
    return types
