"""The chief's process: it forgets workers that have died, and ends with the last one."""

import contextlib
import os
import threading
import time

WATCH_SECONDS = 2.0
END_SECONDS = 0.1


def role():
    """ "worker" or "chief" where there are several processes, or ""."""
    if "KERASTUNER_ORACLE_IP" not in os.environ:
        return ""
    return "chief" if "chief" in os.environ.get("KERASTUNER_TUNER_ID", "") else "worker"


@contextlib.contextmanager
def serving(oracle):
    """In a chief, for the time of its search: watches the workers. Elsewhere nothing."""
    if role() != "chief":
        yield
        return
    # Imported here, as in KerasTuner, for workers need no server.
    from keras_tuner.src.distribute import oracle_chief, oracle_client

    ended, all_gone = threading.Event(), oracle_chief.exit_chief

    def watch():
        while not ended.wait(WATCH_SECONDS):
            oracle.forget_the_dead()
            if oracle.is_left():
                # The server ends when a worker has asked and was told to stop; the last one died before.
                oracle_client.OracleClient(oracle).create_trial("chief")
                return

    def wait_until_all_gone(oracle):
        # KerasTuner asks every 20 s; a worker that has heard of the end 50 ms after another one would
        # cost that.
        while not all_gone(oracle):
            time.sleep(END_SECONDS)
        return True

    threading.Thread(target=watch, name="keras-drmad-watch", daemon=True).start()
    oracle_chief.exit_chief = wait_until_all_gone
    try:
        yield
    finally:
        oracle_chief.exit_chief = all_gone
        ended.set()
