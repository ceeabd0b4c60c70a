"""The variables of a compiled model that a training step changes, read and written as one state."""

from __future__ import annotations

import functools
from collections.abc import Callable

import keras
import tensorflow as tf

from keras_drmad import compat
from keras_drmad.engine.loss_scale import DynamicScale, FixedScale
from keras_drmad.engine.objective import Objective
from keras_drmad.engine.programs import TrainingState
from keras_drmad.optimizers.learnable import LearnableOptimizer
from keras_drmad.tf_function import tf_function
from keras_drmad.typing import Tensor
from keras_drmad.update_rules.base import AVERAGES


class ModelVariables:
    """Base class: reads the model's variables in `read`, writes them in `write`, and nowhere else."""

    optimizer: LearnableOptimizer
    objective: Objective
    loss_scale: FixedScale | DynamicScale

    @functools.cached_property
    def variables(self) -> TrainingState:
        """What is read and written, in the structure of its values."""
        o = self.objective
        averages = []
        if self.optimizer.use_ema and AVERAGES not in self.optimizer.further_slots:
            of = compat.averages(self.optimizer)
            averages = [of[compat.variable_index(self.optimizer, w)] for w in o.weights]
        slots, scale = self.optimizer.slots_of(o.weights), self.loss_scale.variables
        return TrainingState(o.weights, slots, o.state, o.random, averages, scale)

    @functools.cached_property
    def _reading(self) -> Callable[[], TrainingState]:
        # In one call: to read each variable by itself takes longer than a step of a small model.
        return tf_function(lambda: tf.nest.map_structure(value_of, self.variables))

    def read(self) -> TrainingState:
        """The `TrainingState` that the model and its optimizer are in."""
        return self._reading()

    def write(self, state: TrainingState, steps: int) -> None:
        """Puts the model and its optimizer into `state`, `steps` steps on (of those taken)."""
        tf.nest.map_structure(lambda variable, value: variable.assign(value), self.variables, state)
        compat.step_counter(self.optimizer).assign_add(steps)

    def rested(self, state: TrainingState) -> TrainingState:
        """A state to train on from: with the random state and the loss scale of now, and at rest.

        Slots that are the movement of the weights are zero; those of the gradients stay, and averages.
        """
        now, kept = self.read(), (*self.optimizer.rule.averaged, AVERAGES)
        slots = {
            name: values if name in kept else [tf.zeros_like(v) for v in values]
            for name, values in state.slots.items()
        }
        return state._replace(slots=slots, random=now.random, scale=now.scale)


def value_of(variable: keras.Variable) -> Tensor:
    """The value of a variable, as a tensor."""
    return tf.convert_to_tensor(variable.value)
