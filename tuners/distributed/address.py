"""Where the chief is, and who may talk to it: environment variables of all processes."""

import hashlib
import os
import pathlib

TOKEN = "KERAS_DRMAD_TOKEN"
CERTIFICATE, KEY = "KERAS_DRMAD_TLS_CERTIFICATE", "KERAS_DRMAD_TLS_KEY"  # files of the chief
AUTHORITY = "KERAS_DRMAD_TLS_AUTHORITY"  # a file of the workers
LOOPBACK = "127.0.0.1"
PORT, LAST_PORT = "KERASTUNER_ORACLE_PORT", 65535

# What each call carries, as gRPC's metadata.
WORKER, SEARCH, SECRET = "keras-drmad-worker", "keras-drmad-search", "keras-drmad-secret"


def address() -> str:
    """Where the chief listens, and workers call: on this host only, unless KerasTuner is told more.

    Raises:
        ValueError: The port is none, of which gRPC would make another one.
    """
    host, port = os.environ.get("KERASTUNER_ORACLE_IP") or LOOPBACK, os.environ[PORT]
    if not (port.isascii() and port.isdigit() and 0 < int(port) <= LAST_PORT):
        raise ValueError(f"{PORT} must be a number from 1 to {LAST_PORT}. Received: {port!r}")
    return f"{host}:{port}"


def is_local() -> bool:
    """Whether only this host can reach the address."""
    host = os.environ.get("KERASTUNER_ORACLE_IP") or LOOPBACK
    return host in ("localhost", "[::1]") or host.startswith("127.")


def worker() -> str:
    return os.environ["KERASTUNER_TUNER_ID"]


def secret() -> str:
    """What stands for the shared secret in a call, of any letters; "" without one."""
    token = os.environ.get(TOKEN, "")
    return hashlib.sha256(token.encode()).hexdigest() if token else ""


def tls_file(variable: str) -> bytes | None:
    """The file that a variable names; None where it is not set.

    Raises:
        ValueError: It cannot be read.
    """
    path = os.environ.get(variable)
    if not path:
        return None
    try:
        return pathlib.Path(path).read_bytes()
    except OSError as error:
        raise ValueError(
            f"{variable} must name a file that this process can read. Received: {path!r} ({error})"
        ) from error
