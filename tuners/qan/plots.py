"""Pictures of a search: what it has learned, and how (extra `plots`)."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_drmad.typing import Arrays

from ..storage import files
from . import summary
from .search.episode import CONTEST, GUIDED, RANDOM, SCHEDULE, TEST, TRAIN, Episode
from .search.ranking import Ranking
from .search.schedules import KINDS
from .tuner import QANTuner

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

COLOURS = {RANDOM: "0.6", SCHEDULE: "tab:orange", GUIDED: "tab:olive", TRAIN: "tab:blue"}
COLOURS |= {TEST: "tab:green", CONTEST: "tab:red"}


def learning_curve(tuner: QANTuner, axes: "Axes | None" = None) -> "Axes":
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
    ranking = oracle.curriculum.ranking
    sign = 1 if oracle.objective.direction == "min" else -1
    for kind, colour in COLOURS.items():
        episodes = ranking.contest().policy if kind == CONTEST else ranking.done(kind)
        costs = sign * np.array(summary.costs_of(episodes))
        axes.plot([e.number for e in episodes], costs, ".", color=colour, label=kind)
    tests = ranking.done(TEST)
    if len(tests) >= 5:
        means = np.convolve(sign * np.array(summary.costs_of(tests)), np.ones(5) / 5, "valid")
        axes.plot([e.number for e in tests[4:]], means, color=COLOURS[TEST], label="five tests")
    for name, style, kinds in (("schedule", "--", KINDS), ("constant", ":", ("constant",))):
        if best := ranking.best_schedule(kinds):
            mean = sign * float(np.mean(summary.costs_of(best.episodes)))
            label = f"best {name} searched"
            axes.axhline(mean, color="black", linestyle=style, linewidth=1, label=label)
    axes.set(xlabel="episode", ylabel=oracle.objective.name.replace("_", " "))
    axes.legend(fontsize=7)
    return axes


def learning_rates(tuner: QANTuner, axes: "Axes | None" = None, episodes: int = 5) -> "Axes":
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
    for name, colour, of in _rivals(tuner.oracle.curriculum.ranking, episodes):
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


def _rivals(ranking: Ranking, most: int) -> list[tuple[str, str, list[Episode]]]:
    """`[(name, colour, episodes)]` of best schedule and policy: in the contest, or before it."""
    found = []
    for named, colour in ((summary.schedules(ranking), "black"), (summary.policies(ranking), "")):
        for name, episodes in named[:1]:
            kind = episodes[0].kind
            latest = episodes[:most] if kind == CONTEST else episodes[-most:]
            found.append((name, colour or COLOURS[kind], latest))
    return found


def actions(tuner: QANTuner, axes: "Axes | np.ndarray | None" = None) -> "Axes | np.ndarray":
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
    kinds: list[tuple[str, bool, Callable[..., Any]]] = [
        ("learning rate", len(taken.learning_rate) > 1, _factors("factor", 0)),
        ("momentum", taken.moves_momentum(), _factors("factor of 1 − momentum", 1)),
        ("samples", len(taken.sample_selection) > 1, sample_selection),
    ]
    panels = [(title, draw) for title, varies, draw in kinds if varies]
    axes = _axes(len(panels)) if axes is None else axes
    for (title, draw), panel in zip(panels, np.asarray(axes).ravel(), strict=False):
        draw(tuner, panel)
        if len(panels) > 1:
            panel.set_title(title)
    return axes


def _factors(name: str, kind: int) -> Callable[[QANTuner, "Axes"], None]:
    """Draws the factors of one kind of action, by its place in an action."""

    def draw(tuner: QANTuner, axes: "Axes") -> None:
        factors = np.log2([action[kind] for action in tuner.oracle.actions.all])
        most = np.abs(factors).max()
        colours = {"cmap": "coolwarm", "vmin": -most, "vmax": most}
        drawn = _draw(tuner, axes, lambda taken: factors[taken].mean(-1), **colours)
        if drawn is not None:
            axes.figure.colorbar(drawn, ax=axes, label=f"log₂ of the {name}")

    return draw


def sample_selection(tuner: QANTuner, axes: "Axes | None" = None) -> "Axes":
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
        for name, colour in zip(names, drawn.to_rgba(np.arange(len(names))), strict=True):
            axes.scatter([], [], marker="s", color=colour, label=name)
        axes.legend(fontsize=7)
    return axes


def _draw(
    tuner: QANTuner, axes: "Axes", value: Callable[[np.ndarray], np.ndarray], **colours: Any
) -> "AxesImage | None":
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


def _history(tuner: QANTuner, episode: Episode) -> Arrays | None:
    saved = files.read_arrays(tuner.project.history(tuner.oracle.start_order[episode.number]))
    return None if saved is None else saved["decisions"]


def _axes(number: int = 1) -> Any:
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError("Pictures need matplotlib: `pip install keras_drmad[plots]`.") from error
    return pyplot.subplots(1, number, figsize=(6 * number, 4), layout="constrained")[1]
