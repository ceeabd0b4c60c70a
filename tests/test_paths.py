"""Paths and fixed-point arithmetic without any model: fed with sequences of vectors."""

import functools
from itertools import pairwise

import numpy as np
import pytest
import tensorflow as tf

from keras_drmad import paths
from keras_drmad.engine.checkpoints import carry_at
from keras_drmad.paths import fixed_point
from keras_drmad.paths.base import cut
from keras_drmad.update_rules.base import Iterate
from keras_drmad.update_rules.momentum import Momentum

MOMENTUM = 0.9


def follow(path, iterates, velocities=None):
    """Feeds `iterates` (steps + 1 rows) to a path; the points that it gives back, in order."""
    steps = len(iterates) - 1
    iterates = [tf.constant(w) for w in iterates]
    velocities = velocities or [tf.zeros_like(w) for w in iterates]
    segments, summaries, records = path.segments(steps), [], []
    for segment in segments:
        sums = path.begin(Iterate([iterates[segment.start]], {}))
        for t in range(segment.start, segment.stop):
            iterate = Iterate([iterates[t]], {"velocity": [velocities[t]]})
            records.append(path.step_record(iterate, []))
            sums = path.accumulate(sums, Iterate([iterates[t]], {}))
        summaries.append(path.summarize(sums, segment))
    ends = [paths.End([iterates[t]], {}, [velocities[t]]) for t in (0, -1)]
    points = {}
    for segment in path.reverse_segments(segments):
        data = path.segment_data(segment, segments, summaries, *ends)
        for t in path.visited_steps(segment):
            points[t] = path.point(data, records[t], tf.constant(float(t)))
    return points


def momentum_sgd(point):
    """The `(slots, gradients)` with which momentum SGD goes through a point of a path."""
    rule = Momentum(layout=None, dtypes=("float64",))
    rate, momentum = tf.constant(0.1, "float64"), tf.constant(MOMENTUM, "float64")
    values = {"learning_rate": [rate], "momentum": [momentum]}
    iterate = Iterate(point.weights, point.slots)
    return rule.along(iterate, point.arriving, point.leaving, None, values, tf.constant(0))


def random_walk(steps, size=3, seed=0):
    rng = np.random.default_rng(seed)
    return np.cumsum(rng.normal(size=(steps + 1, size)), 0)


@pytest.mark.parametrize(
    "path", [paths.Linear(), paths.SegmentMeans(), paths.SegmentMeans(5), paths.Stored()], ids=repr
)
@pytest.mark.parametrize("steps", [1, 2, 7, 100])
def test_every_step_has_one_point(path, steps):
    assert sorted(follow(path, random_walk(steps))) == list(range(steps))


def test_every_path_cuts_training_without_gaps():
    for path in (
        paths.SegmentMeans(7),
        paths.Checkpointed(),
        paths.Checkpointed(9),
        paths.Checkpointed(slots=3),
        paths.Reversible(),
    ):
        longest = path.arithmetic.longest_segment({"momentum": [MOMENTUM, 0.5]})
        assert longest == (14 if path == paths.Reversible() else None)
        for steps in (1, 2, 50, 1000):
            segments = cut(path.segments(steps), longest)
            assert longest is None or max(s.length for s in segments) <= longest
            assert segments[0].start == 0
            assert segments[-1].stop == steps
            assert all(a.stop == b.start for a, b in pairwise(segments))


def test_a_path_keeps_means_of_slots_too():
    """Of those that an update rule asks for: they lie on the path as the weights do."""
    path, walk = paths.SegmentMeans(4), random_walk(64)
    segments = path.segments(64)
    knots = [Iterate([tf.constant(w)], {"moment": [tf.constant(w**2)]}) for w in walk]
    summaries = []
    for s in segments:
        sums = path.begin(knots[0])
        for t in range(s.start, s.stop):
            sums = path.accumulate(sums, knots[t])
        summaries.append(path.summarize(sums, s))
    ends = [paths.End(*knots[t], [tf.zeros(3, "float64")]) for t in (0, -1)]
    for to in (path, paths.Linear()):
        first = to.reverse_segments(segments)[0]
        data = to.segment_data(first, segments, summaries, *ends)
        start = to.point(data, (), tf.constant(0.0))
        np.testing.assert_array_equal(start.weights[0], walk[0])
        np.testing.assert_array_equal(start.slots["moment"][0], walk[0] ** 2)
    np.testing.assert_allclose(
        summaries[1].slots["moment"][0],
        (walk[segments[1].start : segments[1].stop] ** 2).mean(0),
    )


def test_stored_returns_what_it_was_given():
    walk = random_walk(20)
    for t, point in follow(paths.Stored(), walk).items():
        np.testing.assert_array_equal(point.weights[0], walk[t])


def test_linear_is_the_chord():
    walk = random_walk(50)
    for t, point in follow(paths.Linear(), walk).items():
        s = t / 50
        np.testing.assert_allclose(point.weights[0], (1 - s) * walk[0] + s * walk[-1])
        np.testing.assert_allclose(point.arriving[0], (walk[-1] - walk[0]) / 50)


def test_linear_takes_a_tenth_of_the_steps_like_the_original():
    assert sorted(follow(paths.Linear(10), random_walk(100))) == list(range(0, 100, 10))


@pytest.mark.parametrize("path", [paths.Linear(), paths.SegmentMeans(4)], ids=repr)
def test_straight_training_is_followed_exactly(path):
    """Where training is a straight line, an approximate path is that line."""
    direction = np.array([1.0, -2.0, 0.5])
    line = np.arange(41.0)[:, None] * direction
    for t, point in follow(path, line, [tf.constant(direction)] * 41).items():
        np.testing.assert_allclose(point.weights[0], line[t], atol=1e-12)
        slots, gradients = momentum_sgd(point)
        np.testing.assert_allclose(slots["velocity"][0], direction)
        if gradients is not None:  # v = μ v − α g
            np.testing.assert_allclose(MOMENTUM * direction - 0.1 * gradients[0].numpy(), direction)


def test_segment_means_goes_through_the_means():
    path, walk = paths.SegmentMeans(4), random_walk(64)
    segments = path.segments(64)
    means = [walk[s.start : s.stop].mean(0) for s in segments]
    ends = [paths.End([tf.constant(walk[t])], {}, [tf.zeros(3, "float64")]) for t in (0, -1)]
    summaries = [Iterate([tf.constant(m)], {}) for m in means]
    back = path.reverse_segments(segments)[1:]
    for reverse, segment, mean in zip(back, segments, means, strict=True):
        data = path.segment_data(reverse, segments, summaries, *ends)
        middle = path.point(data, (), tf.constant(segment.middle, "float32"))
        np.testing.assert_allclose(middle.weights[0], mean, rtol=1e-6)


def test_segment_means_leaves_the_noise_behind():
    """Bouncing between the walls of a valley averages out; the chord between two ends does not."""
    steps = 400
    drift = np.linspace(0, 1, steps + 1)[:, None]
    bounce = np.where(np.arange(steps + 1) % 2, 1.0, -1.0)[:, None]
    points = follow(paths.SegmentMeans(8), np.hstack([drift, bounce]))
    middle = [points[t].weights[0][1] for t in range(40, 360)]
    assert np.abs(middle).max() < 0.1


def test_adjust_hvp_takes_negative_curvature_out_and_leaves_positive():
    path = paths.SegmentMeans()
    rates = [tf.constant(0.1, "float64"), tf.constant(0.5, "float64")]
    d = [tf.constant([1.0, 2.0], "float64"), tf.constant([3.0], "float64")]
    unscaled = [p / r for p, r in zip(d, rates, strict=True)]
    down, up = [-d[0], -2 * d[1]], [d[0], 2 * d[1]]

    def inner(a, b):
        return sum(float(tf.reduce_sum(p * q)) for p, q in zip(a, b, strict=True))

    assert inner(d, down) < 0
    assert inner(d, path.adjust_hvp(down, d, unscaled)) == pytest.approx(0, abs=1e-12)
    for kept, given in zip(path.adjust_hvp(up, d, unscaled), up, strict=True):
        np.testing.assert_array_equal(kept, given)
    assert paths.SegmentMeans(floor=False).adjust_hvp(down, d, unscaled) is down


def test_equal_paths_share_programs():
    assert paths.SegmentMeans(8) == paths.SegmentMeans(8)
    assert hash(paths.SegmentMeans(8)) == hash(paths.SegmentMeans(8))
    assert paths.SegmentMeans(8) != paths.SegmentMeans(16)
    assert paths.Stored() != paths.Checkpointed()
    assert repr(paths.Checkpointed(7)) == "Checkpointed(every=7, slots=None)"


@pytest.mark.parametrize("bad", [0, -1, 2.5, True, "16"])
def test_bad_sizes_are_refused(bad):
    for make, name in [
        (paths.SegmentMeans, "knots"),
        (paths.Checkpointed, "every"),
        (lambda bad: paths.Checkpointed(slots=bad), "slots"),
        (paths.Linear, "backward_steps"),
    ]:
        with pytest.raises(ValueError, match=f"`{name}` must be a positive integer"):
            make(bad)


# -- checkpoints -------------------------------------------------------------------------------


def walked_back(path, steps):
    """`(segments walked back, how often one was trained over, most checkpoints at a time)`."""
    segments = path.segments(steps)
    kept = {i: {"before": i} for i in path.checkpoints(len(segments))}
    order, trained, most = [], 0, len(kept)

    def train(i, carry):
        nonlocal trained
        assert carry["before"] == i  # no step is left out
        trained += 1
        return {"before": i + 1}, None

    for index in reversed(range(len(segments))):
        carry = carry_at(index, kept, path, train)
        order.append(carry["before"])
        most = max(most, len(kept))
    return order, trained, most


@pytest.mark.parametrize("slots", [1, 2, 3, 7, None])
@pytest.mark.parametrize("steps", [1, 2, 9, 40])
def test_checkpoints_lead_back_to_every_step(slots, steps):
    order, trained, most = walked_back(paths.Checkpointed(every=1, slots=slots), steps)
    assert order == list(reversed(range(steps)))
    assert most <= (slots + 1 if slots else steps)
    if slots is None:
        assert trained == 0


@functools.cache
def least(steps, slots):
    """Steps to be trained over in all, beyond the last to each: by trying all places."""
    if slots == 1 or steps == 1:
        return steps * (steps - 1) // 2
    ways = (m + least(m, slots) + least(steps - m, slots - 1) for m in range(1, steps))
    return min(ways)


@pytest.mark.parametrize("slots", [2, 3, 5])
def test_checkpoints_repeat_as_few_steps_as_can_be(slots):
    for steps in (3, 10, 31):
        _, trained, _ = walked_back(paths.Checkpointed(every=1, slots=slots), steps)
        forward = steps - 1  # of the first pass, which sets the first checkpoints
        assert trained + forward == least(steps, slots)


def test_checkpoints_of_logarithmic_number_repeat_a_step_logarithmically_often():
    for power in (6, 10):
        _, trained, most = walked_back(paths.Checkpointed(every=1, slots=power), 2**power)
        assert most <= power + 1
        assert trained < power * 2**power


# -- fixed point -------------------------------------------------------------------------------


@pytest.mark.parametrize("momentum", [0.1, 0.5, 0.9, 0.987654321, 0.99])
def test_multiplying_is_undone_bit_for_bit(momentum):
    rng = np.random.default_rng(0)
    fraction = fixed_point.rational(momentum)
    assert float(fraction) == pytest.approx(momentum, rel=1e-8)
    n, d = fraction.numerator, fraction.denominator
    length = fixed_point.longest_segment([momentum])
    length = min(length, 60)
    schedule = fixed_point.flushes((length,) * (8 if momentum < 0.9 else 12), momentum)

    velocity = tf.constant(rng.integers(-(2**52), 2**52, 200))
    buffer = tf.zeros_like(velocity)
    start, history, words = velocity, [], []
    for flushing in schedule:
        for _ in range(length):
            push = tf.constant(rng.integers(-(2**40), 2**40, 200))
            history.append(push)
            moved, buffer = fixed_point.multiply(velocity, buffer, n, d)
            # μ·v up to a rounding of n units
            error = np.abs(moved.numpy() - velocity.numpy() * momentum)
            assert error.max() <= n + 2**52 * 1e-8
            velocity = moved - push
        assert np.all((buffer.numpy() >= 0) & (buffer.numpy() < 2**48))
        if flushing:
            buffer, word = fixed_point.flush(buffer)
            words.append(word)
    for flushing in reversed(schedule):
        if flushing:
            buffer = fixed_point.unflush(buffer, words.pop())
        for _ in range(length):
            velocity, buffer = fixed_point.undo(velocity + history.pop(), buffer, n, d)
    np.testing.assert_array_equal(velocity, start)
    np.testing.assert_array_equal(buffer, np.zeros(200))


def test_buffer_grows_as_the_information_that_is_lost():
    steps = 10_000
    length = fixed_point.longest_segment([0.9])
    words = sum(fixed_point.flushes((length,) * (steps // length), 0.9))
    assert 32 * words / steps == pytest.approx(-np.log2(0.9), rel=0.1)


def test_encoding_floats_is_exact_within_its_range():
    values = np.random.default_rng(0).normal(size=100).astype("float32")
    (integers,) = fixed_point.encode([tf.constant(values)])
    np.testing.assert_array_equal(fixed_point.decode([integers], ["float32"])[0], values)
