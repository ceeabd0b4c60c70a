"""`smoothness`: whether the hypergradient of a training means anything."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_drmad.arguments import flag, named, number, positive_integer, suggesting, whole_number
from keras_drmad.data import as_batches
from keras_drmad.data_checks import check_data
from keras_drmad.engine.engine import Engine
from keras_drmad.optimizers.learnable import LearnableOptimizer, learnable_optimizer
from keras_drmad.paths import Checkpointed
from keras_drmad.typing import Arrays

SMOOTH, ROUGH = 0.5, 0.0
# There is no way back: nothing is kept but the start.
PATH = Checkpointed(every=2**62)


@dataclass(repr=False)
class Smoothness:
    """What `smoothness` returns; printed, it is a sentence.

    Attributes:
        value: from −1 to 1.
        advice: what to do, in a sentence.
    """

    value: float
    advice: str

    def __repr__(self) -> str:
        return f"Smoothness of {self.value:.4g}. {self.advice}"


@suggesting
def smoothness(
    model: keras.Model,
    train_data: Any,
    *,
    steps: int | None = None,
    size: float = 0.05,
    batch_size: int | None = None,
    seed: int = 0,
    jit_compile: bool | str = "auto",
    check: bool = True,
) -> Smoothness:
    """Measures whether a training answers small changes of its hyperparameters evenly.

    Trains three times from where the model stands, on the same batches, with the hyperparameters at
    `z`, `z + h d` and `z + 2 h d`. With `a` and `b` the first and the second change of the trained
    weights,

        value = Σ_i |a_i| · sign(a_i) · sign(b_i) / Σ_i |a_i|

    1: what the first step did, the second does again; a derivative tells what a change will do. 0: the
    second has nothing to do with the first, as in chaotic training. A hypergradient then is noise,
    however exactly it is computed. The model, its optimizer and its data stay as they are.

    Args:
        model: A Keras model compiled with a `DrMADSGD` or `DrMADAdamW`.
        train_data: As in `hypergradient`.
        steps: Training steps. Defaults to one epoch.
        size: The step `h` on the scales on which hyperparameters are learned, at most 1: 0.05 changes a
            learning rate by 5 %. The direction `d` has random signs. Defaults to `0.05`.
        batch_size: Of `train_data`, if arrays. Defaults to 32.
        seed: Of the order of arrays, and of the direction. Defaults to `0`.
        jit_compile, check: As in `hypergradient`.

    Returns:
        A `Smoothness`.

    Raises:
        ValueError: As `hypergradient`; or nothing may be learned.

    Source: metasmoothness, https://arxiv.org/abs/2503.13751.

    Example:

    >>> model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(1, name="out")])
    >>> model.compile(optimizer=DrMADSGD(0.01), loss="mse")
    >>> x, y = np.random.rand(64, 4), np.random.rand(64, 1)
    >>> found = smoothness(model, (x, y), steps=20)
    >>> found.value > 0.9
    True
    """
    size, seed = number("size", size, above=0, most=1), whole_number("seed", seed)
    positive_integer("batch_size", batch_size, optional=True)
    jit_compile, check = flag("jit_compile", jit_compile, auto=True), flag("check", check)
    optimizer = learnable_optimizer(model)
    optimizer.check_learns()
    with named("train_data"):
        batches = as_batches(train_data, batch_size, seed)
        batches.batch(0)
    check_data("train_data", model, batches)
    if steps is None and batches.epoch_steps is None:
        raise ValueError("`steps` must be given for training data of unknown length.")
    steps = positive_integer("steps", batches.epoch_steps if steps is None else steps)
    optimizer.span_schedule(steps)
    engine = Engine.of(model, batches.batch(0), PATH, (), jit_compile, check)
    start, rates = engine.read(), optimizer.learning_rates(steps)
    ends = []
    for _ in _moved(optimizer, size, seed):
        weights = engine.train(start, batches, rates).end.weights
        ends.append(np.concatenate([np.ravel(w).astype("float64") for w in weights]))
    first, second = np.diff(ends, axis=0)
    if not np.isfinite(second - first).all():
        return Smoothness(-1.0, "The training diverges: lower the learning rate.")
    value = float(np.sum(first * np.sign(second)) / max(np.sum(np.abs(first)), 1e-300))
    return Smoothness(value, _advice(value))


def _moved(optimizer: LearnableOptimizer, size: float, seed: int) -> Iterator[None]:
    """Three times: the hyperparameters as they are, a step further, and two; then as they were."""
    random = np.random.default_rng(seed)
    learned = {k: d for k, d in optimizer.displacements.items() if k in optimizer.learn}
    before: Arrays = {kind: d.numpy() for kind, d in learned.items()}
    signs = {kind: random.choice((-1.0, 1.0), d.shape) for kind, d in before.items()}
    try:
        for count in range(3):
            for kind, displacement in learned.items():
                displacement.assign(before[kind] + count * size * signs[kind])
            yield
    finally:
        for kind, displacement in learned.items():
            displacement.assign(before[kind])


def _advice(value: float) -> str:
    if value >= SMOOTH:
        return "Hypergradients of this training mean something: search with `DrMADTuner`."
    if value > ROUGH:
        return (
            "Hypergradients of this training are noisy: average several (`gradients_per_step`), use "
            '`judge="mean"`, a shorter `horizon` or a lower learning rate.'
        )
    return (
        "Hypergradients of this training mean nothing: learn in short windows with "
        "`LearnHyperparameters`, lower the learning rate, or search without derivatives."
    )
