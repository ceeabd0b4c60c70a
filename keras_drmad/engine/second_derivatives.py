"""Second derivatives: mended where TensorFlow's are wrong, and refused where it has none."""

from __future__ import annotations

import contextlib
import functools
import re
import threading
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

import keras
import tensorflow as tf

from keras_drmad import compat
from keras_drmad.typing import Structure, Tensor

# TensorFlow takes the derivatives of these gradient operations (of `Betainc` those by its parameters)
# for zero, which they are not, or fails at them.
WRONG = (
    "Betainc",
    "FakeQuantWithMinMaxArgsGradient",
    "FakeQuantWithMinMaxVarsGradient",
    "FakeQuantWithMinMaxVarsPerChannelGradient",
    "QuantizeAndDequantizeV4Grad",
    "ResizeBilinearGrad",
)
# Its gradient is made by the inverse transform, which is not quite the derivative.
NEARLY = "ImageProjectiveTransform"

GRADIENT = "gradient_tape/"  # in names of operations

# A loop may have a derivative that is traced, and that no kernel computes (`keras.losses.CTC`).
LOOP, FAILS_WHEN_RUN = "While", "SymbolicGradient"

# Scopes in which TensorFlow stops gradients that are zero anyway, or are mended below.
MENDED = "mended"
HARMLESS = ("ReduceLogSumExp", "moments", MENDED)

# Operations without a gradient that no derivative goes through; the list only saves time.
NEVER_DIFFERENTIATED = (
    "EmptyTensorList",
    "NoOp",
    "Placeholder",
    "StatelessRandomGetKeyCounter",
    "TensorListReserve",
)


Replacement: TypeAlias = tuple[types.ModuleType, str, Callable[..., Any]]


class _Mended:
    """Makes three functions of TensorFlow right in second derivatives.

    `tf.nn.moments`, as batch and group normalization call it, takes the mean in `mean((x − mean)²)` for
    a constant, which leaves the variance and its first derivatives right. `mean((x − c)²) − (mean − c)²`
    is the variance for every constant, so it is right in all derivatives; and this one is the same to
    the last bit.

    `tf.stop_gradient` makes constants of tensors that change with the weights. The gradient that trains
    takes them for constants, but its own derivative, and that of a validation loss, must not: so they
    are hidden from one tape only.

    `tf.nn.softmax_cross_entropy_with_logits` has the gradient `softmax(logits) − labels`, of which
    TensorFlow knows the derivative by the logits only. `−(labels − c) · (logits − d)`, its labels hidden
    as above, is 0 and has the gradient 0, which has the derivative by the labels that is missing. And
    its gradient is the derivative only where labels sum to 1: of a validation loss the rest is added.

    TensorFlow's functions are replaced while any thread is inside, and act as ever in all others.
    """

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0  # in how many calls, of all threads
        self._thread = threading.local()
        self._originals: list[Replacement] = []

    @contextlib.contextmanager
    def __call__(self, tape: tf.GradientTape | None = None) -> Iterator[None]:
        """`tape` is that of the gradient that trains; None where there is none."""
        with self._lock:
            if not self._inside:
                found = self._replacements()
                self._originals = [(of, name, getattr(of, name)) for of, name, _ in found]
                _replace(found)
            self._inside += 1
        around = self._now
        self._thread.now = tape, tf.compat.v1.get_default_graph()
        try:
            yield
        finally:
            self._thread.now = around
            with self._lock:
                self._inside -= 1
                if not self._inside:
                    _replace(self._originals)

    @property
    def _now(self) -> tuple[tf.GradientTape | None, tf.Graph] | None:
        """The tape and the graph of this thread, where it is inside."""
        return getattr(self._thread, "now", None)

    def _hiding(self) -> contextlib.AbstractContextManager[object] | None:
        """Where the tape of the gradient that trains does not look.

        None where this thread is outside, or in another graph than the tape's, into which none sees.
        """
        tape, graph = self._now or (None, None)
        if graph is not tf.compat.v1.get_default_graph():
            return None
        return tape.stop_recording() if tape else contextlib.nullcontext()

    def _replacements(self) -> list[Replacement]:
        constant = tf.stop_gradient
        entropy = tf.nn.softmax_cross_entropy_with_logits
        return [
            (tf.nn, "moments", self._moments(tf.nn.moments, constant)),
            (tf, "stop_gradient", self._stop_gradient(constant)),
            (
                tf.nn,
                "softmax_cross_entropy_with_logits",
                self._cross_entropy(entropy, constant),
            ),
        ]

    def _moments(
        self, original: Callable[..., tuple[Tensor, Tensor]], constant: Callable[..., Tensor]
    ) -> Callable[..., tuple[Tensor, Tensor]]:
        @functools.wraps(original)
        def moments(*args: Structure, **kwargs: Structure) -> tuple[Tensor, Tensor]:
            mean, variance = original(*args, **kwargs)
            if self._now:
                variance -= tf.math.squared_difference(mean, constant(mean, name=MENDED))
            return mean, variance

        return moments

    def _stop_gradient(self, original: Callable[..., Tensor]) -> Callable[..., Tensor]:
        @functools.wraps(original)
        def stop_gradient(input: Tensor, name: str | None = None) -> Tensor:
            if (hiding := self._hiding()) is None:  # `check_own_gradients` finds it
                return original(input, name=name)
            with hiding:
                return tf.identity(input, name=name)

        return stop_gradient

    def _cross_entropy(
        self, original: Callable[..., Tensor], constant: Callable[..., Tensor]
    ) -> Callable[..., Tensor]:
        @functools.wraps(original)
        def softmax_cross_entropy_with_logits(
            labels: Tensor, logits: Tensor, axis: int = -1, name: str | None = None
        ) -> Tensor:
            loss = original(labels, logits, axis=axis, name=name)
            if self._now and self._now[0] is None:
                total = tf.reduce_logsumexp(tf.cast(logits, loss.dtype), axis)
                excess = tf.reduce_sum(tf.cast(labels, loss.dtype), axis) - 1
                return loss + excess * (total - constant(total, name=MENDED))
            if (hiding := self._hiding()) is None:
                return loss
            with hiding:
                if not compat.is_watched(labels):  # by another tape
                    return loss
                hidden = tf.identity(tf.cast(labels, loss.dtype))
            logits = tf.cast(logits, loss.dtype)
            zeros = [a - constant(a, name=MENDED) for a in (hidden, logits)]
            return loss - tf.reduce_sum(zeros[0] * zeros[1], axis)

        return softmax_cross_entropy_with_logits


def _replace(functions: Iterable[Replacement]) -> None:
    for of, name, function in functions:
        setattr(of, name, function)


mended = _Mended()


def operations(graph: tf.Graph) -> list[tuple[str, str]]:
    """`(type, name)` of all operations; names of those in functions begin with their caller's.

    The type of what has a gradient by `tf.custom_gradient` is the name that this is registered under.
    """
    definition = graph.as_graph_def()
    functions = {f.signature.name: f.node_def for f in definition.library.function}

    def walk(nodes: Iterable[tf.compat.v1.NodeDef], prefix: str) -> Iterator[tuple[str, str]]:
        for node in nodes:
            registered = node.attr["_gradient_op_type"].s.decode() if node.attr else ""
            kind = registered if registered.startswith(compat.CUSTOM_GRADIENT) else node.op
            yield kind, prefix + node.name
            for value in node.attr.values():
                for function in (value.func, *value.list.func):
                    if function.name in functions:
                        yield from walk(functions[function.name], f"{prefix}{node.name}/")

    return list(walk(definition.node, ""))


def check_own_gradients(model: keras.Model, found: list[tuple[str, str]]) -> None:
    """Raises a ValueError for gradients that need not be the derivatives of what is computed.

    They say how a step trains; how the step changes with the weights, only the derivatives say.
    """
    for kind, path in found:
        *scopes, name = path.split("/")
        own = compat.own_gradient(kind)
        if own is not None:
            what, instead = f"a gradient of its own ({own!r}, by `custom_gradient`)", "leave it out"
        elif kind == "StopGradient" and not any(
            n.startswith(HARMLESS) for n in (*scopes[-1:], name)
        ):
            what = "`stop_gradient` within a loop, a branch or a `tf.function`"
            instead = "call `keras.ops.stop_gradient` outside of them"
        else:
            continue
        raise ValueError(
            f"{layer_of(model, path)} has {what}, which cannot be followed: {instead}. (With "
            "`check=False` it is let through; hypergradients are then wrong where it is not the "
            "derivative.)"
        )


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
    bad = [o for o in found if o[0] in WRONG or (NEARLY in o[0] and GRADIENT in o[1])]
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
