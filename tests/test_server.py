"""Calls that reach a chief's server."""

import re
import threading
import types

import grpc
import pytest
from keras_tuner.src.distribute.oracle_chief import OracleServicer

from keras_drmad.tuners import DrMADOracle, OptunaOracle, QANOracle
from keras_drmad.tuners.distributed import address, guard, server
from keras_drmad.tuners.distributed.workers import Workers


@pytest.mark.parametrize("port", ["abc", "0", "99999", "-1", "1.5", ""])
def test_a_port_that_is_none_is_named(monkeypatch, port):
    monkeypatch.setenv("KERASTUNER_ORACLE_PORT", port)
    with pytest.raises(ValueError, match=f"KERASTUNER_ORACLE_PORT must be .*{port!r}"):
        address.address()


class Gone:
    """The context of a call whose caller has gone."""

    def time_remaining(self):
        return 0.0

    def abort(self, code, why):
        raise TimeoutError(code.name)


def test_a_call_that_nobody_waits_for_takes_no_turn(monkeypatch):
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "")
    gate = server._Gate(types.SimpleNamespace(workers=Workers()), "search")
    handler = grpc.unary_unary_rpc_method_handler(lambda request, context: pytest.fail("answered"))
    sent = (
        ("keras-drmad-worker", "w"),
        ("keras-drmad-search", "search"),
        ("keras-drmad-secret", ""),
    )
    details = types.SimpleNamespace(method="/x", invocation_metadata=sent)
    answer = gate.intercept_service(lambda _: handler, details).unary_unary
    said = []

    def call():
        try:
            answer(b"", Gone())
        except TimeoutError as error:
            said.append(str(error))

    gate._turn.acquire()  # by another call, which takes long
    caller = threading.Thread(target=call, daemon=True)
    caller.start()
    caller.join(10)
    gate._turn.release()
    assert said == ["DEADLINE_EXCEEDED"]


CALLS = [
    re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
    for name in vars(OracleServicer)
    if name[0].isupper()
]


@pytest.mark.parametrize("kind", [DrMADOracle, QANOracle, OptunaOracle])
@pytest.mark.parametrize("call", CALLS)
def test_no_call_of_a_worker_goes_to_kerastuner_unguarded(kind, call):
    """Whose own methods leave the lock held after an error."""
    owner = next(base for base in kind.__mro__ if call in vars(base))
    assert owner.__module__.startswith("keras_drmad.")
    if (owner, call) != (OptunaOracle, "create_trial"):  # which raises beside the lock
        assert vars(owner)[call].__code__ is guard.entry(lambda self: None).__code__
