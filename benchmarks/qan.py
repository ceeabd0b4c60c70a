"""QANTuner against searched schedules.

    python benchmarks/qan.py                                   # 5 seeds: at most 2½ hours on one core
    python benchmarks/qan.py --seeds 1 --trials 100            # about 10 minutes
    python benchmarks/qan.py --schedules 800_000                # schedules alone, with so many steps
    python benchmarks/qan.py --variants default no-shaping n=1 # ablations
    python benchmarks/qan.py --save policy            # and policy_0.keras, policy_0_schedule.keras, ...
    python benchmarks/qan.py --transfer policy_0 policy_1      # tries them on `--targets`
    python benchmarks/qan.py --first-seed 3 --seeds 2 --results FILE  # a part; FILE collects all parts
    python benchmarks/qan.py --seeds 0 --results FILE                 # their table

MNIST, 20 000 training and 5 000 validation images, MLP 784-128-10, batch 128, momentum 0.9, starting at
a learning rate of 0.005: training steps until 96.5 % validation accuracy, at most 1570 (a miss counts as
that). After each search, on 10 fresh seeds:

    policy              the best snapshot of the network
    schedule            the best schedule that the same search has found in its first episodes
    schedules alone     the best schedule of a search that does nothing else, with as many training
                        steps as the whole QAN search, its tests and contest included
    random              random actions
    by hand             a rule with the same decisions (`Task.by_hand`), to see what is possible; where
                        there are mini-batches to choose, another with each rule of sample selection
                        (`Task.by_selection`), too

Mean ± standard error over all trainings; the same of the searches' means, as trainings of one search
have its policy in common; median, hits.
"""

import argparse
import json
import os
import tempfile
import time
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
from qan_tasks import EPOCHS, OTHERS, Task

from keras_drmad.tuners import Actions, QANTuner
from keras_drmad.tuners.luck import standard_error
from keras_drmad.tuners.qan.policy import Policy
from keras_drmad.tuners.qan.search.schedules import propose
from keras_drmad.tuners.qan.summary import verdict
from keras_drmad.tuners.qan.training.filters import BagOfFilters, RawFilters
from keras_drmad.tuners.qan.training.regressor import Regressor
from keras_drmad.tuners.qan.training.states import Ratios
from keras_drmad.tuners.qan.training.warm_start import WarmStart
from keras_drmad.tuners.qan.tuner import FIRST_SEED

FRESH = 10
SURE = 5  # tests of a schedule that is believed
PLAIN = ("rate", "time", "loss", "gap")

VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "no-shaping": {"shaping": 0.0},
    "n=1": {"agent": {"n_step": 1}},
    "n=5": {"agent": {"n_step": 5}},
    "no-margin-loss": {"agent": {"margin_loss_weight": 0.0}},
    "prioritized": {"agent": {"prioritized": True}},
    "no-schedules": {"schedule_trials": 3, "guided_trials": 0},
    "jump-start": {"jump_start": 200},
    "regressor": {"regressor": Regressor()},
    "plain-state": {"states": lambda: [Ratios(PLAIN)]},
    "all-ratios": {"states": lambda: [Ratios(Ratios.ALL)]},
    "bag-of-filters": {"states": lambda: [Ratios(PLAIN), BagOfFilters(16)]},
    "raw-filters": {"states": lambda: [Ratios(PLAIN), RawFilters(784, 8)]},
    "three-rates": {"actions": Actions((0.5, 1.0, 2.0))},
    "hardest": {"actions": Actions((0.5, 1.0, 2.0), sample_selection=("uniform", "hardest"))},
    "mini-batches": {
        "actions": Actions((0.5, 1.0, 2.0), sample_selection=("uniform", "hardest", "newest"))
    },
    "momentum": {
        "states": lambda: [Ratios((*Ratios.FEW, "momentum"))],
        "actions": Actions((0.5, 0.9, 1.0, 2.0), momentum=(0.5, 1.0, 2.0)),
    },
    "per-layer": {"actions": Actions(per="layer")},
}


def search_schedules(target, steps, seed):
    """(the best schedule that so many training steps find, how many were tried).

    Every third training tests the best so far again: of many that are tried once, the best is a lucky
    one. What is returned was tested at least `SURE` times, if anything was.
    """
    rng, tried, spent, trainings = np.random.default_rng((seed, 9)), [], 0, 0
    bounds = 0.2 * target.start, 200 * target.start  # as `QANTuner` searches them
    expected = max(int(2 / 3 * steps / (0.85 * target.budget)), 4)
    while spent < steps:
        if trainings % 3 == 2:
            schedule, costs = min(tried, key=mean_cost)
        else:
            known = [(entry[0], mean_cost(entry)) for entry in tried]
            schedule = propose(len(tried), expected, known, *bounds, target.budget, rng)
            costs = []
            tried.append((schedule, costs))
        taken, counts, hit, gap = target.of_schedule(schedule, int(rng.integers(2**31)))
        costs.append(counts + (0 if hit else counts * max(gap, 0)))
        spent, trainings = spent + taken, trainings + 1
    most = max(len(costs) for _, costs in tried)
    sure = [entry for entry in tried if len(entry[1]) >= min(SURE, most)]
    return min(sure, key=mean_cost)[0], len(tried)


def mean_cost(entry):
    return np.mean(entry[1])


def learned(variant, target, seed, trials):
    """(policy, best schedule as another, training steps) of a QAN search."""
    options = {k: v() if callable(v) else v for k, v in VARIANTS[variant].items()}
    with tempfile.TemporaryDirectory() as folder:
        tuner = QANTuner(
            lambda hp: target.build(options.get("actions", Actions())),
            goal=target.goal,
            max_trials=trials,
            decision_every=target.every,
            directory=folder,
            seed=seed,
            **options,
        )
        data = {"validation_data": target.validation, "batch_size": target.batch_size}
        tuner.search(*target.train, epochs=EPOCHS, verbose=0, **data)
        oracle = tuner.oracle
        steps = total(oracle, "steps")
        policy, schedule = map(tuner.get_best_policy, ("network", "schedule"))
        names = ("seconds", "validating", "deciding", "learning")
        seconds = {name: total(oracle, name) for name in names}
        of = sum(seconds.values())
        parts = ", ".join(f"{n} {spent:.0f} ({spent / of:.1%})" for n, spent in seconds.items())
        print(f"  seconds of all episodes: {parts}\n  {verdict(oracle)}", flush=True)
    return policy, schedule, steps


def jump(training, steps):
    """The weights that episodes with a `jump_start` begin with."""
    with tempfile.TemporaryDirectory() as folder:
        warm_start = WarmStart(os.path.join(folder, "warm_start.npz"), [], steps)
        warm_start.make(training, FIRST_SEED)
    return warm_start.start


def total(oracle, name):
    """Of a metric, over all episodes that have it."""
    metrics = [trial.metrics for trial in oracle.trials.values()]
    return sum(m.get_history(name)[0].value[0] for m in metrics if m.exists(name))


def row(name, outcomes):
    counts = np.array([o[1] for o in outcomes])
    hits = sum(o[2] for o in outcomes)
    mean = f"{np.mean(counts):.0f} ± {standard_error(counts):.0f}"
    of_searches = standard_error(counts.reshape(-1, FRESH).mean(axis=1))
    line = (
        f"| {name} | {mean} | {of_searches:.0f} | {np.median(counts):.0f} | {hits}/{len(counts)} |"
    )
    print(line, flush=True)
    return line


def transferred(name, stem, seed, tune, trials=20):
    """`{row: outcomes}` on another task: a saved policy, the schedule saved with it, one tuned there."""
    policy = Policy.load(f"{stem}.keras")
    schedule = Policy.load(f"{stem}_schedule.keras").learning_rate
    target = Task(**OTHERS[name])
    fresh = [int(s) for s in np.random.SeedSequence((seed, 11)).generate_state(FRESH)]
    training = target.of(policy.states, policy.actions)
    scaled = target.scaled(schedule)
    print(f"{name}, {stem}: {scaled}", flush=True)
    found = {
        "policy, as learned on MNIST": [target.of_policy(policy, s, training) for s in fresh],
        "schedule, tuned on MNIST": [target.of_schedule(scaled, s) for s in fresh],
    }
    if tune:
        tuned, _ = search_schedules(target, trials * target.budget, seed)
        print(f"{name}, tuned here: {tuned}", flush=True)
        of = f"schedule, tuned here in {trials} trainings"
        found[of] = [target.of_schedule(tuned, s) for s in fresh]
    return {f"{name}: {of}": outcomes for of, outcomes in found.items()}


def alone(target, steps, seed):
    """Outcomes of a search that does nothing else than schedules."""
    schedule, number = search_schedules(target, steps, seed)
    print(f"  schedules alone, of {number}: {schedule}", flush=True)
    return [target.of_schedule(schedule, s) for s in fresh_seeds(seed)]


def fresh_seeds(seed):
    """Of the trainings that a search is judged by."""
    return [int(s) for s in np.random.SeedSequence((seed, 5)).generate_state(FRESH)]


def compared(options, variant, target, seed):
    """`{row: outcomes}` of one search and what it is compared with."""
    fresh = fresh_seeds(seed)
    policy, schedule, steps = learned(variant, target, seed, options.trials)
    training = target.of(policy.states, policy.actions)
    found = {f"policy, {variant}": [target.of_policy(policy, s, training) for s in fresh]}
    if jump_start := VARIANTS[variant].get("jump_start"):
        weights = jump(training, jump_start)
        rows = [target.of_policy(policy, s, training, weights) for s in fresh]
        found[f"policy, {variant}, from there"] = rows
    of_search = f"schedule of its search, {variant}"
    found[of_search] = [target.of_schedule(schedule.learning_rate, s) for s in fresh]
    if not options.no_baselines:
        found["schedules alone"] = alone(target, steps, seed)
        found["random"] = [target.of_chance(s) for s in fresh]
        found["by hand"] = [target.by_hand(s) for s in fresh]
        for selection in policy.actions.sample_selection[1:]:
            found[f"by hand, {selection}"] = target.by_selection(selection, fresh)
        print(f"  {schedule.learning_rate}")
    if options.save:
        stem = options.save if variant == "default" else f"{options.save}_{variant}"
        policy.save(f"{stem}_{seed}.keras")
        schedule.save(f"{stem}_{seed}_schedule.keras")
    print(f"seed {seed}, {steps:.0f} training steps", flush=True)
    task = f"{options.task}, " if options.task else ""
    return {f"{task}{options.trials} episodes: {name}": rows for name, rows in found.items()}


def parts(options):
    """`{row: outcomes}` of one search, or of one policy on another task, after the other."""
    if options.transfer:
        for seed, stem in enumerate(options.transfer):
            for name in options.targets:
                yield transferred(name, stem, seed, not options.no_baselines)
        return
    target = Task(**OTHERS.get(options.task, {}))
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        if options.schedules:
            yield {
                f"{options.schedules} steps: schedules alone": alone(
                    target, options.schedules, seed
                )
            }
            continue
        for variant in options.variants:
            yield compared(options, variant, target, seed)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--variants", nargs="+", default=["default"], choices=VARIANTS)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--no-baselines", action="store_true", help="a search's own two only")
    parser.add_argument("--save", help="stem of files for policy and schedule of each seed")
    parser.add_argument("--schedules", type=int, help="only schedules, with so many training steps")
    parser.add_argument("--task", choices=OTHERS, help="what is searched on, instead of the first")
    parser.add_argument(
        "--transfer", nargs="+", help="stems of saved ones, tried on other tasks; no search"
    )
    parser.add_argument("--targets", nargs="+", default=list(OTHERS), choices=OTHERS)
    parser.add_argument("--results", help="file of JSON lines that outcomes are added to")
    options = parser.parse_args()
    begun, table = time.perf_counter(), {}
    for found in parts(options):
        for name, outcomes in found.items():
            row(name, outcomes)
            table.setdefault(name, []).extend(outcomes)
            if options.results:
                with open(options.results, "a") as file:
                    print(json.dumps([name, outcomes]), file=file)
    if options.results:
        table = {}
        with open(options.results) as file:
            for name, outcomes in map(json.loads, file):
                table.setdefault(name, []).extend(outcomes)
    print("\n| | steps | ± by search | median | hits |\n|---|---|---|---|---|")
    for name, outcomes in table.items():
        row(name, outcomes)
    print(f"\n{(time.perf_counter() - begun) / 60:.0f} minutes")


if __name__ == "__main__":
    main()
