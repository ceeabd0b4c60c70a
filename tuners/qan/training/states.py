"""What an agent sees of a training."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import numpy as np

from keras_drmad.arguments import some_of, wrong

from .view import View

SMALL = 1e-12
LIMIT = 5.0


class State:
    """A part of the observation. Subclasses have a `shape` and `observe`, and may have `encode`.

    A subclass of yours, registered with `keras.saving.register_keras_serializable`, is saved with the
    policy by its `get_config`.

    Attributes:
        shape: of what `observe` returns for one group; not empty.
        codebook: what `prepare` has found, which other processes get; None before.

    Example:

    >>> @keras.saving.register_keras_serializable(package="mine")
    ... class Norm(State):
    ...     shape = (1,)
    ...
    ...     def observe(self, view):
    ...         norms = [[np.sqrt(sum(np.sum(v.numpy() ** 2) for v in of))] for of in view.variables]
    ...         return np.log1p(np.array(norms, "float32"))
    >>> Norm().size
    1
    """

    shape: tuple[int, ...] = ()
    codebook: np.ndarray | None = None

    def prepare(self, models: Sequence[Any]) -> None:
        """Called once with what the warm start was, before anything is observed.

        Args:
            models: of each decision, one stand-in for the model: with `layers`, which have a `name`
                and a `kernel` (an array or None), and `get_layer(name)`.

        What is found must be an array `self.codebook`.
        """

    def check(self, model: keras.Model) -> None:
        """Raises a ValueError if such a model cannot be observed; called before anything is trained."""

    def needs_warm_start(self) -> bool:
        """Whether `prepare` wants to be called."""
        return False

    def observe(self, view: View) -> np.ndarray:
        """`(groups, *shape)` numbers of about 1 in size."""
        raise NotImplementedError

    def encode(self, tensor: keras.KerasTensor) -> keras.KerasTensor:
        """The agent's own features of a batch of them, as Keras layers: (batch, features)."""
        return keras.layers.Flatten()(tensor) if len(self.shape) > 1 else tensor

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))

    def get_config(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "State":
        return cls(**config)


@keras.saving.register_keras_serializable(package="keras_drmad")
class Ratios(State):
    """Numbers that mean the same for every model: logarithms of ratios, angles, fractions.

    For a decision at step t of T, with α the rate, ℓ the last chunk's mean loss, w the weights, Δ
    their change in that chunk, Δ' in the one before, n of its k steps taken:

        rate            log₁₀ α / α_compiled
        time            t / T
        loss            log ℓ / ℓ_0
        loss_mean       its mean over the last five decisions
        loss_slope      log ℓ / ℓ one decision before
        loss_trend      log ℓ / ℓ four decisions before, a quarter of it
        gap             to the goal (see `Goal`)
        gap_mean        its mean over the last five decisions; single ones are noisy
        gap_slope       its change since the last decision
        gap_trend       since four decisions before, a quarter of it
        best_gap        the least so far
        update          log₁₀ (50 k/n ‖Δ‖ / ‖w‖): by chunks, for they are what is alike when a
                        smaller batch makes more steps of the same samples
        gradient        update − log₁₀ α: the mean gradient as the optimizer has applied it
        angle           ⟨Δ, Δ'⟩ / (‖Δ‖ ‖Δ'‖)
        overfitting     log of validation loss / ℓ (0 without validation data)
        momentum        log₁₀ (1 − μ) + 1

    Slopes are five times as large as that, so that all are of about one size; each is cut to ±5.
    With `per="layer"`, rate, update, gradient, angle and momentum are the layer's own.

    Args:
        names: Those to take. Defaults to `Ratios.FEW`, seven of them; `Ratios.ALL` are all.

    Raises:
        ValueError: Unknown names, or none.

    References:
        Our own, instead of the filters that Fu et al., 2016, observe (`RawFilters`).

    Example:

    >>> state = Ratios(("rate", "time", "gap"))
    >>> model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1)])
    >>> view = View(model, [model.trainable_variables], budget=80, start_rate=0.01, every=20)
    >>> view.step, view.losses, view.gaps = 20, [1.0, 0.5], [2.0, 1.5]
    >>> view.rates, view.momenta, view.motion = np.array([0.1]), np.zeros(1), np.ones((1, 4))
    >>> state.observe(view).round(3).tolist()
    [[1.0, 0.25, 1.5]]
    """

    FEW = ("rate", "time", "loss", "gap", "gap_mean", "best_gap", "update")
    ALL = (
        *("rate", "time", "loss", "loss_mean", "loss_slope", "loss_trend"),
        *("gap", "gap_mean", "gap_slope", "gap_trend", "best_gap"),
        *("update", "gradient", "angle", "overfitting", "momentum"),
    )

    def __init__(self, names: Sequence[str] = FEW) -> None:
        self.names = some_of("names", names, self.ALL)
        self.shape = (len(self.names),)

    def observe(self, view: View) -> np.ndarray:
        found = np.empty((len(view.rates), len(self.names)))
        with np.errstate(all="ignore"):  # weights that have diverged
            for column, name in enumerate(self.names):
                found[:, column] = _RATIOS[name](view)
        found[np.isnan(found)] = LIMIT
        return found.clip(-LIMIT, LIMIT).astype("float32")

    def get_config(self) -> dict[str, Any]:
        return {"names": list(self.names)}


# Of a `View`, (groups,) or for all groups. In between a training, each operation more takes its time.
_RATIOS: dict[str, Callable[[View], Any]] = {
    "rate": lambda view: np.log10(view.rates / view.start_rate),
    "time": lambda view: view.step / view.budget,
    "loss": lambda view: _log(view.losses[-1]) - _log(view.losses[0]),
    "loss_mean": lambda view: _mean(map(_log, view.losses[-5:])) - _log(view.losses[0]),
    "loss_slope": lambda view: 5 * _change(view.losses, 1, _log),
    "loss_trend": lambda view: 5 * _change(view.losses, 4, _log),
    "gap": lambda view: view.gaps[-1],
    "gap_mean": lambda view: _mean(view.gaps[-5:]),
    "gap_slope": lambda view: 5 * _change(view.gaps, 1),
    "gap_trend": lambda view: 5 * _change(view.gaps, 4),
    "best_gap": lambda view: min(view.gaps),
    "update": lambda view: _update(view),
    "gradient": lambda view: np.where(
        view.motion[:, 1] > 0, _update(view) - np.log10(view.rates), 0.0
    ),
    "angle": lambda view: _angle(*view.motion[:, 1:].T.astype("float64")),
    "overfitting": lambda view: (
        _log(view.val_losses[-1]) - _log(view.losses[-1]) if view.val_losses else 0.0
    ),
    "momentum": lambda view: np.log10(np.maximum(1 - view.momenta, 1e-4)) + 1,
}


def _update(view: View) -> np.ndarray:
    weight, update = view.motion[:, :2].T.astype("float64")
    moved = 0.5 * np.log10((update + SMALL) / (weight + SMALL))
    return np.where(update > 0, moved + math.log10(50 * view.every / max(view.steps, 1)), 0.0)


def _angle(update: np.ndarray, along: np.ndarray, before: np.ndarray) -> np.ndarray:
    return along / np.sqrt(update * before + SMALL**2)


def _log(value: float) -> float:
    return math.log(max(value, SMALL))


def _mean(values: Iterable[float]) -> float:
    values = list(values)
    return sum(values) / len(values)


def _change(values: Sequence[float], back: int, of: Callable[[float], float] = float) -> float:
    """Change a decision of a function of them, over so many of them."""
    back = min(back, len(values) - 1)
    return (of(values[-1]) - of(values[-1 - back])) / back if back else 0.0


def check_kinds_of(states: object) -> None:
    """Raises a ValueError unless it is a list of `State`s, which may be empty."""
    if not isinstance(states, list | tuple) or not all(isinstance(s, State) for s in states):
        raise wrong("states", states, "a list of `State`s")


def observe(states: Sequence[State], view: View) -> np.ndarray:
    """(groups, D): all states of a view, flat."""
    if not states:  # of a policy that is a schedule
        return np.zeros((len(view.rates), 0), "float32")
    parts = [state.observe(view).reshape(len(view.rates), -1) for state in states]
    return np.concatenate(parts, axis=1, dtype="float32", casting="unsafe")
