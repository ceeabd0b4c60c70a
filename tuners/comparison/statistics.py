"""What can be said of results over a few seeds. Arrays in, numbers out."""

import itertools
import math
import types
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from keras_drmad.plots.extras import load

EXTRA = "compare"
LEVEL = 0.05  # how often a difference that is none may be called one
FEWEST = 3  # seeds of which a difference can be clear
RESAMPLES = 9999
ROUNDING = 1e-9  # relative


class Difference(NamedTuple):
    """How two methods differ, seed by seed.

    Attributes:
        better, other: the methods; `better` has the better mean.
        mean: of the differences; positive, however the metric is directed.
        low, high: its 95 % bootstrap interval; NaN of one seed.
        p: of a paired t-test, adjusted for all pairs of the comparison by Holm's method.
        seeds: that both have.
    """

    better: str
    other: str
    mean: float
    low: float
    high: float
    p: float
    seeds: int

    @property
    def is_clear(self) -> bool:
        """Whether it is more than noise: the interval is above 0, and p is below 5 %."""
        return self.seeds >= FEWEST and self.low > 0 and self.p < LEVEL


def differences(results: Mapping[str, Mapping[int, float]], direction: str) -> list[Difference]:
    """All pairs of methods, by their results `{method: {seed: value}}`; best first."""
    sign = 1.0 if direction == "max" else -1.0
    pairs, p_values = [], []
    for one, other in itertools.combinations(results, 2):
        seeds = [seed for seed in results[one] if seed in results[other]]
        if not seeds:
            continue
        a, b = (sign * np.array([results[name][seed] for seed in seeds]) for name in (one, other))
        if (a - b).mean() < 0:
            one, other, a, b = other, one, b, a
        pairs.append((one, other, a - b))
        p_values.append(_p_value(a, b))
    adjusted = holm(p_values)
    return [
        Difference(one, other, float(deltas.mean()), *interval(deltas), p, len(deltas))
        for (one, other, deltas), p in zip(pairs, adjusted, strict=True)
    ]


def interval(deltas: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """A bootstrap interval of a mean, by SciPy; NaN of one value.

    Percentiles of few values are too narrow. They are widened as t is to the normal distribution, and
    by √(n/(n−1)) (the "expanded percentile interval" of Hesterberg, "What teachers should know about
    the bootstrap", 2015).
    """
    count = len(deltas)
    if count < 2:
        return math.nan, math.nan
    if np.ptp(deltas) == 0:
        return float(deltas[0]), float(deltas[0])
    stats = _stats()
    wide = math.sqrt(count / (count - 1)) * stats.t.ppf(1 - level / 2, count - 1)
    found = stats.bootstrap(
        (deltas,),
        np.mean,
        n_resamples=RESAMPLES,
        confidence_level=1 - 2 * stats.norm.sf(wide),
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(found.low), float(found.high)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values of several tests, adjusted for there being several.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    adjusted, most = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(np.argsort(p_values)):
        most = max(most, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = most
    return adjusted


def ranks(results: Mapping[str, Mapping[int, float]], direction: str) -> dict[str, float]:
    """Each method's mean rank over the seeds that all have; 1 is best. NaN if there are none."""
    if not results:
        return {}
    seeds = set.intersection(*(set(of) for of in results.values()))
    sign = 1.0 if direction == "min" else -1.0
    table = np.array([[sign * results[name][seed] for name in results] for seed in sorted(seeds)])
    if not len(table):
        return dict.fromkeys(results, math.nan)
    means = np.mean(_stats().rankdata(table, axis=1), axis=0)
    return {name: float(mean) for name, mean in zip(results, means, strict=True)}


def expected_best(scores: Sequence[float], direction: str) -> np.ndarray:
    """The expected best of n random trials, for n from 1 to as many as there are.

    With V̂ the empirical distribution of the N scores (Dodge et al., 2019, equation 4):

        E[best of n] = Σ_v v · (P̂(V ≤ v)^n − P̂(V < v)^n)

    It is for trials that do not depend on each other: of random search.

    References:
        Dodge et al., "Show Your Work: Improved Reporting of Experimental Results", EMNLP 2019
        (arXiv 1909.03004).

    >>> expected_best([0.5, 0.9], "max").round(3).tolist()
    [0.7, 0.8]
    """
    sign = 1.0 if direction == "max" else -1.0
    ordered = np.sort(sign * np.asarray(scores, "float64"))
    count = len(ordered)
    powers = np.arange(1, count + 1)[:, None]
    below = np.arange(count + 1) / count
    weights = np.diff(below**powers, axis=1)  # ties add up to what the formula has for them
    return sign * (weights @ ordered)


def best_so_far(scores: Sequence[float], direction: str) -> np.ndarray:
    """The best of the first n trials, for n from 1 to as many as there are.

    >>> best_so_far([0.5, 0.4, 0.9], "max").tolist()
    [0.5, 0.5, 0.9]
    """
    best = np.maximum if direction == "max" else np.minimum
    return best.accumulate(np.asarray(scores, "float64"))


def _p_value(a: np.ndarray, b: np.ndarray) -> float:
    """Of pairs whose differences have a mean of 0."""
    deltas = a - b
    if len(deltas) < 2 or not deltas.any():
        return 1.0
    if np.ptp(deltas) > ROUNDING * abs(deltas[0]):
        return float(_stats().ttest_1samp(deltas, 0.0).pvalue)
    # Equal differences: of a metric with few values, by chance, and t is infinite. What each varies by
    # says more; if that is nothing, that all differences have one sign by chance.
    if np.ptp(a) > ROUNDING * abs(deltas[0]):
        return float(_stats().ttest_ind(a, b, equal_var=False).pvalue)
    return float(2.0 ** (1 - len(deltas)))


def _stats() -> types.ModuleType:
    return load("scipy.stats", EXTRA)
