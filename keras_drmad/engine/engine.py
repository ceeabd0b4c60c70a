"""Training and differentiation of one compiled model, chunk by chunk."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import keras
import numpy as np
import tensorflow as tf

from keras_drmad import compat, sums
from keras_drmad.data import STACK_STEPS, Batches, Signature
from keras_drmad.engine import judge as judges
from keras_drmad.engine import loss_scale, model_setup, step_check
from keras_drmad.engine.checkpoints import Carry, carry_at
from keras_drmad.engine.derivatives import Derivatives, by_init_scales
from keras_drmad.engine.model_variables import ModelVariables, value_of
from keras_drmad.engine.objective import Objective
from keras_drmad.engine.programs import Adjoint, Inputs, Programs, TrainingState
from keras_drmad.engine.stacks import Stacks
from keras_drmad.engine.trajectory import Trajectory
from keras_drmad.hyperparameters.groups import INIT_SCALE
from keras_drmad.optimizers.learnable import learnable_optimizer
from keras_drmad.paths.base import End, Path, Segment, cut
from keras_drmad.tf_function import tf_function
from keras_drmad.typing import Structure

Records: TypeAlias = dict[tuple[int, ...], Structure]  # of the steps of a piece
OnStep: TypeAlias = Callable[[int], None]  # called with a number of steps taken


class Engine(ModelVariables):
    """Runs the programs of one model over whole training windows."""

    @classmethod
    def of(
        cls,
        model: keras.Model,
        example: Structure,
        path: Path,
        hyper_variables: Sequence[keras.Variable] = (),
        jit_compile: bool | str = "auto",
        check: bool = True,
        trains: bool = True,
        steps: int | None = None,
        step: Callable[[], object] | None = None,
    ) -> Engine:
        """The engine for these arguments, with its compiled programs, made at the first call.

        With `check` it then takes some steps beside Keras's own; see `step_check`. They are not
        compiled for one that only differentiates (`trains`). `steps` is about how many will be
        differentiated in all: where there are few, it does not pay to compile much. `step` is that of
        `step_check.check`.

        Raises:
            ValueError: Something that cannot be differentiated, or is not trained as Keras does it.
        """
        optimizer = learnable_optimizer(model)
        model_setup.check(model, hyper_variables)
        model_setup.build_with(model, example)
        model_setup.check_path(model, optimizer, path)
        # What a program was traced with; held by the engine, so that no id is used again.
        traced = [model, compat.compiled_loss(model), model.optimizer]
        traced += [*model.trainable_variables, *hyper_variables]
        rule = optimizer.update_rule(model.trainable_variables)
        rule = dataclasses.replace(rule, layout=optimizer.layout)  # the same object each time
        averages = optimizer.use_ema, optimizer.ema_momentum, optimizer.loss_scale_factor
        key = (path, jit_compile, model.run_eagerly, averages, rule, tuple(map(id, traced)))
        engines = optimizer.engines.by_key
        if key not in engines:
            engine = cls(model, example, path, hyper_variables, jit_compile, check, steps)
            engine._traced = traced
            if check:
                step_check.check(engine, example, trains, step)
            engines[key] = engine
        return engines[key]

    def __init__(
        self,
        model: keras.Model,
        example: Structure,
        path: Path,
        hyper_variables: Sequence[keras.Variable] = (),
        jit_compile: bool | str = "auto",
        check: bool = True,
        steps: int | None = None,
    ) -> None:
        self.model, self.optimizer = model, learnable_optimizer(model)
        self.hyper_variables, self.path = list(hyper_variables), path
        example = tf.nest.map_structure(tf.convert_to_tensor, example)
        self.loss_scale = loss_scale.of(model)
        self.objective = Objective(
            model, example, hyper_variables, self.loss_scale, model_setup.devices(model), check
        )
        self._traced: list[object] = []
        self.further: dict[int, Any] = {}  # what `RecordedWindows` makes of the programs
        at = self.read()
        record = path.step_record(at.iterate, at.state)
        self.stacks = Stacks(self.optimizer, self.loss_scale.is_dynamic, record)
        self._free_to_choose = jit_compile == "auto"
        self._compile(
            model_setup.prefers_xla(model, self.objective, steps)
            if self._free_to_choose
            else bool(jit_compile)
        )
        self._norm = tf_function(sums.norm)

    def _compile(self, xla: bool) -> None:
        self.xla = xla
        rule = self.optimizer.update_rule(self.objective.weights)
        self.programs = Programs(
            self.objective,
            dataclasses.replace(rule, idle=self.objective.idle),
            self.path,
            xla,
            self.stacks.is_relaxed,
        )
        self.further.clear()

    def give_up_xla(self, error: tf.errors.InvalidArgumentError) -> None:
        """Goes on without XLA if it lacks an operation, which is known when it compiles; or raises."""
        if not (self.xla and self._free_to_choose and "unsupported op" in str(error)):
            raise error
        self._compile(xla=False)

    def see(self, signature: Signature, validating: bool = False) -> None:
        """Before a batch of a new shape: one program too many is for all shapes, where one can be."""
        must_use_xla = self.xla and (self.objective.draws or not self._free_to_choose)
        if must_use_xla or len(self.objective.devices) > 1:  # which split batches of known sizes
            return
        if self.stacks.sees_too_many(signature, validating):
            self._compile(xla=False)

    # -- forward -----------------------------------------------------------------------------

    def train(
        self,
        start: TrainingState,
        batches: Batches,
        rates: Sequence[float] | np.ndarray,
        on_step: OnStep | None = None,
        first: int | None = None,
        judge: str = "last",
    ) -> Trajectory:
        """The whole `Trajectory` of a training run from `start`, one step a rate."""
        run = self.begin(start, batches, len(rates), first, judge)
        self.advance(run, rates, on_step)
        return self.finish(run)

    def begin(
        self,
        start: TrainingState,
        batches: Batches,
        steps: int,
        first: int | None = None,
        judge: str = "last",
    ) -> Trajectory:
        """The `Trajectory` of a run of at most `steps` steps, before its first.

        It has the optimizer's hyperparameters, and starts at its step `first` (of a learned
        schedule; by default the one it is at). `judge` is one of `judge.JUDGES`. The model's variables
        are not touched.
        """
        arithmetic, rule = self.path.arithmetic, self.programs.rule
        hyper = self.optimizer.hyper_values()
        values = rule.numbers(hyper)
        arithmetic.check(rule, values)
        segments = cut(self.path.segments(steps), arithmetic.longest_segment(values))
        at = arithmetic.encode(start.iterate)
        return Trajectory(
            start=start,
            hyper=hyper,
            hyper_variables=[value_of(v) for v in self.hyper_variables],
            batches=batches,
            random=[np.zeros((steps, *r.shape), r.dtype.as_numpy_dtype) for r in start.random],
            values=values,
            constants=arithmetic.constants(values),
            first=self.optimizer.steps_taken() if first is None else first,
            judge=judge,
            segments=segments,
            carry={
                "at": at,
                "state": start.state,
                "random": start.random,
                "sums": None,
                "averages": start.averages,
                "scale": start.scale,
                "taken": tf.constant(0) if start.scale else (),
                "total": judges.totals(judge, start.weights),
            },
        )

    def advance(
        self,
        run: Trajectory,
        rates: Sequence[float] | np.ndarray,
        on_step: OnStep | None = None,
    ) -> TrainingState:
        """Takes the next steps of a run, one a rate, and returns the `TrainingState` after them."""
        first = run.steps
        run.cuts.append(first)
        del run.planned[sum(run.taken) :]  # for steps that were left out
        run.planned.extend(np.asarray(rates, keras.config.floatx()))
        run.rates.extend(np.asarray(rates, keras.config.floatx()))
        run.iterations.extend(range(run.first + first, run.first + run.steps))
        run.taken.extend([True] * (run.steps - first))
        run.scales.extend([1.0] * (run.steps - first))
        kept = self.path.checkpoints(len(run.segments))
        while first < run.steps:
            segment = run.segments[len(run.summaries)]
            if first == segment.start:
                run.carry["sums"] = self.path.begin(self.programs.rule.means(run.start.iterate))
                if self.path.replay == "forward" and len(run.summaries) in kept:
                    # The total is known when it is read.
                    run.checkpoints[len(run.summaries)] = run.carry | {"total": []}
            stop = min(segment.stop, run.steps)
            run.carry, records = self._over(range(first, stop), run, run.carry, on_step)
            if self.path.replay is None:
                run.records.update(records)
            if stop == segment.stop:
                self._close(run)
            first = stop
        return self._state(run)

    def finish(self, run: Trajectory) -> Trajectory:
        """Ends a run where it stands, at its last planned step or before."""
        ongoing = run.segments[len(run.summaries) : len(run.summaries) + 1]
        del run.segments[len(run.summaries) :]
        if ongoing and ongoing[0].start < run.steps:
            run.segments.append(Segment(ongoing[0].start, run.steps))
            self._close(run)
        run.end = self._state(run)
        return run

    def _close(self, run: Trajectory) -> None:
        """Ends the segment in which a run stands."""
        index = len(run.summaries)
        run.summaries.append(self.path.summarize(run.carry["sums"], run.segments[index]))
        at, closed = self.path.arithmetic.close(run.carry["at"], run.lengths, index, run.values)
        run.closed.append(closed)
        run.carry = {**run.carry, "at": at}

    def _state(self, run: Trajectory) -> TrainingState:
        iterate = self.path.arithmetic.decode(run.carry["at"], self.programs.rule.dtypes)
        carry = run.carry
        return TrainingState(
            *(iterate.weights, iterate.slots, carry["state"], carry["random"]),
            *(carry["averages"], carry["scale"]),
        )

    def _constants(self, run: Trajectory, replaying: bool) -> dict[str, Any]:
        return {
            "hyper": run.hyper,
            "hyper_variables": run.hyper_variables,
            "arithmetic": run.constants,
            "replaying": tf.constant(replaying),
        }

    def _over(
        self,
        steps: Sequence[int],
        run: Trajectory,
        carry: Carry,
        on_step: OnStep | None = None,
        replaying: bool = False,
    ) -> tuple[Carry, Records]:
        """Trains over steps, or over them again; `(carry, {steps of a piece: records})`."""
        constants, records = self._constants(run, replaying), {}
        for piece, capacity in self._pieces(run, steps):
            program = self.programs.replay if replaying else self.programs.forward
            inputs = self.stacks.inputs(run, piece, capacity)
            if self.loss_scale.is_dynamic:
                constants |= self.stacks.ahead(run, piece, capacity, carry["taken"])
            try:
                carry, outputs = program(constants, carry, inputs, len(piece))
            except tf.errors.InvalidArgumentError as error:
                self.give_up_xla(error)
                return self._over(steps, run, carry, on_step, replaying)
            records[tuple(piece)] = outputs["record"]
            if not replaying:
                run.losses.extend(outputs["loss"].numpy()[: len(piece)])
                for seen, seeds in zip(run.random, outputs["random"], strict=True):
                    seen[piece] = seeds.numpy()[: len(piece)]
                if self.loss_scale.is_dynamic:
                    run.remember(piece, outputs["scaled"])
            if on_step:
                on_step(len(piece))
        return carry, records

    def _pieces(self, run: Trajectory, steps: Sequence[int]) -> Iterator[tuple[list[int], int]]:
        for piece, capacity in self.stacks.pieces(run, steps):
            self.see(run.batches.signature(piece[0]))
            yield piece, self.stacks.capacity(piece, capacity)

    # -- reverse -----------------------------------------------------------------------------

    def differentiate(
        self, run: Trajectory, validation: Batches, on_step: OnStep | None = None
    ) -> Derivatives:
        """Walks back along a `Trajectory` from the validation loss at its end; it stays as it is."""
        loss, adjoint = self._validation(run, validation)
        undoing = dict(run.carry)  # of a path that undoes training
        kept = dict(run.checkpoints)  # of one that trains again
        size = float(self._norm(adjoint.weights))
        visited = sum(len(self.path.visited_steps(s)) for s in run.segments)
        adjoint, added = judges.shares(run, adjoint, visited)
        growth, finite = 1.0, bool(np.isfinite(loss) and np.isfinite(size))
        for segment in reversed(self.path.reverse_segments(run.segments)) if finite else ():
            constants = {
                "hyper": run.hyper,
                "hyper_variables": run.hyper_variables,
                "state": run.end.state,
                "size": tf.constant(size),
                "added": added,
                "segment_data": self._segment_data(run, segment),
            }
            for inputs, length in self._inputs_back(run, segment, undoing, kept):
                adjoint, _ = self.programs.reverse(constants, adjoint, inputs, length)
                norm = float(self._norm(adjoint.weights))
                finite = bool(np.isfinite(norm))
                growth = max(growth, norm / max(size, 1e-30)) if finite else float("inf")
                if on_step:
                    on_step(length)
                if not finite:
                    return Derivatives(loss, adjoint, growth, finite)
        scales = self.optimizer.init_scales()
        if scales is not None:
            slices = self.programs.rule.layout.slices[INIT_SCALE]
            found = by_init_scales(scales, slices, run.start.weights, adjoint.weights)
            adjoint.hyper[INIT_SCALE] = found
        return Derivatives(loss, adjoint, growth, finite, self._is_back(run, undoing["at"]))

    def _segment_data(self, run: Trajectory, segment: Segment) -> Structure:
        rule = self.programs.rule
        ends = [
            End(*rule.means(state.iterate), rule.last_displacements(state.iterate))
            for state in (run.start, run.end)
        ]
        return self.path.segment_data(segment, run.segments, run.summaries, *ends)

    def _inputs_back(
        self, run: Trajectory, segment: Segment, undoing: Carry, kept: dict[int, Carry]
    ) -> Iterator[tuple[Inputs, int]]:
        """The `(inputs, length)` of the pieces of a segment, last first.

        `undoing` is the loop's carry on the way back, of a path that undoes training; `kept` what is
        kept of one that trains again.
        """
        records = run.records
        if self.path.replay == "forward":

            def again(i: int, carry: Carry) -> tuple[Carry, Records]:
                return self._over(range(*run.segments[i]), run, carry, replaying=True)

            index = run.segments.index(segment)
            _, records = again(index, carry_at(index, kept, self.path, again))
        if self.path.replay == "backward":
            closed = run.closed[run.segments.index(segment)]
            undoing["at"] = self.path.arithmetic.reopen(undoing["at"], closed)
        visited = self.path.visited_steps(segment)
        for steps, capacity in reversed(list(self._pieces(run, visited))):
            if self.path.replay == "backward":
                inputs = self.stacks.inputs(run, steps[::-1], capacity)
                constants = self._constants(run, replaying=True)
                if self.loss_scale.is_dynamic:
                    constants |= self.stacks.ahead(run, steps, capacity, undoing["taken"])
                undone, outputs = self.programs.replay(constants, undoing, inputs, len(steps))
                undoing.update(undone)
                yield inputs._replace(record=outputs["record"]), len(steps)
            else:
                record = records.get(tuple(steps), ())
                yield self.stacks.inputs(run, steps, capacity, record), len(steps)

    def _is_back(self, run: Trajectory, undone: Structure) -> bool:
        """Whether an undone run is back at its start, bit for bit."""
        if self.path.replay != "backward":
            return False
        start = tf.nest.flatten(self.path.arithmetic.encode(run.start.iterate))
        ends = zip(start, tf.nest.flatten(undone), strict=True)
        return all(bool(tf.reduce_all(a == b)) for a, b in ends)

    def _validation(self, run: Trajectory, validation: Batches) -> tuple[float, Adjoint]:
        end = run.end._replace(weights=judges.weights(run))
        total = self.programs.no_losses(end, run.hyper_variables)
        assert validation.epoch_steps is not None  # `as_validation` has seen to it
        limit = STACK_STEPS if validation.in_memory else 1
        for steps, capacity in validation.pieces(range(validation.epoch_steps), limit):
            self.see(validation.signature(steps[0]), validating=True)
            batches = validation.stack(steps, self.stacks.capacity(steps, capacity))
            constants = end, run.hyper_variables
            total, _ = self.programs.validate(constants, total, batches, len(steps))
        samples, loss, *gradients = total
        weights, state, hyper_variables = tf.nest.map_structure(
            lambda g: g / tf.cast(samples, g.dtype), gradients
        )
        slots, hyper = tf.nest.map_structure(tf.zeros_like, (end.slots, run.hyper))
        adjoint = Adjoint(weights, slots, state, hyper, hyper_variables)
        return float(loss / samples), adjoint
