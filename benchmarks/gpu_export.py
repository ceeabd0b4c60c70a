"""Exports training, its reverse and the agent's learning as XLA programs, to run without TensorFlow.

    python benchmarks/gpu_export.py out/gpu [names]     # here: NAME.hlo.pb, NAME.json, NAME.npz
    python benchmarks/gpu_run.py out/gpu                # there: needs jax and numpy only

Each case is a whole chunk: a loop on the device over `STEPS` batches, without host round trips.
Cases: a small and a wide MLP (4096-4096-4096) in float32, float32 with TF32 and bfloat16, a small CNN,
the small MLP under AdamW, and QAN's agent, whose loop takes 64 gradient steps. Programs are lowered for
CPU, before optimization; XLA on the other machine compiles them for its own device. Inputs and expected
outputs travel with the small cases (NAME.npz); those of the wide ones are drawn at random there, and
only timed.
"""

import argparse
import json
import os
import pathlib
import re
import time
from functools import partial
from unittest import mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.eager.polymorphic_function import function_type_utils

from keras_drmad import DrMADAdamW, DrMADSGD, paths, sums
from keras_drmad.data import as_batches
from keras_drmad.engine.engine import Engine
from keras_drmad.tuners.qan.agent.dqn import DQN
from keras_drmad.tuners.qan.agent.q_network import q_network
from keras_drmad.tuners.qan.agent.replay import Transitions

layers = keras.layers
STEPS = 8
SGD = partial(DrMADSGD, 0.02, l2=1e-4, learn=())
CARRIED_BYTES = 8 * 2**20  # larger inputs are drawn on the other machine
DTYPES = {
    "f32": "float32",
    "f64": "float64",
    "f16": "float16",
    "bf16": "bfloat16",
    "s32": "int32",
    "s64": "int64",
    "u32": "uint32",
    "u64": "uint64",
    "s8": "int8",
    "u8": "uint8",
    "pred": "bool",
}


def mlp(width):
    shape, sizes = (width,), (width, width, 10)
    stack = [layers.Dense(s, "tanh") for s in sizes[:-1]] + [layers.Dense(10, dtype="float32")]
    return keras.Sequential([layers.Input(shape), *stack]), shape


def cnn():
    shape = (28, 28, 1)
    stack = []
    for filters in (16, 32):
        # Smooth, and without a bias that has no gradient but rounding: kinks and steps along mere
        # rounding multiply what differs between compilers.
        stack += [layers.Conv2D(filters, 3, use_bias=False), layers.BatchNormalization()]
        stack += [layers.Activation("tanh"), layers.AveragePooling2D(2)]
    stack += [
        layers.Flatten(),
        layers.Dense(10),
    ]  # dropout: each compiler has its own random numbers
    return keras.Sequential([layers.Input(shape), *stack]), shape


def chunk(build, batch_size, make=SGD):
    """`{"train": (function, arguments, steps), "reverse": …}` of one chunk of training."""
    keras.utils.set_random_seed(0)
    model, shape = build()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(make(), loss)
    rng = np.random.default_rng(0)
    samples = batch_size * STEPS
    train = (rng.random((samples, *shape), "float32"), rng.integers(0, 10, samples))
    batches = as_batches(train, batch_size, seed=0)
    path = paths.SegmentMeans(knots=2)
    # The programs themselves are wanted here, whatever this machine's CPU makes of them.
    engine = Engine.of(model, batches.batch(0), path, jit_compile=True)
    start = engine.read()
    steps = list(range(STEPS))
    run = engine.begin(start, batches, STEPS)
    rates = engine.optimizer.learning_rates(STEPS).astype("float32")
    run.rates, run.iterations, run.end = list(rates), steps, start
    inputs = engine.stacks.inputs(run, steps, STEPS)
    means = engine.programs.rule.means(start.iterate)
    carry = {**run.carry, "sums": path.begin(means)}
    run.summaries = [tf.nest.map_structure(lambda w, i=i: w + 0.01 * i, means) for i in range(1, 3)]
    constants = {
        "hyper": run.hyper,
        "hyper_variables": [],
        "state": start.state,
        "size": tf.constant(1.0),
        "added": [],
        "segment_data": engine._segment_data(run, path.reverse_segments(run.segments)[-1]),
    }
    _, adjoint = engine._validation(run, as_batches((train[0][:64], train[1][:64]), 64))
    length = tf.constant(STEPS)
    forward, reverse = engine.programs.forward, engine.programs.reverse
    return {
        "train": (
            forward._program.function,
            (engine._constants(run, False), carry, inputs, length),
            STEPS,
        ),
        "reverse": (reverse._program.function, (constants, adjoint, inputs, length), STEPS),
    }


def learning(observed=16, actions=5, transitions=2000):
    """`{"learn": (function, arguments, steps)}` of one call of the agent's learning."""
    rng = np.random.default_rng(0)
    agent = DQN(q_network([((observed,), None)], actions, scale=10.0, seed=0))
    agent.replay.add(
        rng.random((transitions + 1, observed), "float32"),
        rng.integers(0, actions, transitions),
        -rng.random(transitions, "float32"),
        terminated=True,
    )
    steps = agent._call_steps
    batches = agent.replay.transitions(*agent.replay.sample(rng, steps, agent.batch_size))
    arguments = Transitions(*map(tf.constant, batches)), tf.constant(steps)
    bounds = tf.constant(-100.0), tf.constant(0.0)
    return {"learn": (agent._compiled_steps, (*arguments, *bounds), steps)}


CASES = {  # name: (its programs, TF32, dtype policy)
    "mlp_f32": (partial(chunk, partial(mlp, 64), 32), False, "float32"),
    "mlp_adamw_f32": (
        partial(chunk, partial(mlp, 64), 32, partial(DrMADAdamW, learn=())),
        False,
        "float32",
    ),
    "mlp_tf32": (partial(chunk, partial(mlp, 64), 32), True, "float32"),
    "mlp_bf16": (partial(chunk, partial(mlp, 64), 32), False, "mixed_bfloat16"),
    "cnn_f32": (partial(chunk, cnn, 100), False, "float32"),
    "wide_f32": (partial(chunk, partial(mlp, 4096), 1024), False, "float32"),
    "wide_tf32": (partial(chunk, partial(mlp, 4096), 1024), True, "float32"),
    "wide_bf16": (partial(chunk, partial(mlp, 4096), 1024), False, "mixed_bfloat16"),
    "dqn_f32": (learning, False, "float32"),
}


def entry_parameters(header):
    """`[(dtype, shape)]` of the entry computation, from the first line of the HLO text."""
    signature = header.split("entry_computation_layout={(", 1)[1].split(")->", 1)[0]
    signature = re.sub(r"/\*.*?\*/", "", signature)
    found = re.findall(r"\b([a-z]+\d*)\[([^\]]*)\]", signature)
    return [
        (DTYPES[d], tuple(int(re.sub("[^0-9]", "", n)) for n in shape.split(",") if n))
        for d, shape in found
    ]


def flat_inputs(concrete, arguments):
    """Values in the order of the program's inputs: flattened arguments, then captures."""
    bound = function_type_utils.canonicalize_function_inputs(arguments, {}, concrete.function_type)
    flat = [*concrete.function_type.unpack_inputs(bound), *concrete.captured_inputs]
    variables = {id(v.handle): v for v in concrete.variables}
    return [np.array(variables.get(id(value), value).numpy()) for value in flat]


def match(values, parameters):
    """Which values are parameters: those that XLA needs at compile time (shapes) are baked in."""
    kept = []
    for i, value in enumerate(values):
        if len(kept) < len(parameters) and (str(value.dtype), value.shape) == parameters[len(kept)]:
            kept.append(i)
    if len(kept) != len(parameters):
        raise ValueError("The program's parameters cannot be matched with its inputs.")
    return kept


def export(folder, name, function, arguments, steps):
    concrete = function.get_concrete_function(*arguments)
    values = flat_inputs(concrete, arguments)
    ir = function.experimental_get_compiler_ir(*arguments)
    program = ir(stage="hlo_serialized")
    parameters = entry_parameters(ir(stage="hlo").splitlines()[0])
    kept = [values[i] for i in match(values, parameters)]
    small = sum(v.nbytes for v in kept) <= CARRIED_BYTES
    seconds = None
    if small:
        flat = [np.array(o) for o in tf.nest.flatten(function(*arguments))]
        times = []
        for _ in range(5):
            begun = time.perf_counter()
            tf.nest.flatten(function(*arguments))[0].numpy()
            times.append(time.perf_counter() - begun)
        seconds = float(np.median(times))
        outputs = {f"out_{i:04d}": o for i, o in enumerate(flat)}
        np.savez(
            folder / f"{name}.npz", **{f"in_{i:04d}": v for i, v in enumerate(kept)}, **outputs
        )
    (folder / f"{name}.hlo.pb").write_bytes(program)
    description = {
        "name": name,
        "steps": steps,
        "inputs": [(str(v.dtype), v.shape) for v in kept],
        # Integers and flags cannot be drawn at random: they travel, all but large ones.
        "integers": {i: v.tolist() for i, v in enumerate(kept) if v.dtype.kind in "biu"},
        "cpu_seconds_per_step": seconds and seconds / steps,
        "tf32": tf.config.experimental.tensor_float_32_execution_enabled(),
        "tensorflow": tf.__version__,
    }
    (folder / f"{name}.json").write_text(json.dumps(description))
    print(
        f"{name}: {len(program)} bytes, {len(kept)} inputs, carried: {small}, CPU {seconds}",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("names", nargs="*", default=list(CASES))
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    unknown = set(options.names) - set(CASES)
    if unknown:
        parser.error(f"unknown cases {sorted(unknown)}; there are {', '.join(CASES)}")
    for name in options.names:
        programs, tf32, policy = CASES[name]
        # Written into the program when it is traced: whether matrix products may use TF32.
        tf.config.experimental.enable_tensor_float_32_execution(tf32)
        keras.config.set_dtype_policy(policy)
        with mock.patch.object(sums, "only_cpus", return_value=False):  # sums as for a GPU
            for part, program in programs().items():
                export(options.folder, f"{name}_{part}", *program)


if __name__ == "__main__":
    main()
