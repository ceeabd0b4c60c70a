"""`hypergradient`: train, take the validation loss, walk back."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from keras_drmad import words
from keras_drmad.arguments import (
    choice,
    flag,
    named,
    of_kind,
    positive_integer,
    suggesting,
    verbosity,
    whole_number,
)
from keras_drmad.data import Batches, as_batches, as_validation
from keras_drmad.data_checks import check_data, overlap_of
from keras_drmad.engine.derivatives import GROWTH_LIMIT
from keras_drmad.engine.engine import Engine, OnStep
from keras_drmad.engine.judge import JUDGES
from keras_drmad.engine.programs import Adjoint
from keras_drmad.optimizers.learnable import LearnableOptimizer, learnable_optimizer
from keras_drmad.paths import Path, SegmentMeans
from keras_drmad.typing import Hyperparameters

_log = logging.getLogger("keras_drmad")

LONG_RUN_SECONDS = 5


@dataclass(repr=False)
class Hypergradient:
    """What `hypergradient` returns; printed, it is a summary.

    Attributes:
        validation_loss: the validation loss after training, at the weights that `judge` names.
        gradients: its derivatives with respect to the effective hyperparameters, in the form of
            `optimizer.hyperparameters`. Where a schedule changes the learning rate, with respect to
            the last one above zero (that is, to all rates, scaled together).
        hyper_variables: its derivatives with respect to `hyper_variables`, in their order.
        initial_weights: its derivatives with respect to the weights before training, one array a
            trainable variable.
        diverged: True if training or the reverse pass was not finite, or if the adjoint grew beyond
            what a stable training run allows; the gradients are then not to be used.
        growth: the largest norm of the weights' adjoint on the way back (looked at after each stack
            of steps) over that at its start, ‖∂L/∂w_T‖.
        steps: training steps.
        path: the path that was used.
        information: what the path reports of itself (bits of `Reversible`, …).
    """

    validation_loss: float
    gradients: Hyperparameters
    hyper_variables: list[np.ndarray]
    initial_weights: list[np.ndarray]
    diverged: bool
    growth: float
    steps: int
    path: Path
    information: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        unusable = ", so the gradients are not to be used" if self.diverged else ""
        found: dict[str, Any] = {"validation_loss": self.validation_loss, "growth": self.growth}
        found |= {"diverged": f"{self.diverged}{unusable}"} | self.information
        for name in ("hyper_variables", "initial_weights"):
            if arrays := getattr(self, name):
                norm = np.sqrt(sum(np.sum(np.square(a, dtype="float64")) for a in arrays))
                found[name] = f"{len(arrays)} arrays, of the norm {norm:.4g} together"
        width = max(map(len, found))
        return "\n".join(
            [f"Hypergradient of {self.steps} steps through {self.path!r}"]
            + [f"  {name:{width}}  {_shown(value)}" for name, value in found.items()]
            + ["  gradients", *(f"    {row}" for row in words.table(self.gradients))]
        )


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@suggesting
def hypergradient(
    model: keras.Model,
    train_data: Any,
    validation_data: Any,
    *,
    steps: int | None = None,
    path: Path | None = None,
    judge: str = "last",
    hyper_variables: Sequence[keras.Variable] = (),
    batch_size: int | None = None,
    validation_batch_size: int | None = None,
    shuffle: bool = True,
    seed: int | None = None,
    jit_compile: bool | str = "auto",
    check: bool = True,
    verbose: int | str = "auto",
) -> Hypergradient:
    """Trains a model and differentiates its validation loss by how it was trained.

    Trains for `steps` steps from where the model stands, takes the validation loss, and walks back
    through `path`. The model and its optimizer are left trained. The training is that of `fit`: the
    compiled loss with the penalties of layers, in training mode, and the optimizer with all that it
    was compiled with. `L_val` is the compiled loss without penalties, in inference mode, averaged
    over samples. See `docs/how/drmad.md` for the formulas.

    Args:
        model: A Keras model compiled with a `DrMADSGD` or `DrMADAdamW`.
        train_data: What `fit` takes as `x`: arrays as `(x, y)` or `(x, y, sample_weight)`, a
            `tf.data.Dataset`, a `keras.utils.PyDataset`, or another iterable of batches. Arrays and
            `PyDataset`s are read again by index; other data are kept in memory for the way back,
            `steps` batches of them. Data that end early are started again.
        validation_data: The *hyper* set, in the same forms; every batch is used once.
        steps: Training steps. Defaults to one epoch.
        path: A `keras_drmad.paths.Path`. Defaults to `SegmentMeans()`.
        judge: Which weights the validation loss is taken at. `"last"`: those at the end of training.
            `"mean"`: the mean of the weights after each step, which forgives the noise of a learning
            rate and so asks how far it carries the weights; the state of other layers is that at
            the end. Defaults to `"last"`.
        hyper_variables: Further `keras.Variable`s that the training loss reads.
        batch_size: Of `train_data`, if arrays. Defaults to 32.
        validation_batch_size: Of `validation_data`, if arrays. Defaults to 256.
        shuffle: Whether arrays are shuffled, afresh each epoch, as in `fit`. Without, their order is
            kept. Defaults to `True`.
        seed: Of the shuffling. Defaults to a draw from NumPy's global generator, which
            `keras.utils.set_random_seed` seeds.
        jit_compile: Whether to compile with XLA. `"auto"` leaves it out where it takes minutes
            (convolutions and recurrent layers on CPU) or would draw other dropout masks than `fit`.
        check: Whether two steps are first taken beside Keras's own `train_step`, on copies, and
            compared. Without, a training that is not what the compiled loss and optimizer say (an
            own `train_step`, state that Keras does not know) is differentiated as if it were, and
            the hypergradients are silently wrong.
        verbose: 0 for silence, 1 for a progress bar, `"auto"` for one on runs of over five seconds.

    Returns:
        A `Hypergradient`.

    Raises:
        ValueError: Something in the arguments, or in the way that the model is trained, that cannot
            be differentiated; before anything is trained.

    Example:

    >>> model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(1, name="out")])
    >>> model.compile(optimizer=DrMADSGD(0.05), loss="mse")
    >>> x, y = np.random.rand(64, 4), np.random.rand(64, 1)
    >>> found = hypergradient(model, (x[16:], y[16:]), (x[:16], y[:16]), steps=20, verbose=0)
    >>> list(found.gradients["out"])
    ['learning_rate', 'momentum', 'l2']
    """
    optimizer = learnable_optimizer(model)
    seed, shuffle = whole_number("seed", seed, optional=True), flag("shuffle", shuffle)
    positive_integer("batch_size", batch_size, optional=True)
    positive_integer("validation_batch_size", validation_batch_size, optional=True)
    jit_compile, check = flag("jit_compile", jit_compile, auto=True), flag("check", check)
    verbose = verbosity("verbose", verbose, most=1)
    if path is not None:
        of_kind("path", path, Path, "a `keras_drmad.paths.Path`")
    path = SegmentMeans() if path is None else path
    choice("judge", judge, JUDGES)
    if shuffle and seed is None:
        seed = int(np.random.randint(2**31))  # follows `keras.utils.set_random_seed`
    with named("train_data"):
        batches = as_batches(train_data, batch_size, seed if shuffle else None)
        batches.batch(0)
    with named("validation_data"):
        validation = as_validation(validation_data, validation_batch_size)
    check_data("train_data", model, batches)
    check_data("validation_data", model, validation)
    if (said := overlap_of(batches, validation)) is not None:
        _log.warning(said)
    steps = _steps(steps, batches)
    optimizer.span_schedule(steps)
    engine = Engine.of(model, batches.batch(0), path, hyper_variables, jit_compile, check)
    advance = _progress(verbose, 2 * steps)
    run = engine.train(
        engine.read(), batches, optimizer.learning_rates(steps), advance, judge=judge
    )
    engine.write(run.end, sum(run.taken))
    found = engine.differentiate(run, validation, advance)
    information = path.arithmetic.information(run.start.weights, run.closed, steps)
    finite = found.finite
    if path.replay == "backward":
        information["undone_exactly"] = finite and found.undone
        finite = information["undone_exactly"]
    return Hypergradient(
        validation_loss=found.validation_loss,
        gradients=effective(optimizer, found.adjoint, run.rates),
        hyper_variables=[g.numpy() for g in found.adjoint.hyper_variables],
        initial_weights=[g.numpy() for g in found.adjoint.weights],
        diverged=not finite or found.growth > GROWTH_LIMIT,
        growth=found.growth,
        steps=steps,
        path=path,
        information=information,
    )


def effective(
    optimizer: LearnableOptimizer, adjoint: Adjoint, rates: Sequence[float]
) -> Hyperparameters:
    """Derivatives by effective values, in the form of `optimizer.hyperparameters`."""
    vectors = {kind: g.numpy() for kind, g in adjoint.hyper.items()}
    used = [rate for rate in rates if rate > 0]
    vectors["learning_rate"] = vectors["learning_rate"] / (used[-1] if used else 1.0)
    return optimizer.layout.nest(vectors)


def _steps(steps: int | None, batches: Batches) -> int:
    if steps is None:
        steps = batches.epoch_steps
        if steps is None:
            raise ValueError("`steps` must be given for training data of unknown length.")
    return positive_integer("steps", steps)


def _progress(verbose: int | str, total: int) -> OnStep | None:
    """A function that counts steps on a progress bar, from when a run turns out to be long."""
    if verbose == 0:
        return None
    bar, begun = keras.utils.Progbar(total), time.monotonic()
    done = 0

    def advance(steps: int) -> None:
        nonlocal done
        done += steps
        if verbose == 1 or time.monotonic() - begun > LONG_RUN_SECONDS:
            bar.update(done)

    return advance
