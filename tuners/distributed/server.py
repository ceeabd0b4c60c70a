"""The chief's server: it answers workers until the search is over and the last has gone."""

import contextlib
import hmac
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import TIMEOUT_MAX
from typing import Any

import grpc

from .. import compat
from . import address
from .guard import Refused, caller
from .oracle import ResilientOracle

_log = logging.getLogger("keras_drmad")

LOOK_SECONDS = 0.1
# Each worker has at most one call that waits for its turn, and one that says it is alive.
MOST_CALLS = 1000
OPTIONS = [
    ("grpc.so_reuseport", 0),  # or else two chiefs share a port, and mix two searches
    # A worker whose host has vanished is noticed; those that ask often are not sent away.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 1_000),
    ("grpc.http2.max_ping_strikes", 0),
]
SERVICE, ALIVE = "keras_drmad.Worker", "Alive"


@contextlib.contextmanager
def bound(
    oracle: ResilientOracle, search: str, look: Callable[[], None]
) -> Iterator[Callable[[], None]]:
    """Binds the address; within it, the function that answers workers until all is done.

    Args:
        oracle: the chief's.
        search: which search it is of.
        look: called again and again while workers are answered; may raise.

    Raises:
        RuntimeError: Another process listens there.
    """
    server = grpc.server(
        ThreadPoolExecutor(MOST_CALLS), interceptors=[_Gate(oracle, search)], options=OPTIONS
    )
    compat.serve_oracle(server, oracle)
    alive: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(
        lambda request, context: b""
    )
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(SERVICE, {ALIVE: alive}),)
    )
    if not (address.is_local() or address.secret()):
        _log.warning(
            "Whoever reaches %s can change this search: set %s to a secret, in all its processes.",
            address.address(),
            address.TOKEN,
        )
    _bind(server)

    def serve() -> None:
        server.start()
        while not oracle.is_left():
            time.sleep(LOOK_SECONDS)
            look()
            oracle.forget_the_dead()

    try:
        yield serve
    finally:
        server.stop(grace=1).wait()


def check_free() -> None:
    """Tries whether a chief could listen at the address, and leaves it again.

    Raises:
        RuntimeError: Another process listens there.
    """
    server = grpc.server(ThreadPoolExecutor(1), options=OPTIONS)
    try:
        _bind(server)
    finally:
        server.stop(grace=None).wait()


def _bind(server: grpc.Server) -> None:
    where = address.address()
    certificate, key = address.tls_file(address.CERTIFICATE), address.tls_file(address.KEY)
    if (certificate is None) != (key is None):
        raise ValueError(f"{address.CERTIFICATE} and {address.KEY} must be set together.")
    try:
        if certificate is None or key is None:
            server.add_insecure_port(where)
        else:
            server.add_secure_port(where, grpc.ssl_server_credentials([(key, certificate)]))
    except RuntimeError as error:
        raise RuntimeError(
            f"The chief cannot listen at {where}: another process does (another chief, perhaps), or "
            "this host has no such address. End that process, or choose other "
            "KERASTUNER_ORACLE_IP and KERASTUNER_ORACLE_PORT for all processes of this search."
        ) from error


class _Gate(grpc.ServerInterceptor):
    """Lets calls of this search's workers to the oracle, one after the other; says why one failed.

    Args:
        oracle: what is called.
        search: which search it is of.
    """

    def __init__(self, oracle: ResilientOracle, search: str) -> None:
        self._oracle, self._search, self._secret = oracle, search, address.secret()
        self._turn = threading.Lock()

    def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        handler = continuation(handler_call_details)
        if handler is None:
            return None
        sent = dict(handler_call_details.invocation_metadata)
        is_alive = handler_call_details.method == f"/{SERVICE}/{ALIVE}"

        def answer(request: Any, context: grpc.ServicerContext) -> Any:
            self._admit(sent, context)
            self._oracle.workers.lives(sent[address.WORKER])
            if is_alive:  # at once, also while the oracle is busy
                return handler.unary_unary(request, context)
            # Who does not wait any more has asked again: its old call must not take a turn.
            left = context.time_remaining()
            if not self._turn.acquire(timeout=-1 if left is None else min(left, TIMEOUT_MAX)):
                context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "The chief is busy.")
            caller.set(sent[address.WORKER])
            try:
                return handler.unary_unary(request, context)
            except Refused as error:
                code, why = grpc.StatusCode.INVALID_ARGUMENT, str(error)
            except Exception as error:
                code, why = grpc.StatusCode.INTERNAL, f"{type(error).__name__}: {error}"
            finally:
                self._turn.release()
            return context.abort(code, why)

        return grpc.unary_unary_rpc_method_handler(
            answer, handler.request_deserializer, handler.response_serializer
        )

    def _admit(self, sent: dict[str, str], context: grpc.ServicerContext) -> None:
        """Ends a call that is not of a worker of this search."""
        if not hmac.compare_digest(sent.get(address.SECRET, ""), self._secret):
            context.abort(
                grpc.StatusCode.UNAUTHENTICATED,
                f"this process has another secret than the chief: set {address.TOKEN} to the same "
                "in all processes of the search.",
            )
        if not sent.get(address.WORKER) or sent.get(address.SEARCH) != self._search:
            context.abort(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"it is the chief of another search, that of {self._oracle.project.folder}. Set "
                "KERASTUNER_ORACLE_IP and KERASTUNER_ORACLE_PORT to this search's own chief, and "
                "give all its processes the same folder and settings.",
            )
