"""What the parts of a decision take, at once and after a pause: why small models' decisions cost much.

    python benchmarks/decisions.py          # about half a minute

An MLP 784-128-10 on random images, as in `benchmarks/qan.py`. Each part is called again and again: at
once; after 20 ms of a Python loop that touches nothing; and after a validation on 5 000 images.
Milliseconds, medians of 60 calls.
"""

import dataclasses
import os
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf

from keras_drmad.tuners import Actions, Goal, QANOracle
from keras_drmad.tuners.qan.agent.greedy import Greedy
from keras_drmad.tuners.qan.agent.q_network import q_network
from keras_drmad.tuners.qan.decision_channel import DecisionChannel
from keras_drmad.tuners.qan.training.report import STOP
from keras_drmad.tuners.qan.training.states import Ratios, observe
from keras_drmad.tuners.qan.training.steered_training import SteeredTraining

CALLS, PAUSE = 60, 0.02
GOAL = ("val_accuracy", 0.965)


def build():
    layers = [keras.layers.Dense(128, "relu"), keras.layers.Dense(10, "softmax")]
    model = keras.Sequential([keras.layers.Input((784,)), *layers])
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def idle():
    until = time.perf_counter() + PAUSE
    while time.perf_counter() < until:
        pass


def median(call, before):
    """Milliseconds of a call."""
    call()  # compiled
    taken = []
    for _ in range(CALLS):
        before()
        begun = time.perf_counter()
        call()
        taken.append(time.perf_counter() - begun)
    return 1e3 * np.median(taken)


def parts(training, folder):
    """`{name: function}`."""
    callback = training.callback
    reports, _ = training.run(0, lambda report: STOP if report.step else [2])
    report = reports[-1]
    network = q_network([((Ratios().size,), None)], actions=len(Actions()), seed=0)
    greedy = Greedy(network)
    compiled = tf.function(lambda x: tf.argmax(network(x), -1), jit_compile=True)
    oracle = QANOracle(goal=GOAL, max_trials=100, random_trials=0, schedule_trials=1, seed=0)
    oracle._set_project_dir(folder, "decisions")
    oracle.verbose = 0
    trial = oracle.create_trial("tuner0")  # of a schedule: no network is asked
    channel = DecisionChannel(oracle, trial.trial_id, training.budget)
    report = dataclasses.replace(report, ended="")
    return {
        "reading probes by themselves": callback.probes,
        "observing": lambda: observe(callback.states, callback.view),
        "a network's choice": lambda: greedy(report.observation),
        "the same, compiled": lambda: compiled(tf.constant(report.observation)).numpy(),
        "asking the oracle, without that": lambda: channel.ask(report),
        "setting a learning rate": lambda: callback.control.set_rate(0.01),
    }


def main():
    rng = np.random.default_rng(0)
    x, y = rng.random((25_000, 784), "float32"), rng.integers(10, size=25_000)
    training = SteeredTraining(
        build,
        x[5_000:],
        y[5_000:],
        validation_data=(x[:5_000], y[:5_000]),
        batch_size=128,
        states=[Ratios()],
        actions=Actions(),
        goal=Goal.of(GOAL),
    )
    training.check()
    validation = training.callback.validation
    print("| | at once | after 20 ms of nothing | after a validation |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name, call in parts(training, folder).items():
            befores = (lambda: None), idle, (lambda: validation(training.model))
            taken = " | ".join(f"{median(call, before):.2f}" for before in befores)
            print(f"| {name} | {taken} |", flush=True)


if __name__ == "__main__":
    main()
