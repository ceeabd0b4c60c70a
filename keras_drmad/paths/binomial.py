"""Where checkpoints stand: of all ways to walk back with a few of them, the one that repeats least.

With s checkpoints, `β(s, r) = (s + r)! / (s! r!)` stretches can be walked back so that none is trained
more than r times again (Griewank and Walther 2000, Revolve). The best first stretch between two
checkpoints is of a length that leaves both parts within that bound.
"""

from math import comb


def places(stretches: int, slots: int) -> list[int]:
    """At the start of which stretches to keep where training stands, the first and last among them.

    The last is walked back at once, and so needs no slot.

    Args:
        stretches: how many are to be walked back, last first.
        slots: how many checkpoints can be kept, at least 1. Those of a part that was walked back are
            free for the parts before it.
    """
    found, last = [0], stretches - 1
    while slots > 1 and stretches > 1:
        ahead = _first_part(stretches, slots)
        found.append(found[-1] + ahead)
        stretches, slots = stretches - ahead, slots - 1
    return [*found, last]


def _first_part(stretches: int, slots: int) -> int:
    repeats = 1
    while comb(slots + repeats, slots) < stretches:
        repeats += 1
    most_before = comb(slots + repeats - 1, slots)
    least_after = comb(slots + repeats - 2, slots - 1)
    return min(most_before, stretches - least_after)
