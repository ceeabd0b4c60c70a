"""Pictures of a search: what it has learned, and how (extra `plots`)."""

import numpy as np

from keras_drmad.tuners import files
from keras_drmad.tuners.qan.curriculum import CONTEST, GUIDED, RANDOM, SCHEDULE, TEST, TRAIN
from keras_drmad.tuners.qan.schedules import KINDS

COLOURS = {RANDOM: "0.6", SCHEDULE: "tab:orange", GUIDED: "tab:olive", TRAIN: "tab:blue"}
COLOURS |= {TEST: "tab:green", CONTEST: "tab:red"}


def learning_curve(tuner, axes=None):
    """What each episode has cost, by its kind; the means of best schedule and constant as lines.

    Without a goal's value: what the objective was.

    Args:
        tuner: a `QANTuner`, searched or in the middle of it.
        axes: of matplotlib. Defaults to new ones.

    Returns:
        The axes.
    """
    axes = axes or _axes()
    oracle = tuner.oracle
    episodes = [e for e in oracle.curriculum.episodes if e.cost is not None]
    sign = 1 if oracle.objective.direction == "min" else -1
    for kind, colour in COLOURS.items():
        of = [e for e in episodes if e.kind == kind and (kind != CONTEST or e.schedule is None)]
        axes.plot(
            [e.number for e in of], [sign * e.cost for e in of], ".", color=colour, label=kind
        )
    tests = [e for e in episodes if e.kind == TEST]
    if len(tests) >= 5:
        means = np.convolve([sign * e.cost for e in tests], np.ones(5) / 5, "valid")
        axes.plot([e.number for e in tests[4:]], means, color=COLOURS[TEST], label="five tests")
    for name, style, kinds in (("schedule", "--", KINDS), ("constant", ":", ("constant",))):
        if best := oracle.curriculum.best_schedule(kinds):
            mean = sign * np.mean([episode.cost for episode in best[1]])
            label = f"best {name} searched"
            axes.axhline(mean, color="black", linestyle=style, linewidth=1, label=label)
    axes.set(xlabel="episode", ylabel=oracle.objective.name.replace("_", " "))
    axes.legend(fontsize=7)
    return axes


def learning_rates(tuner, axes=None, episodes=5):
    """Learning rates over steps in the contest: the policy's and the best schedule's.

    Args:
        tuner, axes: as in `learning_curve`.
        episodes: the most of each that are drawn.
    """
    axes = axes or _axes()
    curriculum = tuner.oracle.curriculum
    done = [e for e in curriculum.episodes if e.kind == CONTEST and e.cost is not None]
    for name, colour, of in (
        ("best schedule", "black", [e for e in done if e.schedule is not None]),
        ("policy", COLOURS[CONTEST], [e for e in done if e.schedule is None]),
    ):
        for i, episode in enumerate(of[:episodes]):
            history = _history(tuner, episode)
            if history is not None:
                lines = axes.step(history["steps"], history["rates"], color=colour, alpha=0.6)
                if i == 0:
                    lines[0].set_label(name)  # one for all layers
    axes.set(xlabel="step", ylabel="learning rate", yscale="log")
    if axes.get_lines():
        axes.legend(fontsize=7)
    return axes


def actions(tuner, axes=None):
    """Which actions were taken when: the mean factor of the learning rate, over decisions and episodes.

    Args:
        tuner, axes: as in `learning_curve`.
    """
    axes = axes or _axes()
    factors = np.log2([factor for factor, *_ in tuner.oracle.actions.all])
    drawn = _draw(
        tuner, axes, lambda taken: factors[taken].mean(-1), cmap="coolwarm", vmin=-1, vmax=1
    )
    if drawn is not None:
        axes.figure.colorbar(drawn, ax=axes, label="log₂ of the factor")
    return axes


def pools(tuner, axes=None):
    """Which samples were taken when: the pool of each chunk, over decisions and episodes.

    Args:
        tuner, axes: as in `learning_curve`.
    """
    axes = axes or _axes()
    names = tuner.oracle.actions.pools
    numbers = np.array([names.index(pool) for *_, pool in tuner.oracle.actions.all])
    # The first group chooses. The map has eight colours.
    drawn = _draw(tuner, axes, lambda taken: numbers[taken[:, 0]], cmap="Set2", vmin=0, vmax=7)
    if drawn is not None:
        for number, name in enumerate(names):
            axes.scatter([], [], marker="s", color=drawn.to_rgba(number), label=name)
        axes.legend(fontsize=7)
    return axes


def _draw(tuner, axes, value, **colours):
    """An image of `value`, of (decisions, groups) actions to one a decision; None without episodes."""
    axes.set(xlabel="decision", ylabel="training and test episodes")
    rows = []
    for episode in tuner.oracle.curriculum.episodes:
        history = _history(tuner, episode) if episode.kind in (TRAIN, TEST) else None
        if history is not None:
            rows.append(value(history["actions"][:-1]))  # nothing comes of the last
    if not rows:
        return None
    image = np.full((len(rows), max(map(len, rows))), np.nan)
    for row, taken in zip(image, rows, strict=True):
        row[: len(taken)] = taken
    return axes.imshow(image, aspect="auto", interpolation="none", **colours)


def _history(tuner, episode):
    width = len(str(tuner.oracle.max_trials))
    saved = files.read_arrays(tuner.project.history(f"{episode.number:0{width}d}"))
    return saved and saved["decisions"]


def _axes():
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError("Pictures need matplotlib: `pip install keras_drmad[plots]`.") from error
    return pyplot.subplots(figsize=(6, 4), layout="constrained")[1]
