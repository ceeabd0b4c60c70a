"""A worker's calls to the chief: they are made again while there is none, until the search is over."""

import functools
import logging
import time
from collections.abc import Callable
from typing import Any

import keras_tuner

from .. import compat

_log = logging.getLogger("keras_drmad")

AGAIN_SECONDS = 0.5


class SearchIsOver(keras_tuner.errors.FatalError):  # which no trial takes for its own failure
    """The chief has ended with the last worker that it knew, and will not come back."""


def outlive_the_chief(client: Any, is_over: Callable[[], bool]) -> None:
    """Makes calls of KerasTuner's `OracleClient` wait for the next chief, whenever one dies.

    KerasTuner waits for a chief that is not there, but a call in flight fails with its chief, and the
    trial would fail with it. `ResilientOracle` takes each call twice.

    Args:
        client: of KerasTuner.
        is_over: called while there is no chief; whether there will be none. Then calls raise
            `SearchIsOver`.
    """
    compat.wrap_calls(client, functools.partial(_again, is_over=is_over))


def _again(call: compat.Call, is_over: Callable[[], bool]) -> compat.Call:
    @functools.wraps(call)
    def calling(*args: Any, **kwargs: Any) -> Any:
        import grpc  # as in KerasTuner, only where there is a chief

        # Who waits until the chief is ready does not see that the search is over.
        kwargs.pop("wait_for_ready", None)
        until, said = time.monotonic() + kwargs.get("timeout", 0), False
        while True:
            try:
                return call(*args, **kwargs)
            except grpc.RpcError as error:
                is_gone = error.code() is grpc.StatusCode.UNAVAILABLE
                if not is_gone or time.monotonic() > until:
                    raise
                if is_over():
                    raise SearchIsOver("The search is over.") from error
                if not said:
                    _log.warning("The chief is not there; waiting for it.")
                    said = True
                time.sleep(AGAIN_SECONDS)

    return calling
