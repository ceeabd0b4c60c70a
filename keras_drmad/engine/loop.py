"""A compiled loop over stacked inputs: what the forward and the reverse pass are made of."""

import tensorflow as tf


class Loop:
    """Runs `carry, row = body(constants, carry, x)` over the leading axis of stacked inputs.

    With XLA a whole stack is one program (a `while` loop on the device). Without, each step is one
    call of a graph: TensorFlow's own `while` fails around nested tapes in long loops, and what
    cannot use XLA (convolutions on CPU) has steps long enough to hide the call.

    Args:
        body: a pure function of structures of tensors. Its carry keeps shapes and dtypes.
        row: `row(constants, carry, x)`: a structure like the rows that `body` returns, to size
            their stack by; only shapes are used.
        xla: whether to compile with XLA.
        reverse: whether to begin at the last input.
    """

    def __init__(self, body, row, xla, reverse=False):
        self._body, self._row, self._reverse = body, row, reverse
        self._xla = xla
        program = self._while if xla else self._step
        self._program = tf.function(program, jit_compile=xla, autograph=False)

    def __call__(self, constants, carry, xs, length):
        """`(carry, rows)` after the first `length` entries of `xs`; rows are stacked like `xs`."""
        if self._xla:
            return self._program(constants, carry, xs, tf.constant(length))
        rows = [()] * length
        for i in reversed(range(length)) if self._reverse else range(length):
            carry, rows[i] = self._program(constants, carry, xs, tf.constant(i))
        return carry, tf.nest.map_structure(lambda *r: tf.stack(r), *rows)

    def _step(self, constants, carry, xs, at):
        return self._body(constants, carry, _at(xs, at))

    def _while(self, constants, carry, xs, length):
        size = tf.nest.flatten(xs)[0].shape[0]
        like = self._row(constants, carry, _at(xs, 0))
        stacks = [
            tf.TensorArray(r.dtype, size, element_shape=r.shape) for r in tf.nest.flatten(like)
        ]

        def step(at, carry, stacks):
            carry, row = self._body(constants, carry, _at(xs, at))
            row = tf.nest.flatten(row)
            stacks = [s.write(at, r) for s, r in zip(stacks, row, strict=True)]
            return at + stride, carry, stacks

        # Counts down itself: an index computed from `length` would make XLA compile each length.
        first, stride = (length - 1, -1) if self._reverse else (0, 1)
        _, carry, stacks = tf.while_loop(
            lambda at, *_: at >= 0 if self._reverse else at < length,
            step,
            (tf.convert_to_tensor(first), carry, stacks),
            parallel_iterations=1,
        )
        return carry, tf.nest.pack_sequence_as(like, [s.stack() for s in stacks])

    def programs(self):
        """How many programs have been traced, for tests of retracing."""
        return self._program.experimental_get_tracing_count()


def _at(xs, i):
    return tf.nest.map_structure(lambda a: a[i], xs)
