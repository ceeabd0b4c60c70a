"""A worker's calls to the chief: one that a chief's death has cut off is made again."""

import functools
import logging
import time

_log = logging.getLogger("keras_drmad")

AGAIN_SECONDS = 0.5


def outlive_the_chief(client):
    """Makes calls of KerasTuner's `OracleClient` wait for the next chief, whenever one dies.

    KerasTuner waits for a chief that is not there, but a call in flight fails with its chief, and the
    trial would fail with it. `ResilientOracle` takes each call twice.
    """
    for name, call in vars(client.stub).items():
        setattr(client.stub, name, _again(call))


def _again(call):
    @functools.wraps(call)
    def calling(*args, **kwargs):
        import grpc  # as in KerasTuner, only where there is a chief

        while True:
            try:
                return call(*args, **kwargs)
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
                _log.warning("The chief is gone; waiting for it to come back.")
                time.sleep(AGAIN_SECONDS)

    return calling
