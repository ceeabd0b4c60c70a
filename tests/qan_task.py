"""A small training that is steered, and searches on it, for the tests of QAN."""

import keras
import numpy as np
import pytest

from keras_drmad.tuners import Actions, Goal, QANOracle, QANTuner
from keras_drmad.tuners.qan.search.episode import Episode
from keras_drmad.tuners.qan.training.report import REACHED, TRUNCATED, Report
from keras_drmad.tuners.qan.training.states import Ratios
from keras_drmad.tuners.qan.training.steered_training import SteeredTraining
from keras_drmad.tuners.storage import files

rng = np.random.default_rng(0)
X = rng.normal(size=(96, 6)).astype("float32")
Y = (X @ rng.normal(size=(6, 3))).argmax(-1)
TRAIN, VAL = (X[:64], Y[:64]), (X[64:], Y[64:])
GOAL = ("val_loss", 0.6)


def build(hp=None, optimizer=None):
    model = keras.Sequential(
        [keras.layers.Input((6,)), keras.layers.Dense(4, name="a"), keras.layers.Dense(3, name="b")]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer or keras.optimizers.SGD(0.02, momentum=0.5), loss, jit_compile=False)
    return model


class Dense(keras.Model):
    """For models whose steps are written otherwise."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(3)

    def call(self, x):
        return self.dense(x)


def make(folder, hypermodel=build, **arguments):
    arguments = {"goal": GOAL, "max_trials": 12, "decision_every": 3, "contest": 1} | arguments
    arguments = {"schedule_trials": 2, "seed": 0, "network": {"units": (8,)}} | arguments
    # Learning under XLA is tested by itself; to compile it takes as long as such a search.
    arguments["agent"] = {"jit_compile": False} | arguments.get("agent", {})
    return QANTuner(hypermodel, directory=str(folder), **arguments)


def search(tuner, **arguments):
    arguments = {"validation_data": VAL, "batch_size": 8, "epochs": 2, "verbose": 0} | arguments
    tuner.search(*TRAIN, **arguments)
    return tuner


def training(states=None, actions=None, goal=GOAL, epochs=2, **arguments):
    return SteeredTraining(
        arguments.pop("build", build),
        *TRAIN,
        validation_data=VAL,
        batch_size=arguments.pop("batch_size", 8),
        epochs=epochs,
        every=arguments.pop("every", 3),
        states=states or [Ratios()],
        actions=actions or Actions(),
        goal=Goal.of(goal),
        **arguments,
    )


def refused(folder, match, tuner, **arguments):
    """`search` raises; the callbacks of episodes were not called."""
    begun = []
    watch = keras.callbacks.LambdaCallback(on_train_begin=begun.append)
    made = make(folder, **tuner)
    with pytest.raises(ValueError, match=match):
        search(made, callbacks=[watch], **arguments)
    assert not begun
    return made


def put(tuner, kind, cost, rate=0.1, actions=((0,), (0,)), **more):
    """Adds an episode of two decisions to a search, as if it had ended."""
    episodes = tuner.oracle.curriculum.episodes
    number = len(episodes)
    tuner.oracle.start_order.append(f"{number:02d}")
    episodes.append(Episode(number, kind, number, cost=cost, ended="reached", **more))
    taken = np.array(actions)
    files.write_arrays(
        tuner.project.history(f"{number:02d}"),
        decisions={
            "steps": np.array([0, 3]),
            "gaps": np.array([1.0, 0.0]),
            "rates": np.full(taken.shape, rate),
            "actions": taken,
        },
    )


def outcomes(tuner):
    return [(e.kind, e.seed, e.cost, e.ended) for e in tuner.oracle.curriculum.episodes]


def made_up(folder, **arguments):
    """An oracle, for episodes that are made up."""
    arguments = {"goal": GOAL, "max_trials": 12, "schedule_trials": 2, "contest": 1} | arguments
    oracle = QANOracle(seed=0, network={"units": (4,)}, agent={"jit_compile": False}, **arguments)
    oracle._set_project_dir(str(folder), "p")
    oracle.curriculum.budget = 16
    return oracle


def add_episodes(oracle, kind, *costs, schedule=None, snapshot=None, hits=True):
    """Episodes that have ended; each kind has seeds from 0 on, as policy and schedule in a contest."""
    episodes = oracle.curriculum.episodes
    for seed, cost in enumerate(costs):
        episode = Episode(len(episodes), kind, seed, snapshot=snapshot, cost=cost, hit=hits)
        episode.schedule = schedule
        episode.ended = REACHED if hits else TRUNCATED
        episodes.append(episode)


def a_report(**more):
    """Of a training with 7 states in the middle of it."""
    given = {"observation": np.zeros((1, 7)), "gap": 1.0, "step": 3, "cost": 1.0, "ended": ""}
    given |= {"metric": 0.9, "seconds": 1.0, "rates": np.full(1, 0.02)}
    return Report(**(given | more))
