"""A worker's calls to the chief: they are made again while there is none, until the search is over."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import grpc
import keras_tuner

from .. import compat
from . import address
from .errors import SearchIsOver
from .guard import Refused
from .server import ALIVE, SERVICE

_log = logging.getLogger("keras_drmad")

AGAIN_SECONDS = 0.5
CALL_SECONDS = 20.0  # an answer that takes longer is asked for again; oracles take each call twice
SAY_SECONDS = 60.0
BEAT_SECONDS = 5.0
OPTIONS = [
    # A chief whose host has vanished is noticed, and a new one found within seconds.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 500),
    ("grpc.min_reconnect_backoff_ms", 5_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
]
LATER = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
NEVER = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.FAILED_PRECONDITION)

Metadata = tuple[tuple[str, str], ...]


class Link:
    """A worker's connection to its chief.

    Args:
        client: of KerasTuner; its calls are made here from now on.
        timeout: seconds of silence after which a chief takes a worker for dead.
        is_over: called while there is no chief, with the seconds since a call has begun; whether there
            will be none. Then calls raise `SearchIsOver`.

    Attributes:
        search: which search this is; to be set before the first call.
    """

    search = ""

    def __init__(self, client: Any, timeout: float, is_over: Callable[[float], bool]) -> None:
        self._beat_seconds = min(BEAT_SECONDS, timeout / 4)
        self._worker, self._secret = address.worker(), address.secret()
        authority, where = address.tls_file(address.AUTHORITY), address.address()
        if authority is None:
            self._channel = grpc.insecure_channel(where, OPTIONS)
        else:
            credentials = grpc.ssl_channel_credentials(authority)
            self._channel = grpc.secure_channel(where, credentials, OPTIONS)
        calls = grpc.intercept_channel(self._channel, _Calls(where, self.metadata, is_over))
        compat.call_through(client, calls)

    def metadata(self) -> Metadata:
        """What tells the chief whose a call is."""
        return (
            (address.WORKER, self._worker),
            (address.SEARCH, self.search),
            (address.SECRET, self._secret),
        )

    @contextlib.contextmanager
    def alive(self) -> Iterator[None]:
        """Within it, a thread tells the chief that this worker lives, however long a training takes."""
        ended = threading.Event()
        says: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(
            f"/{SERVICE}/{ALIVE}"
        )

        def beat() -> None:
            while not ended.wait(self._beat_seconds):
                # The call for a trial says what is wrong.
                with contextlib.suppress(grpc.RpcError):
                    says(b"", timeout=self._beat_seconds, metadata=self.metadata())

        thread = threading.Thread(target=beat, name="keras-drmad-heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()


class _Details(NamedTuple):
    """Of a call, as gRPC's interceptors have it."""

    method: str
    timeout: float | None
    metadata: Any
    credentials: Any
    wait_for_ready: bool | None
    compression: Any


class _Calls(grpc.UnaryUnaryClientInterceptor):
    """Makes calls wait for the next chief, whenever one dies or vanishes.

    KerasTuner waits for a chief that is not there, but a call in flight fails with its chief, or lasts
    for an hour. Here it is made again after seconds; `ResilientOracle` takes each call twice.
    """

    def __init__(
        self, where: str, metadata: Callable[[], Metadata], is_over: Callable[[float], bool]
    ) -> None:
        self._where, self._metadata, self._is_over = where, metadata, is_over

    def intercept_unary_unary(
        self, continuation: Any, client_call_details: Any, request: Any
    ) -> Any:
        given = client_call_details
        details = _Details(
            given.method,
            CALL_SECONDS,
            self._metadata(),
            given.credentials,
            False,  # who waits until a chief is ready does not see that the search is over
            given.compression,
        )
        began, said = time.monotonic(), 0.0
        while True:
            call = continuation(details, request)
            if call.code() is grpc.StatusCode.OK:
                if said:
                    _log.warning("The chief at %s is back.", self._where)
                return call
            if call.code() not in LATER:
                raise self._error(call, given.method.rpartition("/")[2])
            waited = time.monotonic() - began
            if self._is_over(waited):
                raise SearchIsOver("The search is over.")
            if waited > given.timeout:
                raise keras_tuner.errors.FatalRuntimeError(
                    f"There was no answer from the chief at {self._where} for {_words(waited)} "
                    f"({call.details()}). Start it again, then this worker: the search goes on."
                )
            if not said or waited > said + SAY_SECONDS:
                said = max(waited, 1e-9)
                _log.warning(
                    "Waiting for the chief at %s, for %s so far, at most %s: %s. If it runs, do "
                    "KERASTUNER_ORACLE_IP, KERASTUNER_ORACLE_PORT and KERAS_DRMAD_TLS_AUTHORITY fit?",
                    self._where,
                    _words(waited),
                    _words(given.timeout),
                    call.details(),
                )
            time.sleep(AGAIN_SECONDS)

    def _error(self, call: Any, method: str) -> Exception:
        """What is raised in the worker for a call that a chief has ended."""
        if call.code() in NEVER:
            return keras_tuner.errors.FatalRuntimeError(
                f"The chief at {self._where} has refused this worker: {call.details()}"
            )
        if call.code() is grpc.StatusCode.INVALID_ARGUMENT:
            return Refused(call.details())
        return RuntimeError(
            f"{method} has failed in the chief at {self._where}: {call.details()} The chief's own "
            "output has more. Mend what it says, and start the search again: it goes on."
        )


def _words(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} minutes"
