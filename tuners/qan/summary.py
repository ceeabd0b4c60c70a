"""Results in words."""

import numpy as np

from .search.curriculum import RANDOM
from .search.schedules import Schedule


def rows(oracle):
    """`[(name, costs, hits)]` of what is compared."""
    curriculum = oracle.curriculum
    _, policy, schedule = curriculum.verdict()
    found = []
    if policy:
        found.append(("policy, contest", policy))
    if schedule:
        best = Schedule(**schedule[0].schedule)
        found.append((f"best schedule, contest: {best}", schedule))
    elif searched := curriculum.best_schedule():
        found.append((f"best schedule searched: {searched[0]}", searched[1]))
    if tested := curriculum.best_snapshot():
        found.append((f"policy, tests of snapshot {tested[0]}", tested[1]))
    if constant := curriculum.best_schedule(("constant",)):
        found.append((f"best constant rate searched: {constant[0].peak:.3g}", constant[1]))
    random = [e for e in curriculum.episodes if e.kind == RANDOM and e.cost is not None]
    if random:
        found.append(("random actions", random))
    return [(name, [e.cost for e in of], sum(e.hit for e in of)) for name, of in found if of]


def table(oracle):
    """What the goal has cost, as text."""
    sign = 1 if oracle.objective.direction == "min" else -1
    lines = [
        f"{'QAN: ' + oracle.objective.name:<55}{'mean':>10}{'± s.e.':>9}{'median':>10}{'hits':>8}"
    ]
    for name, costs, hits in rows(oracle):
        costs = sign * np.array(costs)
        error = f"{standard_error(costs):.2g}" if len(costs) > 1 else ""
        hit = f"{hits}/{len(costs)}" if oracle.goal.value is not None else ""
        lines.append(
            f"{name:<55}{np.mean(costs):>10.4g}{error:>9}{np.median(costs):>10.4g}{hit:>8}"
        )
    lines.append(verdict(oracle))
    return "\n".join(lines)


def verdict(oracle):
    """Which one won, and by how much."""
    winner, policy, schedule = oracle.curriculum.verdict()
    if winner is None:
        better, said = (
            oracle.curriculum.better(),
            "There was no contest of policy and schedule (yet).",
        )
        if better:
            said += f" So far, the {better} is better: `get_best_policy` returns it."
        return said
    if not policy or not schedule:
        return f"Only the {winner} was there for the contest."
    pairs = {e.seed: e.cost for e in schedule}
    gain = np.array([pairs[e.seed] - e.cost for e in policy if e.seed in pairs])
    by = f", by {_signed(gain, winner)} on {len(gain)} fresh seeds" if len(gain) else ""
    missed = oracle.goal.value is not None and not all(e.hit for e in policy + schedule)
    note = " (to win, a miss counts the more, the farther it was from the goal)" if missed else ""
    return f"The {winner} is better{by}{note}: `get_best_policy` returns it."


def _signed(gain, winner):
    """A policy's mean gain, as the winner's, with its standard error."""
    mean = np.mean(gain) * (1 if winner == "policy" else -1)
    return f"{mean:.4g} ± {standard_error(gain):.2g}" if len(gain) > 1 else f"{mean:.4g}"


def standard_error(values):
    """Standard error of a mean."""
    return np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
