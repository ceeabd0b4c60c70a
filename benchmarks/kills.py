"""A search that is killed again and again, beside one that is not: what they find is the same.

    python benchmarks/kills.py [--kills 8] [--trials 100] [--seed 0]      # some minutes

Both search the task of `examples/qan_digits.py` with the same seed, one of them in processes that
SIGKILL ends at random moments, each after some further episodes. Compared are all episodes, and the
network that is found, bit for bit.
"""

import argparse
import hashlib
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

ROOT = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "examples"))
TIMES = {"seconds", "validating", "deciding", "learning"}  # metrics that differ from run to run


def found(trials, folder):
    """What a search finds, once it has ended, as two words."""
    import qan_digits

    tuner = qan_digits.make_tuner(trials, pathlib.Path(folder), seed=3)
    qan_digits.search(tuner, verbose=0)
    weights = tuner.get_best_policy("network").network.get_weights()
    network = hashlib.md5(b"".join(w.tobytes() for w in weights)).hexdigest()
    episodes = []
    for name in tuner.oracle.start_order:
        trial = tuner.oracle.trials[name]
        metrics = {n: trial.metrics.get_history(n)[0].value for n in trial.metrics.metrics}
        kept = {n: value for n, value in sorted(metrics.items()) if n not in TIMES}
        episodes.append([name, trial.status, trial.hyperparameters.values, kept])
    return hashlib.md5(json.dumps(episodes).encode()).hexdigest(), network


def begun(folder):
    """How many episodes."""
    return len(list(folder.glob("trial_*")))


def started(trials, folder):
    """A process that searches, and prints what it has found."""
    command = [sys.executable, __file__, "--trials", str(trials), "--search", str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def finish(process):
    """What a process finds."""
    said = process.communicate()[0]
    assert process.returncode == 0, "the search has failed"
    return said.splitlines()[-1]


def kill(process, folder, episodes, seconds):
    """Ends a process so long after so many further episodes have begun."""
    wanted = begun(folder) + episodes
    while begun(folder) < wanted:
        assert process.poll() is None, "the search has ended by itself"
        time.sleep(0.01)
    time.sleep(seconds)
    process.kill()
    process.communicate()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=8)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--search", help=argparse.SUPPRESS)  # as one of the processes
    options = parser.parse_args()
    if options.search:
        print(*found(options.trials, options.search))
        return
    rng = random.Random(options.seed)
    most = options.trials // (options.kills + 2)  # further episodes before a kill
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        expected = finish(started(options.trials, folder / "whole"))
        for number in range(options.kills):
            process = started(options.trials, folder / "killed")
            kill(process, folder / "killed", rng.randint(1, most), rng.uniform(0, 0.2))
            episodes = f"{begun(folder / 'killed')} of {options.trials} episodes begun"
            print(f"{number + 1} kills, {episodes}", flush=True)
        result = finish(started(options.trials, folder / "killed"))
    print("the same" if result == expected else f"different: {expected}, {result}")
    sys.exit(result != expected)


if __name__ == "__main__":
    main()
