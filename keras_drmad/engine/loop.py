"""A compiled loop over stacked inputs: what the forward and the reverse pass are made of."""

from collections.abc import Callable

import tensorflow as tf

from keras_drmad.tf_function import Program
from keras_drmad.typing import Structure, Tensor


class Loop:
    """Runs `carry, output = body(constants, carry, x)` over the leading axis of stacked inputs.

    With XLA a whole stack is one program (a `while` loop on the device). Without, each step is one
    call of a graph: TensorFlow's own `while` fails around nested tapes in long loops, and what
    cannot use XLA (convolutions on CPU) has steps long enough to hide the call.

    Args:
        body: a pure function of structures of tensors. Its carry keeps shapes and dtypes.
        outputs: `outputs(constants, carry, x)`: a structure like the output of `body`, to size the
            stack of outputs by; only shapes are used.
        xla: whether to compile with XLA.
        reverse: whether to begin at the last input.
        relaxed: whether one program serves inputs of other shapes, too; without XLA.
    """

    def __init__(
        self,
        body: Callable[..., tuple[Structure, Structure]],
        outputs: Callable[..., Structure],
        xla: bool,
        reverse: bool = False,
        relaxed: bool = False,
    ) -> None:
        self._body, self._outputs, self._reverse = body, outputs, reverse
        self._xla = xla
        program = self._while if xla else self._step
        self._program = Program(program, jit_compile=xla, reduce_retracing=relaxed)

    def __call__(
        self,
        constants: Structure,
        carry: Structure,
        xs: Structure,
        stop: int | Tensor,
        first: int | Tensor = 0,
    ) -> tuple[Structure, Structure]:
        """`(carry, outputs)` after the entries `first` to `stop - 1` of `xs`.

        With XLA outputs are stacked like `xs`, without it only those of these entries.
        """
        if self._xla:
            bounds = tf.convert_to_tensor(first), tf.convert_to_tensor(stop)
            return self._program(constants, carry, xs, *bounds)
        steps = range(int(first), int(stop))
        outputs: list[Structure] = []
        for i in reversed(steps) if self._reverse else steps:
            carry, output = self._program(constants, carry, xs, tf.constant(i))
            outputs.append(output)
        if self._reverse:
            outputs.reverse()
        return carry, tf.nest.map_structure(lambda *parts: tf.stack(parts), *outputs)

    def _step(
        self, constants: Structure, carry: Structure, xs: Structure, at: Tensor
    ) -> tuple[Structure, Structure]:
        return self._body(constants, carry, _at(xs, at))

    def _while(
        self, constants: Structure, carry: Structure, xs: Structure, first: Tensor, stop: Tensor
    ) -> tuple[Structure, Structure]:
        size = tf.nest.flatten(xs)[0].shape[0]
        like = self._outputs(constants, carry, _at(xs, 0))
        stacks = [
            tf.TensorArray(part.dtype, size, element_shape=part.shape)
            for part in tf.nest.flatten(like)
        ]

        def step(
            at: Tensor, carry: Structure, stacks: list[tf.TensorArray]
        ) -> tuple[Tensor, Structure, list[tf.TensorArray]]:
            carry, output = self._body(constants, carry, _at(xs, at))
            parts = tf.nest.flatten(output)
            stacks = [s.write(at, part) for s, part in zip(stacks, parts, strict=True)]
            return at + stride, carry, stacks

        # Counts down itself: an index computed from `stop` would make XLA compile each length.
        begin, stride = (stop - 1, -1) if self._reverse else (first, 1)
        _, carry, stacks = tf.while_loop(
            lambda at, *_: at >= first if self._reverse else at < stop,
            step,
            (begin, carry, stacks),
            parallel_iterations=1,
        )
        return carry, tf.nest.pack_sequence_as(like, [s.stack() for s in stacks])

    def programs(self) -> int:
        """How many programs have been traced, for tests of retracing."""
        return self._program.function.experimental_get_tracing_count()


def _at(xs: Structure, i: Tensor | int) -> Structure:
    return tf.nest.map_structure(lambda a: a[i], xs)
