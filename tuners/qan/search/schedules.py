"""Learning rate schedules: what a learned policy must beat, and what it learns from first."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from keras_drmad.arguments import choice, number

KINDS = ("constant", "step", "cosine", "one_cycle")
FLOOR = 0.01  # of the peak, from where a schedule does not go lower
DROP, WARM_UP = 0.1, 0.3  # the factor of a step; the share of one cycle until its peak


@dataclass(frozen=True)
class Schedule:
    """A learning rate as a function of the step t.

    With p = t / over, cut to [0, 1], and a least rate of peak / 100:

        constant:   peak
        step:       peak, 0.1 · peak from p = 1 on
        cosine:     peak · (1 + cos πp) / 2
        one_cycle:  linear from peak / 25 to peak at p = 0.3, then down to the least by half a cosine

    Args:
        kind: `"constant"`, `"step"`, `"cosine"` or `"one_cycle"`.
        peak: The highest rate.
        over: Steps until its end. Defaults to 1, for constants, which need none.

    Raises:
        ValueError: An unknown kind, or a number that is not positive.

    References:
        Loshchilov and Hutter, SGDR, ICLR 2017 (the cosine; here without restarts); Smith and Topin,
        Super-convergence, 2018 (one cycle; theirs goes down linearly, and moves momentum, too).

    Example:

    >>> cosine = Schedule("cosine", peak=0.1, over=200)
    >>> cosine(0), round(cosine(100), 3), round(cosine(200), 3)
    (0.1, 0.05, 0.001)
    """

    kind: str
    peak: float
    over: float = 1.0

    def __post_init__(self) -> None:
        choice("kind", self.kind, KINDS)
        for name in ("peak", "over"):
            number(name, getattr(self, name), above=0)

    def __call__(self, step: float) -> float:
        p = min(step / self.over, 1.0)
        if self.kind == "constant":
            return self.peak
        if self.kind == "step":
            return self.peak * (1.0 if p < 1 else DROP)
        if self.kind == "one_cycle":
            if p < WARM_UP:
                return self.peak * (1 / 25 + (1 - 1 / 25) * p / WARM_UP)
            p = (p - WARM_UP) / (1 - WARM_UP)
        return self.peak * max(float(1 + np.cos(np.pi * p)) / 2, FLOOR)

    def get_config(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        over = "" if self.kind == "constant" else f" over {self.over:.0f} steps"
        return f"{self.kind.replace('_', '-')} {self.peak:.3g}{over}"


def propose(
    number: int,
    total: int,
    tried: Sequence[tuple[Schedule, float]],
    low: float,
    high: float,
    budget: int,
    rng: np.random.Generator,
) -> Schedule:
    """The next schedule of a search: half of them at random, then near the best of each kind.

    Args:
        number: how many were proposed before.
        total: how many there will be.
        tried: `[(schedule, cost)]` of those that have ended.
        low, high: bounds of rates, drawn log-uniformly.
        budget: steps; schedules go over a fifth of them to all.
        rng: a NumPy generator.

    Returns:
        A `Schedule`.

    Example:

    >>> tried = [(Schedule("constant", 0.1), 300.0), (Schedule("constant", 0.001), 900.0)]
    >>> near = propose(8, 10, tried, 1e-4, 1.0, 1000, np.random.default_rng(0))
    >>> near.kind, bool(0.03 < near.peak < 0.3)
    ('constant', True)
    """
    kind = KINDS[number % len(KINDS)]
    same = [entry for entry in tried if entry[0].kind == kind]
    if number < total // 2 or not same:
        peak = float(np.exp(rng.uniform(np.log(low), np.log(high))))
        over = float(budget * np.exp(rng.uniform(np.log(0.2), 0)))
    else:
        best = min(same, key=lambda entry: entry[1])[0]
        peak = float(np.clip(best.peak * np.exp(0.3 * rng.standard_normal()), low, high))
        over = best.over * np.exp(0.2 * rng.standard_normal())
        over = float(np.clip(over, 0.1 * budget, budget))
    return Schedule(kind, peak, 1.0 if kind == "constant" else over)
