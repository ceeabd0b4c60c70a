"""The training and the validation loss of a compiled model, as pure functions of tensors."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_drmad import compat
from keras_drmad.data import Shares, as_arguments
from keras_drmad.engine import hidden_state, second_derivatives
from keras_drmad.engine.loss_scale import DynamicScale, FixedScale
from keras_drmad.typing import Structure, Tensor, Tensors


class ModelValues(NamedTuple):
    """Tensors that stand for a model's variables; what each list is, `Objective`'s attributes say."""

    weights: Tensors
    state: Tensors
    random: Tensors
    hyper_variables: Tensors


class _Scope(keras.StatelessScope):
    """A stateless scope that remembers which variables were assigned in it."""

    def __init__(self, state_mapping: list[tuple[keras.Variable, Tensor]]) -> None:
        self.assigned: dict[int, keras.Variable] = {}
        super().__init__(state_mapping=state_mapping, collect_losses=True)

    def add_update(self, update: tuple[keras.Variable, Tensor]) -> None:
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
        devices: names of the devices over which batches are split; None for the default one.
        check: whether state that Keras does not know of is refused, and gradients of one's own.
        loss_scale: by what losses are multiplied before they are differentiated (and gradients
            divided after), against underflow in float16.

    Attributes:
        weights: the trainable variables.
        state: other floating-point variables that a training step changes (moving statistics). They
            are differentiated through.
        random: variables of other dtypes that it changes (seeds of dropout, counters).
        idle: for each weight, whether no gradient reaches it; Keras then leaves it as it is.
        operations: the types of the TensorFlow operations in the loss and its gradient.
        draws: whether random numbers are among them.
    """

    def __init__(
        self,
        model: keras.Model,
        example: Structure,
        hyper_variables: Sequence[keras.Variable] = (),
        loss_scale: FixedScale | DynamicScale | None = None,
        devices: tuple[str | None, ...] = (None,),
        check: bool = True,
    ) -> None:
        self.model = model
        self.devices = devices
        self.weights = list(model.trainable_variables)
        self.hyper_variables = list(hyper_variables)
        self.loss_scale = loss_scale or FixedScale(1.0)
        self._model_takes_training = _takes_training(model.call)
        self._loss_takes_training = _takes_training(model.compute_loss)
        self._adds_up = _adds_up(model)
        self.state: list[keras.Variable] = []
        self.random: list[keras.Variable] = []
        self.idle: tuple[bool, ...] = ()
        operations = self._probe(example)
        self.operations = {kind for kind, _ in operations}
        self.draws = any("Random" in kind for kind in self.operations)
        if check:
            hidden_state.check(model, operations)
            second_derivatives.check_own_gradients(model, operations)
        second_derivatives.check(model, operations, self._differentiate_twice, example)

    def gradient(
        self, at: ModelValues, batch: Structure, scale: Tensor = ()
    ) -> tuple[Tensors, Tensors, Tensors, Tensor]:
        """`(gradients, state, random, loss)` of the training loss; the states after the step.

        `scale` is that of the loss, where it is a dynamic one.
        """
        parts = self._parts(batch)
        found = [self._part_gradient(at, part.batch, scale) for part in parts]
        gradients, state, loss = self._together(parts, [(g, s, loss) for g, s, _, loss in found])
        return gradients, state, found[0][2], loss

    def vjp(
        self, at: ModelValues, batch: Structure, scale: Tensor = ()
    ) -> tuple[Tensors, Tensors, Tensor, Callable[..., tuple[Tensors, Tensors, Tensors]]]:
        """`(gradients, state, loss, vjp)`: as `gradient`, and what takes their adjoints back.

        `vjp(gradients, state)` returns the adjoints of `(weights, state, hyper_variables)`: a
        product with the Hessian of the loss.
        """
        sources, parts = (at.weights, at.state, at.hyper_variables), self._parts(batch)
        tapes, found = [], []
        for part in parts:
            with tf.device(part.device), tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(sources)
                gradients, after, _, loss = self._part_gradient(at, part.batch, scale)
            tapes.append(tape)
            found.append((gradients, after, loss))

        def vjp(gradients: Tensors, state: Tensors) -> tuple[Tensors, Tensors, Tensors]:
            back = []
            for part, tape, (*results, _) in zip(parts, tapes, found, strict=True):
                pushed = (
                    gradients,
                    [
                        a if share == part.share else a * tf.cast(share / part.share, a.dtype)
                        for a, share in zip(state, self._state_shares(part), strict=True)
                    ],
                )
                with tf.device(part.device):
                    pulled = tape.gradient(
                        results, sources, output_gradients=pushed, unconnected_gradients="zero"
                    )
                    back.append((part.share, tf.nest.map_structure(_dense, pulled)))
            return _mean(back)

        return *self._together(parts, found), vjp

    def _together(
        self, parts: list[_Part], found: list[tuple[Tensors, Tensors, Tensor]]
    ) -> tuple[Tensors, Tensors, Tensor]:
        """`(gradients, state, loss)` of a batch, out of those of its parts."""
        if len(parts) == 1:
            return found[0]
        gradients, loss = _mean(
            [(part.share, (g, loss)) for part, (g, _, loss) in zip(parts, found, strict=True)]
        )
        shares = zip(*map(self._state_shares, parts), strict=True)
        states = zip(*[state for _, state, _ in found], strict=True)
        state = [
            tf.add_n(
                [v * tf.cast(s, v.dtype) for s, v in zip(*of, strict=True) if s]
            )  # not 0 · NaN
            for of in zip(shares, states, strict=True)
        ]
        return gradients, state, loss

    def _state_shares(self, part: _Part) -> list[float]:
        """How much of a part's is in each variable of the state after a step.

        Keras aggregates a variable over replicas only where its layer says so. Else each keeps its
        own, as the moving statistics of a batch normalization, and that of the first one is read.
        """
        shares = {"mean": part.share, "sum": 1.0}
        return [shares.get(v.aggregation, 1.0 if part.is_first else 0.0) for v in self.state]

    def _part_gradient(
        self, at: ModelValues, batch: Structure, scale: Tensor
    ) -> tuple[Tensors, Tensors, Tensors, Tensor]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(at.weights)
            loss, scope = self._loss(at, batch, tape)
            factor = scale if self.loss_scale.is_dynamic else self.loss_scale.factor
            scaled = loss * tf.cast(factor, loss.dtype)
        gradients = tape.gradient(scaled, at.weights, unconnected_gradients="zero")
        gradients = [_dense(g) / tf.cast(factor, g.dtype) for g in gradients]
        after = [[scope.get_current_value(v) for v in vs] for vs in (self.state, self.random)]
        # Of a loss that is not reduced Keras differentiates the sum, and shows the mean.
        return gradients, *after, tf.reduce_mean(loss)

    def _parts(self, batch: Structure) -> list[_Part]:
        """A batch cut into a part for each device, with what each counts for; that sums to 1.

        Parts that `fit` has made count alike, as Keras adds up the losses of its replicas. So do those
        of losses that are sums. Else they count by their samples.
        """
        if isinstance(batch, Shares):
            batches = [_of_any_size(part) for part in batch.parts]
            shares = [1.0 / len(batches)] * len(batches)
        else:
            batches, shares = self._cut(batch)
        parts = zip(self.devices, shares, batches, strict=False)
        return [_Part(*part, is_first=i == 0) for i, part in enumerate(parts)]

    def _cut(self, batch: Structure) -> tuple[list[Structure], list[float]]:
        """`(parts, shares)` of a batch; one part if it has fewer samples than there are devices."""
        leaves, count = tf.nest.flatten(batch), len(self.devices)
        samples = leaves[0].shape[0]
        if count == 1 or samples is None or samples < count:
            return [batch], [1.0 / count if self._adds_up else 1.0]
        sizes = [len(part) for part in np.array_split(range(samples), count)]
        cut = [
            tf.nest.map_structure(lambda leaf, at=slice(stop - size, stop): leaf[at], batch)
            for size, stop in zip(sizes, np.cumsum(sizes), strict=True)
        ]
        return cut, [1.0 / count if self._adds_up else size / samples for size in sizes]

    def validation_loss(self, at: ModelValues, batch: Structure) -> Tensor:
        """The compiled loss of a batch in inference mode.

        Penalties that layers add (regularizers, `add_loss`) belong to the training loss only,
        unless there is no other loss.
        """
        return self._loss(at, batch)[0]

    def _loss(
        self, at: ModelValues, batch: Structure, trains: tf.GradientTape | None = None
    ) -> tuple[Tensor, _Scope]:
        """The training loss, whose gradient the tape `trains` takes; without one the validation loss."""
        training = trains is not None
        x, y, sample_weight = as_arguments(batch)
        mapping = [
            *zip(self.weights, at.weights, strict=True),
            *zip(self.state, at.state, strict=True),
            *zip(self.random, at.random, strict=True),
            *zip(self.hyper_variables, at.hyper_variables, strict=True),
        ]
        with _Scope(mapping) as scope, second_derivatives.mended(trains):
            predictions = self.model(
                x, **({"training": training} if self._model_takes_training else {})
            )
            is_penalized = training or getattr(self.model, "loss", None) is None
            penalties = [] if is_penalized else self.model.losses
            with (
                self._as_replica() if training else contextlib.nullcontext(),
                tf.GradientTape(watch_accessed_variables=False) as tape,
            ):
                if penalties:  # one more, which tells how `compute_loss` counts them
                    tape.watch(probe := tf.zeros((), penalties[0].dtype))
                    self.model.add_loss(probe)
                loss = self.model.compute_loss(
                    x=x,
                    y=y,
                    y_pred=predictions,
                    sample_weight=sample_weight,
                    **({"training": training} if self._loss_takes_training else {}),
                )
                # Keras divides a mean by the number of replicas, to be summed over them.
                loss *= tf.distribute.get_strategy().num_replicas_in_sync
                if not training:
                    loss = tf.reduce_mean(loss)
            if penalties and (factor := tape.gradient(loss, probe)) is not None:
                for penalty in penalties:
                    loss -= tf.cast(factor * tf.reduce_sum(penalty), loss.dtype)
        return loss, scope

    def _as_replica(self) -> contextlib.AbstractContextManager[object]:
        """Where losses are what Keras takes of them on each of several devices."""
        one = len(self.devices) == 1
        return contextlib.nullcontext() if one else self.model.distribute_strategy.scope()

    def _probe(self, example: Structure) -> list[tuple[str, str]]:
        """Traces one training step; fills `state` and `random`, returns its `operations`."""
        ignored = {id(v) for v in (*self.weights, *self.hyper_variables)}
        ignored |= {id(v) for v in self.model.metrics_variables}

        def step(batch: Structure) -> Tensors:
            self.state, self.random = [], []  # traced again if Keras makes its global seed in it
            at = self._values()
            with (
                tf.GradientTape(watch_accessed_variables=False) as of_hyper_variables,
                tf.GradientTape(watch_accessed_variables=False) as tape,
            ):
                of_hyper_variables.watch(at.hyper_variables)
                tape.watch(at.weights)
                loss, scope = self._loss(at, batch, tape)
            self._check_read(of_hyper_variables.gradient(loss, at.hyper_variables))
            # Whatever the step assigned, in the model or outside it (Keras's global seed).
            for variable in scope.assigned.values():
                if any(variable is weight for weight in self.weights):
                    raise ValueError(_assigns(self.model, variable))
                if id(variable) in ignored:
                    continue
                floating = tf.as_dtype(variable.dtype).is_floating
                (self.state if floating else self.random).append(variable)
            gradients = tape.gradient(loss, at.weights)
            self.idle = tuple(g is None for g in gradients)
            return [_dense(g) for g in gradients if g is not None]

        graph = tf.function(step, autograph=False).get_concrete_function(example).graph
        return second_derivatives.operations(graph)

    def _check_read(self, gradients: Tensors) -> None:
        for number, (variable, gradient) in enumerate(
            zip(self.hyper_variables, gradients, strict=True)
        ):
            if gradient is None:
                raise ValueError(
                    f"`hyper_variables` must be read by the training loss, or have no derivative. "
                    f"Received: hyper_variables[{number}]={variable.path!r}, on which it does not depend"
                )

    def _differentiate_twice(self, batch: Structure) -> Structure:
        """What the reverse pass does to the loss."""
        scale = tf.constant(1.0) if self.loss_scale.is_dynamic else ()
        gradients, state_after, _, vjp = self.vjp(self._values(), batch, scale)
        return vjp(gradients, state_after)

    def _values(self) -> ModelValues:
        """Those that the model has now."""
        variables = ModelValues(self.weights, self.state, self.random, self.hyper_variables)
        return tf.nest.map_structure(lambda v: tf.convert_to_tensor(v.value), variables)


def _assigns(model: keras.Model, variable: keras.Variable) -> str:
    """What there is to say of a trained variable that is changed by more than the optimizer."""
    owners = [
        layer
        for layer in compat.all_layers(model)
        if any(own is variable for own in layer.trainable_variables)
    ]
    owner = owners[-1] if owners else model  # the innermost
    for layer in owners:  # what assigns it may be a layer around it
        if isinstance(layer, keras.layers.Wrapper):
            owner = layer
    return (
        f"Layer {owner.name!r} ({type(owner).__name__}) assigns its trained variable "
        f"{variable.path!r} while it is called, beside what the optimizer does. Such a training "
        "cannot be differentiated: leave the layer out, or use a `kernel_constraint` or a "
        "`kernel_regularizer` instead."
    )


class _Part(NamedTuple):
    """Of a batch: what one device computes."""

    device: str | None
    share: float
    batch: Structure
    is_first: bool


def _of_any_size(batch: Structure) -> Structure:
    """A batch whose number of samples Keras does not look at: it would take no mean of none."""

    def hidden(leaf: Tensor) -> Tensor:
        if leaf.shape[0] != 0:
            return leaf
        return tf.compat.v1.placeholder_with_default(leaf, (None, *leaf.shape[1:]))

    return tf.nest.map_structure(hidden, batch)


def _mean(parts: list[tuple[float, Any]]) -> Any:
    """The mean of structures of tensors, from a list of `(share, structure)`."""
    (share, first), *others = parts
    if not others:
        return first
    total = tf.nest.map_structure(lambda a: a * share, first)
    for share, other in others:
        total = tf.nest.map_structure(lambda a, b, s=share: a + b * s, total, other)
    return total


def _adds_up(model: keras.Model) -> bool:
    """Whether a compiled loss is a sum over samples."""
    losses = keras.tree.flatten(getattr(model, "loss", None))
    return any(getattr(loss, "reduction", "mean") in ("sum", "none", None) for loss in losses)


def _takes_training(function: Callable) -> bool:
    """Whether Keras says `training` to a function: only where it is written out, not in `**kwargs`."""
    return "training" in inspect.signature(function).parameters


def _dense(gradient: Tensor | tf.IndexedSlices) -> Tensor:
    return tf.convert_to_tensor(gradient)
