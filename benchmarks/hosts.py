"""A search on three hosts while their network or one of them fails: what happens, and within which time.

    sudo .venv/bin/python benchmarks/hosts.py                # some minutes (Linux, as root)
    sudo .venv/bin/python benchmarks/hosts.py --only chief   # rows with this in their names

The hosts, a chief's and two workers', are network namespaces of this machine. This process is the wire
between them: it carries their packets, late or not at all where that is asked for. Trainings only take
time, a second each, so that what is measured is the search. A worker is dead after 20 s of silence.
"""

import argparse
import contextlib
import fcntl
import heapq
import itertools
import os
import pathlib
import random
import select
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

TRIALS, SECONDS, TIMEOUT, PATIENCE = 24, 1.0, 20.0, 240.0
HOSTS = {"chief": "10.77.0.1", "worker0": "10.77.0.2", "worker1": "10.77.0.3"}
SET_INTERFACE, TUN_WITHOUT_HEADER = 0x400454CA, 0x0001 | 0x1000  # of <linux/if_tun.h>


# -- the network ----------------------------------------------------------------------------


def ip(*words):
    subprocess.run(["ip", *words], check=True)


class Wire:
    """Carries packets from host to host.

    Attributes:
        delay: seconds.
        loss: which part of all packets is lost.
        cut: hosts of which all are.
    """

    def __init__(self):
        self.delay, self.loss, self.cut = 0.0, 0.0, set()
        self._ends, self._is_up = {}, True
        for name, address in HOSTS.items():
            end = os.open("/dev/net/tun", os.O_RDWR)
            fcntl.ioctl(
                end, SET_INTERFACE, struct.pack("16sH22x", name.encode(), TUN_WITHOUT_HEADER)
            )
            self._ends[bytes(map(int, address.split(".")))] = name, end
            ip("netns", "add", name)
            ip("link", "set", name, "netns", name)
            ip("-n", name, "address", "add", f"{address}/24", "dev", name)
            ip("-n", name, "link", "set", name, "up")
            ip("-n", name, "link", "set", "lo", "up")
        self._thread = threading.Thread(target=self._carry)
        self._thread.start()

    def _carry(self):
        names = {end: name for name, end in self._ends.values()}
        rng, number, sent = random.Random(0), 0, []
        while self._is_up:
            wait = min(0.1, max(0.0, sent[0][0] - time.monotonic())) if sent else 0.1
            for end in select.select(list(names), [], [], wait)[0]:
                packet = os.read(end, 65536)
                is_known = packet[0] >> 4 == 4 and packet[16:20] in self._ends  # IPv4, to a host
                if is_known and names[end] not in self.cut and rng.random() >= self.loss:
                    number += 1
                    heapq.heappush(sent, (time.monotonic() + self.delay, number, packet))
            while sent and sent[0][0] <= time.monotonic():
                packet = heapq.heappop(sent)[2]
                name, end = self._ends[packet[16:20]]
                if name not in self.cut:
                    os.write(end, packet)

    def close(self):
        self._is_up = False
        self._thread.join()
        for name, end in self._ends.values():
            os.close(end)
            ip("netns", "delete", name)


# -- the search -----------------------------------------------------------------------------


def search(folder, fails):
    """As chief or worker."""
    import keras_tuner

    from keras_drmad.tuners.distributed.oracle import ResilientOracle
    from keras_drmad.tuners.distributed.tuner import ResilientTuner
    from keras_drmad.tuners.storage.project import Project

    class Oracle(ResilientOracle):
        def __init__(self):
            self.project = Project()
            super().__init__(keras_tuner.Objective("score", "min"), TRIALS, timeout=TIMEOUT)

        def populate_space(self, trial_id):
            if fails and int(trial_id) == TRIALS // 2:
                raise ValueError("no such layer")
            return {"status": "RUNNING", "values": {"number": int(trial_id)}}

    class Tuner(ResilientTuner):
        def train_trial(self, trial, verbose=0):
            with open(os.path.join(folder, "begun.txt"), "a") as file:
                print(time.time(), os.environ["KERASTUNER_TUNER_ID"], trial.trial_id, file=file)
            time.sleep(SECONDS)
            return {"score": 1.0}

        def search(self):
            self._search({}, verbose=0)

    try:
        Tuner(Oracle(), None, directory=folder, project_name="p").search()
    finally:
        with open(os.path.join(folder, "ended.txt"), "a") as file:
            print(time.time(), file=file)  # what comes now is Python's own end


class Search:
    """The processes of a search, each on its host."""

    def __init__(self, wire, folder, fails):
        self.wire, self.folder, self._fails = wire, pathlib.Path(folder), fails
        self.processes = {}
        for name in HOSTS:
            self.start(name)

    def start(self, name):
        variables = {
            "KERASTUNER_TUNER_ID": name,
            "KERASTUNER_ORACLE_IP": HOSTS["chief"],
            "KERASTUNER_ORACLE_PORT": "20000",
            "KERAS_DRMAD_TOKEN": "hosts",
        }
        command = ["ip", "netns", "exec", name, sys.executable, __file__, "--search", self.folder]
        self.processes[name] = subprocess.Popen(
            [*command, *(["--fails"] if self._fails else [])],
            env=os.environ | variables,
            stdout=subprocess.DEVNULL,
            stderr=open(self.folder / f"{name}.log", "a"),  # noqa: SIM115  # until the process ends
        )

    def kill(self, name):
        self.processes[name].kill()
        self.processes[name].wait()

    def begun(self):
        """`(time, worker, trial)` of trainings."""
        path = self.folder / "begun.txt"
        lines = path.read_text().splitlines() if path.exists() else []
        return [(float(when), worker, trial) for when, worker, trial in map(str.split, lines)]

    def wait_for(self, trials):
        """Until so many trainings have begun, and each worker has had one."""
        end = time.monotonic() + PATIENCE
        while len(begun := self.begun()) < trials or len({worker for _, worker, _ in begun}) < 2:
            assert time.monotonic() < end, "the search does not begin"
            time.sleep(0.05)

    def ended(self, names):
        """Exit statuses; None of those that do not end."""
        end = time.monotonic() + PATIENCE
        for name in names:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.processes[name].wait(max(end - time.monotonic(), 0.1))
        return [self.processes[name].poll() for name in names]


# -- what fails -----------------------------------------------------------------------------


def nothing(run):
    pass


def is_slow(run):
    run.wire.delay = 0.1


def loses(run):
    run.wire.loss = 0.05


def cut(name, seconds):
    def fail(run):
        run.wait_for(8)
        run.wire.cut.add(name)
        if seconds is not None:
            time.sleep(seconds)
            run.wire.cut.discard(name)

    return fail


def dies(name, seconds):
    def fail(run):
        run.wait_for(8)
        run.kill(name)
        if seconds is not None:
            time.sleep(seconds)
            run.start(name)

    return fail


def vanishes(run):
    """No connection is closed: the wire is cut first."""
    run.wait_for(8)
    run.wire.cut.add("chief")
    run.kill("chief")
    time.sleep(10)
    run.wire.cut.discard("chief")
    run.start("chief")


def ends(name):
    def fail(run):
        run.wait_for(8)
        children = f"/proc/{run.processes[name].pid}/task/{run.processes[name].pid}/children"
        with contextlib.suppress(FileNotFoundError):
            for child in pathlib.Path(children).read_text().split():
                os.kill(int(child), signal.SIGTERM)
        run.processes[name].send_signal(signal.SIGTERM)

    return fail


ALL = tuple(HOSTS)
ROWS = {  # name: what is done, who is to end
    "nothing fails": (nothing, ALL),
    "packets take 0.1 s": (is_slow, ALL),
    "5 % of all packets are lost": (loses, ALL),
    "a worker is cut off for 10 s": (cut("worker1", 10), ALL),
    "a worker is cut off for good": (cut("worker1", None), ("worker0", "chief")),
    "a worker is killed": (dies("worker1", None), ("worker0", "chief")),
    "a worker is killed, and started again after 3 s": (dies("worker1", 3), ALL),
    "a worker gets SIGTERM": (ends("worker1"), ("worker0", "chief")),
    "the chief is killed, and started again after 3 s": (dies("chief", 3), ALL),
    "the chief is cut off for 30 s": (cut("chief", 30), ALL),
    "the chief's host vanishes, another chief after 10 s": (vanishes, ALL),
    "an error in the chief's oracle": (nothing, ALL),
}


def measure(name):
    fail, names = ROWS[name]
    wire, run = Wire(), None
    try:
        with tempfile.TemporaryDirectory() as folder:
            run = Search(wire, folder, fails="error" in name)
            fail(run)
            statuses = run.ended(names)
            begun, over = run.begun(), (run.folder / "ended.txt").read_text().split()
            for process in run.processes.values():
                process.kill()
                process.wait()
    finally:
        wire.close()
    times = [when for when, _, _ in begun]
    gaps = [later - now for now, later in itertools.pairwise(times)]
    trained = f"{len({trial for _, _, trial in begun})} of {TRIALS}"
    print(
        f"| {name} | {trained} | {len(begun) - len({t for _, _, t in begun})} | {max(gaps):.0f} s | "
        f"{float(max(over)) - times[-1]:.0f} s | {', '.join(map(str, statuses))} |",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default="", help="rows with this in their names")
    parser.add_argument("--search", help=argparse.SUPPRESS)  # as one of the processes
    parser.add_argument("--fails", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.search:
        search(options.search, options.fails)
        return
    print(
        "| what | trained | trained twice | none began for | ended after the last began | statuses |"
    )
    print("|---|---|---|---|---|---|")
    for name in ROWS:
        if options.only in name:
            measure(name)


if __name__ == "__main__":
    main()
