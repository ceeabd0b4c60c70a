"""Runs exported programs (`gpu_export.py`) with JAX's own XLA: agreement with the CPU, and time.

    python benchmarks/gpu_run.py out/gpu [--repeats 20]

Needs jax and numpy only. Prints, for each case, the largest difference from the CPU's outputs over
their largest value, the time of a step, the reverse step over the gradient step, and, for the wide
MLP, the achieved fraction of the matrix product rate that is measured first, in the same precision.
"""

import argparse
import json
import os
import pathlib
import time

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from jax._src import compiler
from jax._src.interpreters import mlir
from jax._src.lib import _jax
from jax._src.lib import xla_client as xc
from jax._src.lib.mlir import ir

jax.config.update("jax_enable_x64", True)  # or 64-bit integers would be cut

# Of the wide MLP 4096-4096-4096-10 at batch 1024, a multiply-add counted as two: forward and weights'
# gradient for both matrices, the inputs' gradient for the second. A reverse step has 3 and 8.
WIDE_MATRIX = 2 * 1024 * 4096 * 4096
WIDE_PRODUCTS = {"train": 5, "reverse": 11}


def load(path, device):
    """An HLO program, compiled for `device`."""
    context = mlir.make_ir_context()
    with context, ir.Location.unknown(context):
        module = ir.Module.parse(_jax.mlir.hlo_to_stablehlo(path.read_bytes()), context)
        attributes = module.operation.attributes
        for attribute in [a if isinstance(a, str) else a.name for a in attributes]:
            if attribute.startswith("mhlo.") and not attribute.startswith("mhlo.num_"):
                del attributes[attribute]
        # Of variables that are assigned; the portable form that a GPU's compiler takes has none.
        module.operation.walk(without_copy)
        options = compiler.get_compile_options(num_replicas=1, num_partitions=1)
        return device.client.compile_and_load(module, xc.DeviceList((device,)), options)


def without_copy(operation):
    if operation.name == "mhlo.copy":
        operation.results[0].replace_all_uses_with(operation.operands[0])
        operation.erase()
    return ir.WalkResult.ADVANCE


def call(program, inputs):
    outputs = program.execute_sharded(inputs).disassemble_into_single_device_arrays()
    return [o[0] for o in outputs]


def values(folder, name, description):
    """The inputs, and the expected outputs if they travelled."""
    carried = folder / f"{name}.npz"
    if carried.exists():
        arrays = np.load(carried)
        pick = lambda kind: [arrays[k] for k in sorted(arrays.files) if k.startswith(kind)]  # noqa: E731
        return pick("in_"), pick("out_")
    rng = np.random.default_rng(0)
    inputs = []
    for i, (dtype, shape) in enumerate(description["inputs"]):
        known = description["integers"].get(str(i))
        if known is not None:
            inputs.append(np.array(known, dtype).reshape(shape))
        else:
            dtype = ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype
            inputs.append((0.02 * rng.standard_normal(shape)).astype(dtype))
    return inputs, []


def difference(outputs, expected):
    worst = 0.0
    for ours, theirs in zip(outputs, expected, strict=False):
        ours, theirs = np.asarray(ours).astype("float64"), theirs.astype("float64")
        worst = max(
            worst, np.abs(ours - theirs).max(initial=0) / max(np.abs(theirs).max(initial=0), 1e-30)
        )
    return worst


def median_seconds(run, repeats):
    jax.block_until_ready(run())
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        jax.block_until_ready(run())
        times.append(time.perf_counter() - begun)
    return float(np.median(times))


def matmul_rate(kind, repeats):
    """Floating-point operations a second of a 4096³ matrix product (of 512³ on CPU)."""
    size = 4096 if jax.devices()[0].platform != "cpu" else 512
    dtype = jnp.bfloat16 if kind == "bf16" else jnp.float32
    precision = "highest" if kind == "f32" else "default"
    a = jax.random.normal(jax.random.key(0), (size, size), dtype)
    product = jax.jit(lambda a: jnp.matmul(a, a, precision=precision))
    return 2 * size**3 / median_seconds(lambda: product(a), repeats)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--repeats", type=int, default=20)
    options = parser.parse_args()
    device, folder = jax.devices()[0], options.folder
    print(f"{device.device_kind}, jax {jax.__version__}")
    seconds = {}
    for path in sorted(folder.glob("*.json")):
        description = json.loads(path.read_text())
        name = description["name"]
        case, part = name.rsplit("_", 1)
        inputs, expected = values(folder, name, description)
        program = load(folder / f"{name}.hlo.pb", device)
        buffers = [jax.device_put(a, device) for a in inputs]
        seconds[case, part] = (
            median_seconds(lambda: call(program, buffers), options.repeats)  # noqa: B023
            / description["steps"]
        )
        agreement = ""
        if expected:
            agreement = (
                f", off by {difference(call(program, buffers), expected):.1e} of the largest"
            )
        print(f"{name}: {1e6 * seconds[case, part]:.1f} µs a step{agreement}", flush=True)
    for case in sorted({case for case, part in seconds if part == "reverse"}):
        train, reverse = seconds[case, "train"], seconds[case, "reverse"]
        line = f"{case}: reverse step / gradient step {reverse / train:.2f}"
        if case.startswith("wide"):
            rate = matmul_rate(case.split("_")[1], options.repeats)
            shares = [
                WIDE_PRODUCTS[part] * WIDE_MATRIX / seconds[case, part] / rate
                for part in ("train", "reverse")
            ]
            line += f"; of the matrix product rate: {shares[0]:.0%} and {shares[1]:.0%}"
        print(line)


if __name__ == "__main__":
    main()
