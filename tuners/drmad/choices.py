"""What is said of discrete hyperparameters, before a search trains anything."""

import logging

import numpy as np
from keras_tuner.engine.hyperparameters import Fixed

from keras_drmad.arguments import did_you_mean
from keras_drmad.optimizers.learnable import LearnableOptimizer
from keras_drmad.typing import JsonObject

from ..distributed.role import role
from .oracle import ITERATIONS_OF_A_CONFIGURATION, DrMADOracle
from .starts import KINDS

_log = logging.getLogger("keras_drmad")


def say(oracle: DrMADOracle, values: JsonObject, optimizer: LearnableOptimizer) -> None:
    """Warns of a search that tries one configuration only, and of one that chooses what is learned.

    Args:
        oracle: of the search; it knows what the hypermodel asks for.
        values: that the hypermodel got.
        optimizer: of the model that it made of them.
    """
    names = [hp.name for hp in oracle.hyperparameters.space if not isinstance(hp, Fixed)]
    if role() == "worker" or oracle.scouts or not names:
        return
    if learned := [name for name in names if _is_learned(name, values.get(name), optimizer)]:
        _log.warning(
            "`hp` chooses %s, which the optimizer learns: each value begins another configuration. Pass "
            "a number to the optimizer instead; `scouts` tries several starts.",
            listed(learned),
        )
    if _tries_one(oracle):
        _log.warning(
            "This search tries only one configuration of %s. To try others pass `scouts` (so many are "
            "trained once, and the best go on), a smaller `meta_iterations`, or a larger `max_trials` "
            "or `budget`.",
            listed(names),
        )


def _tries_one(oracle: DrMADOracle) -> bool:
    """Whether all trials go into the first configuration."""
    budget = oracle.ledger.budget
    counted = budget if budget is not None and budget.unit in ("trainings", "trials") else None
    limits = [oracle.max_trials, counted and counted.amount]
    # In trainings a trial costs 1 at least, and one more is a retest.
    width = oracle.gradients_per_step + int(oracle.counts_costs)
    most = (oracle.meta_iterations or ITERATIONS_OF_A_CONFIGURATION) * width
    return oracle.patience is None and any(limit and limit <= most for limit in limits)


def _is_learned(name: str, value: object, optimizer: LearnableOptimizer) -> bool:
    """Whether a value is that of something that is learned, by its name, too."""
    if not isinstance(value, float) or not did_you_mean(name, valid=optimizer.learn):
        return False
    kinds = [kind for kind in KINDS if kind in optimizer.learn]
    compiled = [
        optimizer.reference_rate() if kind == "learning_rate" else optimizer.scales[kind].base
        for kind in kinds
    ]
    return bool(np.any(np.isclose(compiled, value)))


def listed(names: list[str]) -> str:
    """Names in a sentence."""
    return ", ".join(map(repr, names))
