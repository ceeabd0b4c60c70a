"""The place of a trial in a search: values by which the oracle tells a worker what to train."""

from typing import Any

import numpy as np

# KerasTuner's Hyperband names its own values so.
PLACE = "drmad/"
RUN, ITERATION, GRADIENT_NUMBER = PLACE + "run", PLACE + "iteration", PLACE + "gradient_number"
SEED = PLACE + "seed"
# What a trial does: it tries a start, learns while it trains, is differentiated when it has trained, or
# trains the best so far again.
STAGE = PLACE + "stage"
SCOUT, LEARN, DIFFERENTIATE, RETEST = "scout", "learn", "differentiate", "retest"

# What summaries show of the learned values; not a hyperparameter that anything reads.
LEARNED = "learned/"
START = "start/"  # beside it in TensorBoard: what was compiled


def place(run: int, iteration: int, number: int, seed: int, stage: str) -> dict[str, Any]:
    """The values; `number` counts the trainings of an iteration."""
    return {RUN: run, ITERATION: iteration, GRADIENT_NUMBER: number, SEED: seed, STAGE: stage}


def configuration(values: dict[str, Any]) -> dict[str, Any]:
    """Of a trial's values: what the hypermodel has asked for."""
    return {name: v for name, v in values.items() if not name.startswith((PLACE, LEARNED))}


def seed_of(values: dict[str, Any], execution: int, resample: bool) -> int:
    """The seed of a training, from the place of its trial.

    Without `resample` that of all meta-iterations, but for those that learn while they train: they are
    averaged, and would be the same.
    """
    iteration = values[ITERATION] if resample or values[STAGE] == LEARN else 0
    words = (values[SEED], values[RUN], iteration, values[GRADIENT_NUMBER], execution)
    return int(np.random.SeedSequence(words).generate_state(1)[0])
