"""A training path of your own: decide where the reverse pass takes its weights from.

A path sees the weights of every training step once, keeps what it likes of them, and answers later
where training was at step t. This one keeps one weighted mean of every stretch of training;
`decay=0` keeps the last weights of each stretch, `decay=1` their plain mean. The table compares its
hypergradients, on scikit-learn's digits, with the exact ones of `Stored()`, which keeps every step.

    python examples/custom_path.py
"""

import argparse

import quiet  # noqa: F401 (first: TensorFlow's libraries have much to say)

# isort: split
import keras
import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits

from keras_drmad import DrMADSGD, hypergradient, paths


class DecayedMeans(paths.Path):
    """A line through one knot for every `every` steps: their mean, the latest weighted most."""

    def __init__(self, every=50, decay=0.9):
        self.every, self.decay = every, decay

    def segments(self, steps):  # the stretches
        stops = [*range(self.every, steps, self.every), steps]
        return [paths.Segment(a, b) for a, b in zip([0, *stops], stops, strict=False)]

    def begin(self, start):
        return [tf.zeros_like(w) for w in start.weights]

    def accumulate(self, sums, iterate):  # called at each step, compiled
        return [self.decay * s + w for s, w in zip(sums, iterate.weights, strict=True)]

    def summarize(self, sums, segment):  # called at the end of each stretch
        return [s / self._shares(segment).sum() for s in sums]

    def _shares(self, segment):
        return float(self.decay) ** np.arange(segment.length - 1, -1, -1)

    def segment_data(self, segment, segments, summaries, start, end):  # what `point` needs
        times = [np.average(range(*s), weights=self._shares(s)) for s in segments]
        times = [0.0, *times, segments[-1].stop]
        knots = [tf.stack(k) for k in zip(start.weights, *summaries, end.weights, strict=True)]
        return {"times": tf.constant(times, "float32"), "knots": knots}

    def point(self, data, record, step):  # called at each step back, compiled
        times = data["times"]
        i = tf.reduce_sum(tf.cast(times[1:-1] <= step, "int32"))  # the knot before this step
        times = tf.gather(times, [i, i + 1], axis=0)
        since, length = step - times[0], times[1] - times[0]
        pairs = [tf.gather(k, [i, i + 1], axis=0) for k in data["knots"]]
        slopes = [(k[1] - k[0]) / tf.cast(length, k.dtype) for k in pairs]
        weights = [k[0] + tf.cast(since, k.dtype) * s for k, s in zip(pairs, slopes, strict=True)]
        # Momenta and gradients are those with which the optimizer would move so.
        return paths.Point(weights, arriving=slopes, leaving=slopes)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1000, help="training steps")
    parser.add_argument("--every", type=int, default=50, help="steps for each knot of the new path")
    arguments = parser.parse_args()

    keras.utils.set_random_seed(0)
    x, y = load_digits(return_X_y=True)
    x = x / 16
    train, hyper = (x[:900], y[:900]), (x[900:], y[900:])

    model = keras.Sequential(
        [
            keras.layers.Input((64,)),
            keras.layers.Dense(32, activation="tanh"),
            keras.layers.Dense(32, activation="tanh"),
            keras.layers.Dense(10),
        ]
    )
    model.compile(
        optimizer=DrMADSGD(learning_rate=0.02, l2=1e-3, per="variable"),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model.optimizer.build(model.trainable_variables)
    variables = [*model.trainable_variables, *model.optimizer.variables]
    start = [v.numpy() for v in variables]

    def vectors(path):
        """The hypergradients of one and the same training run, one vector for each kind."""
        for variable, value in zip(variables, start, strict=True):
            variable.assign(value)
        result = hypergradient(
            model, train, hyper, steps=arguments.steps, batch_size=50, path=path, seed=0, verbose=0
        )
        groups = result.gradients.values()
        kinds = "learning_rate", "momentum", "l2"
        return {kind: np.array([group[kind] for group in groups]) for kind in kinds}

    exact = vectors(paths.Stored())
    print("Cosine with the exact hypergradient, and ratio of norms in brackets")
    print(f"{'path':32}{'learning rate':>18}{'momentum':>18}{'L2':>18}")
    for path in (
        paths.Linear(),
        DecayedMeans(arguments.every, decay=0),
        DecayedMeans(arguments.every, decay=0.9),
        DecayedMeans(arguments.every, decay=1),
        paths.SegmentMeans(),
    ):
        row = f"{path!s:32}"
        for kind, found in vectors(path).items():
            norm = np.linalg.norm(found), np.linalg.norm(exact[kind])
            row += f"{found @ exact[kind] / np.prod(norm):9.3f} ({norm[0] / norm[1]:.2g})".rjust(18)
        print(row)


if __name__ == "__main__":
    main()
