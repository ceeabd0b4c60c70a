"""The engine's training step beside Keras's own: some steps of both, from the same start."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf

from keras_drmad import compat
from keras_drmad.data import Batch, Batches, BufferedBatches, as_arguments
from keras_drmad.engine.objective import Objective
from keras_drmad.engine.programs import Programs, TrainingState
from keras_drmad.engine.trajectory import Trajectory
from keras_drmad.optimizers.learnable import LearnableOptimizer
from keras_drmad.paths import Path

STEPS = 2
# What rounding may make of how far a variable moves: so many units in the last place of the coarsest
# dtype, within these shares. (In float64 some of Keras's own numbers are float32.)
ROUNDING, LEAST, MOST = 2000.0, 1e-6, 0.1
# Of the mean gradient of all weights. Below it a gradient may be rounding itself, as that of a bias
# whose effect a batch normalization takes out again; AdamW makes steps of it that are not small.
NOISE = 0.1


class Engine(Protocol):
    """What is needed of an `engine.Engine`, which imports this file."""

    model: keras.Model
    optimizer: LearnableOptimizer
    objective: Objective
    path: Path
    programs: Programs
    xla: bool

    def read(self) -> TrainingState: ...
    def train(self, start: TrainingState, batches: Batches, rates: Any) -> Trajectory: ...
    def write(self, state: TrainingState, steps: int) -> None: ...


def check(
    engine: Engine,
    example: Batch,
    compiled: bool = True,
    step: Callable[[], object] | None = None,
) -> None:
    """Raises a ValueError if training by an engine leads elsewhere than Keras's `train_step`.

    Afterwards all is as it was: variables, metrics, seeds, and the model's own functions. Models of
    several replicas are not checked.

    Args:
        engine: of a compiled, built model.
        example: a batch of training data.
        compiled: whether the engine's steps are to be taken by its compiled program.
        step: trains on the example as `fit` does; by default the model's `train_step` is traced for it.
    """
    if engine.model.distribute_strategy.num_replicas_in_sync > 1:
        return  # Keras cannot trace the step of several replicas by itself
    variables = _variables(engine)
    before = [_array(v) for v in variables]
    with _undone(variables), _silent(engine):
        take = step or _keras_step(engine, example)
        for _ in range(_steps(engine)):
            take()
        expected = [_array(v) for v in variables]
    with _undone(variables):
        steps = _steps(engine)
        batches = BufferedBatches([example] * steps)
        rates = engine.optimizer.learning_rates(steps)
        is_compiled = compiled or _draws_with_xla(engine)
        with contextlib.nullcontext() if is_compiled else engine.programs.interpreted():
            run = engine.train(engine.read(), batches, rates)
        engine.write(run.end, sum(run.taken))
        found = [_array(v) for v in variables]
    floating = [i for i, b in enumerate(before) if np.issubdtype(b.dtype, np.floating)]
    ends = [expected, found] if engine.path.replay == "backward" else [expected]
    if not all(np.isfinite(end[i]).all() for end in ends for i in floating):
        return  # diverged within two steps (or left the range of fixed point): training will say so
    differing = _first_difference(engine, variables, before, expected, found)
    if differing is not None:
        raise ValueError(
            f"{differing.path!r} is trained otherwise by Keras than the compiled loss and optimizer "
            f"say: after {_steps(engine)} steps it is another one. {_reason(engine)} (With "
            "`check=False` this is not looked at; hypergradients are then those of another training.)"
        )


def _steps(engine: Engine) -> int:
    """How many batches are trained on."""
    return STEPS * engine.optimizer.accumulation


def _variables(engine: Engine) -> list[keras.Variable]:
    """All that a step may change, but metrics: they are not trained with."""
    model = engine.model
    metrics = {id(v) for v in model.metrics_variables}
    found = {id(v): v for v in (*model.variables, *model.optimizer.variables)}
    # States of recurrent layers and Keras's global seed are no variables of the model.
    found |= {id(v): v for v in (*engine.objective.state, *engine.objective.random)}
    return [v for name, v in found.items() if name not in metrics]


def _array(variable: keras.Variable) -> np.ndarray:
    array = keras.ops.convert_to_numpy(variable.value)
    return array.astype("float64") if tf.as_dtype(variable.dtype).is_floating else array


@contextlib.contextmanager
def _undone(variables: Sequence[keras.Variable]) -> Iterator[None]:
    kept = [tf.identity(v.value) for v in variables]
    try:
        yield
    finally:
        for variable, value in zip(variables, kept, strict=True):
            variable.assign(value)


@contextlib.contextmanager
def _silent(engine: Engine) -> Iterator[None]:
    """Metrics, the optimizer's word about frozen values, and Python's generators stay as they are."""
    model, optimizer = engine.model, engine.optimizer
    is_learning, optimizer.is_learning = optimizer.is_learning, True
    state, metrics = np.random.get_state(), list(model.metrics_variables)
    try:
        with _undone(metrics):
            yield
    finally:
        if len(model.metrics_variables) > len(metrics):  # they were made by the first step
            model.reset_metrics()
        optimizer.is_learning = is_learning
        np.random.set_state(state)


def _keras_step(engine: Engine, example: Batch) -> Callable[[], object]:
    model = engine.model
    x, y, sample_weight = as_arguments(tf.nest.map_structure(tf.convert_to_tensor, example))
    data = keras.utils.pack_x_y_sample_weight(x, y, sample_weight)

    def step() -> None:
        model.distribute_strategy.run(model.train_step, args=(data,))

    if model.run_eagerly:
        return step
    function = tf.function(step, jit_compile=_draws_with_xla(engine), autograph=False)
    return function.get_concrete_function()


def _draws_with_xla(engine: Engine) -> bool:
    """Whether other random numbers would be drawn without XLA."""
    return engine.xla and engine.objective.draws


def _first_difference(
    engine: Engine,
    variables: Sequence[keras.Variable],
    before: Sequence[np.ndarray],
    expected: Sequence[np.ndarray],
    found: Sequence[np.ndarray],
) -> keras.Variable | None:
    """The first variable of which the two trainings have made something else."""
    after = {id(v): e for v, e in zip(variables, expected, strict=True)}
    start = {id(v): b for v, b in zip(variables, before, strict=True)}
    scales = _step_sizes(engine, after)  # of each weight: how far a gradient of 1 moves it
    moved = [after[name] - start[name] for name in scales]
    gradients = [_over(m, s) for m, s in zip(moved, scales.values(), strict=True)]
    entries = sum(m.size for m in moved)
    gradient = np.sqrt(sum(np.sum(g**2) for g in gradients) / max(entries, 1))
    typical = np.sqrt(sum(np.sum(m**2) for m in moved) / max(entries, 1))
    share = float(np.clip(ROUNDING * precision(engine), LEAST, MOST))
    others = zip(variables, before, expected, found, strict=True)
    off_weights = 0.0  # what was let through: states and slots have it in them
    for variable, b, e, f in sorted(others, key=lambda of: id(of[0]) not in scales):
        if e.dtype != np.float64:
            if not np.array_equal(e, f):
                return variable
            continue
        off = float(np.linalg.norm(e - f))
        allowed = share * np.linalg.norm(e - b) + 8 * _precision(variable.dtype) * np.linalg.norm(e)
        if id(variable) in scales:
            both = np.abs(e - b) + np.abs(f - b)
            noise = np.minimum(share * NOISE * gradient * scales[id(variable)], both)
            allowed += np.linalg.norm(noise)
            off_weights += off
        else:
            allowed += share * NOISE * typical * np.sqrt(e.size) + off_weights
        if not off <= allowed:
            return variable
    return None


def _step_sizes(engine: Engine, values: dict[int, np.ndarray]) -> dict[int, np.ndarray]:
    """`{id of a weight: its motion over its gradient}`, with slots as in `values`."""
    optimizer, weights = engine.optimizer, engine.objective.weights
    rule = optimizer.update_rule(weights)
    slots = {
        name: [tf.constant(values[id(s)], s.dtype) for s in of]
        for name, of in optimizer.slots_of(weights).items()
    }
    hyper = rule.at(optimizer.hyper_values(), tf.constant(optimizer.positions([0])[0]))
    rate = tf.constant(optimizer.learning_rates(_steps(engine))[-1])
    last = (optimizer.steps_taken() + _steps(engine) - 1) // optimizer.accumulation
    ones = [tf.ones(w.shape, w.dtype) for w in weights]
    per_motion = rule.unscaled(ones, slots, rule.values(hyper, rate), tf.constant(last))
    unit = [np.ones(w.shape) for w in weights]
    return {
        id(w): _over(one, p.numpy().astype("float64"))
        for w, one, p in zip(weights, unit, per_motion, strict=True)
    }


def _over(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`a / b`, and 0 where b is."""
    return np.divide(a, b, out=np.zeros_like(a), where=b != 0)


def precision(engine: Engine) -> float:
    """The relative precision of the coarsest numbers that a model computes in."""
    dtypes = {v.dtype for v in engine.objective.weights}
    dtypes |= {layer.compute_dtype for layer in compat.all_layers(engine.model)}
    return max(_precision(dtype) for dtype in dtypes if dtype is not None)


def _precision(dtype: str) -> float:
    known = {"float64": 2e-16, "float32": 1e-7, "float16": 1e-3, "bfloat16": 8e-3}
    return known.get(tf.as_dtype(dtype).name, 0.0)


def _reason(engine: Engine) -> str:
    """Why, where that is known, and what to do."""
    model, optimizer = engine.model, engine.optimizer
    if type(model).train_step is not keras.Model.train_step:
        return (
            f"{type(model).__name__} has a `train_step` of its own, which is not followed: leave it "
            "out, and say what is trained by `compute_loss`, `add_loss` and the optimizer."
        )
    if not type(optimizer).__module__.startswith("keras_drmad"):
        return (
            f"The optimizer is a {type(optimizer).__name__}, whose own steps are not followed: compile "
            "with the class that it is derived from."
        )
    return (
        "No reason is known: look for what changes variables beside the optimizer (a layer, a "
        "callback, a patched method)."
    )
