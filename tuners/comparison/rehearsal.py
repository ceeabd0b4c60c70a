"""What each method needs, made once before anything is trained: what fails is named, with its method."""

import contextlib
import io
import os
import tempfile
import warnings
from collections.abc import Iterator

import keras
import keras_tuner
import numpy as np
from keras_tuner.engine.hyperparameters import Fixed, HyperParameter

from keras_drmad.arguments import did_you_mean
from keras_drmad.data_checks import not_finite

from ..budget import Budget
from .data import NAMES, Part
from .method import Method
from .search import make_tuner

VALIDATION = "val_"  # before the name of a metric


class Rehearsal:
    """Makes the model, the tuner and the callbacks of a method, and evaluates a sample of each set.

    Args:
        name, method: which one.
        data: the three sets of the first seed.
        seed: the first.

    Raises:
        ValueError: One of them fails.
    """

    def __init__(self, name: str, method: Method, data: tuple[Part, Part, Part], seed: int) -> None:
        self._name, self._method, self._seed = name, method, seed
        self._hp = keras_tuner.HyperParameters()
        with self._said("The model", "cannot be built at the defaults of its hyperparameters"):
            self._model = method.build(self._hp)
        if not isinstance(self._model, keras.Model) or not getattr(self._model, "compiled", False):
            raise ValueError(
                f"The hypermodel of {name!r} must return a compiled Keras model. Received: "
                f"{self._model!r}"
            )
        with self._said("The data", "cannot be read by its `inputs`"):
            self._parts = dict(zip(NAMES, map(method.read, data), strict=True))

    @property
    def space(self) -> list[HyperParameter]:
        """The hyperparameters that the model asks for, with the defaults of all others."""
        return [one for one in self._hp.space if not isinstance(one, Fixed)]

    def check(
        self, objective: keras_tuner.Objective, metric: keras_tuner.Objective, budget: Budget
    ) -> None:
        """Raises a ValueError for what would fail in the first training, or after it."""
        for part, data in self._parts.items():
            _check_values(f"`{part}` of {self._name!r}", data)
        with (
            tempfile.TemporaryDirectory() as folder,
            contextlib.redirect_stdout(io.StringIO()),
            warnings.catch_warnings(),
            self._said("The tuner", "cannot be made"),
        ):
            warnings.simplefilter("ignore")  # it is made again, and warns then
            place = os.path.join(folder, "search")
            make_tuner(self._method, objective, budget, 1, self._seed, place)
        with self._said("The callbacks", "cannot be made"):
            callbacks = self._method.make_callbacks(self._parts["train"], self._parts["validation"])
        if self._method.fits_itself:
            return  # and may make something else of the data
        logged = {part: self._evaluated(part) for part in NAMES}
        wanted = {"metric": (metric.name, logged["test"])}
        if not (callbacks or self._method.has_episodes):  # which may log more
            validated = [f"{VALIDATION}{name}" for name in logged["validation"]]
            wanted["objective"] = (objective.name, validated)
        for argument, (one, known) in wanted.items():
            if one not in known:
                advice = did_you_mean(one, valid=known)
                raise ValueError(
                    f"`{argument}` must be one that the model of {self._name!r} has: {known}. Received: "
                    f"{argument}={one!r}. {advice and advice + ' Or c'}{'' if advice else 'C'}ompile it "
                    "with `metrics=[...]`."
                )

    def _evaluated(self, part: str) -> list[str]:
        """Names of the metrics that there are for a sample of a set."""
        x, y, *weight = keras.tree.map_structure(lambda leaf: leaf[:1], self._parts[part])
        self._model.run_eagerly = True  # to compile would take seconds
        with self._said("The model", f"cannot be evaluated on a sample of `{part}`"):
            return list(self._model.evaluate(x, y, None, 0, *weight, return_dict=True))

    @contextlib.contextmanager
    def _said(self, what: str, fails: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            raise ValueError(f"{what} of {self._name!r} {fails}: {error}") from error


def _check_values(name: str, data: Part) -> None:
    for array in (
        np.asarray(leaf) for leaf in keras.tree.flatten(data) if hasattr(leaf, "__array__")
    ):
        bad = not_finite(array)
        if bad or array.dtype.kind == "c":
            what = f"{bad} values that are NaN or infinite" if bad else "complex numbers"
            raise ValueError(f"{name} must hold finite real numbers. Received: {what}")
