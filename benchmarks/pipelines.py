"""What reading data costs: the episodes of a search, and hypergradients.

    python benchmarks/pipelines.py [all|episodes|hypergradients] [--steps 1000]

Takes about 3 minutes; with `taskset -c 0` before it, on one core.

- episodes: beside what Keras's own reading costs. An MLP 784-128-10 on 20 000 random images, batch
  128, 20 steps a call, trained for 5 epochs from arrays and from a `tf.data.Dataset`; and 20
  validations on 5 000 more.
- hypergradients: of `--steps` steps on such images from every source, as multiples of the time from
  arrays. An MLP 784-50-10, batch 50; all sources hold the same 50 batches and start again at
  their end.

Ratios of wall time in one process, the median of 5 repeats by turns (least – most).
"""

import argparse
import functools
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf

from keras_drmad import DrMADSGD, hypergradient
from keras_drmad.tuners.qan.training.data import as_tensors, shuffled, untuned
from keras_drmad.tuners.qan.training.evaluation import Validation

BATCH, REPEATS, EPOCHS, VALIDATIONS = 128, 5, 5, 20
DIFFERENTIATED_BATCH = 50


def images(number, rng):
    return rng.random((number, 784), "float32"), rng.integers(10, size=number)


def model():
    layers = [keras.layers.Dense(128, "relu"), keras.layers.Dense(10, "softmax")]
    made = keras.Sequential([keras.layers.Input((784,)), *layers])
    loss, metrics = "sparse_categorical_crossentropy", ["accuracy"]
    made.compile("sgd", loss, metrics=metrics, steps_per_execution=20)
    return made


def repeat(validate):
    for _ in range(VALIDATIONS):
        validate()


def timed(run):
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def compare(name, own, keras_own):
    """Prints how long `own` takes, as multiples of `keras_own`."""
    own(), keras_own()  # compiled
    ratios = sorted(timed(own) / timed(keras_own) for _ in range(REPEATS))
    print(f"| {name} | {np.median(ratios):.2f} ({ratios[0]:.2f} – {ratios[-1]:.2f}) |", flush=True)


def episodes(rng):
    (x, y), validation = as_tensors(images(20_000, rng)), images(5_000, rng)
    trained = model()
    options = {"epochs": EPOCHS, "verbose": 0}
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(2_000).batch(BATCH)
    print("| | time, as a multiple of Keras's own |\n|---|---|")
    compare(
        "training from arrays",
        lambda: trained.fit(shuffled(x, y, None, BATCH, seed=0), shuffle=False, **options),
        lambda: trained.fit(x, y, batch_size=BATCH, **options),
    )
    compare(
        "training from a data set",
        lambda: trained.fit(untuned(dataset), shuffle=False, **options),
        lambda: trained.fit(dataset, shuffle=False, **options),
    )
    validated = tf.data.Dataset.from_tensor_slices(validation).batch(1024)
    for name, data in {
        "validation on arrays": validation,
        "validation on a data set": validated,
        "validation on a data set in a cache": validated.cache(),
    }.items():
        evaluate = functools.partial(trained.evaluate, verbose=0)
        if data is validation:
            evaluate = functools.partial(evaluate, *data, batch_size=1024)
        else:
            evaluate = functools.partial(evaluate, data)
        own = functools.partial(Validation(data), trained)
        compare(name, functools.partial(repeat, own), functools.partial(repeat, evaluate))


class Indexed(keras.utils.PyDataset):
    """Batches of arrays by index."""

    def __init__(self, batches):
        super().__init__()
        self._batches = batches

    def __len__(self):
        return len(self._batches)

    def __getitem__(self, index):
        return self._batches[index]


def endless(batches):
    while True:
        yield from batches


def hypergradients(rng, steps):
    """A model for each source, so that none is compiled anew; a generator is made for each call."""
    (x, y), hyper = images(50 * DIFFERENTIATED_BATCH, rng), images(1_000, rng)
    batches = [
        (x[i : i + DIFFERENTIATED_BATCH], y[i : i + DIFFERENTIATED_BATCH])
        for i in range(0, len(x), DIFFERENTIATED_BATCH)
    ]
    sources = {
        "arrays": lambda: (x, y),
        "a `tf.data.Dataset`": lambda: tf.data.Dataset.from_tensor_slices((x, y)).batch(
            DIFFERENTIATED_BATCH
        ),
        "a `PyDataset`": lambda: Indexed(batches),
        "a generator of NumPy batches": lambda: endless(batches),
    }

    def call(model, source):
        options = {"batch_size": DIFFERENTIATED_BATCH, "seed": 0, "verbose": 0}
        hypergradient(model, source(), hyper, steps=steps, **options)

    calls = {}
    for name, source in sources.items():
        parts = [keras.layers.Dense(50, "tanh"), keras.layers.Dense(10, "softmax")]
        made = keras.Sequential([keras.layers.Input((784,)), *parts])
        made.compile(DrMADSGD(0.02, l2=1e-4), "sparse_categorical_crossentropy")
        calls[name] = functools.partial(call, made, source)
        calls[name]()  # compiled
    times = {name: [] for name in calls}
    for _ in range(REPEATS):
        for name, run in calls.items():
            times[name].append(timed(run))
    arrays = np.array(times["arrays"])
    print(f"\n{steps} steps from arrays: {np.median(arrays):.2f} s\n")
    print("| a hypergradient from | time, as a multiple of that from arrays |\n|---|---|")
    for name, taken in times.items():
        ratios = np.sort(np.array(taken) / arrays)
        print(f"| {name} | {np.median(ratios):.2f} ({ratios[0]:.2f} – {ratios[-1]:.2f}) |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    choices = ["all", "episodes", "hypergradients"]
    parser.add_argument("what", nargs="?", default="all", choices=choices)
    parser.add_argument("--steps", type=int, default=1000, help="of a hypergradient")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    if options.what != "hypergradients":
        episodes(rng)
    if options.what != "episodes":
        hypergradients(rng, options.steps)


if __name__ == "__main__":
    main()
