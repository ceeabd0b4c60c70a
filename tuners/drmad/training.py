"""One training of a trial: from scratch, with the hyperparameters of its meta-iteration, and back."""

import gc
from dataclasses import dataclass

import keras
import numpy as np

from keras_drmad.engine.engine import Engine
from keras_drmad.engine.model_setup import build_with
from keras_drmad.hyperparameters import meta
from keras_drmad.optimizers.learnable import learnable_optimizer
from keras_drmad.training_loop import fit

# What summaries show of the learned values; not a hyperparameter that anything reads.
LEARNED = "learned/"


@dataclass
class Outcome:
    """What a training gave; dictionaries hold arrays by the names of `Learned.values`."""

    logs: dict  # of the last epoch
    gradients: dict
    finite: bool
    growth: float
    hyper_loss: float


class Learned:
    """What is learned of a model: its optimizer's hyperparameters, and further variables.

    Args:
        model: the model.
        optimizer: its `DrMADSGD`, built.
        hyper_variables: a function of the model that returns the further variables, or None.
    """

    def __init__(self, model, optimizer, hyper_variables=None):
        self.optimizer = optimizer
        self.hyper_variables = list(hyper_variables(model)) if hyper_variables else []
        self._variables = {kind: optimizer.displacements[kind] for kind in optimizer.learn}
        self._variables |= {_name(i): v for i, v in enumerate(self.hyper_variables)}

    @property
    def values(self):
        """`{name: array}`: displacements of the optimizer's hyperparameters, and hyper variables."""
        return {name: v.numpy() for name, v in self._variables.items()}

    @values.setter
    def values(self, values):
        for name, variable in self._variables.items():
            variable.assign(values[name])

    def bounds(self):
        """`({name: low}, {name: high})` of the values."""
        scales = {kind: self.optimizer.scales[kind] for kind in self.optimizer.learn}
        low = {name: scales[name].low if name in scales else -np.inf for name in self._variables}
        high = {name: scales[name].high if name in scales else np.inf for name in self._variables}
        return low, high

    def gradients(self, adjoint):
        """`{name: array}`: derivatives by the values, from the end of a reverse pass."""
        gradients = meta.by_displacement(self.optimizer, adjoint.hyper)
        gradients |= {_name(i): g for i, g in enumerate(adjoint.hyper_variables)}
        return {name: np.asarray(g) for name, g in gradients.items()}

    def condensed(self):
        """Effective values in a few words, for summaries: median (least – greatest) of each kind."""
        return {name: _in_words(values) for name, values in self._by_kind().items()}

    def medians(self):
        """The median of the effective values of each kind."""
        return {name: float(np.median(values)) for name, values in self._by_kind().items()}

    def _by_kind(self):
        values = {}
        for entries in self.optimizer.hyperparameters.values():
            for kind, value in entries.items():
                values.setdefault(kind, []).append(np.ravel(value))
        values |= {_name(i): [v.numpy().ravel()] for i, v in enumerate(self.hyper_variables)}
        return {f"{LEARNED}{name}": np.concatenate(v) for name, v in values.items()}


def _name(number):
    return f"hyper_variable_{number}"


def _in_words(values):
    if len(values) == 1:
        return f"{values[0]:.3g}"
    low, middle, high = np.quantile(values, [0, 0.5, 1])
    return f"{middle:.3g} ({low:.3g} – {high:.3g}, {len(values)} values)"


class Trainee:
    """A compiled model that is trained from scratch again and again, its programs compiled once.

    Args:
        model: the compiled model.
        build: makes another one like it, with new initial weights.
        example: a batch of training data.
        steps: how many steps a training has.
        path: the training path of the hypergradient.
        hyper_variables: a function of the model that returns further variables to be learned.
        jit_compile: whether to use XLA, or "auto".
    """

    def __init__(
        self, model, build, example, steps, path, hyper_variables=None, jit_compile="auto"
    ):
        self._build, self._example, self.steps = build, example, steps
        self.model = self._ready(model)
        self.optimizer = learnable_optimizer(self.model)
        self.learned = Learned(self.model, self.optimizer, hyper_variables)
        others = self.learned.hyper_variables
        self.engine = Engine.of(self.model, example, path, others, jit_compile)
        self._compiled = self.learned.values
        self._rate = self.optimizer.get_config()["learning_rate"]  # a number, or a schedule

    def _ready(self, model):
        learnable_optimizer(model).span_schedule(self.steps)
        build_with(model, self._example)
        return model

    def restart(self, seed, values=None):
        """New initial weights, zero velocities, and the given values (None: the compiled ones)."""
        keras.utils.set_random_seed(seed)
        new = self._ready(self._build())
        for own, other in zip(self.model.variables, new.variables, strict=True):
            own.assign(other.numpy())
        # Keras's global seed is not a variable of the model, but of its programs.
        for variable in self.engine.objective.random:
            if not any(variable is own for own in self.model.variables):
                variable.assign(np.full(variable.shape, seed % 2**31))
        del new
        gc.collect()
        self.optimizer.reset()
        if isinstance(self._rate, float):
            self.optimizer.learning_rate = self._rate  # callbacks may have changed it
        self.learned.values = self._compiled if values is None else values
        if self.optimizer.init_scales() is not None:
            self.optimizer.scale_initial_weights()

    def train(self, batches, hyper, epochs, horizon, **fit_arguments):
        """Trains, and walks back from the loss of the `hyper` batches; an `Outcome`."""
        history, run = fit(self.model, self.engine, batches, epochs, horizon, **fit_arguments)
        self._check_horizon(horizon, run)
        logs = {name: values[-1] for name, values in history.history.items()}
        if len(history.epoch) % fit_arguments.get("validation_freq", 1):
            logs |= self._validated(fit_arguments)  # a callback ended it between two validations
        found = self.engine.differentiate(run, hyper)
        gradients = self.learned.gradients(found.adjoint)
        return Outcome(
            logs=logs,
            gradients=gradients,
            # Sums over an adjoint may overflow before it does.
            finite=found.finite and all(np.isfinite(g).all() for g in gradients.values()),
            growth=found.growth,
            hyper_loss=found.validation_loss,
        )

    def _check_horizon(self, horizon, run):
        """Raises a ValueError if a callback ended training before the steps to be spanned began."""
        taken = self.optimizer.steps_taken()
        if horizon is None or taken > self.steps - horizon or not np.isfinite(run.losses[-1]):
            return
        raise ValueError(
            f"Training ended after {taken} of {self.steps} steps, before the last ones, which "
            f"`horizon={horizon}` spans, began. Leave `horizon` out, or the callback that ends it."
        )

    def _validated(self, fit_arguments):
        """What `fit` logs of its validation set."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(fit_arguments["validation_data"])
        metrics = self.model.evaluate(
            x,
            y,
            batch_size=fit_arguments["validation_batch_size"],
            sample_weight=sample_weight,
            verbose=0,
            return_dict=True,
        )
        return {f"val_{name}": value for name, value in metrics.items()}
