"""Tables of a comparison, as text and as rows of cells."""

import math
from collections.abc import Sequence

from .standings import Row, Standings
from .verdict import in_words

HEAD = (
    "method",
    "{metric}",
    "rank",
    "trials",
    "spent",
    "unused",
    "overspent",
    "seconds",
    "missing",
)


def text(standings: Standings) -> str:
    """All tables, differences to the best method, verdicts and warnings, in Markdown."""
    parts = []
    for amount in standings.budget.amounts:
        parts.append(
            f"Budget: {standings.budget.words(amount)} for each method and seed; "
            f"{len(standings.seeds)} seed{'s' * (len(standings.seeds) > 1)}"
        )
        head, *rows = cells(standings, amount)
        lines = [head, ["---"] * len(head), *rows]
        parts.append("\n".join(map(_in_markdown, lines)))
        parts.append(standings.verdict(amount))
    best = standings.rows()[0].method
    pairs = [pair for pair in standings.differences() if best in (pair.better, pair.other)]
    parts.append("\n".join(map(in_words, pairs)))
    parts.append("\n".join(errors(standings)))
    parts.append("\n".join(f"Warning: {warning}" for warning in standings.warnings))
    return "\n\n".join(filter(None, parts))


def _in_markdown(line: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |"


def cells(standings: Standings, amount: float) -> list[list[str]]:
    """The head and a line for each method."""
    head = [word.format(metric=f"test {standings.metric.name}") for word in HEAD]
    return [head, *(_line(row) for row in standings.rows(amount))]


def errors(standings: Standings) -> list[str]:
    """Why searches have no result, or ended early: the last line of each error."""
    return [
        f"{outcome.method!r}, seed {outcome.seed}: {outcome.error.splitlines()[-1]}"
        for outcome in standings.outcomes
        if outcome.error
    ]


def _line(row: Row) -> list[str]:
    if not row.values:
        return [row.method, "no result", *["–"] * (len(HEAD) - 3), str(len(row.missing))]
    error = "" if math.isnan(row.error) else f" ± {row.error:.2g}"
    return [
        row.method,
        f"{row.mean:.4g}{error}",
        f"{row.rank:.2g}",
        f"{row.trials:.3g}",
        f"{row.spent:.3g}",
        f"{row.unused:.2g}",
        f"{row.overspent:.2g}",
        f"{row.seconds:.3g}",
        str(len(row.missing)),
    ]
