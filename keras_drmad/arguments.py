"""Numbers that arguments must be: what is none is named, and what there should be."""

import math
import numbers
from collections.abc import Sequence
from typing import Any, Literal, overload


@overload
def positive_integer(name: str, value: object, optional: Literal[False] = False) -> int: ...


@overload
def positive_integer(name: str, value: object, optional: Literal[True]) -> int | None: ...


def positive_integer(name: str, value: object, optional: bool = False) -> int | None:
    """`value` as an `int` of at least 1; or None, if that is allowed.

    Raises:
        ValueError: It is something else.
    """
    if optional and value is None:
        return None
    return _integer(name, value, 1, "a positive integer")


def whole_number(name: str, value: object) -> int:
    """`value` as an `int` of at least 0.

    Raises:
        ValueError: It is something else.
    """
    return _integer(name, value, 0, "a whole number, 0 or more")


def number(
    name: str,
    value: Any,
    least: float = -math.inf,
    most: float = math.inf,
    above: float = -math.inf,
) -> float:
    """`value`, a finite number from `least` (or `above` another, without it) to `most`.

    Raises:
        ValueError: It is something else.
    """
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if is_number and math.isfinite(value) and least <= value <= most and value > above:
        return value
    if above > -math.inf:
        span = f"more than {above:g}" + (f", and at most {most:g}" if most < math.inf else "")
    elif most < math.inf:
        span = f"from {least:g} to {most:g}"
    else:
        span = "a finite number" + (f", {least:g} or more" if least > -math.inf else "")
    raise ValueError(f"`{name}` must be {span}. Received: {name}={value!r}")


def choice(name: str, value: Any, choices: Sequence[str]) -> str:
    """`value`, one of `choices`.

    Raises:
        ValueError: It is something else.
    """
    if value in choices:
        return value
    raise ValueError(
        f"`{name}` must be {', '.join(map(repr, choices[:-1]))} or {choices[-1]!r}. "
        f"Received: {name}={value!r}"
    )


def _integer(name: str, value: Any, least: int, what: str) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__") or value < least:
        raise ValueError(f"`{name}` must be {what}. Received: {name}={value!r}")
    return int(value)
