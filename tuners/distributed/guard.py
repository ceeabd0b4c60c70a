"""The one guard of an oracle's entries: no error leaves the lock held, or is lost."""

import functools
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from .. import compat

P = ParamSpec("P")
R = TypeVar("R")

# The worker whose call is answered; None where the caller is in this process.
caller: ContextVar[str | None] = ContextVar("caller", default=None)


class Refused(ValueError):
    """A call that makes no sense, or that is not this caller's to make. It has changed nothing."""


class Guarded(Protocol):
    def breaks(self, error: Exception) -> None:
        """Ends the search, for an error may have left it in the middle of a change."""


O = TypeVar("O", bound=Guarded)  # noqa: E741 (of an oracle)


def entry(
    method: Callable[Concatenate[O, P], R],
) -> Callable[Concatenate[O, P], R]:
    """A method of an oracle that is called from outside; as `keras_tuner.synchronized`.

    KerasTuner's own leaves the lock held where an error is raised: all other calls, and the chief's
    end, would wait for ever. Here the lock is released, the search ends, and the caller hears why.
    """

    @functools.wraps(method)
    def guarded(self: O, *args: P.args, **kwargs: P.kwargs) -> R:
        oracle: Any = self
        with compat.locked(oracle) as is_outermost:
            try:
                return method(self, *args, **kwargs)
            except Refused:
                raise
            except Exception as error:
                if is_outermost:
                    self.breaks(error)
                raise

    return guarded
