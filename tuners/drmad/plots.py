"""The picture of a hypergradient search (extra `plots`)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from keras_tuner.engine.trial import Trial

from keras_drmad.plots import figures
from keras_drmad.plots.hyperparameters import by_kind, draw_kind

from ..storage import files
from .place import DIFFERENTIATE, ITERATION, LEARN, RETEST, RUN, SCOUT, STAGE
from .pruning import epochs_until_pruned
from .tuner import DrMADTuner

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HYPER_LOSS = "hyper_loss"
WIDE = 5.0  # losses that are so many times as large as others
# Of the trials of each stage.
MARKS = {
    SCOUT: ("^", "scouting"),
    LEARN: ("s", "learning"),
    DIFFERENTIATE: ("o", "refining"),
    RETEST: ("D", "retesting"),
}


def draw_search(
    tuner: DrMADTuner, ax: "Axes | Sequence[Axes] | np.ndarray | None" = None
) -> "list[Axes]":
    """See `keras_drmad.plots.search`."""
    oracle = tuner.oracle
    done = [oracle.trials[name] for name in oracle.start_order if name in oracle.end_order]
    done = [trial for trial in done if trial.score is not None]
    if not done:
        raise ValueError("`tuner` has no trial that has ended: call `search` first.")
    run = _place(oracle.get_best_trials(1)[0], RUN)
    iterations, values = _learned(tuner, [trial for trial in done if _place(trial, RUN) == run])
    kinds = by_kind(values)
    axes = figures.panels(ax, 1 + len(kinds))
    _draw_losses(tuner, axes[0], done)
    for panel, (kind, groups) in zip(axes[1:], kinds.items(), strict=True):
        draw_kind(panel, kind, groups, iterations, "meta-iteration")
    return axes


def _place(trial: Trial, name: str) -> int:
    return int(trial.hyperparameters.values[name])


def _learned(tuner: DrMADTuner, trials: list[Trial]) -> tuple[list[int], dict[str, list[float]]]:
    """`(meta-iterations, {"<group>/<kind>": values})` of a meta-run; what is not there is left out."""
    by_iteration = {}
    for trial in trials:  # those of a meta-iteration have the same values
        if saved := files.read_json(tuner.project.learned(trial.trial_id)):
            by_iteration[_place(trial, ITERATION)] = saved
    iterations = sorted(by_iteration)
    names = by_iteration[iterations[0]] if iterations else ()
    return iterations, {name: [by_iteration[i][name] for i in iterations] for name in names}


def _draw_stages(
    panel: "Axes", trials: list[Trial], numbers: list[int], scores: np.ndarray, name: str
) -> None:
    """A mark for each trial: which one says what it did, and an empty one that it was pruned."""
    stages = [trial.hyperparameters.values[STAGE] for trial in trials]
    pruned = np.array([epochs_until_pruned(trial) > 0 for trial in trials])
    for stage, (marker, does) in MARKS.items():
        own = np.array([one == stage for one in stages])
        for chosen, face, label in (
            (own & ~pruned, figures.COLOURS[0], does if len(set(stages)) > 1 else name),
            (own & pruned, "none", f"{does}, pruned"),
        ):
            if chosen.any():
                x, y = np.array(numbers)[chosen], scores[chosen]
                colour = figures.COLOURS[0]
                panel.plot(x, y, marker, color=colour, markerfacecolor=face, label=label)


def _draw_losses(tuner: DrMADTuner, panel: "Axes", trials: list[Trial]) -> None:
    """Objective and hyper loss of each trial, and the best so far."""
    objective = tuner.oracle.objective
    numbers = [tuner.oracle.start_order.index(trial.trial_id) for trial in trials]
    scores = figures.with_gaps([float(trial.score or 0.0) for trial in trials], objective.name)
    best = np.fmin if objective.direction == "min" else np.fmax
    panel.step(numbers, best.accumulate(scores), color="0.7", where="post", label="best so far")
    _draw_stages(panel, trials, numbers, scores, objective.name)
    if objective.name != HYPER_LOSS and all(t.metrics.exists(HYPER_LOSS) for t in trials):
        losses = np.array([t.metrics.get_best_value(HYPER_LOSS) for t in trials], "float64")
        if not np.allclose(losses, scores, equal_nan=True):  # where there is a selection set
            shown = figures.with_gaps(losses, "hyper loss")
            red = figures.COLOURS[1]
            own = panel if objective.name == "val_loss" else panel.twinx()
            own.plot(numbers, shown, "x", color=red, label="hyper loss")
            if own is not panel:  # another quantity, on the right
                own.set_ylabel("hyper loss (×)", color=red)
    known = scores[np.isfinite(scores)]
    if objective.direction == "min" and known.size and 0 < known.min() * WIDE < known.max():
        figures.log_scale(panel)  # bad starts leave the others no room
    panel.set(xlabel="trial", ylabel=objective.name.replace("_", " "))
    panel.locator_params(axis="x", integer=True, min_n_ticks=1)
    figures.legend(panel, columns=3)
