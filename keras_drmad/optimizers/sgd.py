"""`DrMADSGD`: momentum SGD with a learning rate, a momentum and an L2 coefficient for every group."""

import functools
import logging
import re

import keras
import numpy as np
import tensorflow as tf

from keras_drmad.hyperparameters import meta
from keras_drmad.hyperparameters.groups import GRANULARITIES, INIT_SCALE, KINDS, Layout, path_of
from keras_drmad.hyperparameters.scales import scales
from keras_drmad.hyperparameters.schedules import Knots
from keras_drmad.update_rules.momentum import Update

_log = logging.getLogger("keras_drmad")


@keras.saving.register_keras_serializable(package="keras_drmad")
class DrMADSGD(keras.optimizers.Optimizer):
    r"""Momentum SGD whose learning rates, momenta and L2 coefficients can be learned.

    Update rule, with one α, μ and λ for each group of variables:

        g = ∇L(w) + λ ⊙ w            (then clipped, if asked for)
        v ← μ v − α g
        w ← w + v                    (plain)
        w ← w + μ v − α g            (Nesterov)

    With nothing learned this is `keras.optimizers.SGD` plus L2. The hyperparameters are learned by
    `keras_drmad.LearnHyperparameters` during `fit`, or moved by hand along
    `keras_drmad.hypergradient`. A group's effective learning rate is the global `learning_rate` (a
    number, a schedule, or driven by callbacks, as in Keras) times its learned multiplier.

    Args:
        learning_rate: A float, a `keras.optimizers.schedules.LearningRateSchedule`, or a callable
            without arguments. Defaults to `0.01`.
        momentum: Float in `[0, 0.9999]`, the momentum that every group starts with. Defaults to `0.9`.
        nesterov: Whether to apply Nesterov momentum. Defaults to `False`.
        l2: Float ≥ 0, the L2 coefficient that every group starts with. It adds `l2 * w` to the
            gradient (through clipping and momentum), for every trainable variable that is not
            excluded by `exclude_from_l2`. `weight_decay` stays Keras's decoupled one. Learning moves
            it by factors, so begin with a value such as `1e-4` to have it learned.
            Defaults to `0.0`.
        per: What shares one value: `"global"`, `"layer"` (default), `"variable"` or `"unit"`. The
            last one has an L2 coefficient for each input unit of each kernel (its last axis but
            one; biases and other vectors have none), and a learning rate and a momentum for each
            variable.
        learn: Which of `"learning_rate"`, `"momentum"`, `"l2"` may be learned (the default), and
            `"init_scale"`: one factor for each kernel's initial weights, for searches that train
            from scratch (`hypergradient`, `keras_drmad.tuners.DrMADTuner`; see
            `scale_initial_weights`).
        schedule: A `keras_drmad.Knots`, for learning rates and momenta that vary over training.
            Defaults to `None`: they are constant.
        name, weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum,
            ema_overwrite_frequency, loss_scale_factor, gradient_accumulation_steps: as in
            `keras.optimizers.Optimizer`.

    Raises:
        ValueError: A hyperparameter out of range, or an unknown `per` or `learn`.

    Example:

    >>> model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(1, name="out")])
    >>> model.compile(optimizer=DrMADSGD(learning_rate=0.05, l2=1e-4, learn=()), loss="mse")
    >>> history = model.fit(np.ones((8, 4)), np.ones(8), verbose=0)
    >>> sorted(model.optimizer.hyperparameters["out"])
    ['l2', 'learning_rate', 'momentum']

    References:
        Fu et al., DrMAD, IJCAI 2016 (https://arxiv.org/abs/1601.00917).
    """

    def __init__(
        self,
        learning_rate=0.01,
        momentum=0.9,
        nesterov=False,
        l2=0.0,
        per="layer",
        learn=KINDS,
        schedule=None,
        weight_decay=None,
        clipnorm=None,
        clipvalue=None,
        global_clipnorm=None,
        use_ema=False,
        ema_momentum=0.99,
        ema_overwrite_frequency=None,
        loss_scale_factor=None,
        gradient_accumulation_steps=None,
        name="drmad_sgd",
        **kwargs,
    ):
        super().__init__(
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            clipnorm=clipnorm,
            clipvalue=clipvalue,
            global_clipnorm=global_clipnorm,
            use_ema=use_ema,
            ema_momentum=ema_momentum,
            ema_overwrite_frequency=ema_overwrite_frequency,
            loss_scale_factor=loss_scale_factor,
            gradient_accumulation_steps=gradient_accumulation_steps,
            name=name,
            **kwargs,
        )
        if per not in GRANULARITIES:
            raise ValueError(f"`per` must be one of {GRANULARITIES}. Received: per={per!r}")
        learn = (learn,) if isinstance(learn, str) else tuple(learn)
        if not set(learn) <= {*KINDS, INIT_SCALE}:
            raise ValueError(f"`learn` may hold {(*KINDS, INIT_SCALE)}. Received: learn={learn!r}")
        if schedule is not None and not isinstance(schedule, Knots):
            raise ValueError(
                f"`schedule` must be a `keras_drmad.Knots`. Received: schedule={schedule!r}"
            )
        for argument, value in (("momentum", momentum), ("l2", l2)):
            if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
                raise ValueError(f"`{argument}` must be a number. Received: {argument}={value!r}")
            scales(0.0, 0.0)[argument].check(f"`{argument}`", value)
        self.scales = scales(float(momentum), float(l2))
        self.momentum, self.l2 = float(momentum), float(l2)
        self.nesterov = bool(nesterov)
        self.per = per
        self.learn = tuple(kind for kind in (*KINDS, INIT_SCALE) if kind in learn)
        self.schedule = schedule
        self.engines = _Engines()
        self.is_learning = False  # LearnHyperparameters sets it while it is attached
        self._excluded = ()  # patterns of the variables without L2
        # Set before the groups are known, to be taken over by `build`:
        self._pending = []  # arguments of `set_hyperparameters`
        self._learned = None  # displacements from a config

    # -- hyperparameters ---------------------------------------------------------------------

    @property
    def hyperparameters(self):
        """Effective values: `{group: {"learning_rate": …, "momentum": …, "l2": …}}`.

        Groups are named by Keras paths and stand in the model's own order. With `per="unit"`, `l2`
        is an array with one entry an input unit. Values are copies: write with
        `set_hyperparameters`.
        """
        self._check_built("hyperparameters")
        values = {kind: np.array(self._value(kind)) for kind in self.displacements}
        values["learning_rate"] = values["learning_rate"] * self._global_rate()
        return self.layout.nest(values)

    def set_hyperparameters(self, hyperparameters):
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

    def _displaced(self, new, hyperparameters):
        """Writes the displacements of effective values into the NumPy vectors `new`."""
        for group, kind, part, value in self.layout.parse(hyperparameters):
            if kind == "learning_rate":
                value = value / self._global_rate()
            scale = self.scales[kind]
            scale.check(f"hyperparameters[{group!r}][{kind!r}]", value)
            self.layout.write(new[kind], kind, part, scale.displacement(value))
        return new

    def as_logs(self):
        """`{"<group>/<kind>": effective value}` for `logs`; of arrays the mean."""
        return {
            f"{group}/{kind}": float(np.mean(value))
            for group, entries in self.hyperparameters.items()
            for kind, value in entries.items()
        }

    def move_hyperparameters(self, gradients, meta_optimizer):
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

    def reset(self):
        """Forgets the training, as before a first step; what is learned stays.

        Velocities and the count of steps (and averages of `use_ema`) become zero. With
        `model.set_weights(initial)` beside it, a next `fit` or `hypergradient` trains from scratch.
        """
        self._check_built("reset")
        learned = {id(d) for d in self.displacements.values()}
        kept = learned | {id(self._learning_rate)}
        for variable in self.variables:
            if id(variable) not in kept:
                variable.assign(keras.ops.zeros_like(variable))

    def exclude_from_l2(self, var_list=None, var_names=None):
        """Excludes variables from L2. To be called before the optimizer is built.

        Args:
            var_list: A list of variables.
            var_names: A list of strings (regular expressions). A variable in whose name or path one
                of them is found has no L2: `var_names=["bias"]` leaves out all biases.
        """
        if self.built:
            raise ValueError(
                "`exclude_from_l2()` can only be configured before the optimizer is built."
            )
        paths = [f"^{re.escape(path_of(v))}$" for v in var_list or ()]
        self._excluded = (*paths, *(var_names or ()))

    def hyper_values(self):
        """`{kind: flat tensor}` of a training step; of learning rates the global one's multipliers."""
        return {kind: self._value(kind) for kind in KINDS}

    def _value(self, kind):
        return self.scales[kind].value(self.displacements[kind].value)

    def init_scales(self):
        """The flat tensor of initial scales, or None if they are not learned."""
        return self._value(INIT_SCALE) if INIT_SCALE in self.displacements else None

    def scale_initial_weights(self):
        """Multiplies each kernel by its learned initial scale: once, before training from scratch."""
        self._check_built("scale_initial_weights")
        scales = self.init_scales()
        if scales is None:
            raise ValueError('Initial scales are not learned: add "init_scale" to `learn`.')
        slices = self.layout.slices[INIT_SCALE]
        for variable, s in zip(self._trainable_variables, slices, strict=True):
            if s is not None:
                variable.assign(variable * keras.ops.cast(s.of(scales), variable.dtype))

    def positions(self, steps):
        """Where training steps stand in the learned schedule; zeros if there is none."""
        if self.schedule is None:
            return np.zeros(len(steps), "float32")
        return self.schedule.positions(steps).astype("float32")

    def span_schedule(self, steps):
        """Fills in how many steps the learned schedule spans, if it was not said."""
        if self.schedule is not None and self.schedule.steps is None:
            self.schedule = self.schedule.over(steps)

    def steps_taken(self):
        """How many training steps the optimizer has taken."""
        return int(self.iterations.numpy())

    def update(self):
        """The training step of this optimizer as a pure function (`update_rules.momentum.Update`)."""
        self._check_built("update")
        variables = self._trainable_variables
        return Update(
            layout=self.layout,
            dtypes=tuple(v.dtype for v in variables),
            nesterov=self.nesterov,
            clipnorm=self.clipnorm,
            clipvalue=self.clipvalue,
            global_clipnorm=self.global_clipnorm,
            # Keras has no public name for "is this variable decayed".
            decays=tuple(
                self.weight_decay if self.weight_decay and self._use_weight_decay(v) else 0.0
                for v in variables
            ),
            constraints=tuple(v.constraint for v in variables),
        )

    def learning_rates(self, steps):
        """The global learning rates of the next `steps` steps."""
        rate = self._learning_rate
        if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
            now = self.steps_taken()
            return np.array([float(rate(now + i)) for i in range(steps)])
        return np.full(steps, self._global_rate())

    def _global_rate(self):
        return float(keras.ops.convert_to_tensor(self.learning_rate).numpy())

    def _check_built(self, what):
        if not self.built:
            raise ValueError(
                f"`{what}` is known once the optimizer is built: call `fit`, or "
                "`optimizer.build(model.trainable_variables)`, first."
            )

    # -- Keras's extension points ------------------------------------------------------------

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        knots = (
            {} if self.schedule is None else dict.fromkeys(self.schedule.kinds, self.schedule.count)
        )
        self.layout = Layout(
            variables,
            self.per,
            [self._has_l2(v) for v in variables],
            knots,
            INIT_SCALE in self.learn,
        )
        self.velocities = self.add_optimizer_variables(variables, "velocity")
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

    def _has_l2(self, variable):
        path = path_of(variable)
        return not any(re.search(p, path) or re.search(p, variable.name) for p in self._excluded)

    def apply(self, grads, trainable_variables=None):
        variables = trainable_variables
        if variables is not None:
            variables = list(variables)
            if variables and not self.built:
                with keras.name_scope(self.name, caller=self):
                    self.build(variables)
        if self.built:
            if self.learn and not self.is_learning:
                _say_frozen()
            grads = self._with_l2(grads, variables or self._trainable_variables)
        super().apply(grads, variables)

    def _with_l2(self, grads, variables):
        """The raw gradients plus λ ⊙ w: before clipping, as if L2 were a part of the loss."""
        l2 = self.scales["l2"].value(self.displacements["l2"].value)
        # Gradients are summed over replicas, and divided by the loss scale, after this.
        share = (self.loss_scale_factor or 1.0) / tf.distribute.get_strategy().num_replicas_in_sync
        out = []
        for grad, variable in zip(grads, variables, strict=True):
            s = self.layout.slices["l2"][self._get_variable_index(variable)]
            if grad is not None and s is not None:
                weight = tf.convert_to_tensor(variable)
                coefficient = tf.cast(s.of(l2) * share, weight.dtype)
                grad = tf.cast(tf.convert_to_tensor(grad), weight.dtype) + coefficient * weight
            out.append(grad)
        return out

    def update_step(self, gradient, variable, learning_rate):
        i = self._get_variable_index(variable)
        values = {}
        for kind in ("learning_rate", "momentum"):
            part = self.layout.slices[kind][i]
            if kind in self.layout.knots:
                entry = part.of(self.layout.at(kind, self._value(kind), self._position()))
            else:
                entry = self.scales[kind].value(part.of(self.displacements[kind].value))
            values[kind] = tf.cast(entry, variable.dtype)
        rate = values["learning_rate"] * tf.cast(learning_rate, variable.dtype)
        # TensorFlow's fused kernel of `update.momentum_step`: one operation instead of seven.
        tf.raw_ops.ResourceApplyKerasMomentum(
            var=variable.handle,
            accum=self.velocities[i].value.handle,
            lr=rate,
            grad=tf.cast(tf.convert_to_tensor(gradient), variable.dtype),
            momentum=values["momentum"],
            use_nesterov=self.nesterov,
        )

    def _position(self):
        """`positions` of this step, in the graph."""
        steps = tf.cast(self.iterations.value, tf.float32)
        at = tf.minimum(steps / max(self.schedule.steps - 1, 1), 1.0)
        return at * (self.schedule.count - 1)

    def get_config(self):
        config = super().get_config()
        config.update(
            momentum=self.momentum,
            nesterov=self.nesterov,
            l2=self.l2,
            per=self.per,
            learn=list(self.learn),
            schedule=keras.saving.serialize_keras_object(self.schedule),
            exclude_from_l2=list(self._excluded),
        )
        learned = self._learned
        if self.built and any(np.any(d.numpy()) for d in self.displacements.values()):
            learned = {k: d.numpy().tolist() for k, d in self.displacements.items()}
        if learned:
            config["learned"] = learned
        return config

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        excluded = config.pop("exclude_from_l2", None)
        learned = config.pop("learned", None)
        if isinstance(config.get("schedule"), dict):
            config["schedule"] = keras.saving.deserialize_keras_object(config["schedule"])
        optimizer = super().from_config(config, custom_objects)
        if excluded:
            optimizer.exclude_from_l2(var_names=excluded)
        optimizer._learned = learned
        return optimizer


class _Engines:
    """Compiled programs of the models that use an optimizer; an object that Keras does not track."""

    def __init__(self):
        self.by_key = {}


@functools.cache  # once a process
def _say_frozen():
    _log.warning(
        "DrMADSGD trains with frozen hyperparameters: pass "
        "`callbacks=[keras_drmad.LearnHyperparameters(validation_data)]` to `fit` to learn them, or "
        "`learn=()` to the optimizer to keep them without this message."
    )
