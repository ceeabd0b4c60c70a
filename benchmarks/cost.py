"""Time and memory of a hypergradient, against training alone; ratios within one run.

    python benchmarks/cost.py [mlp|cnn|memory|fit|callback] [--optimizer sgd|adamw] [--repeats 5]

- mlp: MNIST-sized MLP 784-50-50-50-10, batch 50, T = 1000, one of each hyperparameter a variable:
  the whole `hypergradient` call after warm-up over `model.fit` on as many steps and over
  the compiled forward pass alone; one reverse step over one gradient step; every path.
- cnn: 16-32 filters, batch norm, dropout, batch 100, T = 50: the same, and the callback.
- memory: peak resident memory above that before the call, each in a process of its own.
- fit: a step of `fit` with frozen hyperparameters over one with Keras's optimizer.
- callback: `fit` with `LearnHyperparameters` over `fit` without, on the MLP, in time of the processor.

The data are random numbers of MNIST's shape: cost does not depend on their values.
"""

import argparse
import os
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf

from keras_drmad import DrMADAdamW, DrMADSGD, LearnHyperparameters, hypergradient, paths
from keras_drmad.data import as_batches
from keras_drmad.engine.engine import Engine

layers = keras.layers
rng = np.random.default_rng(0)
PATHS = {
    "SegmentMeans": paths.SegmentMeans(),
    "Linear": paths.Linear(),
    "Stored": paths.Stored(),
    "Checkpointed": paths.Checkpointed(),
    "Checkpointed, 8 slots": paths.Checkpointed(slots=8),
    "Reversible": paths.Reversible(),  # of momentum SGD only
}
OURS = {
    "sgd": lambda **options: DrMADSGD(0.02, l2=1e-4, **options),
    "adamw": lambda **options: DrMADAdamW(1e-3, **options),
}
KERAS = {
    "sgd": lambda: keras.optimizers.SGD(0.02, momentum=0.9),
    "adamw": lambda: keras.optimizers.AdamW(1e-3),
}


def paths_of(optimizer):
    return [name for name in PATHS if optimizer == "sgd" or name != "Reversible"]


def compiled(model, optimizer):
    if isinstance(optimizer, str):
        optimizer = OURS[optimizer](per="variable", learn=())
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def mlp(optimizer):
    hidden = [layers.Dense(50, "tanh") for _ in range(3)]
    return compiled(keras.Sequential([layers.Input((784,)), *hidden, layers.Dense(10)]), optimizer)


def cnn(optimizer):
    blocks = []
    for filters in (16, 32):
        blocks += [layers.Conv2D(filters, 3), layers.BatchNormalization(), layers.ReLU()]
        blocks += [layers.MaxPooling2D()]
    head = [layers.Flatten(), layers.Dropout(0.5), layers.Dense(10)]
    return compiled(keras.Sequential([layers.Input((28, 28, 1)), *blocks, *head]), optimizer)


def data(samples, shape=(784,)):
    return rng.random((samples, *shape), "float32"), rng.integers(0, 10, samples)


def median_time(call, repeats, clock=time.perf_counter):
    call()  # compiles
    times = []
    for _ in range(repeats):
        begun = clock()
        call()
        times.append(clock() - begun)
    return float(np.median(times))


def fit(model, train, batch_size, **arguments):
    model.fit(*train, batch_size=batch_size, verbose=0, **arguments)


def loops(model, train, batch_size, path):
    """Seconds a step of the forward and the reverse programs alone, on batches already stacked."""
    batches = as_batches(train, batch_size, seed=0)
    engine = Engine.of(model, batches.batch(0), path)
    rates = engine.optimizer.learning_rates(engine.stacks.length(batches))
    validation = as_batches((train[0][:256], train[1][:256]), 256)

    run = engine.train(engine.read(), batches, rates)
    _, adjoint = engine._validation(run, validation)
    steps, capacity = next(engine._pieces(run, range(len(rates))))
    inputs = engine.stacks.inputs(run, steps, capacity)
    constants = {
        "hyper": run.hyper,
        "hyper_variables": run.hyper_variables,
        "state": run.end.state,
        "size": tf.constant(1.0),
        "added": [],
        "segment_data": engine._segment_data(run, run.segments[0]),
    }
    carry = engine.begin(run.start, batches, len(rates)).carry
    carry["sums"] = path.begin(engine.programs.rule.means(run.start.iterate))
    begin, length = engine._constants(run, False), len(steps)

    def forward():
        return engine.programs.forward(begin, carry, inputs, length)

    def reverse():
        return engine.programs.reverse(constants, adjoint, inputs, length)

    # Alternately, and the fastest of many: what else the machine does must meet both alike.
    fastest = {forward: np.inf, reverse: np.inf}
    started = time.perf_counter()
    for repeat in range(40):
        if repeat > 5 and time.perf_counter() - started > 20:
            break
        for program in fastest:
            begun = time.perf_counter()
            tf.nest.flatten(program()[0])[0].numpy()
            if repeat:
                fastest[program] = min(fastest[program], time.perf_counter() - begun)
    return fastest[forward] / length, fastest[reverse] / length, engine


def cost(model, shape, batch_size, steps, repeats, some):
    train, hyper = data(batch_size * steps, shape), data(1000, shape)
    training = median_time(lambda: fit(model, train, batch_size), repeats) / steps
    step, _, engine = loops(model, train, batch_size, paths.Linear())

    def forward_only():
        batches = as_batches(train, batch_size, seed=0)
        engine.train(engine.read(), batches, engine.optimizer.learning_rates(steps))

    forward = median_time(forward_only, repeats) / steps
    print(f"\nfit {1e6 * training:.0f} µs a step; compiled forward pass with its data")
    print(
        f"{1e6 * forward:.0f} µs; compiled gradient step alone {1e6 * step:.0f} µs; XLA: {engine.xla}\n"
    )
    print("| path | call / fit | call / forward | reverse step / gradient step |")
    print("|---|---|---|---|")
    for name in some:
        path = PATHS[name]

        def call():
            arguments = {"batch_size": batch_size, "steps": steps, "seed": 0, "verbose": 0}
            hypergradient(model, train, hyper, path=path, **arguments)  # noqa: B023

        whole = median_time(call, repeats) / steps
        ratio = "–"
        if not path.exact:
            forward_step, reverse_step, _ = loops(model, train, batch_size, path)
            ratio = f"{reverse_step / forward_step:.2f} ({1e6 * reverse_step:.0f} µs)"
        print(f"| {name} | {whole / training:.2f} | {whole / forward:.2f} | {ratio} |", flush=True)


def overhead(optimizer, repeats):
    """Interleaved, so that a change in the machine's speed meets both."""
    train = data(50_000)
    models = [mlp(KERAS[optimizer]()), mlp(optimizer)]
    times = [[], []]
    for repeat in range(repeats + 1):
        for model, measured in zip(models, times, strict=True):
            begun = time.perf_counter()
            fit(model, train, 50)
            measured.append((time.perf_counter() - begun) if repeat else np.inf)
    theirs, ours = (1000 * np.array(t[1:]) for t in times)  # µs a step
    ours_name, theirs_name = (type(model.optimizer).__name__ for model in reversed(models))
    print(
        f"fit, frozen {ours_name} over {theirs_name}: {ours.min() / theirs.min():.3f} (fastest), "
    )
    print(f"{np.median(ours) / np.median(theirs):.3f} (medians); {theirs.min():.0f} µs a step")


def callback(optimizer, make, shape, batch_size, steps, repeats):
    train, hyper = data(batch_size * steps, shape), data(1000, shape)
    watched, alone = (make(OURS[optimizer]()) for _ in range(2))
    learn = LearnHyperparameters(hyper)
    clock = time.process_time  # which other processes do not change
    with_it = median_time(
        lambda: fit(watched, train, batch_size, callbacks=[learn]), repeats, clock
    )
    without = median_time(lambda: fit(alone, train, batch_size), repeats, clock)
    print(f"callback, {make.__name__}: {with_it / without - 1:.2f} × the training it watches")


def resident(field="VmRSS"):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(field)) / 1024


def memory_of(optimizer, name, steps):
    """One measurement, in this process: MiB above what is resident when the call begins."""
    model, train, hyper = mlp(optimizer), data(60_000), data(1000)
    arguments = {"batch_size": 50, "path": PATHS[name], "seed": 0, "verbose": 0}
    hypergradient(model, train, hyper, steps=100, **arguments)  # warm-up: programs are compiled
    with open("/proc/self/clear_refs", "w") as reset:
        reset.write("5")  # the high-water mark starts anew
    before = resident()
    found = hypergradient(model, train, hyper, steps=steps, **arguments)
    print(f"{resident('VmHWM') - before:.1f} {before:.0f} {found.information}")


def memory(optimizer):
    print("| path | T | peak above before, MiB | reported |\n|---|---|---|---|")
    for name in paths_of(optimizer):
        for steps in (1000, 5000, 10_000):
            if name == "Stored" and steps > 5000:
                continue
            command = [sys.executable, __file__, "memory-of", "--optimizer", optimizer]
            command += ["--path", name, "--steps", str(steps)]
            out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            peak, _, reported = out.strip().splitlines()[-1].split(" ", 2)
            print(f"| {name} | {steps} | {peak} | {reported} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    choices = ["all", "mlp", "cnn", "memory", "fit", "callback", "memory-of"]
    parser.add_argument("what", nargs="?", default="all", choices=choices)
    parser.add_argument("--optimizer", choices=OURS, default="sgd")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--path", default="SegmentMeans")
    parser.add_argument("--steps", type=int, default=1000)
    options = parser.parse_args()
    what, repeats, optimizer = options.what, options.repeats, options.optimizer
    if what == "memory-of":
        return memory_of(optimizer, options.path, options.steps)
    if what in ("all", "mlp"):
        cost(mlp(optimizer), (784,), 50, 1000, repeats, paths_of(optimizer))
    if what in ("all", "cnn"):
        some = ["SegmentMeans", "Linear"]
        cost(cnn(optimizer), (28, 28, 1), 100, 50, min(repeats, 3), some)
        callback(optimizer, cnn, (28, 28, 1), 100, 50, min(repeats, 3))
    if what in ("all", "fit"):
        overhead(optimizer, repeats)
    if what in ("all", "callback"):
        callback(optimizer, mlp, (784,), 50, 1000, min(repeats, 3))
    if what in ("all", "memory"):
        memory(optimizer)


if __name__ == "__main__":
    main()
