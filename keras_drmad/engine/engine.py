"""Training and differentiation of one compiled model, chunk by chunk."""

import bisect
import itertools
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from keras_drmad.data import STACK_BYTES, STACK_STEPS, as_arguments
from keras_drmad.engine.objective import Objective
from keras_drmad.engine.programs import Adjoint, Inputs, Programs, State
from keras_drmad.engine.trajectory import Trajectory
from keras_drmad.hyperparameters.groups import INIT_SCALE, KINDS
from keras_drmad.optimizers.sgd import DrMADSGD
from keras_drmad.paths.base import Segment

# Where the adjoint of the weights grew more than this on the way back, training was chaotic or the
# path left the region where it was stable. Healthy runs stay below 10.
GROWTH_LIMIT = 100.0


@dataclass
class Derivatives:
    """The result of a reverse pass, still as tensors."""

    validation_loss: float
    adjoint: Adjoint
    growth: float
    finite: bool


class Engine:
    """Runs the programs of one model over whole training windows.

    Reads the model's variables in `read`, writes them in `write`, and nowhere else.
    """

    @classmethod
    def of(cls, model, example, path, hyper_variables=(), jit_compile="auto"):
        """The engine for these arguments, with its compiled programs, made at the first call."""
        optimizer = drmad_optimizer(model)
        # What a program was traced with; held by the engine, so that no id is used again.
        traced = [model, getattr(model, "_compile_loss", None), *model.trainable_variables]
        traced += hyper_variables
        key = (path, jit_compile, model.run_eagerly, tuple(map(id, traced)))
        engines = optimizer.engines.by_key
        if key not in engines:
            engines[key] = cls(model, example, path, hyper_variables, jit_compile)
            engines[key].traced = traced
        return engines[key]

    def __init__(self, model, example, path, hyper_variables=(), jit_compile="auto"):
        self.optimizer = drmad_optimizer(model)
        _check(self.optimizer, model, hyper_variables)
        self.hyper_variables = list(hyper_variables)
        self.path = path
        example = tf.nest.map_structure(tf.convert_to_tensor, example)
        build_with(model, example)
        if not model.trainable_variables:
            raise ValueError(f"Model {model.name!r} has no trainable variables.")
        self.devices = _devices(model)
        self.objective = Objective(
            model, example, hyper_variables, _loss_scale(model), self.devices
        )
        self._free_to_choose = jit_compile == "auto"
        self._compile(self._prefer_xla(model) if self._free_to_choose else bool(jit_compile))
        at = self.read()
        stored = tf.nest.flatten(path.row(at.weights, at.velocities, at.state))
        row_bytes = sum(r.dtype.size * int(tf.size(r)) for r in stored)
        self._stack_limit = max(1, min(STACK_STEPS, STACK_BYTES // max(row_bytes, 1)))
        self._norm = tf.function(tf.linalg.global_norm)

    def _compile(self, xla):
        self.xla = xla
        self.programs = Programs(self.objective, self.optimizer.update(), self.path, xla)

    def _prefer_xla(self, model):
        if len(self.devices) > 1:
            return False  # its programs run on one device
        if not all(layer.supports_jit for layer in model._flatten_layers()):
            return False
        if self.objective.draws_random_numbers() and not model.jit_compile:
            return False  # the masks of dropout would not be those of `fit`
        accelerated = any(d.device_type != "CPU" for d in tf.config.list_logical_devices())
        return accelerated or not self.objective.slow_under_xla_on_cpu()

    # -- the model's variables ---------------------------------------------------------------

    def _variables(self):
        o = self.objective
        return State(o.weights, self.optimizer.velocities, o.state, o.random)

    def read(self):
        """The `State` that the model and its optimizer are in."""
        return State(*([tf.convert_to_tensor(v.value) for v in vs] for vs in self._variables()))

    def write(self, state, steps):
        """Puts the model and its optimizer into `state`, `steps` steps on."""
        for variables, values in zip(self._variables(), state, strict=True):
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)
        self.optimizer.iterations.assign_add(steps)

    # -- forward -----------------------------------------------------------------------------

    def train(self, start, batches, rates, on_step=None, first=None):
        """The whole `Trajectory` of a training run from `start`, one step a rate."""
        run = self.begin(start, batches, len(rates), first)
        self.advance(run, rates, on_step)
        return self.finish(run)

    def begin(self, start, batches, steps, first=None):
        """The `Trajectory` of a run of at most `steps` steps, before its first.

        It has the optimizer's hyperparameters, and starts at its step `first` (of a learned
        schedule; by default the one it is at). The model's variables are not touched.
        """
        path, update = self.path, self.programs.update
        hyper = self.optimizer.hyper_values()
        at_first = update.at(hyper, tf.constant(0.0))
        momenta = tuple(float(m) for m in update.momenta(at_first))
        path.check(update, momenta)
        at = self._encode(start)
        return Trajectory(
            start=start,
            hyper=hyper,
            eta=[tf.convert_to_tensor(v.value) for v in self.hyper_variables],
            batches=batches,
            random=[np.zeros((steps, *r.shape), r.dtype.as_numpy_dtype) for r in start.random],
            constants=path.arithmetic.constants(update, at_first),
            momenta=momenta,
            first=self.optimizer.steps_taken() if first is None else first,
            segments=path.segments(steps, momenta),
            carry={"at": at, "state": start.state, "random": start.random, "sums": None},
        )

    def advance(self, run, rates, on_step=None):
        """Takes the next steps of a run, one a rate, and returns the `State` after them."""
        first = run.steps
        run.cuts.append(first)
        run.rates.extend(np.asarray(rates, keras.config.floatx()))
        while first < run.steps:
            segment = run.segments[len(run.kept)]
            if first == segment.start:
                run.carry["sums"] = self.path.begin(run.start.weights)
                if self.path.replay == "forward":
                    run.checkpoints[first] = dict(run.carry)
            stop = min(segment.stop, run.steps)
            run.carry, rows = self._over(range(first, stop), run, run.carry, on_step)
            if self.path.replay is None:
                run.rows.update(rows)
            if stop == segment.stop:
                self._close(run)
            first = stop
        return self._state(run)

    def finish(self, run):
        """Ends a run where it stands, at its last planned step or before."""
        ongoing = run.segments[len(run.kept) : len(run.kept) + 1]
        del run.segments[len(run.kept) :]
        if ongoing and ongoing[0].start < run.steps:
            run.segments.append(Segment(ongoing[0].start, run.steps))
            self._close(run)
        run.end = self._state(run)
        return run

    def _close(self, run):
        """Ends the segment in which a run stands."""
        index = len(run.kept)
        run.kept.append(self.path.keep(run.carry["sums"], run.segments[index]))
        at, closed = self.path.close(run.carry["at"], run.segments, index, run.momenta)
        run.closed.append(closed)
        run.carry = {**run.carry, "at": at}

    def _state(self, run):
        decoded = self.path.arithmetic.decode(run.carry["at"], self.programs.update.dtypes)
        return State(*decoded, run.carry["state"], run.carry["random"])

    def _encode(self, state):
        return self.path.arithmetic.encode(state.weights, state.velocities)

    def _constants(self, run, replaying):
        return {
            "hyper": run.hyper,
            "eta": run.eta,
            "arithmetic": run.constants,
            "replaying": tf.constant(replaying),
        }

    def _over(self, steps, run, carry, on_step=None, replaying=False):
        """Trains over steps, or over them again; `(carry, {steps of a piece: rows})`."""
        program = self.programs.replay if replaying else self.programs.forward
        constants, rows = self._constants(run, replaying), {}
        for piece, capacity in self._pieces(run, steps):
            inputs = self._inputs(run, piece, capacity)
            try:
                carry, row = program(constants, carry, inputs, len(piece))
            except tf.errors.InvalidArgumentError as error:
                # Which operations XLA does not have is known when it compiles them.
                if not (self.xla and self._free_to_choose and "unsupported op" in str(error)):
                    raise
                self._compile(xla=False)
                return self._over(steps, run, carry, on_step, replaying)
            rows[tuple(piece)] = row["path"]
            if not replaying:
                run.losses.extend(row["loss"].numpy()[: len(piece)])
                for seen, seeds in zip(run.random, row["random"], strict=True):
                    seen[piece] = seeds.numpy()[: len(piece)]
            if on_step:
                on_step(len(piece))
        return carry, rows

    def stack_steps(self, batches):
        """How many steps one program takes at once."""
        return min(batches.capacity(0), self._stack_limit)

    def _pieces(self, run, steps):
        """Steps in stacks, none across a cut: on the way back they are those of the way forth."""
        for _, part in itertools.groupby(steps, lambda step: bisect.bisect(run.cuts, step)):
            yield from run.batches.pieces(part, self._stack_limit)

    def _inputs(self, run, steps, capacity, row=()):
        def column(values):
            values = np.asarray(values)
            padding = [(0, capacity - len(steps))] + [(0, 0)] * (values.ndim - 1)
            return tf.convert_to_tensor(np.pad(values, padding))

        return Inputs(
            batch=run.batches.stack(steps, capacity),
            learning_rate=column([run.rates[step] for step in steps]),
            random=[column(seeds[steps]) for seeds in run.random],
            step=column(np.asarray(steps, "float32")),
            position=column(self.optimizer.positions(run.first + np.asarray(steps))),
            row=row,
        )

    # -- reverse -----------------------------------------------------------------------------

    def differentiate(self, run, validation, on_step=None):
        """Walks back along a `Trajectory` from the validation loss at its end."""
        loss, adjoint = self._validation(run, validation)
        size = float(self._norm(adjoint.weights))
        growth, finite = 1.0, bool(np.isfinite(loss) and np.isfinite(size))
        ends = [(s.weights, s.velocities) for s in (run.start, run.end)]
        for leg in reversed(self.path.legs(run.segments)) if finite else ():
            constants = {
                "hyper": run.hyper,
                "eta": run.eta,
                "state": run.end.state,
                "size": tf.constant(size),
                "anchors": self.path.anchors(leg, run.segments, run.kept, *ends),
            }
            for inputs, length in self._inputs_back(run, leg):
                adjoint, _ = self.programs.reverse(constants, adjoint, inputs, length)
                norm = float(self._norm(adjoint.weights))
                finite = bool(np.isfinite(norm))
                growth = max(growth, norm / max(size, 1e-30)) if finite else float("inf")
                if on_step:
                    on_step(length)
                if not finite:
                    return Derivatives(loss, adjoint, growth, finite)
        self._add_init_scales(run, adjoint)
        return Derivatives(loss, adjoint, growth, finite)

    def _add_init_scales(self, run, adjoint):
        """w_0 is a scale times what the initializer gave: ∂L/∂scale = ⟨∂L/∂w_0, w_0⟩ / scale."""
        scales = self.optimizer.init_scales()
        if scales is None:
            return
        slices = self.optimizer.layout.slices[INIT_SCALE]
        products = [
            tf.reduce_sum(dw * w)
            for dw, w, s in zip(adjoint.weights, run.start.weights, slices, strict=True)
            if s is not None
        ]
        adjoint.hyper[INIT_SCALE] = tf.stack(products) / tf.cast(scales, products[0].dtype)

    def _inputs_back(self, run, leg):
        """The `(inputs, length)` of the pieces of a leg, last first."""
        rows = run.rows
        if self.path.replay == "forward":
            steps, carry = range(leg.start, leg.stop), run.checkpoints[leg.start]
            _, rows = self._over(steps, run, carry, replaying=True)
        if self.path.replay == "backward":
            closed = run.closed[run.segments.index(leg)]
            run.carry["at"] = self.path.reopen(run.carry["at"], closed)
        for steps, capacity in reversed(list(self._pieces(run, self.path.visited(leg)))):
            if self.path.replay == "backward":
                inputs = self._inputs(run, steps[::-1], capacity)
                constants = self._constants(run, replaying=True)
                run.carry, row = self.programs.replay(constants, run.carry, inputs, len(steps))
                yield inputs._replace(row=row["path"]), len(steps)
            else:
                row = rows.get(tuple(steps), ())
                yield self._inputs(run, steps, capacity, row), len(steps)

    def returned(self, run):
        """Whether an undone run is back at its start, bit for bit."""
        pairs = zip(
            tf.nest.flatten(self._encode(run.start)), tf.nest.flatten(run.carry["at"]), strict=True
        )
        return all(bool(tf.reduce_all(a == b)) for a, b in pairs)

    def _validation(self, run, validation):
        end = run.end
        zero = tf.nest.map_structure(tf.zeros_like, (end.weights, end.state, run.eta))
        total = (tf.constant(0.0, "float64"), tf.constant(0.0, "float64"), *zero)
        for steps, _ in validation.pieces(range(validation.epoch_steps)):
            for step in steps:
                batch = tf.nest.map_structure(tf.convert_to_tensor, validation.batch(step))
                total = self.programs.validate(end, run.eta, batch, total)
        samples, loss, *gradients = total
        weights, state, eta = tf.nest.map_structure(
            lambda g: g / tf.cast(samples, g.dtype), gradients
        )
        adjoint = Adjoint(
            weights=weights,
            velocities=[tf.zeros_like(v) for v in end.velocities],
            state=state,
            hyper={kind: tf.zeros_like(run.hyper[kind]) for kind in KINDS},
            eta=eta,
        )
        return float(loss / samples), adjoint


def drmad_optimizer(model):
    """The `DrMADSGD` of a compiled model, out of a `LossScaleOptimizer` if it is in one.

    Raises:
        ValueError: if there is none.
    """
    optimizer = getattr(model, "optimizer", None)
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    if not isinstance(inner, DrMADSGD):
        raise ValueError(
            "The model must be compiled with a `keras_drmad.DrMADSGD` optimizer. "
            f"Received: model.optimizer={optimizer!r}"
        )
    return inner


def _check(optimizer, model, hyper_variables):
    """Raises a ValueError for what cannot be differentiated."""
    for argument in ("gradient_accumulation_steps", "ema_overwrite_frequency"):
        if getattr(optimizer, argument):
            raise ValueError(
                f"A training with `{argument}` cannot be differentiated: leave it out."
            )
    trainable = {id(v) for v in model.trainable_variables}
    for variable in hyper_variables:
        if not isinstance(variable, keras.Variable) or id(variable) in trainable:
            raise ValueError(
                "`hyper_variables` must be a sequence of `keras.Variable`s that are not trained. "
                f"Received: {variable!r}"
            )


def _devices(model):
    """The devices of the strategy that a model was made under; `(None,)` for the default one."""
    strategy = model.distribute_strategy
    if strategy.num_replicas_in_sync == 1:
        return (None,)
    devices = strategy.extended.worker_devices
    if len(devices) != strategy.num_replicas_in_sync:
        raise ValueError(
            "A hypergradient can be split over the devices of one machine "
            "(`tf.distribute.MirroredStrategy`) only. Received: "
            f"{type(strategy).__name__} of {strategy.num_replicas_in_sync} replicas, "
            f"{len(devices)} of them here. Several machines are used with `clients` of "
            "`keras_drmad.tuners.DrMADTuner`."
        )
    return devices


def _loss_scale(model):
    scale = getattr(model.optimizer, "dynamic_scale", None)
    if scale is not None:
        return float(keras.ops.convert_to_tensor(scale).numpy())
    return float(drmad_optimizer(model).loss_scale_factor or 1.0)


def build_with(model, example):
    """Creates what `fit` would create at its first batch: weights, loss, optimizer state."""
    if model.built and model.optimizer.built:
        return
    x, y, sample_weight = as_arguments(example)
    with model.distribute_strategy.scope():
        model.compute_loss(x=x, y=y, y_pred=model(x), sample_weight=sample_weight)
        model.reset_metrics()
        if not model.optimizer.built:
            with keras.name_scope(model.optimizer.name):
                model.optimizer.build(model.trainable_variables)
