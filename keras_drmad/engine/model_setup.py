"""What a compiled model is asked before it is trained: is it built, on what devices, with XLA?"""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tensorflow as tf

from keras_drmad import compat
from keras_drmad.arguments import wrong
from keras_drmad.data import as_arguments
from keras_drmad.devices import only_cpus
from keras_drmad.engine.objective import Objective
from keras_drmad.optimizers.learnable import LearnableOptimizer
from keras_drmad.paths.base import Path
from keras_drmad.typing import Structure
from keras_drmad.update_rules.base import ACCUMULATED, AVERAGES

# Whose XLA programs, differentiated twice, take minutes to compile or run on CPU.
SLOW_UNDER_XLA_ON_CPU = ("Conv", "DepthwiseConv", "While")
# For fewer steps, compiling with XLA takes longer on CPU than it saves: about 1400 steps are even.
FEW_STEPS = 500


def build_with(model: keras.Model, example: Structure) -> None:
    """Creates what `fit` would create at its first batch: weights, optimizer state."""
    if model.built and model.optimizer.built:
        return
    x, *_ = as_arguments(tf.nest.map_structure(tf.convert_to_tensor, example))
    with model.distribute_strategy.scope():
        if not model.built:
            model(x)
        if not model.optimizer.built:
            with keras.name_scope(model.optimizer.name):
                model.optimizer.build(model.trainable_variables)
    if not model.trainable_variables:
        raise ValueError(
            f"Model {model.name!r} has no trainable variables. Set `layer.trainable = True` on a layer "
            "that is to be trained, and compile the model again."
        )


def check(model: keras.Model, hyper_variables: Sequence[keras.Variable]) -> None:
    """Raises a ValueError for what cannot be differentiated."""
    if model.distribute_strategy.num_replicas_in_sync > 1:
        for layer in compat.all_layers(model):
            if getattr(layer, "synchronized", False):
                raise ValueError(
                    f"Layer {layer.name!r} ({type(layer).__name__}) takes statistics over all replicas, "
                    "which a hypergradient cannot follow: make it with `synchronized=False`."
                )
    if not isinstance(hyper_variables, list | tuple):
        raise wrong("hyper_variables", hyper_variables, "a list of `keras.Variable`s")
    trainable = {id(v) for v in model.trainable_variables}
    for variable in hyper_variables:
        if not isinstance(variable, keras.Variable) or id(variable) in trainable:
            raise ValueError(
                "`hyper_variables` must be a sequence of `keras.Variable`s that are not trained. "
                f"Received: {variable!r}"
            )


def check_path(model: keras.Model, optimizer: LearnableOptimizer, path: Path) -> None:
    """Raises a ValueError if a path cannot follow what Keras does around the steps of an optimizer."""
    further, trained = optimizer.further_slots, compat.trained_variables(optimizer)
    names = {
        ACCUMULATED: "`gradient_accumulation_steps`",
        AVERAGES: "`ema_overwrite_frequency`"
        if optimizer.overwriting
        else "`use_ema` and constraints",
    }
    if further and not (path.exact and path.replay != "backward"):
        raise ValueError(
            f"{path!r} cannot follow a training with {' and '.join(names[name] for name in further)}. "
            "Use `path=keras_drmad.paths.Checkpointed()`, which is exact, or leave that out."
        )
    replicas = model.distribute_strategy.num_replicas_in_sync
    if replicas > 1 and (ACCUMULATED in further or optimizer.overwriting):
        raise ValueError(
            "Keras (3.15) cannot train on several replicas with `gradient_accumulation_steps` or "
            f"`ema_overwrite_frequency`: leave them out. Received: {replicas} replicas"
        )
    if optimizer.overwriting and len(model.trainable_variables) < len(trained):
        raise ValueError(
            "`ema_overwrite_frequency` overwrites layers, too, that were frozen after the optimizer was "
            "built: compile the model again with a new optimizer."
        )


def devices(model: keras.Model) -> tuple[str | None, ...]:
    """The devices of the strategy that a model was made under; `(None,)` for the default one."""
    strategy = model.distribute_strategy
    if strategy.num_replicas_in_sync == 1:
        return (None,)
    found = strategy.extended.worker_devices
    if len(found) != strategy.num_replicas_in_sync:
        raise ValueError(
            "A hypergradient can be split over the devices of one machine "
            "(`tf.distribute.MirroredStrategy`) only. Received: "
            f"{type(strategy).__name__} of {strategy.num_replicas_in_sync} replicas, "
            f"{len(found)} of them here. Several machines are used with `gradients_per_step` of "
            "`keras_drmad.tuners.DrMADTuner`."
        )
    return tuple(found)


def prefers_xla(model: keras.Model, objective: Objective, steps: int | None = None) -> bool:
    """Whether programs of a model should be compiled with XLA, if nobody has said so.

    `steps` is how many are differentiated in all, where that is known.
    """
    if len(objective.devices) > 1:
        return False  # its programs run on one device
    if not all(layer.supports_jit for layer in (model, *compat.all_layers(model))):
        return False
    if objective.draws and not model.jit_compile:
        return False  # XLA draws other masks of dropout from the same seeds than `fit` would
    if not only_cpus():
        return True
    if steps is not None and steps < FEW_STEPS and not objective.draws:
        return False
    return not any(name in kind for kind in objective.operations for name in SLOW_UNDER_XLA_ON_CPU)
