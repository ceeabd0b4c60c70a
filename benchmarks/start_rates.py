"""Draws test error over start rate, a line a method, from what `one_training.py tuning` has measured.

    python benchmarks/start_rates.py [ROWS] [--out FILE]

Nothing is trained. The mean over the seeds that are in the rows is drawn.
"""

import argparse
import json
import pathlib

import matplotlib

matplotlib.use("Agg")  # needs no screen
import matplotlib.pyplot as plt
import numpy as np

TITLES = {
    "digits": "Digits, 600 images",
    "mnist": "MNIST, 2000 images",
    "trec": "TREC, 4000 questions",
}
TICKS = (2, 5, 10, 20, 50, 90)
TUNED = "one cycle "  # and a peak rate: methods that are tuned by the hyper loss
# Colours of Okabe and Ito; line styles and markers tell the lines apart in print.
LINES = {
    "learned": (
        "SGD, learned while it trains",
        {"color": "#0072B2", "marker": "o", "linewidth": 3, "zorder": 3},
    ),
    "SGD": ("SGD at this rate", {"color": "#D55E00", "marker": "s"}),
    "SGD, ReduceLROnPlateau": (
        "SGD, ReduceLROnPlateau",
        {"color": "#E69F00", "marker": "^", "linestyle": "--"},
    ),
    "Adam": ("Adam, Keras's defaults", {"color": "black", "linestyle": ":", "linewidth": 2}),
    "AdamW, cosine": ("AdamW, cosine", {"color": "#CC79A7", "linestyle": "-."}),
    "ScheduleFreeAdamW": (
        "ScheduleFreeAdamW, Keras's defaults",
        {"color": "#56B4E9", "linestyle": (0, (1, 3))},
    ),
    TUNED: ("SGD, one cycle, best of {}", {"color": "#009E73", "linestyle": (0, (5, 1))}),
}


def read(path):
    """`{task: {method: {start rate or "–": {seed: row}}}}`; of a tuned method the best row."""
    found = {}
    for line in path.read_text().splitlines():
        row = json.loads(line)
        task, method, start, seed = row["key"]
        row["tried"] = 1
        if method.startswith(TUNED):
            method = TUNED
        seeds = found.setdefault(task, {}).setdefault(method, {}).setdefault(start, {})
        if seed in seeds:
            tried = seeds[seed]["tried"] + 1
            row = min(row, seeds[seed], key=lambda r: r["hyper_loss"]) | {"tried": tried}
        seeds[seed] = row
    return found


def draw(ax, task, methods):
    rates = sorted(start for start in methods["learned"] if start != "–")
    for method, (label, style) in LINES.items():
        if (by_start := methods.get(method)) is None:
            continue  # of a version of Keras that has no such optimizer
        rows = [list((by_start.get(r) or by_start["–"]).values()) for r in rates]
        means = [np.mean([row["error"] for row in of]) for of in rows]
        ax.plot(rates, means, label=label.format(rows[0][0]["tried"]), **style)
    ax.set(xscale="log", yscale="log", title=TITLES.get(task, task), xlabel="start learning rate")
    ax.set_yticks(TICKS, map(str, TICKS))
    ax.yaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
    ax.grid(alpha=0.3)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", type=pathlib.Path, nargs="?", default="out/one_training.jsonl")
    parser.add_argument("--out", type=pathlib.Path, default="docs/images/start_rates.png")
    options = parser.parse_args()
    found = read(options.rows)
    figure, axes = plt.subplots(
        1,
        len(found),
        figsize=(4.5 * len(found), 4),
        layout="constrained",
        squeeze=False,
        sharey=True,
    )
    for ax, (task, methods) in zip(axes.flat, found.items(), strict=True):
        draw(ax, task, methods)
    axes.flat[0].set_ylabel("test error (%)")
    ncols = 1 + len(found)
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=ncols, frameon=False)
    figure.savefig(options.out, dpi=150)


if __name__ == "__main__":
    main()
