"""Weights recorded during `fit`: which, what of them, and their files."""

import itertools

import keras
import numpy as np
import pytest

from keras_drmad.plots import RecordedPath, RecordPath, Snapshot

L = keras.layers
X = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
Y = X.sum(1, keepdims=True)


def make(*layers, jit_compile=False, **options):
    model = keras.Sequential([L.Input((3,)), *(layers or [L.Dense(1)])])
    model.compile(keras.optimizers.SGD(0.05), "mse", jit_compile=jit_compile, **options)
    return model


def fit(model, record, epochs=2, batch_size=4, **options):
    model.fit(X, Y, epochs=epochs, batch_size=batch_size, verbose=0, callbacks=[record], **options)
    return record.path


def test_snapshots_are_the_weights_of_their_steps():
    model = make()
    first = model.get_weights()
    seen = {}
    spy = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.update({len(seen) + 1: model.get_weights()})
    )
    record = RecordPath(every=3, dtype="float32")
    model.fit(X, Y, epochs=2, batch_size=4, verbose=0, callbacks=[spy, record])
    assert record.path.steps.tolist() == [0, 3, 6, 9, 12, 15, 18, 20]
    for step, weights in zip(record.path.steps, record.path.weights, strict=True):
        for array, expected in zip(weights, seen.get(step, first), strict=True):
            np.testing.assert_array_equal(array, expected)


def test_losses_are_means_since_the_snapshot_before():
    model = make()
    losses, totals = [], []

    def add(batch, logs):  # Keras logs the mean of the epoch so far
        totals[batch:] = [logs["loss"] * (batch + 1)]
        losses.append(totals[batch] - (totals[batch - 1] if batch else 0))

    record = RecordPath(every=3)
    spy = keras.callbacks.LambdaCallback(on_train_batch_end=add)
    model.fit(X, Y, epochs=2, batch_size=4, verbose=0, callbacks=[spy, record])
    steps = record.path.steps
    expected = [np.mean(losses[a:b]) for a, b in itertools.pairwise(steps)]
    assert np.isnan(record.path.losses[0])
    np.testing.assert_allclose(record.path.losses[1:], expected, rtol=1e-4)


def test_thinning_keeps_ends_and_even_spaces():
    record = RecordPath(every=2, max_snapshots=8)
    path = fit(make(), record, epochs=7)  # 70 steps
    assert path.steps.tolist() == [0, 16, 32, 48, 64, 70]
    assert fit(make(), RecordPath(max_snapshots=2)).steps.tolist() == [0, 20]


@pytest.mark.parametrize("most", (2, 3, 4, 7, 10))
def test_never_more_than_max_snapshots(most):
    path = fit(make(run_eagerly=True), RecordPath(max_snapshots=most), epochs=1)
    assert len(path) <= most
    assert path.steps[[0, -1]].tolist() == [0, 10]


def test_files_load_again_and_are_thinned(tmp_path):
    keras.utils.set_random_seed(1)
    kept = fit(make(), RecordPath(max_snapshots=6))
    keras.utils.set_random_seed(1)
    written = fit(make(), RecordPath(max_snapshots=6, directory=tmp_path))
    loaded = RecordedPath.load(tmp_path)
    assert len(list(tmp_path.iterdir())) == len(loaded)
    for path in (written, loaded):
        assert path.steps.tolist() == kept.steps.tolist()
        np.testing.assert_array_equal(path.losses, kept.losses)
        for a, b in zip(path.snapshots, kept.snapshots, strict=True):
            for p, q in zip(a.weights, b.weights, strict=True):
                assert p.dtype == "float16"
                np.testing.assert_array_equal(p, q)


def test_files_are_no_pickles(tmp_path):
    fit(make(), RecordPath(directory=tmp_path), epochs=1)
    for file in tmp_path.iterdir():
        with np.load(file, allow_pickle=False) as saved:
            assert all(saved[name].dtype.kind in "fi" for name in saved)


def test_each_fit_begins_a_new_path(tmp_path):
    model, record = make(), RecordPath(directory=tmp_path)
    fit(model, record)
    (tmp_path / "other.npz").touch()
    assert fit(model, record, epochs=1).steps.tolist() == list(range(11))
    assert (tmp_path / "other.npz").exists()


def test_moving_statistics_are_recorded_in_their_own_dtype():
    model = make(L.BatchNormalization(momentum=0.5), L.Dense(1))
    path = fit(model, RecordPath())
    state = [v for v in model.non_trainable_variables if "moving" in v.path]
    assert [a.dtype for a in path.state[-1]] == ["float32", "float32"]
    for array, variable in zip(path.state[-1], state, strict=True):
        np.testing.assert_array_equal(array, variable)
    assert not np.array_equal(path.state[0][0], path.state[-1][0])


def test_what_does_not_change_is_kept_once(tmp_path):
    frozen = L.Dense(5, trainable=False)
    model = make(frozen, L.Dense(1))
    path = fit(model, RecordPath(directory=tmp_path))
    assert all(state[0] is path.state[0][0] for state in path.state)
    np.testing.assert_array_equal(path.state[-1][0], frozen.kernel)
    with np.load(max(tmp_path.iterdir())) as last:
        assert not any(name.startswith("state/") for name in last)


def test_what_does_not_fit_into_float16_keeps_its_dtype():
    model = make(L.Dense(1, kernel_initializer=keras.initializers.Constant(1e6)))
    model.optimizer.learning_rate = 0.0
    path = fit(model, RecordPath(), epochs=1)
    assert [a.dtype for a in path.weights[0]] == ["float32", "float16"]
    assert np.all(path.weights[0][0] == 1e6)


def test_bfloat16_is_recorded_as_float32(tmp_path):
    model = make(L.Dense(1, dtype="bfloat16"))
    path = fit(model, RecordPath(dtype="float32", directory=tmp_path), epochs=1)
    expected = keras.ops.convert_to_numpy(keras.ops.cast(model.layers[0].kernel, "float32"))
    np.testing.assert_array_equal(path.weights[-1][0], expected)


def test_several_steps_in_one_execution():
    model = make(steps_per_execution=4)
    path = fit(model, RecordPath(every=2))  # 10 steps an epoch: the last execution has 2
    assert path.steps.tolist() == [0, 4, 8, 10, 14, 18, 20]


def test_a_training_that_was_stopped_has_a_path(collected):
    def stop(batch, logs):
        if batch == 5:
            raise KeyboardInterrupt

    record = RecordPath()
    spy = keras.callbacks.LambdaCallback(on_train_batch_end=stop)
    with pytest.raises(KeyboardInterrupt):
        make().fit(X, Y, batch_size=4, verbose=0, callbacks=[record, spy])
    assert record.path.steps.tolist() == list(range(7))


def test_recording_changes_nothing():
    weights = []
    for callbacks in ([], [RecordPath()]):
        keras.utils.set_random_seed(0)
        model = make(L.BatchNormalization(), L.Dropout(0.5), L.Dense(1))
        history = model.fit(X, Y, epochs=2, verbose=0, callbacks=callbacks)
        weights.append([*model.get_weights(), *history.history["loss"]])
    for a, b in zip(*weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_save_and_load(tmp_path):
    a, b = np.arange(6.0).reshape(2, 3), np.zeros(2)
    path = RecordedPath([Snapshot(0, np.nan, [a], [b]), Snapshot(7, 0.5, [a + 1], [b])])
    path.save(tmp_path / "made")
    loaded = RecordedPath.load(tmp_path / "made")
    assert repr(loaded) == repr(path) == "RecordedPath(2 snapshots of steps 0 to 7)"
    np.testing.assert_array_equal(loaded.weights[1][0], a + 1)
    np.testing.assert_array_equal(loaded.state[1][0], b)


def test_refusals(tmp_path):
    for every in (0, -1, 1.5, True):
        with pytest.raises(ValueError, match="`every` must be a positive integer"):
            RecordPath(every=every)
    with pytest.raises(ValueError, match="`dtype` must be"):
        RecordPath(dtype="int8")
    with pytest.raises(ValueError, match="`max_snapshots` must be an integer, 2 or more"):
        RecordPath(max_snapshots=1)
    with pytest.raises(ValueError, match="`path` holds no snapshots"):
        RecordPath().path  # noqa: B018
    with pytest.raises(ValueError, match="`directory` holds no snapshots"):
        RecordedPath.load(tmp_path)
    unbuilt = keras.Sequential([L.Dense(1)])
    unbuilt.compile("sgd", "mse")
    with pytest.raises(ValueError, match="call it on a batch before `fit`"):
        unbuilt.fit(X, Y, verbose=0, callbacks=[RecordPath()])
    (tmp_path / "file").touch()
    model = make(L.Dense(1))
    with pytest.raises(ValueError, match="`directory` must be in a folder that can be written"):
        fit(model, RecordPath(directory=tmp_path / "file"))
    with pytest.raises(ValueError, match="increasing steps"):
        RecordedPath([Snapshot(1, 0.0, [], []), Snapshot(1, 0.0, [], [])])
