"""Every private name of Keras and TensorFlow that is used, each with its reason.

`tests/test_compat.py` says which one a new release has lost.
"""

import collections
import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import keras
import tensorflow as tf
from keras.src.backend.common import global_state
from tensorflow.python.eager import record
from tensorflow.python.framework import op_def_registry
from tensorflow.python.framework.ops import gradient_registry

LearningRate: TypeAlias = (
    keras.Variable | keras.optimizers.schedules.LearningRateSchedule | Callable[[], float]
)

# What the names begin with under which `tf.custom_gradient` registers gradients.
CUSTOM_GRADIENT = "CustomGradient-"

_COUNTS = "object_name_uids"  # of names that Keras gives

# In the name scope of the operations of a compiled loss; their names say nothing else of it.
LOSS_SCOPE = "compile_loss"


def all_layers(model: keras.Model) -> list[keras.Layer]:
    """A model's layers and those inside them, also inside layers that are no models.

    `model.layers` has the outermost only.
    """
    return list(model._flatten_layers(include_self=False))


def inner_layers(layer: keras.Layer) -> list[keras.Layer]:
    """The layers directly inside a layer, which has no public `layers`."""
    return list(layer._flatten_layers(include_self=False, recursive=False))


def compiled_loss(model: keras.Model) -> object | None:
    """What `compile` makes of the loss, new each time: programs of the one before are stale."""
    return getattr(model, "_compile_loss", None)


def trained_variables(optimizer: keras.optimizers.Optimizer) -> list[keras.Variable]:
    """The variables that an optimizer was built with; `variables` are its own."""
    return optimizer._trainable_variables


def variable_index(
    optimizer: keras.optimizers.Optimizer, variable: keras.Variable | tf.Variable
) -> int:
    """The place of a variable among those, as Keras's own optimizers look it up."""
    return optimizer._get_variable_index(variable)


def is_decayed(optimizer: keras.optimizers.Optimizer, variable: keras.Variable) -> bool:
    """Whether a variable has weight decay: `exclude_from_weight_decay` has no public inverse.

    Keras asks it of TensorFlow's variable, which has the path in its name, and keeps the answer.
    """
    return optimizer._use_weight_decay(variable.value)


def is_overwritten(variable: keras.Variable) -> bool:
    """Whether an optimizer replaces a variable by its gradient, as scales of float8 are."""
    return getattr(variable, "overwrite_with_gradient", False)


def learning_rate(optimizer: keras.optimizers.Optimizer) -> LearningRate:
    """What gives the global learning rate; the public property gives its value at this step only."""
    return optimizer._learning_rate


def step_counter(optimizer: keras.optimizers.Optimizer) -> keras.Variable:
    """What Keras calls a schedule with; `iterations` counts accumulated gradients as one."""
    return optimizer._iterations


def reach_through_loss_scaling(*names: str) -> None:
    """Makes attributes of a wrapped optimizer attributes of Keras's `LossScaleOptimizer` too.

    Under `mixed_float16`, `compile` wraps the optimizer by itself, so that `model.optimizer` would
    not have what the user's optimizer has. Keras has no hook for it.
    """

    def through(name: str) -> property:
        def read(wrapper: keras.optimizers.LossScaleOptimizer) -> object:
            inner = wrapper.inner_optimizer
            if not hasattr(type(inner), name):
                raise AttributeError(
                    f"`LossScaleOptimizer.{name}` is that of the optimizer in it, and "
                    f"{type(inner).__name__} has none."
                )
            return getattr(inner, name)

        return property(read, doc=f"`{name}` of the optimizer whose losses are scaled.")

    for name in names:
        setattr(keras.optimizers.LossScaleOptimizer, name, through(name))


def handle(variable: keras.Variable | tf.Variable) -> Any:
    """The resource that raw operations take; under a strategy Keras hands out bare TensorFlow's."""
    undocumented: Any = variable
    return undocumented.handle


def has_gradient(operation: str) -> bool:
    """Whether a type of TensorFlow operation has a registered gradient."""
    try:
        gradient_registry.lookup(operation)
    except LookupError:
        return False
    return True


def own_gradient(operation: str) -> str | None:
    """The name of the function that gives an operation its gradient by `tf.custom_gradient`.

    None of other types of operations, and of the derivatives that TensorFlow itself gives so. It
    registers such a gradient under a number, and keeps the function in closures.
    """
    if not operation.startswith(CUSTOM_GRADIENT):
        return None
    registered = gradient_registry.lookup(operation)
    of_tape = inspect.getclosurevars(registered).nonlocals["tape_grad_fn"]
    function = inspect.getclosurevars(of_tape).nonlocals["grad_fn"]
    module = getattr(function, "__module__", "")
    # `tf.grad_pass_through` and `tf.recompute_grad` are in that one.
    is_known = module.startswith("tensorflow.") and not module.endswith(".custom_gradient")
    return None if is_known else function.__qualname__.partition(".<locals>")[0]


def is_watched(tensor: tf.Tensor) -> bool:
    """Whether a tape that records now would differentiate by a tensor, or by what it was made of."""
    return bool(record.should_record_backprop([tensor]))


def is_stateful(operation: str) -> bool:
    """Whether a type of TensorFlow operation reads or changes more than its inputs and outputs."""
    definition = op_def_registry.get(operation)  # None of a function's
    return definition is not None and bool(definition.is_stateful)


def averages(optimizer: keras.optimizers.Optimizer) -> list[keras.Variable]:
    """The averages of weights of `use_ema`, which no public name tells from other variables."""
    return list(optimizer._model_variables_moving_average)


def accumulated_gradients(optimizer: keras.optimizers.Optimizer) -> list[keras.Variable]:
    """The sums of gradients that wait for `gradient_accumulation_steps`, likewise."""
    return list(optimizer._accumulated_gradients)


def call(function: Any, tensors: Sequence[tf.Tensor]) -> Any:
    """What a concrete function gives for its arguments, flattened.

    The public way compares each argument with what the function was traced with: 0.9 ms for 50 of them
    (TensorFlow 2.21), and 0.2 ms without.
    """
    return function._call_flat(list(tensors), function.captured_inputs)


def custom_gradient(function: Callable[..., Any]) -> Callable[..., Any]:
    """`tf.custom_gradient` of one output, for functions that are traced and differentiated by tapes.

    The public one registers each derivative that is traced under a name of its own, for `tf.gradients`.
    TensorFlow keeps it for ever, and with it the whole graph that it is of. Tapes do not ask for it.
    """
    public = tf.custom_gradient(function)

    @functools.wraps(function)
    def forgotten(*tensors: tf.Tensor) -> tf.Tensor:
        result = public(*tensors)
        if not tf.executing_eagerly():
            name = result.op.get_attr("_gradient_op_type").decode()
            del gradient_registry._registry[name]
        return result

    return forgotten


class Names:
    """The names that Keras gives by itself: "dense", "dense_1" and so on, counted in each process.

    TensorFlow keeps an entry for each new name of a variable for ever, which makes a process grow by
    some 0.1 MiB with each weight that is made anew (TensorFlow 2.21). Keras's only way to begin its
    counts anew, `clear_session`, forgets everything else, too.
    """

    def __init__(self) -> None:
        self._counts = dict(self._now())

    @contextlib.contextmanager
    def again(self) -> Iterator[None]:
        """Within it, names are given as from the moment on in which this object was made."""
        before = self._now()
        global_state.set_global_attribute(_COUNTS, collections.defaultdict(int, self._counts))
        try:
            yield
        finally:
            global_state.set_global_attribute(_COUNTS, before)

    def _now(self) -> dict[str, int]:
        return global_state.get_global_attribute(
            _COUNTS, collections.defaultdict(int), set_to_default=True
        )
