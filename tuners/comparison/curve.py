"""The expected best of a method over what it has spent."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..luck import standard_error
from .outcome import Outcome
from .statistics import best_so_far, expected_best


class Curve(NamedTuple):
    """The mean over seeds, and the standard error of it, at some amounts that were spent."""

    spent: np.ndarray
    mean: np.ndarray
    error: np.ndarray
    seeds: int


def curve(
    outcomes: Sequence[Outcome], unit: str, amount: float, direction: str, is_random: bool
) -> Curve | None:
    """Of a method's searches, on the validation data; None if none has a score.

    Trials of random search do not depend on each other, so their order is chance: the expectation over
    it is taken (Dodge et al., 2019). Other tuners learn from trials, and their best so far counts.

    Args:
        outcomes: one a seed.
        unit: of what was spent.
        amount: of the budget.
        direction: "min" or "max", which is better.
        is_random: whether the trials do not depend on each other.
    """
    lines = []
    for outcome in outcomes:
        worst = np.inf if direction == "min" else -np.inf
        scores = [worst if t.score is None else t.score for t in outcome.trials]
        spent = np.cumsum(outcome.spent(unit))
        finite = [s for s in scores if np.isfinite(s)]
        if not finite:
            continue
        if is_random:
            # What has diverged costs, and is never the best: it counts as the worst that did not.
            floor = max(finite) if direction == "min" else min(finite)
            kept = [s if np.isfinite(s) else floor for s in scores]
            best = expected_best(kept, direction)
            spent = spent[-1] / len(spent) * np.arange(1, len(spent) + 1)
        else:
            best = best_so_far(scores, direction)
        lines.append((spent, best))
    if not lines:
        return None
    first = max(float(spent[np.isfinite(best)][0]) for spent, best in lines)
    last = max(amount, max(float(spent[-1]) for spent, _ in lines))
    ends = np.concatenate([spent for spent, _ in lines])
    at = np.unique([first, last, *ends[ends > first]])
    values = np.array(
        [best[np.searchsorted(spent, at + 1e-9, side="right") - 1] for spent, best in lines]
    )
    errors = np.array([standard_error(column) for column in values.T])
    return Curve(at, values.mean(axis=0), errors, len(lines))
