"""`LearnableOptimizer`: what every optimizer shares whose hyperparameters can be learned."""

from __future__ import annotations

import functools
import logging
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from keras_drmad import compat
from keras_drmad.arguments import choice, of_kind, some_of
from keras_drmad.hyperparameters.groups import GRANULARITIES, INIT_SCALE, Layout, path_of
from keras_drmad.hyperparameters.scales import Log, multiplier
from keras_drmad.hyperparameters.schedules import Knots
from keras_drmad.optimizers.companion import Accompanied
from keras_drmad.optimizers.effective_values import EffectiveValues
from keras_drmad.optimizers.exclusions import (
    checked_patterns,
    matches,
    patterns_of,
    warn_of_idle,
)
from keras_drmad.typing import Hyperparameters, Tensor, Vectors
from keras_drmad.update_rules.base import AVERAGES, UpdateRule

_log = logging.getLogger("keras_drmad")


class LearnableOptimizer(Accompanied, EffectiveValues):
    """Base class: groups of variables, and a displacement from the compiled value for each of them.

    A subclass says its `rule`, and writes `update_rule` and Keras's `update_step`.

    Attributes:
        fixed: names of attributes that cannot be assigned again, for it would change nothing.

    Args:
        learning_rate: as in `keras.optimizers.Optimizer`.
        scales: `{kind: scale}` of the hyperparameters of a training step beside the learning rate.
        per, learn, schedule: see `keras_drmad.DrMADSGD`.
        **kwargs: as in `keras.optimizers.Optimizer`.
    """

    fixed: ClassVar[tuple[str, ...]] = ("per",)

    def __init__(
        self,
        learning_rate: compat.LearningRate | float,
        scales: dict[str, Log],
        per: str,
        learn: str | Sequence[str],
        schedule: Knots | None,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate=learning_rate, **kwargs)
        self.scales = {
            "learning_rate": multiplier(floor=1e-6, ceiling=1e6),  # of the global learning rate
            **scales,
            INIT_SCALE: multiplier(floor=1e-3, ceiling=1e3),  # of the initializer's weights
        }
        self.per = per
        self.learn = self._checked_learn(learn)
        self.schedule = schedule
        self.engines = _Engines()
        self._now = _Now()
        self.is_learning = False  # LearnHyperparameters sets it while it is attached
        self.is_settled = False  # what there is was learned, or is steered: it is meant to stay
        self._excluded: tuple[str, ...] = ()  # patterns of the variables without penalties
        # Set before the groups are known, to be taken over by `build`:
        self._pending: list[Hyperparameters] = []  # arguments of `set_hyperparameters`
        self._learned: dict[str, list[float]] | None = None  # displacements from a config

    def _checked(self, name: str, value: Any) -> Any:
        if name in self.fixed and name in vars(self):
            raise ValueError(
                f"`{name}` is what the optimizer was made with, and stays: make another one, or use "
                f"`set_hyperparameters`. Received: {name}={value!r}"
            )
        if name == "per":
            return choice("per", value, GRANULARITIES)
        if name == "learn":
            return self._checked_learn(value)
        if name == "schedule":
            return self._checked_schedule(value)
        return super()._checked(name, value)

    def _checked_learn(self, value: Any) -> tuple[str, ...]:
        kinds = (*self.rule.kinds, INIT_SCALE)
        chosen = some_of("learn", value, kinds, empty=True)
        if self.built and INIT_SCALE in chosen and INIT_SCALE not in self.displacements:
            raise ValueError(
                '`learn` cannot have "init_scale" once the optimizer is built: make another one. '
                f"Received: learn={value!r}"
            )
        return tuple(kind for kind in kinds if kind in chosen)

    def _checked_schedule(self, value: Any) -> Knots | None:
        if value is not None:
            of_kind("schedule", value, Knots, "a `keras_drmad.Knots`").kinds_of(self.rule.kinds)
        if self.built and self._knots(value) != self.layout.knots:
            raise ValueError(
                "`schedule` must have the knots that the optimizer was built with: make another one. "
                f"Received: schedule={value!r}"
            )
        return value

    def _knots(self, schedule: Knots | None) -> dict[str, int]:
        if schedule is None:
            return {}
        return dict.fromkeys(schedule.kinds_of(self.rule.kinds), schedule.count)

    def update_rule(self, variables: Sequence[keras.Variable] | None = None) -> UpdateRule:
        """The training step of this optimizer as pure functions (`update_rules.base.UpdateRule`).

        Args:
            variables: what is trained, in the order of the rule's tensors. Defaults to all variables
                that the optimizer was built with.

        Raises:
            ValueError: the optimizer was not built with one of them, or cannot say its step.
        """
        raise NotImplementedError

    def slots_of(
        self, variables: Sequence[keras.Variable] | None = None
    ) -> dict[str, list[keras.Variable]]:
        """The slots of `variables`, in their order: `{name: one variable each}`.

        Those of the rule, and the `further_slots`.
        """
        indices = self._indices("slots_of", variables)
        slots = self.slots | self.further_variables()
        return {name: [of[i] for i in indices] for name, of in slots.items()}

    def _shared_by_rules(self, variables: Sequence[keras.Variable] | None) -> dict[str, Any]:
        """Arguments of an `UpdateRule`."""
        indices = self._indices("update_rule", variables)
        trained = [compat.trained_variables(self)[i] for i in indices]
        for variable in trained:
            if compat.is_overwritten(variable):
                raise ValueError(
                    f"Variable {path_of(variable)!r} is replaced by its gradient in a training step, "
                    "as those of float8 layers are: that cannot be differentiated. Train the layer "
                    "in another precision."
                )
        return {
            "layout": self.layout if variables is None else self.layout.of(indices),
            "dtypes": tuple(v.dtype for v in trained),
            "clipnorm": self.clipnorm,
            "clipvalue": self.clipvalue,
            "global_clipnorm": self.global_clipnorm,
            "decays": tuple(
                self.weight_decay if self.weight_decay and compat.is_decayed(self, v) else 0.0
                for v in trained
            ),
            "constraints": tuple(v.constraint for v in trained),
            "accumulation": self.accumulation,
            "ema_momentum": self.ema_momentum,
            "has_averages": AVERAGES in self.further_slots,
            "overwriting": self.overwriting,
        }

    def _indices(self, what: str, variables: Sequence[keras.Variable] | None) -> list[int]:
        """The places of variables among those that the optimizer was built with; None for all."""
        self._check_built(what)
        if variables is None:
            return list(range(len(compat.trained_variables(self))))
        return [self._index(v) for v in variables]

    def _index(self, variable: keras.Variable | tf.Variable) -> int:
        try:
            return compat.variable_index(self, variable)
        except KeyError:
            raise ValueError(
                f"`{path_of(variable)}` is trained, but was frozen when the optimizer was built: "
                "compile the model again with a new optimizer."
            ) from None

    def reset(self) -> None:
        """Forgets the training, as before a first step; what is learned stays.

        The slots and the count of steps (and averages of `use_ema`) become zero. With
        `model.set_weights(initial)` beside it, a next `fit` or `hypergradient` trains from scratch.
        """
        self._check_built("reset")
        learned = {id(d) for d in self.displacements.values()}
        kept = learned | {id(compat.learning_rate(self))}
        for variable in self.variables:
            if id(variable) not in kept:
                variable.assign(keras.ops.zeros_like(variable))

    def scale_initial_weights(self) -> None:
        """Multiplies each kernel by its learned initial scale: once, before training from scratch."""
        self._check_built("scale_initial_weights")
        scales = self.init_scales()
        if scales is None:
            raise ValueError('Initial scales are not learned: add "init_scale" to `learn`.')
        slices = self.layout.slices[INIT_SCALE]
        for variable, s in zip(compat.trained_variables(self), slices, strict=True):
            if s is not None:
                variable.assign(variable * keras.ops.cast(s.of(scales), variable.dtype))

    # -- Keras's extension points ------------------------------------------------------------

    def _exclude(
        self,
        method: str,
        var_list: Sequence[keras.Variable] | None,
        var_names: Sequence[str] | None,
    ) -> None:
        """Excludes variables from what shrinks weights (`UpdateRule.penalties`)."""
        if self.built:
            raise ValueError(
                f"`{method}()` can only be configured before the optimizer is built: call it right "
                "after it is made."
            )
        self._excluded = (*patterns_of(var_list), *checked_patterns(var_names))

    def _is_penalized(self, variable: keras.Variable) -> bool:
        return not any(matches(pattern, variable) for pattern in self._excluded)

    def build(self, variables: Sequence[keras.Variable]) -> None:
        if self.built:
            return
        super().build(variables)
        warn_of_idle(self._excluded, variables)
        penalties = self.rule.penalties
        self.layout = Layout(
            variables,
            self.per,
            acts={
                kind: [
                    not compat.is_overwritten(v)
                    and (kind not in penalties or self._is_penalized(v))
                    for v in variables
                ]
                for kind in self.rule.kinds
            },
            per_unit=penalties,
            knots=self._knots(self.schedule),
            init_scale=INIT_SCALE in self.learn,
        )
        self.slots = {
            name: self.add_optimizer_variables(variables, name) for name in self.rule.slots
        }
        initial = {kind: np.zeros(size) for kind, size in self.layout.sizes.items()}
        initial |= {kind: np.asarray(d) for kind, d in (self._learned or {}).items()}
        with tf.init_scope():  # Keras may build inside a graph
            for hyperparameters in self._pending:
                initial = self._displaced(initial, hyperparameters)
        self.displacements = {
            kind: self.add_variable(
                (size,),
                initializer=lambda shape, dtype, kind=kind: tf.constant(
                    initial[kind], dtype, shape
                ),
                name=f"{kind}_displacement",
                aggregation="only_first_replica",
            )
            for kind, size in self.layout.sizes.items()
        }
        self._learned, self._pending = None, []

    def apply(
        self,
        grads: Sequence[Tensor | None],
        trainable_variables: Iterable[keras.Variable] | None = None,
    ) -> None:
        variables = trainable_variables
        if variables is not None:
            variables = list(variables)
            if variables and not self.built:
                with keras.name_scope(self.name, caller=self):
                    self.build(variables)
        if self.built:
            if self.learn and not self.is_learning and not self.is_settled:
                _say_frozen(type(self).__name__)
            grads = [None if g is None else tf.convert_to_tensor(g) for g in grads]
            if "l2" in self.rule.kinds:
                known = compat.trained_variables(self) if variables is None else variables
                grads = self._with_l2(grads, known)
            self._now.iteration = tf.convert_to_tensor(self.iterations)
            self._now.values = self._values_at(self._now.iteration)
        super().apply(grads, variables)
        self._now.values = {}  # no tensor of one graph is used in another

    def _with_l2(
        self, grads: Sequence[Tensor | None], variables: Sequence[keras.Variable]
    ) -> list[Tensor | None]:
        """The raw gradients plus λ ⊙ w: before clipping, as if L2 were a part of the loss."""
        l2 = self._value("l2")
        # Gradients are summed over replicas, and divided by the loss scale, after this.
        share = (self.loss_scale_factor or 1.0) / tf.distribute.get_strategy().num_replicas_in_sync
        out = []
        for grad, variable in zip(grads, variables, strict=True):
            s = self.layout.slices["l2"][self._index(variable)]
            if grad is not None and s is not None:
                weight = tf.convert_to_tensor(variable)
                coefficient = tf.cast(s.of(l2) * share, weight.dtype)
                grad = tf.cast(grad, weight.dtype) + coefficient * weight
            out.append(grad)
        return out

    def _values_at(self, iteration: Tensor) -> Vectors:
        """The hyperparameters in force at a step, in the graph."""
        values = self.hyper_values()
        if self.schedule is not None:
            position = self.schedule.position(iteration)
            values = {kind: self.layout.at(kind, of, position) for kind, of in values.items()}
        return values

    def _in_force(self, kind: str, index: int, dtype: str) -> Tensor | None:
        """The value of a hyperparameter of a variable at this step; None if it has none."""
        part = self.layout.slices[kind][index]
        return None if part is None else tf.cast(part.of(self._now.values[kind]), dtype)

    def _effective_rate(self, index: int, learning_rate: Tensor, dtype: str) -> Tensor:
        return self._in_force("learning_rate", index, dtype) * tf.cast(learning_rate, dtype)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        config.update(
            per=self.per,
            learn=list(self.learn),
            schedule=keras.saving.serialize_keras_object(self.schedule),
            excluded=list(self._excluded),
        )
        learned = self._learned
        if self.built and any(np.any(d.numpy()) for d in self.displacements.values()):
            learned = {k: d.numpy().tolist() for k, d in self.displacements.items()}
        if learned or self.is_settled:
            config["learned"] = learned or {}
        if self._pending:
            config["pending"] = self._pending_lists()
        return config

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> LearnableOptimizer:
        config = dict(config)
        excluded = config.pop("excluded", ())
        learned, pending = config.pop("learned", None), config.pop("pending", ())
        if isinstance(config.get("schedule"), dict):
            config["schedule"] = keras.saving.deserialize_keras_object(config["schedule"])
        optimizer = super().from_config(config, custom_objects)
        optimizer._excluded = tuple(excluded)
        optimizer._learned, optimizer._pending = learned, list(pending)
        optimizer.is_settled = learned is not None
        return optimizer


def learnable_optimizer(model: keras.Model) -> LearnableOptimizer:
    """The `LearnableOptimizer` of a compiled model, out of a `LossScaleOptimizer` if it is in one.

    Raises:
        ValueError: if there is none.
    """
    optimizer = getattr(model, "optimizer", None)
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    if not isinstance(inner, LearnableOptimizer):
        raise ValueError(
            "The model must be compiled with a `keras_drmad.DrMADSGD` or `DrMADAdamW` optimizer. "
            f"Received: model.optimizer={optimizer!r}"
        )
    return inner


compat.reach_through_loss_scaling("hyperparameters", "set_hyperparameters", "move_hyperparameters")


class _Now:
    """What `apply` knows of the present step; an object that Keras does not track."""

    def __init__(self) -> None:
        self.iteration: Tensor = None
        self.values: Vectors = {}  # in force: read once a step, not once a variable


class _Engines:
    """Compiled programs of the models that use an optimizer; an object that Keras does not track."""

    def __init__(self) -> None:
        self.by_key: dict[Hashable, Any] = {}  # of engines, which import this file


@functools.cache  # once a process and class
def _say_frozen(optimizer: str) -> None:
    _log.warning(
        "%s trains with frozen hyperparameters: pass "
        "`callbacks=[keras_drmad.LearnHyperparameters(validation_data)]` to `fit` to learn them, or "
        "`learn=()` to the optimizer to keep them without this message.",
        optimizer,
    )
