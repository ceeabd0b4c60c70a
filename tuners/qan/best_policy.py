"""`best_policy`: what a search has found."""

from typing import Any

from .agent.learner import Learner
from .policy import Policy
from .search.ranking import Ranking


def best_policy(ranking: Ranking, learner: Learner, kind: str | None, **settings: Any) -> Policy:
    """The better one of network and schedule, as `Ranking.better` says, or the best of a kind.

    Args:
        ranking: of the search.
        learner: has the networks.
        kind: `"network"` or `"schedule"`, or None for the better one.
        **settings: of the `Policy`.

    Raises:
        ValueError: An unknown `kind`.
        RuntimeError: There is nothing to choose from yet.
    """
    if kind not in (None, "network", "schedule"):
        raise ValueError(f'`kind` must be "network" or "schedule". Received: kind={kind!r}')
    if kind is None:
        kind = "schedule" if ranking.better() == "schedule" else "network"
    if kind == "schedule":
        if (best := ranking.best_schedule()) is not None:
            return Policy(learning_rate=best.schedule, **settings)
    else:
        snapshots = (snapshot.number for snapshot in ranking.snapshots())
        if (network := learner.first_network(snapshots)) is not None:
            return Policy(network=network, **settings)
    raise RuntimeError(
        f"There is no {kind} yet: no episode of one has ended. Let `search` go on: call it again."
    )
