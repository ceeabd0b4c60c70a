"""Pictures of a search: what it has learned, and how (extra `plots`)."""

import numpy as np

from ..storage import files
from .search.curriculum import CONTEST, GUIDED, RANDOM, SCHEDULE, TEST, TRAIN
from .search.schedules import KINDS

COLOURS = {RANDOM: "0.6", SCHEDULE: "tab:orange", GUIDED: "tab:olive", TRAIN: "tab:blue"}
COLOURS |= {TEST: "tab:green", CONTEST: "tab:red"}


def learning_curve(tuner, axes=None):
    """What each episode has cost, by its kind; the means of best schedule and constant as lines.

    In the unit of the goal: steps or seconds. Without a goal's value: what the objective was.

    Args:
        tuner: A `QANTuner`, searched or in the middle of it.
        axes: Of matplotlib. Defaults to new ones.

    Returns:
        The axes.

    Raises:
        ImportError: New axes are needed, and there is no matplotlib (extra `plots`).

    Example, after `tuner.search(...)`:

    >>> axes = learning_curve(tuner)
    >>> axes.get_xlabel(), axes.get_ylabel()
    ('episode', 'steps to goal')
    >>> axes.figure.savefig(folder / "curve.png")
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

    As long as there is no contest: in the latest tests of the snapshot that is the best so far, and in
    the episodes that have searched the best schedule. With `per="layer"`, a line for each layer.

    Args:
        tuner, axes: As in `learning_curve`.
        episodes: The most of each that are drawn. Defaults to 5.

    Returns:
        The axes.

    Raises:
        ImportError: As in `learning_curve`.

    Example, after `tuner.search(...)`:

    >>> axes = learning_rates(tuner, episodes=1)
    >>> [text.get_text() for text in axes.get_legend().get_texts()]
    ['best schedule, contest', 'policy, contest']
    """
    axes = axes or _axes()
    for name, colour, of in _rivals(tuner.oracle.curriculum, episodes):
        for i, episode in enumerate(of):
            history = _history(tuner, episode)
            if history is not None:
                lines = axes.step(history["steps"], history["rates"], color=colour, alpha=0.6)
                if i == 0:
                    lines[0].set_label(name)  # one for all layers
    axes.set(xlabel="step", ylabel="learning rate", yscale="log")
    if axes.get_lines():
        axes.legend(fontsize=7)
    return axes


def _rivals(curriculum, most):
    """`[(name, colour, episodes)]` of best schedule and policy: in the contest, or before it."""
    _, policy, schedule = curriculum.verdict()
    found = [("best schedule, contest", "black", schedule[:most])]
    if not schedule and (best := curriculum.best_schedule()):
        found = [("best schedule searched", "black", best[1][-most:])]
    if policy or not (tested := curriculum.best_snapshot()):
        return [*found, ("policy, contest", COLOURS[CONTEST], policy[:most])]
    snapshot, tests = tested
    return [*found, (f"policy, tests of snapshot {snapshot}", COLOURS[TEST], tests[-most:])]


def actions(tuner, axes=None):
    """Which actions were taken when, over decisions and episodes: a panel for each kind that varies.

    The first shows log₂ of the learning rate's factor, the next log₂ of the factor of 1 − momentum,
    the last the rules of sample selection. With `per="layer"`, factors are means over the layers of
    their logarithms, and rules are those of the first layer, which chooses.

    Args:
        tuner: As in `learning_curve`.
        axes: Of matplotlib: one for the first panel alone, or several. Defaults to new ones for all.

    Returns:
        The axes; an array of them if there are several.

    Raises:
        ImportError: As in `learning_curve`.

    Example, after `tuner.search(...)` with
    `Actions((0.5, 1, 2), sample_selection=("uniform", "hardest"))`:

    >>> [panel.get_title() for panel in actions(tuner)]
    ['learning rate', 'samples']
    """
    taken = tuner.oracle.actions
    panels = [
        ("learning rate", len(taken.learning_rate) > 1, _factors("factor", 0)),
        ("momentum", taken.moves_momentum(), _factors("factor of 1 − momentum", 1)),
        ("samples", len(taken.sample_selection) > 1, sample_selection),
    ]
    panels = [(title, draw) for title, varies, draw in panels if varies]
    axes = _axes(len(panels)) if axes is None else axes
    for (title, draw), panel in zip(panels, np.ravel(axes), strict=False):
        draw(tuner, panel)
        if len(panels) > 1:
            panel.set_title(title)
    return axes


def _factors(name, kind):
    """Draws the factors of one kind of action, by its place in an action."""

    def draw(tuner, axes):
        factors = np.log2([action[kind] for action in tuner.oracle.actions.all])
        most = np.abs(factors).max()
        colours = {"cmap": "coolwarm", "vmin": -most, "vmax": most}
        drawn = _draw(tuner, axes, lambda taken: factors[taken].mean(-1), **colours)
        if drawn is not None:
            axes.figure.colorbar(drawn, ax=axes, label=f"log₂ of the {name}")

    return draw


def sample_selection(tuner, axes=None):
    """Which samples were taken when: the rule of each chunk, over decisions and episodes.

    Args:
        tuner, axes: As in `learning_curve`.

    Returns:
        The axes.

    Raises:
        ImportError: As in `learning_curve`.

    Example, after `tuner.search(...)` with
    `Actions((0.5, 1, 2), sample_selection=("uniform", "hardest"))`:

    >>> axes = sample_selection(tuner)
    >>> [text.get_text() for text in axes.get_legend().get_texts()]
    ['uniform', 'hardest']
    """
    axes = axes or _axes()
    names = tuner.oracle.actions.sample_selection
    numbers = np.array([names.index(rule) for *_, rule in tuner.oracle.actions.all])
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
    axes.locator_params(integer=True)
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
    saved = files.read_arrays(tuner.project.history(tuner.oracle.start_order[episode.number]))
    return saved and saved["decisions"]


def _axes(number=1):
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError("Pictures need matplotlib: `pip install keras_drmad[plots]`.") from error
    return pyplot.subplots(1, number, figsize=(6 * number, 4), layout="constrained")[1]
