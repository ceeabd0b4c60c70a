"""What is read of a training at each decision, beside its metrics."""

import functools
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from keras_drmad.hyperparameters.groups import variable_names

from .optimizer_control import OptimizerControl


class Probes:
    """What the optimizer is set to, and how far weights have moved since they were read the last time.

    Called without arguments, it returns tensors: learning rates and momenta (2, groups), and motion
    (groups, 4), as in `View`. It can be called within a graph, where it costs least: a call takes longer
    to begin than to compute.

    Args:
        control: the `OptimizerControl`.
        model: whose weights are observed.
    """

    def __init__(self, control: OptimizerControl, model: keras.Model) -> None:
        self.control = control
        self.variables = _grouped(model, control.groups)
        self._at = [[tf.Variable(v.value) for v in group] for group in self.variables]
        self._moved = [[tf.Variable(tf.zeros_like(v)) for v in group] for group in self._at]

    def are_of(self, control: OptimizerControl, model: keras.Model) -> bool:
        """Whether they read the same."""
        groups = self.variables, _grouped(model, control.groups)
        own, other = ([[id(v) for v in group] for group in of] for of in groups)
        return control.optimizer is self.control.optimizer and own == other

    def restart(self) -> None:
        """Measure motion from here."""
        for group, at, moved in zip(self.variables, self._at, self._moved, strict=True):
            for variable, a, m in zip(group, at, moved, strict=True):
                a.assign(variable.value)
                m.assign(tf.zeros_like(m))

    def __call__(self) -> tuple[tf.Tensor, tf.Tensor]:
        return self._read()

    @functools.cached_property
    def _read(self) -> Callable[[], tuple[tf.Tensor, tf.Tensor]]:
        # Concrete functions are called in a third of the time.
        return tf.function(
            lambda: (self.control.settings(), self._motion())
        ).get_concrete_function()

    def _motion(self) -> tf.Tensor:
        rows = []
        for group, at, before in zip(self.variables, self._at, self._moved, strict=True):
            sums = []
            for variable, a, b in zip(group, at, before, strict=True):
                w, old, last = (tf.cast(t, "float32") for t in (variable.value, a, b))
                change = w - old
                sums.append(
                    [_sum(w, w), _sum(change, change), _sum(change, last), _sum(last, last)]
                )
                b.assign(tf.cast(change, b.dtype))
                a.assign(variable.value)
            rows.append(tf.add_n([tf.stack(s) for s in sums]))
        return tf.stack(rows)


def _sum(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(tf.multiply(a, b))


def _grouped(model: keras.Model, groups: Sequence[str | None]) -> list[list[keras.Variable]]:
    """The trainable variables of each group of `OptimizerControl`."""
    if groups == [None]:
        return [list(model.trainable_variables)]
    of: dict[str | None, list[keras.Variable]] = {group: [] for group in groups}
    for variable, (layer, leaf) in zip(
        model.trainable_variables, variable_names(model.trainable_variables), strict=True
    ):
        of[layer if layer in of else f"{layer}/{leaf}"].append(variable)
    return list(of.values())
