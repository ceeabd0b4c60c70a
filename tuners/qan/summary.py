"""Results in words."""

import numpy as np

from ..luck import standard_error
from .oracle import QANOracle
from .search.episode import RANDOM, Episode
from .search.ranking import Ranking

Named = tuple[str, list[Episode]]


def policies(ranking: Ranking) -> list[Named]:
    """What is known of the policy, the contest first."""
    found = [("policy, contest", ranking.contest().policy)]
    if best := ranking.best_snapshot():
        found.append((f"policy, tests of snapshot {best.number}", best.episodes))
    return [(name, episodes) for name, episodes in found if episodes]


def schedules(ranking: Ranking) -> list[Named]:
    """What is known of the best schedule, the contest first."""
    found = [("best schedule, contest", ranking.contest().schedule)]
    if best := ranking.best_schedule():
        found.append(("best schedule searched", best.episodes))
    return [(name, episodes) for name, episodes in found if episodes]


def rows(oracle: QANOracle) -> list[tuple[str, list[float], int]]:
    """`[(name, costs, hits)]` of what is compared."""
    ranking = oracle.curriculum.ranking
    of_policy = policies(ranking)
    found = of_policy[:1]
    found += [(f"{n}: {of[0].schedule}", of) for n, of in schedules(ranking)[:1]]
    found += of_policy[1:]
    if constant := ranking.best_schedule(("constant",)):
        name = f"best constant rate searched: {constant.schedule.peak:.3g}"
        found.append((name, constant.episodes))
    if random := ranking.done(RANDOM):
        found.append(("random actions", random))
    return [(name, costs_of(episodes), sum(e.hit for e in episodes)) for name, episodes in found]


def costs_of(episodes: list[Episode]) -> list[float]:
    """Of those that have ended."""
    return [e.cost for e in episodes if e.cost is not None]


def table(oracle: QANOracle) -> str:
    """What the goal has cost, as text."""
    sign = 1 if oracle.objective.direction == "min" else -1
    lines = [
        f"{'QAN: ' + oracle.objective.name:<55}{'mean':>10}{'± s.e.':>9}{'median':>10}{'hits':>8}"
    ]
    for name, costs, hits in rows(oracle):
        values = sign * np.array(costs)
        error = f"{standard_error(values):.2g}" if len(values) > 1 else ""
        hit = f"{hits}/{len(values)}" if oracle.goal.value is not None else ""
        lines.append(
            f"{name:<55}{np.mean(values):>10.4g}{error:>9}{np.median(values):>10.4g}{hit:>8}"
        )
    lines.append(verdict(oracle))
    return "\n".join(lines)


def verdict(oracle: QANOracle) -> str:
    """Which one won, and by how much; whether that is clear, and whether the goal was in reach."""
    return " ".join(
        filter(None, (_winner(oracle), oracle.curriculum.ranking.unreached(oracle.goal)))
    )


def _winner(oracle: QANOracle) -> str:
    ranking, planned = oracle.curriculum.ranking, oracle.curriculum.contest
    policy, schedule, winner = contest = ranking.contest()
    if winner is None:
        said = (
            "The last episodes will compare the policy with the best schedule, on fresh seeds."
            if planned
            else "The policy and the best schedule were not compared on fresh seeds: that takes 20 "
            "episodes or more (`max_trials`), or a `contest`."
        )
        if better := ranking.better():
            said += f" So far, the {better} is better: `get_best_policy` returns it."
        return said
    if not policy or not schedule:
        return f"Only the {winner} was there for the contest."
    gains = contest.gains()
    by = (
        f", by {_signed(gains, winner)} on {len(gains)} fresh seed{'s' * (len(gains) > 1)}"
        if len(gains)
        else ""
    )
    missed = oracle.goal.value is not None and not all(e.hit for e in policy + schedule)
    note = (
        " (which of them wins also depends on how far misses were from the goal)" if missed else ""
    )
    if contest.is_clear():
        return f"The {winner} is better{by}{note}: `get_best_policy` returns it."
    why = "it is below two standard errors" if len(gains) > 1 else "one seed does not tell"
    return (
        f"No clear difference of policy and schedule ({why}). The {winner} is ahead{by}{note}: "
        "`get_best_policy` returns it."
    )


def _signed(gains: np.ndarray, winner: str) -> str:
    """A policy's mean gain, as the winner's, with its standard error."""
    mean = np.mean(gains if winner == "policy" else -gains) + 0.0  # not "-0"
    return f"{mean:.4g} ± {standard_error(gains):.2g}" if len(gains) > 1 else f"{mean:.4g}"
