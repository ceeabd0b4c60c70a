"""How a model is trained again from scratch, while its programs stay compiled."""

from collections.abc import Callable, Iterable

import keras
import numpy as np
import tensorflow as tf

from keras_drmad import compat
from keras_drmad.data import as_arguments
from keras_drmad.typing import Structure

from .compat import SEED_STATE


class Retraining:
    """A compiled model that begins anew again and again.

    A new model is made each time. Its weights and the state of its optimizer are copied into the
    first one, whose compiled programs go on reading the same variables. New models all have the same
    names, or else the process would grow.

    What is made outside of `build` is the same in each new model. It may be there if training does
    not change it, as weights that are frozen; seeds are set anew, and so are variables of losses.

    Args:
        model: the compiled model. It is built here, if it is not.
        build: returns another model like it, with new initial weights.
        example: a batch of training data.

    Raises:
        ValueError: the model is trained already.
    """

    def __init__(
        self, model: keras.Model, build: Callable[[], keras.Model], example: Structure
    ) -> None:
        if (taken := int(model.optimizer.iterations.numpy())) > 0:
            raise ValueError(
                "The hypermodel must return a model that is not trained: each training begins with its "
                f"initial weights. Received: one whose optimizer has taken {taken} steps"
            )
        self.model, self._build = model, build
        self._names = compat.Names()
        self._x = as_arguments(example)[0]
        self._losses = [(v, v.numpy()) for v in _loss_variables(model)]
        self._shared: dict[int, keras.Variable] = {}  # that were looked at
        self._shared_seeds: list[keras.Variable] = []
        if not model.built:
            build_by_call(model, self._x)

    def restart(self, seed: int) -> None:
        """New initial weights, and an optimizer that has taken no step.

        Python's, NumPy's and Keras's global generators are seeded, TensorFlow's is not.

        Args:
            seed: of everything random.

        Raises:
            ValueError: `build` returns what it has returned before, or a part of it that training
                changes.
        """
        # Within a graph this leaves TensorFlow's own seed as it is: after a new one all functions are
        # prepared anew, which takes longer than a small model's training and is never given back
        # (TensorFlow 2.21).
        with tf.Graph().as_default():
            keras.utils.set_random_seed(seed)
        with self._names.again():
            new = self._new()
            _copy(new.variables, self.model.variables)
            for model in (self.model, new):
                if not model.optimizer.built:
                    with model.distribute_strategy.scope():
                        model.optimizer.build(model.trainable_variables)
        self._check_optimizer(new)
        _copy(new.optimizer.variables, self.model.optimizer.variables)
        for layer in compat.all_layers(self.model):
            if getattr(layer, "stateful", False) and hasattr(layer, "reset_states"):
                layer.reset_states()  # which are no variables of the model
        for variable in self._shared_seeds:
            variable.assign(np.full(variable.shape, seed % 2**31))
        for variable, value in self._losses:
            variable.assign(value)

    def _new(self) -> keras.Model:
        """Another model, built, which shares nothing that is trained with the first one."""
        new, model = self._build(), self.model
        if new is model or _inner(new.optimizer) is _inner(model.optimizer):
            raise ValueError(
                "The hypermodel must return a new model each time, with a new optimizer. Received: the "
                "same again"
            )
        if not new.built:
            with new.distribute_strategy.scope():
                new.build_from_config(model.get_build_config())
            if len(new.variables) != len(model.variables):  # some cannot be built so
                build_by_call(new, self._x)
        shared = _shared(new.variables, model.variables)
        trained = {id(variable) for variable in model.trainable_variables}
        if any(id(variable) in trained for variable in shared):
            raise ValueError(
                "The hypermodel must return a new model each time: what it trains must be made in it, "
                "not outside."
            )
        if any(id(variable) not in self._shared for variable in shared):
            self._shared = {id(variable): variable for variable in shared}
            self._check_shared()
        return new

    def _check_shared(self) -> None:
        """Refuses state that training would carry on into the next one."""
        metrics = {id(variable) for variable in self.model.metrics_variables}  # `fit` resets them
        changed = [v for v in self._changed() if id(v) in self._shared and id(v) not in metrics]
        self._shared_seeds = [v for v in changed if v.name == SEED_STATE]
        for variable in changed:
            if variable.name != SEED_STATE:
                raise ValueError(
                    f"{_owner(self.model, variable)} was made outside of the hypermodel, and training "
                    f"changes its `{variable.name}`: each training would begin with what the one before "
                    "has left. Make it in the hypermodel, or freeze it: `layer.trainable = False`."
                )

    def _changed(self) -> list[keras.Variable]:
        """The shared variables that a training step changes, beside the weights. Nothing is run."""
        model, changed = self.model, list[keras.Variable]()

        def step() -> None:
            with keras.StatelessScope() as scope:
                model(self._x, training=True)
            changed.extend(
                v for v in self._shared.values() if scope.get_current_value(v) is not None
            )

        with model.distribute_strategy.scope():
            tf.function(step, autograph=False).get_concrete_function()
        return changed

    def _check_optimizer(self, new: keras.Model) -> None:
        for variable in _shared(new.optimizer.variables, self.model.optimizer.variables):
            raise ValueError(
                f"The optimizers of two models share the variable {variable.name!r}, so that no "
                "training begins with its first value. Make it in the hypermodel."
            )


def build_by_call(model: keras.Model, x: Structure) -> None:
    """Builds a model by calling it on a batch; `fit` would, but weights are set before."""
    with model.distribute_strategy.scope():
        model(x)


def _inner(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """What a loss scale is wrapped around, which `compile` does by itself in float16."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def _copy(variables: list[keras.Variable], into: list[keras.Variable]) -> None:
    for own, other in zip(into, variables, strict=True):
        if own is not other:
            own.assign(other.numpy())


def _shared(
    variables: Iterable[keras.Variable], others: Iterable[keras.Variable]
) -> list[keras.Variable]:
    known = {id(variable) for variable in others}
    return [variable for variable in variables if id(variable) in known]


def _loss_variables(model: keras.Model) -> list[keras.Variable]:
    """Those of loss objects, which are no layers: Keras does not count them among the model's."""
    losses = keras.tree.flatten(getattr(model, "loss", None))
    parts = [part for loss in losses for part in getattr(loss, "__dict__", {}).values()]
    return [part for part in parts if isinstance(part, keras.Variable)]


def _owner(model: keras.Model, variable: keras.Variable) -> str:
    """The innermost layer that has a variable, in words."""
    owners = [
        layer for layer in compat.all_layers(model) if any(v is variable for v in layer.variables)
    ]
    return f"Layer {owners[-1].name!r} ({type(owners[-1]).__name__})" if owners else "The model"
