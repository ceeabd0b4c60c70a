"""Second derivatives: mended where TensorFlow's are wrong, and refused where it has none."""

from __future__ import annotations

import contextlib
import functools
import re
import threading
from collections.abc import Callable, Iterable, Iterator

import keras
import tensorflow as tf

from keras_drmad import compat
from keras_drmad.typing import Structure, Tensor

# TensorFlow takes the derivatives of these gradient operations for zero, which they are not.
WRONG = (
    "FakeQuantWithMinMaxArgsGradient",
    "FakeQuantWithMinMaxVarsGradient",
    "FakeQuantWithMinMaxVarsPerChannelGradient",
    "ResizeBilinearGrad",
)

# A loop may have a derivative that is traced, and that no kernel computes (`keras.losses.CTC`).
LOOP, FAILS_WHEN_RUN = "While", "SymbolicGradient"

# Operations without a gradient that no derivative goes through; the list only saves time.
NEVER_DIFFERENTIATED = (
    "EmptyTensorList",
    "NoOp",
    "Placeholder",
    "StatelessRandomGetKeyCounter",
    "TensorListReserve",
)


class _MendedMoments:
    """Makes `tf.nn.moments`, as batch and group normalization call it, right in second derivatives.

    It takes the mean in `mean((x − mean)²)` for a constant, which leaves the variance and its
    first derivatives right. `mean((x − c)²) − (mean − c)²` is the variance for every constant, so
    it is right in all derivatives; and this one is the same to the last bit.

    TensorFlow's function is replaced while any thread is inside, and acts as ever in all others.
    """

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0  # in how many calls, of all threads
        self._thread = threading.local()

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            if not self._inside:
                self._original = tf.nn.moments
                tf.nn.moments = self._mended(self._original)
            self._inside += 1
        around, self._thread.mends = self._mends, True
        try:
            yield
        finally:
            self._thread.mends = around
            with self._lock:
                self._inside -= 1
                if not self._inside:
                    tf.nn.moments = self._original

    @property
    def _mends(self) -> bool:
        """Whether this thread is inside."""
        return getattr(self._thread, "mends", False)

    def _mended(
        self, original: Callable[..., tuple[Tensor, Tensor]]
    ) -> Callable[..., tuple[Tensor, Tensor]]:
        @functools.wraps(original)
        def moments(*args: Structure, **kwargs: Structure) -> tuple[Tensor, Tensor]:
            mean, variance = original(*args, **kwargs)
            if self._mends:
                variance -= tf.math.squared_difference(mean, tf.stop_gradient(mean))
            return mean, variance

        return moments


mended_moments = _MendedMoments()


def operations(graph: tf.Graph) -> list[tuple[str, str]]:
    """`(type, name)` of all operations; names of those in functions begin with their caller's."""
    definition = graph.as_graph_def()
    functions = {f.signature.name: f.node_def for f in definition.library.function}

    def walk(nodes: Iterable[tf.compat.v1.NodeDef], prefix: str) -> Iterator[tuple[str, str]]:
        for node in nodes:
            yield node.op, prefix + node.name
            for value in node.attr.values():
                for function in (value.func, *value.list.func):
                    if function.name in functions:
                        yield from walk(functions[function.name], f"{prefix}{node.name}/")

    return list(walk(definition.node, ""))


def check(
    model: keras.Model,
    found: list[tuple[str, str]],
    differentiate_twice: Callable[[Structure], Structure],
    example: Structure,
) -> None:
    """Raises a ValueError, before anything is trained, if a loss has no second derivatives.

    Args:
        model: whose loss it is.
        found: `operations` of the loss and its gradient.
        differentiate_twice: what the reverse pass does to the loss of a batch.
        example: a batch.
    """
    bad = [o for o in found if o[0] in WRONG]
    suspects = [o for o in found if not _has_gradient(o[0]) or o[0] == LOOP]
    if suspects and not bad:
        # Whether derivatives go through them, only differentiating can tell.
        try:
            twice = tf.function(differentiate_twice, autograph=False).get_concrete_function(example)
            bad = [o for o in operations(twice.graph) if o[0] == FAILS_WHEN_RUN]
        except LookupError as error:
            bad = [o for o in suspects if o[0] in str(error)] or suspects
    if bad:
        kind, path = bad[0]
        raise ValueError(
            f"{layer_of(model, path)} cannot be differentiated twice, as a hypergradient must: "
            f"TensorFlow has no derivative of its operation `{kind}`. Use a layer or an option "
            'without it (`UpSampling2D(interpolation="nearest")` for images, '
            "`use_cudnn=False` in recurrent layers), or put it before all trainable layers."
        )


def _has_gradient(kind: str) -> bool:
    """Whether an operation can be differentiated (if to zero), or never is."""
    if kind in NEVER_DIFFERENTIATED:
        return True
    return kind != "PreventGradient" and compat.has_gradient(kind)


def layer_of(model: keras.Model, path: str) -> str:
    """The part of the model in whose name scope an operation is, in words."""
    part: keras.Layer = model
    for scope in path.split("/"):
        inner = {layer.name: layer for layer in compat.inner_layers(part)}
        # A layer that is called again gets a scope with a number.
        part = inner.get(scope) or inner.get(re.sub(r"_\d+$", "", scope)) or part
    if part is not model:
        return f"Layer {part.name!r} ({type(part).__name__})"
    return "The loss" if compat.LOSS_SCOPE in path else f"Model {part.name!r}"
