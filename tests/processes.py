"""The processes of a search on this host, for the tests of chief and workers."""

import os
import pathlib
import subprocess
import sys
import textwrap

TESTS = str(pathlib.Path(__file__).parent)


def starter(script, offset=0, **values):
    """A function of a name, "chief" or "worker…", which starts a script as that process.

    Args:
        script: Python, with placeholders of `str.format`; `{tests!r}` is this folder.
        offset: tells the ports of searches of one test process apart.
        values: of the placeholders.
    """
    script = textwrap.dedent(script).format(tests=TESTS, **values)
    variables = {
        "KERASTUNER_ORACLE_IP": "127.0.0.1",
        "KERASTUNER_ORACLE_PORT": str(20000 + (os.getpid() + offset) % 20000),
    }

    def start(name):
        environment = os.environ | variables | {"KERASTUNER_TUNER_ID": name}
        command = [sys.executable, "-W", "ignore", "-c", script]
        return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)

    return start
