"""`LearnableOptimizer`: what every optimizer shares whose hyperparameters can be learned."""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_drmad import compat
from keras_drmad.hyperparameters import meta
from keras_drmad.hyperparameters.groups import GRANULARITIES, INIT_SCALE, Layout, path_of
from keras_drmad.hyperparameters.scales import Log, multiplier
from keras_drmad.hyperparameters.schedules import Knots
from keras_drmad.optimizers.scheduled import ScheduledOptimizer
from keras_drmad.typing import Hyperparameters, Logs, Tensor, Vectors
from keras_drmad.update_rules.base import UpdateRule

_log = logging.getLogger("keras_drmad")


class LearnableOptimizer(ScheduledOptimizer):
    """Base class: groups of variables, and a displacement from the compiled value for each of them.

    A subclass says its `rule`, and writes `update_rule` and Keras's `update_step`.

    Args:
        learning_rate: as in `keras.optimizers.Optimizer`.
        scales: `{kind: scale}` of the hyperparameters of a training step beside the learning rate.
        per, learn, schedule: see `keras_drmad.DrMADSGD`.
        **kwargs: as in `keras.optimizers.Optimizer`.
    """

    rule: type[UpdateRule]

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
        kinds = (*self.rule.kinds, INIT_SCALE)
        if per not in GRANULARITIES:
            raise ValueError(f"`per` must be one of {GRANULARITIES}. Received: per={per!r}")
        learn = (learn,) if isinstance(learn, str) else tuple(learn)
        if not set(learn) <= set(kinds):
            raise ValueError(f"`learn` may hold {kinds}. Received: learn={learn!r}")
        if schedule is not None and not isinstance(schedule, Knots):
            raise ValueError(
                f"`schedule` must be a `keras_drmad.Knots`. Received: schedule={schedule!r}"
            )
        self.scales = {
            "learning_rate": multiplier(floor=1e-6, ceiling=1e6),  # of the global learning rate
            **scales,
            INIT_SCALE: multiplier(floor=1e-3, ceiling=1e3),  # of the initializer's weights
        }
        self.per = per
        self.learn = tuple(kind for kind in kinds if kind in learn)
        self.schedule = schedule
        self.engines = _Engines()
        self.is_learning = False  # LearnHyperparameters sets it while it is attached
        self._excluded: tuple[str, ...] = ()  # patterns of the variables without penalties
        # Set before the groups are known, to be taken over by `build`:
        self._pending: list[Hyperparameters] = []  # arguments of `set_hyperparameters`
        self._learned: dict[str, list[float]] | None = None  # displacements from a config

    def update_rule(self) -> UpdateRule:
        """The training step of this optimizer as pure functions (`update_rules.base.UpdateRule`)."""
        raise NotImplementedError

    def _shared_by_rules(self) -> dict[str, Any]:
        """Arguments of an `UpdateRule`."""
        self._check_built("update_rule")
        variables = compat.trained_variables(self)
        return {
            "layout": self.layout,
            "dtypes": tuple(v.dtype for v in variables),
            "clipnorm": self.clipnorm,
            "clipvalue": self.clipvalue,
            "global_clipnorm": self.global_clipnorm,
            "decays": tuple(
                self.weight_decay if self.weight_decay and compat.is_decayed(self, v) else 0.0
                for v in variables
            ),
            "constraints": tuple(v.constraint for v in variables),
        }

    # -- hyperparameters ---------------------------------------------------------------------

    @property
    def hyperparameters(self) -> Hyperparameters:
        """Effective values: `{group: {"learning_rate": …, "momentum": …, "l2": …}}`.

        Groups are named by Keras paths and stand in the model's own order. With `per="unit"`, `l2`
        is an array with one entry an input unit. Values are copies: write with
        `set_hyperparameters`.
        """
        self._check_built("hyperparameters")
        values = {kind: np.array(self._value(kind)) for kind in self.displacements}
        values["learning_rate"] = values["learning_rate"] * self._global_rate()
        return self.layout.nest(values)

    def set_hyperparameters(self, hyperparameters: Hyperparameters) -> None:
        """Sets effective values, in the form that `hyperparameters` has; others stay.

        Before the optimizer is built (by `fit`, or `build`) the values are kept and set then.

        Args:
            hyperparameters: `{group: {kind: number or array}}`, any part of the whole.

        Raises:
            ValueError: an unknown group or kind (naming the nearest valid one), a wrong shape, or a
                value out of range. Nothing is set then.
        """
        if not self.built:
            self._pending = [*self._pending, hyperparameters]
            return
        new = {kind: d.numpy() for kind, d in self.displacements.items()}
        for kind, displacement in self._displaced(new, hyperparameters).items():
            self.displacements[kind].assign(displacement)

    def _displaced(
        self, new: dict[str, np.ndarray], hyperparameters: Hyperparameters
    ) -> dict[str, np.ndarray]:
        """Writes the displacements of effective values into the NumPy vectors `new`."""
        for group, kind, part, value in self.layout.parse(hyperparameters):
            if kind == "learning_rate":
                value = value / self._global_rate()
            scale = self.scales[kind]
            scale.check(f"hyperparameters[{group!r}][{kind!r}]", value)
            self.layout.write(new[kind], kind, part, scale.displacement(value))
        return new

    def as_logs(self) -> Logs:
        """`{"<group>/<kind>": effective value}` for `logs`; of arrays the mean."""
        return {
            f"{group}/{kind}": float(np.mean(value))
            for group, entries in self.hyperparameters.items()
            for kind, value in entries.items()
        }

    def move_hyperparameters(
        self, gradients: Hyperparameters, meta_optimizer: keras.optimizers.Optimizer
    ) -> None:
        """Moves what is learned along a hypergradient, on the scale on which it is learned.

            δ ← meta_optimizer(δ, ∂L/∂value · ∂value/∂δ)

        with `δ` the displacements on the log scale (learning rates, L2) or logit scale (momenta).

        Args:
            gradients: as `hypergradient` returns them: by effective values, in the form of
                `hyperparameters`.
            meta_optimizer: a `keras.optimizers.Optimizer`; the same one each time.

        Example:

        >>> model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(1, name="out")])
        >>> model.compile(optimizer=DrMADSGD(0.05, learn="learning_rate"), loss="mse")
        >>> model.optimizer.build(model.trainable_variables)
        >>> down = {"out": {"learning_rate": 3.0, "momentum": 0.0, "l2": 0.0}}
        >>> model.optimizer.move_hyperparameters(down, keras_drmad.Sign(0.1))
        >>> round(model.optimizer.hyperparameters["out"]["learning_rate"], 4)  # 0.05 · e^−0.1
        0.0452
        """
        self._check_built("move_hyperparameters")
        meta.check(meta_optimizer)
        flat = {kind: np.zeros(size) for kind, size in self.layout.sizes.items()}
        for _, kind, part, value in self.layout.parse(gradients):
            self.layout.write(flat[kind], kind, part, value)
        flat["learning_rate"] *= self._global_rate()
        meta.move(self, meta.by_displacement(self, flat), meta_optimizer)

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

    def hyper_values(self) -> Vectors:
        """`{kind: flat tensor}` of a training step; of learning rates the global one's multipliers."""
        return {kind: self._value(kind) for kind in self.rule.kinds}

    def _value(self, kind: str) -> Tensor:
        return self.scales[kind].value(self.displacements[kind].value)

    def init_scales(self) -> Tensor | None:
        """The flat tensor of initial scales, or None if they are not learned."""
        return self._value(INIT_SCALE) if INIT_SCALE in self.displacements else None

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

    def _check_built(self, what: str) -> None:
        if not self.built:
            raise ValueError(
                f"`{what}` is known once the optimizer is built: call `fit`, or "
                "`optimizer.build(model.trainable_variables)`, first."
            )

    # -- Keras's extension points ------------------------------------------------------------

    def _exclude(
        self,
        method: str,
        var_list: Sequence[keras.Variable] | None,
        var_names: Sequence[str] | None,
    ) -> None:
        """Excludes variables from what shrinks weights (`UpdateRule.penalties`)."""
        if self.built:
            raise ValueError(f"`{method}()` can only be configured before the optimizer is built.")
        paths = [f"^{re.escape(path_of(v))}$" for v in var_list or ()]
        self._excluded = (*paths, *(var_names or ()))

    def _is_penalized(self, variable: keras.Variable) -> bool:
        path = path_of(variable)
        return not any(re.search(p, path) or re.search(p, variable.name) for p in self._excluded)

    def build(self, variables: Sequence[keras.Variable]) -> None:
        if self.built:
            return
        super().build(variables)
        knots = (
            {} if self.schedule is None else dict.fromkeys(self.schedule.kinds, self.schedule.count)
        )
        penalties = self.rule.penalties
        self.layout = Layout(
            variables,
            self.per,
            acts={
                kind: [kind not in penalties or self._is_penalized(v) for v in variables]
                for kind in self.rule.kinds
            },
            per_unit=penalties,
            knots=knots,
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
            if self.learn and not self.is_learning:
                _say_frozen(type(self).__name__)
            if "l2" in self.rule.kinds:
                grads = self._with_l2(grads, variables or compat.trained_variables(self))
        super().apply(grads, variables)

    def _with_l2(
        self, grads: Sequence[Tensor | None], variables: Sequence[keras.Variable]
    ) -> list[Tensor | None]:
        """The raw gradients plus λ ⊙ w: before clipping, as if L2 were a part of the loss."""
        l2 = self.scales["l2"].value(self.displacements["l2"].value)
        # Gradients are summed over replicas, and divided by the loss scale, after this.
        share = (self.loss_scale_factor or 1.0) / tf.distribute.get_strategy().num_replicas_in_sync
        out = []
        for grad, variable in zip(grads, variables, strict=True):
            s = self.layout.slices["l2"][compat.variable_index(self, variable)]
            if grad is not None and s is not None:
                weight = tf.convert_to_tensor(variable)
                coefficient = tf.cast(s.of(l2) * share, weight.dtype)
                grad = tf.cast(tf.convert_to_tensor(grad), weight.dtype) + coefficient * weight
            out.append(grad)
        return out

    def _in_force(self, kind: str, index: int, dtype: str) -> Tensor:
        """The value of a hyperparameter of a variable at this step, in the graph."""
        part = self.layout.slices[kind][index]
        assert part is not None  # of a kind that acts on every variable
        if self.schedule is not None and kind in self.layout.knots:
            position = self.schedule.position(self.iterations.value)
            value = part.of(self.layout.at(kind, self._value(kind), position))
        else:
            value = self.scales[kind].value(part.of(self.displacements[kind].value))
        return tf.cast(value, dtype)

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
        if learned:
            config["learned"] = learned
        return config

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> LearnableOptimizer:
        config = dict(config)
        excluded = config.pop("excluded", ())
        learned = config.pop("learned", None)
        if isinstance(config.get("schedule"), dict):
            config["schedule"] = keras.saving.deserialize_keras_object(config["schedule"])
        optimizer = super().from_config(config, custom_objects)
        optimizer._excluded = tuple(excluded)
        optimizer._learned = learned
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
            "The model must be compiled with a `keras_drmad.DrMADSGD` optimizer. "
            f"Received: model.optimizer={optimizer!r}"
        )
    return inner


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
