"""Pictures of a search: what it has learned, and how (extra `plots`)."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_drmad.arguments import positive_integer, wrong
from keras_drmad.plots import figures
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

__all__ = ["actions", "draw_search", "learning_curve", "learning_rates", "sample_selection"]

_KINDS = (TRAIN, CONTEST, TEST, GUIDED, SCHEDULE)
_COLOURS = {RANDOM: "0.6"} | dict(zip(_KINDS, figures.COLOURS, strict=False))
_BASELINE = figures.COLOURS[-1]


def learning_curve(tuner: QANTuner, ax: "Axes | None" = None) -> "Axes":
    """What each episode has cost, by its kind; the means of best schedule and constant as lines.

    In the unit of the goal: steps or seconds. Without a goal's value: what the objective was.

    Args:
        tuner: A `QANTuner`, searched or in the middle of it.
        ax: Matplotlib axes. Defaults to new ones.

    Returns:
        The axes.

    Raises:
        ImportError: New axes are needed, and Matplotlib is not installed (extra `plots`).

    Example, after `tuner.search(...)`:

    >>> ax = learning_curve(tuner)
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('episode', 'steps to goal')
    >>> ax.figure.savefig(folder / "curve.png")
    """
    _check(tuner)
    panel = figures.panel(ax)
    oracle = tuner.oracle
    ranking = oracle.curriculum.ranking
    sign = 1 if oracle.objective.direction == "min" else -1
    for kind, colour in _COLOURS.items():
        episodes = ranking.contest().policy if kind == CONTEST else ranking.done(kind)
        costs = sign * np.array(summary.costs_of(episodes))
        panel.plot([e.number for e in episodes], costs, ".", color=colour, label=kind)
    tests = ranking.done(TEST)
    if len(tests) >= 5:
        means = np.convolve(sign * np.array(summary.costs_of(tests)), np.ones(5) / 5, "valid")
        panel.plot([e.number for e in tests[4:]], means, color=_COLOURS[TEST], label="five tests")
    for name, style, kinds in (("schedule", "--", KINDS), ("constant", ":", ("constant",))):
        if best := ranking.best_schedule(kinds):
            mean = sign * float(np.mean(summary.costs_of(best.episodes)))
            label = f"best {name} searched"
            panel.axhline(mean, color=_BASELINE, linestyle=style, linewidth=1, label=label)
    panel.set(xlabel="episode", ylabel=oracle.objective.name.replace("_", " "))
    figures.legend(panel, columns=3)
    return panel


def learning_rates(tuner: QANTuner, ax: "Axes | None" = None, episodes: int = 5) -> "Axes":
    """Learning rates over steps in the contest: the policy's and the best schedule's.

    As long as there is no contest: in the latest tests of the snapshot that is the best so far, and in
    the episodes that have searched the best schedule. With `per="layer"`, a line for each layer.

    Args:
        tuner, ax: As in `learning_curve`.
        episodes: The most of each that are drawn. Defaults to 5.

    Returns:
        The axes.

    Raises:
        ImportError: As in `learning_curve`.

    Example, after `tuner.search(...)`:

    >>> ax = learning_rates(tuner, episodes=1)
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['best schedule, contest', 'policy, contest']
    """
    _check(tuner)
    panel, episodes = figures.panel(ax), positive_integer("episodes", episodes)
    for name, colour, of in _rivals(tuner.oracle.curriculum.ranking, episodes):
        for i, episode in enumerate(of):
            history = _history(tuner, episode)
            if history is not None:
                lines = panel.step(history["steps"], history["rates"], color=colour, alpha=0.6)
                if i == 0:
                    lines[0].set_label(name)  # one for all layers
    figures.log_scale(panel)
    panel.set(xlabel="step", ylabel="learning rate")
    figures.legend(panel)
    return panel


def _check(tuner: QANTuner) -> None:
    if not hasattr(getattr(tuner, "oracle", None), "curriculum"):
        raise wrong("tuner", tuner, "a `QANTuner`")


def _rivals(ranking: Ranking, most: int) -> list[tuple[str, str, list[Episode]]]:
    """`[(name, colour, episodes)]` of best schedule and policy: in the contest, or before it."""
    found = []
    for named, colour in ((summary.schedules(ranking), _BASELINE), (summary.policies(ranking), "")):
        for name, episodes in named[:1]:
            kind = episodes[0].kind
            latest = episodes[:most] if kind == CONTEST else episodes[-most:]
            found.append((name, colour or _COLOURS[kind], latest))
    return found


def actions(
    tuner: QANTuner, ax: "Axes | Sequence[Axes] | np.ndarray | None" = None
) -> "list[Axes]":
    """Which actions were taken when, over decisions and episodes: a panel for each kind that varies.

    The first shows log₂ of the learning rate's factor, the next log₂ of the factor of 1 − momentum,
    the last the rules of sample selection. With `per="layer"`, factors are means over the layers of
    their logarithms, and rules are those of the first layer, which chooses.

    Args:
        tuner: As in `learning_curve`.
        ax: Matplotlib axes, one for each panel. Defaults to new ones.

    Returns:
        The axes of the panels.

    Raises:
        ImportError: As in `learning_curve`.
        ValueError: Too few axes are given.

    Example, after `tuner.search(...)` with
    `Actions((0.5, 1, 2), sample_selection=("uniform", "hardest"))`:

    >>> [panel.get_title() for panel in actions(tuner)]
    ['learning rate', 'samples']
    """
    _check(tuner)
    varying = _varying(tuner)
    panels = figures.panels(ax, len(varying))
    for (title, draw), panel in zip(varying, panels, strict=True):
        draw(tuner, panel)
        if len(varying) > 1:
            panel.set_title(title)
    return panels


def _varying(tuner: QANTuner) -> list[tuple[str, Callable[..., Any]]]:
    """`[(title, what draws it)]` of the kinds of action that there are."""
    taken = tuner.oracle.actions
    kinds: list[tuple[str, bool, Callable[..., Any]]] = [
        ("learning rate", len(taken.learning_rate) > 1, _factors("factor", 0)),
        ("momentum", taken.moves_momentum(), _factors("factor of 1 − momentum", 1)),
        ("samples", len(taken.sample_selection) > 1, sample_selection),
    ]
    return [(title, draw) for title, varies, draw in kinds if varies]


def draw_search(
    tuner: QANTuner, ax: "Axes | Sequence[Axes] | np.ndarray | None" = None
) -> "list[Axes]":
    """See `keras_drmad.plots.search`."""
    if not any(episode.cost is not None for episode in tuner.oracle.curriculum.episodes):
        raise ValueError("`tuner` has no episode that has ended: call `search` first.")
    costs, rates, *others = figures.panels(ax, 2 + len(_varying(tuner)))
    return [learning_curve(tuner, costs), learning_rates(tuner, rates), *actions(tuner, others)]


def _factors(name: str, kind: int) -> Callable[[QANTuner, "Axes"], None]:
    """Draws the factors of one kind of action, by its place in an action."""

    def draw(tuner: QANTuner, panel: "Axes") -> None:
        factors = np.log2([action[kind] for action in tuner.oracle.actions.all])
        most = np.abs(factors).max()
        colours = {"cmap": "coolwarm", "vmin": -most, "vmax": most}
        image = _image(tuner, panel, lambda taken: factors[taken].mean(-1), **colours)
        if image is not None:
            panel.figure.colorbar(image, ax=panel, label=f"log₂ of the {name}")

    return draw


def sample_selection(tuner: QANTuner, ax: "Axes | None" = None) -> "Axes":
    """Which samples were taken when: the rule of each chunk, over decisions and episodes.

    Args:
        tuner, ax: As in `learning_curve`.

    Returns:
        The axes.

    Raises:
        ImportError: As in `learning_curve`.

    Example, after `tuner.search(...)` with
    `Actions((0.5, 1, 2), sample_selection=("uniform", "hardest"))`:

    >>> ax = sample_selection(tuner)
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['uniform', 'hardest']
    """
    _check(tuner)
    panel = figures.panel(ax)
    names = tuner.oracle.actions.sample_selection
    numbers = np.array([names.index(rule) for *_, rule in tuner.oracle.actions.all])
    # The first group chooses. The map has eight colours.
    image = _image(tuner, panel, lambda taken: numbers[taken[:, 0]], cmap="Set2", vmin=0, vmax=7)
    if image is not None:
        for name, colour in zip(names, image.to_rgba(np.arange(len(names))), strict=True):
            panel.scatter([], [], marker="s", color=colour, label=name)
        figures.legend(panel)
    return panel


def _image(
    tuner: QANTuner, panel: "Axes", value: Callable[[np.ndarray], np.ndarray], **colours: Any
) -> "AxesImage | None":
    """An image of `value`, of (decisions, groups) actions to one a decision; None without episodes."""
    panel.set(xlabel="decision", ylabel="training and test episodes")
    panel.locator_params(integer=True)
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
    return panel.imshow(image, aspect="auto", interpolation="none", **colours)


def _history(tuner: QANTuner, episode: Episode) -> Arrays | None:
    saved = files.read_if_whole(tuner.project.history(tuner.oracle.start_order[episode.number]))
    return None if saved is None else saved["decisions"]
