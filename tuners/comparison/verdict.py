"""What a comparison says, in words that do not call noise a win."""

import math
from collections.abc import Mapping, Sequence

from .statistics import FEWEST, Difference


def verdict(
    means: Mapping[str, float],
    differences: Sequence[Difference],
    metric: str,
    seeds: int,
    missing: Mapping[str, int],
    overspent: Mapping[str, str],
) -> str:
    """A few sentences.

    Args:
        means: of the metric, by method, best first.
        differences: of all pairs.
        metric: its name.
        seeds: how many there are.
        missing: by method, seeds without a result.
        overspent: by method, how much more than the budget it has had, in words.
    """
    if not means:
        return "No method has a result."
    if set(missing) - set(means) and len(means) == 1:
        sentences = [f"{next(iter(means))!r} is the only one with a result."]
    else:
        sentences = [_of_the_best(means, differences, metric, seeds)]
    for name, count in missing.items():
        sentences.append(
            f"{name!r} has no result with {count} of {seeds} seeds; what it has is compared with the "
            "same seeds of the others."
            if name in means
            else f"{name!r} has no result."
        )
    sentences += [
        f"{name!r} has had {words} more than the budget: the comparison favours it."
        for name, words in overspent.items()
    ]
    return " ".join(sentences)


def _of_the_best(
    means: Mapping[str, float], differences: Sequence[Difference], metric: str, seeds: int
) -> str:
    first, *others = means
    if not others:
        return f"{first!r} is alone: there is nothing to compare it with."
    if seeds == 1:
        return (
            f"{first!r} has the best {metric}, with one seed. Nothing can be said of noise: use 5 seeds "
            "or more."
        )
    of_first = [d for d in differences if first in (d.better, d.other)]
    clear = [d.other for d in of_first if d.is_clear and d.better == first]
    unclear = [name for name in others if name not in clear]
    if max((d.seeds for d in of_first), default=0) < FEWEST:
        return (
            f"{first!r} has the best mean {metric}. To tell a difference from noise, take {FEWEST} "
            "seeds or more."
        )
    if not clear:
        return (
            f"No winner: {first!r} has the best mean {metric}, but no difference to it is more than "
            f"noise with {seeds} seeds."
        )
    if not unclear:
        return f"{first!r} has the best {metric}, and the difference to each other method is clear."
    return (
        f"{first!r} has the best mean {metric}. It is clearly better than {_listed(clear)}. Its "
        f"difference to {_listed(unclear)} is within the noise of {seeds} seeds."
    )


def in_words(difference: Difference) -> str:
    """A difference, as a line."""
    one, other, mean, low, high, p, seeds = difference
    if math.isnan(low):
        return f"{one!r} over {other!r}: {mean:.4g} (one seed)"
    clear = "clear" if difference.is_clear else "within noise"
    span = f"[{low:.4g}, {high:.4g}]"
    return f"{one!r} over {other!r}: {mean:.4g} {span}, p = {p:.2g}, {seeds} seeds: {clear}"


def _listed(names: Sequence[str]) -> str:
    quoted = [repr(name) for name in names]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]}"
