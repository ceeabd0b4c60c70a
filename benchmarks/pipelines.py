"""What reading data costs the episodes of a search, beside what Keras's own reading costs.

    python benchmarks/pipelines.py          # about 2 minutes; with `taskset -c 0` before it, on one core

An MLP 784-128-10 on 20 000 random images, batch 128, 20 steps a call, trained for 5 epochs from
arrays and from a `tf.data.Dataset`; and 20 validations on 5 000 more. Ratios of wall time in one
process, the median of 5 repeats by turns (least – most).
"""

import functools
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf

from keras_drmad.tuners.qan.training.data import as_tensors, shuffled, untuned
from keras_drmad.tuners.qan.training.evaluation import Validation

BATCH, REPEATS, EPOCHS, VALIDATIONS = 128, 5, 5, 20


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


def main():
    rng = np.random.default_rng(0)
    (x, y), validation = as_tensors(images(20_000, rng)), images(5_000, rng)
    trained = model()
    options = {"epochs": EPOCHS, "verbose": 0}
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(2_000).batch(BATCH)
    print("| | time, as a multiple of Keras's own |\n|---|---|")
    compare(
        "training from arrays",
        lambda: trained.fit(shuffled(x, y, None, BATCH), shuffle=False, **options),
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


if __name__ == "__main__":
    main()
