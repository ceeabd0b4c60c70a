"""What arguments must be: one that is something else is named, with what was received and the fix.

The checks of all public classes and functions are made of these. Numbers may be NumPy's; `True` is
none, and text is no flag.
"""

import contextlib
import difflib
import functools
import inspect
import math
import numbers
import operator
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, Literal, TypeVar, overload

import numpy as np

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

LARGEST = float(np.finfo("float32").max)
LONGEST = 200  # characters of what was received that an error shows
INIT = "__init__"


@overload
def positive_integer(
    name: str, value: object, optional: Literal[False] = False, least: int = 1
) -> int: ...


@overload
def positive_integer(
    name: str, value: object, optional: Literal[True], least: int = 1
) -> int | None: ...


def positive_integer(
    name: str, value: object, optional: bool = False, least: int = 1
) -> int | None:
    """`value` as an `int` of at least 1, or of at least `least`; or None, if that is allowed.

    Raises:
        ValueError: It is something else.
    """
    if optional and value is None:
        return None
    what = "a positive integer" if least == 1 else f"an integer, {least} or more"
    return _integer(name, value, least, what)


@overload
def whole_number(name: str, value: object, optional: Literal[False] = False) -> int: ...


@overload
def whole_number(name: str, value: object, optional: Literal[True]) -> int | None: ...


def whole_number(name: str, value: object, optional: bool = False) -> int | None:
    """`value` as an `int` of at least 0, such as a seed; or None, if that is allowed.

    Raises:
        ValueError: It is something else.
    """
    if optional and value is None:
        return None
    return _integer(name, value, 0, "a whole number, 0 or more")


def number(
    name: str,
    value: object,
    least: float = -math.inf,
    most: float = math.inf,
    above: float = -math.inf,
) -> float:
    """`value`, a finite number from `least` (or `above` another, without it) to `most`.

    Raises:
        ValueError: It is something else.
    """
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        size = _float(value)
        if math.isfinite(size) and least <= size <= most and size > above:
            return size
    if above > -math.inf:
        span = f"more than {above:g}" + (f", and at most {most:g}" if most < math.inf else "")
    elif most < math.inf:
        span = f"from {least:g} to {most:g}"
    else:
        span = "a finite number" + (f", {least:g} or more" if least > -math.inf else "")
    raise wrong(name, value, span)


@overload
def flag(name: str, value: object, auto: Literal[False] = False) -> bool: ...


@overload
def flag(name: str, value: object, auto: bool) -> bool | str: ...


def flag(name: str, value: object, auto: bool = False) -> bool | str:
    """`value` as a `bool`; or `"auto"`, if that is allowed.

    Raises:
        ValueError: It is something else, which Python would take for true or false.
    """
    if auto and isinstance(value, str) and value == "auto":
        return value
    if isinstance(value, bool | np.bool_):
        return bool(value)
    raise wrong(name, value, 'True, False or "auto"' if auto else "True or False")


def choice(name: str, value: object, choices: Sequence[str]) -> str:
    """`value`, one of some words.

    Raises:
        ValueError: It is none of them; the nearest is named, if one is near.
    """
    if isinstance(value, str) and value in choices:
        return value
    what = f"{', '.join(map(repr, choices[:-1]))} or {choices[-1]!r}"
    raise wrong(name, value, what, did_you_mean(value, valid=choices))


def verbosity(name: str, value: object, most: int = 2) -> int | str:
    """`value` as Keras's `verbose`: "auto", or a number up to `most`; `True` is 1, as there.

    Raises:
        ValueError: It is something else.
    """
    if isinstance(value, str) and value == "auto":
        return value
    if isinstance(value, bool | np.bool_) or (isinstance(value, int) and 0 <= value <= most):
        return int(value)
    raise wrong(name, value, f'"auto" or a number from 0 to {most}')


def path_like(name: str, value: object) -> str:
    """`value`, the name of a file or a folder, as text.

    Raises:
        ValueError: It is something else.
    """
    if isinstance(value, str | os.PathLike) and isinstance(found := os.fspath(value), str):
        return found
    raise wrong(name, value, "the name of a file or a folder")


def make_folder(name: str, folder: str | os.PathLike[str]) -> None:
    """Makes a folder, before there is anything to write into it.

    Raises:
        ValueError: Nothing can be written there.
    """
    why = ""
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        why = f" ({error})"
    if why or not os.access(folder, os.W_OK):
        raise wrong(name, os.fspath(folder), f"in a folder that can be written{why}")


def some_of(
    name: str, value: object, allowed: Sequence[str], empty: bool = False
) -> tuple[str, ...]:
    """Some words, in their order; one may stand alone, without a list around it.

    Raises:
        ValueError: One is not allowed, or there is none and none is not allowed.
    """
    words = (value,) if isinstance(value, str) else value
    what = f"may hold {tuple(allowed)}" + ("" if empty else ", and not nothing")
    if not isinstance(words, Iterable):
        raise wrong(name, value, what)
    words = tuple(words)
    unknown = [word for word in words if not isinstance(word, str) or word not in allowed]
    if unknown or not (words or empty):
        raise wrong(name, value, what, did_you_mean(*unknown[:1], valid=allowed))
    return words


def pair(name: str, value: Any, what: str) -> tuple[Any, Any]:
    """`value`, two things in a tuple or a list; `what` says which.

    Raises:
        ValueError: It is something else.
    """
    if isinstance(value, list | tuple | np.ndarray) and len(value) == 2:
        first, second = value
        return first, second
    raise wrong(name, value, what)


def of_kind(name: str, value: T, kind: type | tuple[type, ...], what: str) -> T:
    """`value`, an instance of `kind`; `what` says in words which that is.

    Raises:
        ValueError: It is something else.
    """
    if isinstance(value, kind):
        return value
    raise wrong(name, value, what)


@contextlib.contextmanager
def named(name: str) -> Iterator[None]:
    """Puts the name of an argument before what is wrong with what it holds."""
    try:
        yield
    except ValueError as error:
        said = str(error)
        raise ValueError(said if f"`{name}`" in said else f"`{name}`: {said}") from error


def wrong(name: str, value: object, what: str, advice: str = "") -> ValueError:
    """The error to raise where an argument must be `what`, and is not."""
    shown = repr(value)
    if len(shown) > LONGEST:
        shown = f"{shown[:LONGEST]}… (a {type(value).__name__})"
    verb = "" if what.startswith(("may ", "must ")) else "must be "
    advice = advice and f". {advice}"
    return ValueError(f"`{name}` {verb}{what}. Received: {name}={shown}{advice}")


def did_you_mean(name: object = None, *, valid: Iterable[str]) -> str:
    """ "Did you mean …?", if one of some words is near: alike, or by a part of it or its initials."""
    if not isinstance(name, str) or not name:
        return ""
    word, known = name.lower(), {other.lower(): other for other in valid}
    parts = {other: other.replace("/", "_").split("_") for other in known}
    near = [other for other in known if word == other or word in parts[other]]
    if len(word) > 1:
        near += [other for other in known if "".join(p[:1] for p in parts[other]) == word]
        near += difflib.get_close_matches(word, known, n=1)
    if len(word) > 2:
        near += [other for other in known if other.startswith(word)]
    return f"Did you mean {known[near[0]]!r}?" if near else ""


def suggesting(what: F) -> F:
    """A function or a class: its error for a keyword that it does not know names the nearest one."""
    if not isinstance(what, type):
        return _suggesting(what, lambda: list(inspect.signature(what).parameters))
    setattr(what, INIT, _suggesting(getattr(what, INIT), lambda: keywords(what)))
    return what


def keywords(kind: type) -> list[str]:
    """Arguments of a class, and of those that it passes others on to."""
    known: list[str] = []
    for one in kind.__mro__[:-1]:
        if INIT not in vars(one):
            continue
        parameters = inspect.signature(getattr(one, INIT)).parameters
        passes_on = [name for name, p in parameters.items() if p.kind is p.VAR_KEYWORD]
        known += [name for name in parameters if name not in ("self", *passes_on)]
        if not passes_on:
            break
    return known


def _suggesting(call: F, known: Callable[[], Collection[str]]) -> F:
    @functools.wraps(call)
    def called(*args: Any, **kwargs: Any) -> Any:
        try:
            return call(*args, **kwargs)
        except (TypeError, ValueError) as error:
            valid = known() if kwargs else ()
            unknown = [name for name in kwargs if name not in valid]
            advice = next(filter(None, (did_you_mean(name, valid=valid) for name in unknown)), "")
            if not advice or advice in str(error):
                raise
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"{str(error).rstrip('.')}. {advice}") from error

    return called  # type: ignore[return-value]  # which has the signature of `call`


def _integer(name: str, value: Any, least: int, what: str) -> int:
    if not isinstance(value, bool | np.bool_) and hasattr(value, "__index__"):
        try:
            found = operator.index(value)
        except TypeError:  # an array of several
            found = least - 1
        if found >= least:
            return found
    raise wrong(name, value, what)


def _float(value: numbers.Real) -> float:
    """As float32 has it, in which values are computed with: 0 or infinity for what is beyond it."""
    try:
        found = float(value)
    except OverflowError:
        return math.inf
    if not abs(found) <= LARGEST:
        return math.inf
    return found if np.float32(found) else 0.0
