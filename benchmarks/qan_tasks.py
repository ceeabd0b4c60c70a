"""Tasks that policies and schedules are tried on, for `benchmarks/qan.py`."""

import dataclasses
import functools

import keras
import numpy as np

from keras_drmad import DrMADSGD
from keras_drmad.tuners import Actions, Goal
from keras_drmad.tuners.qan.agent.exploration import Exploration
from keras_drmad.tuners.qan.training.report import REACHED
from keras_drmad.tuners.qan.training.states import Ratios
from keras_drmad.tuners.qan.training.steered_training import SteeredTraining

L = keras.layers
GOAL, START, EVERY, EPOCHS = ("val_accuracy", 0.965), 0.005, 20, 10


def mlp(optimizer, width=128):
    model = keras.Sequential([L.Input((784,)), L.Dense(width, "relu"), L.Dense(10, "softmax")])
    return compiled(model, optimizer)


def cnn(optimizer, filters=(8, 16)):
    layers = [L.Input((784,)), L.Reshape((28, 28, 1))]
    layers += [L.Conv2D(number, 3, 2, activation="relu") for number in filters]
    layers += [L.Flatten(), L.Dense(10, "softmax")]
    return compiled(keras.Sequential(layers), optimizer)


def compiled(model, optimizer):
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def images(name="mnist"):
    (x, y), _ = getattr(keras.datasets, name).load_data()
    x = x[:25_000].reshape(-1, 784).astype("float32") / 255
    return (x[:20_000], y[:20_000]), (x[20_000:], y[20_000:25_000])


class Task:
    """A training, and what it shall reach."""

    def __init__(
        self, build=mlp, data="mnist", goal=GOAL, batch_size=128, start=START, every=EVERY
    ):
        self.train, self.validation = images(data)
        self._model, self.goal, self.batch_size = build, Goal.of(goal), batch_size
        self.start, self.every = start, every
        self.training = self.of([Ratios()], Actions())

    def build(self, actions):
        """A model whose optimizer has all that the actions move."""
        optimizer = keras.optimizers.SGD
        if actions.per == "layer" or actions.moves_momentum():
            optimizer = functools.partial(DrMADSGD, per=actions.per, learn=())
        return self._model(optimizer(self.start, momentum=0.9))

    def of(self, states, actions):
        return SteeredTraining(
            functools.partial(self.build, actions),
            *self.train,
            validation_data=self.validation,
            batch_size=self.batch_size,
            epochs=EPOCHS,
            every=self.every,
            states=states,
            actions=actions,
            goal=self.goal,
        )

    @property
    def budget(self):
        return EPOCHS * -(-len(self.train[0]) // self.batch_size)

    def scaled(self, schedule):
        """A schedule of a task with other rates and lengths, in those of this one."""
        peak, over = schedule.peak * self.start / START, schedule.over * self.every / EVERY
        return dataclasses.replace(schedule, peak=peak, over=over)

    def steps(self, seed, decide, start=None, training=None, weights=None):
        """(steps taken, steps that count, whether the goal was reached, gap)."""
        training = training or self.training
        reports, _ = training.run(seed, decide, start_rate=start, start_weights=weights)
        last, hit = reports[-1], reports[-1].ended == REACHED
        return last.step, last.step if hit else self.budget, hit, min(r.gap for r in reports)

    def of_schedule(self, schedule, seed):
        return self.steps(seed, lambda report: float(schedule(report.step)), float(schedule(0)))

    def of_policy(self, policy, seed, training=None, weights=None):
        return self.steps(seed, policy.decide, self.start, training, weights)

    def by_hand(self, seed):
        """Double the rate, to 0.25 of 0.005; from a gap of 0.57 on, times 0.9, down to a twentieth."""
        rate, near = self.start, False
        low, high = 2.5 * self.start, 50 * self.start

        def decide(report):
            nonlocal rate, near
            near = near or report.gap < 0.57
            rate = max(0.9 * rate, low) if near else min(2 * rate, high)
            return rate

        return self.steps(seed, decide, self.start)

    def by_selection(self, selection, seeds):
        """Double the rate, to 32 of 0.005; choose from a gap of 1 on; from 0.2 on, halve it, to 4."""
        actions = Actions((0.5, 1.0, 2.0), sample_selection=("uniform", selection))
        training = self.of([Ratios()], actions)

        def of(seed):
            near = False

            def decide(report):
                nonlocal near
                near = near or report.gap < 0.2
                aim = (4 if near else 32) * self.start
                factor = 2.0 ** np.clip(np.round(np.log2(aim / report.rates[0])), -1, 1)
                return [
                    actions.all.index((factor, 1.0, selection if report.gap < 1 else "uniform"))
                ]

            return self.steps(seed, decide, self.start, training)

        return list(map(of, seeds))

    def of_chance(self, seed):
        actions = Actions()
        explored = Exploration(actions, 1.0, self.budget / self.every, (seed, 2))
        return self.steps(seed, lambda r: explored.choose(r.step, r.rates), self.start)


OTHERS = {  # arguments of `Task`
    "fashion": {"data": "fashion_mnist", "goal": ("val_accuracy", 0.85)},
    "cnn": {"build": cnn},
    "cnn-64": {"build": functools.partial(cnn, filters=(32, 64))},
    "width-512": {"build": functools.partial(mlp, width=512)},
    "batch-32": {"batch_size": 32},
    "batch-32-scaled": {"batch_size": 32, "start": START / 4, "every": 4 * EVERY},
}
