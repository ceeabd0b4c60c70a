"""A search that is killed again and again, beside one that is not: what they find is the same.

    python benchmarks/kills.py [--kills 8] [--trials 100] [--seed 0]      # some minutes

Both search the task of `examples/qan_digits.py` with the same seed, one of them in processes that
SIGKILL ends at random moments. Compared are all episodes, and the network that is found, bit for bit.
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


def run(trials, folder, seconds=None):
    """What a process finds; None if it was killed after so many seconds."""
    command = [sys.executable, __file__, "--trials", str(trials), "--search", str(folder)]
    try:
        done = subprocess.run(command, timeout=seconds, capture_output=True, text=True, check=True)
        return done.stdout.splitlines()[-1]
    except subprocess.TimeoutExpired:  # which kills it
        return None


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
    rng, kills = random.Random(options.seed), 0
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        begun, result = time.perf_counter(), None
        expected = run(options.trials, folder / "whole")
        whole = time.perf_counter() - begun
        while result is None:
            seconds = whole * rng.uniform(0.3, 0.6) if kills < options.kills else None
            result = run(options.trials, folder / "killed", seconds)
            kills += result is None
            ended = len(list((folder / "killed").glob("trial_*")))
            print(f"{kills} kills, {ended} of {options.trials} episodes begun", flush=True)
    print("the same" if result == expected else f"different: {expected}, {result}")
    sys.exit(result != expected)


if __name__ == "__main__":
    main()
