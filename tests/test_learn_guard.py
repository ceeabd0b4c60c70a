"""What a training that learns comes back from: bad starts, bad batches, and being broken off."""

import keras
import numpy as np
import pytest
from test_learn import HYPER, X, Y, _without_xla, arrays, mlp, weights  # noqa: F401  (a fixture)

from keras_drmad import DrMADAdamW, LearnHyperparameters, Rprop
from keras_drmad.callbacks.guard import DIVISOR, Anchor, Guard, Outcome
from keras_drmad.callbacks.hyper_samples import HyperSamples
from keras_drmad.callbacks.progress import Progress
from keras_drmad.callbacks.window import Window
from keras_drmad.data import ArrayBatches, BufferedBatches

LABELS = (X.sum(1) > 0).astype("int64")
SHORT = {"horizon": 4}


def guard(loss=1.0):
    return Guard(loss, Anchor(None, {}, []))


def outcome(loss, moved=0.0):
    return Outcome(loss, moved, size=1.0)


@pytest.mark.parametrize(
    ("window", "divisor"),
    [
        (outcome(1.1), None),
        (outcome(1.3), None),
        (outcome(1.5), DIVISOR),
        (outcome(float("nan")), DIVISOR),
        (outcome(1.0, moved=0.2), None),
        (outcome(0.9, moved=0.5), 2 * 0.5 / 0.3),
        (outcome(0.9, moved=1e9), 400.0),
        (outcome(0.4, moved=0.5), None),  # far, and worth it
    ],
)
def test_what_is_taken_back(window, divisor):
    assert guard().divisor(window) == (divisor and pytest.approx(divisor))


def test_losses_may_be_negative():
    assert guard(-10.0).divisor(outcome(-9.0)) is None
    assert guard(-10.0).divisor(outcome(-1.0)) == DIVISOR


def test_no_loss_is_out_of_reach():
    """A running loss that was too good comes back to what is reached, however often it takes."""
    found = guard(0.1)
    for _ in range(200):
        if found.divisor(outcome(0.5)) is None:
            break
        found.take_back()
    assert found.row < 100


def test_the_guard_goes_back_to_where_it_went_well():
    found = guard()
    good, doubtful = (Anchor(name, {}, []) for name in ("good", "doubtful"))
    found.accept(0.9, good)
    found.accept(1.1, doubtful)
    assert found.anchor is good
    again = guard()
    again.restore(found.numbers())
    assert (again.numbers() == found.numbers()).all()


# -- in `fit` ------------------------------------------------------------------------------------


def test_a_window_taken_back(monkeypatch, caplog):
    """Weights of where it began, velocities and momentum's memory of nothing, rates a third."""
    starts = []
    differentiate = Window.differentiate

    def spy(window, *arguments):
        starts.append(window.start)
        return differentiate(window, *arguments)

    def divisor(self, outcome):
        return 3.0 if len(starts) in (2, 3) else None

    class Seen(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            optimizer = self.model.optimizer
            velocities = [v.numpy() for v in optimizer.slots["velocity"]]
            seen.append((weights(self.model), velocities, optimizer.hyperparameters, dict(logs)))

    seen = []
    monkeypatch.setattr(Window, "differentiate", spy)
    monkeypatch.setattr(Guard, "divisor", divisor)
    learn = LearnHyperparameters(HYPER, **SHORT)
    arrays(mlp(), epochs=3, verbose=0, callbacks=[learn, Seen()])
    for epoch in (1, 2):  # the second from where the first went well: it began with the model
        for ours, theirs in zip(seen[epoch][0], starts[0].weights, strict=True):
            np.testing.assert_array_equal(ours, theirs)
        assert not any(np.any(v) for v in seen[epoch][1])
    compiled = mlp().optimizer.hyperparameters
    for group, entries in compiled.items():
        for epoch in (1, 2):
            rate = entries["learning_rate"] / 3**epoch
            assert seen[epoch][2][group]["learning_rate"] == pytest.approx(rate, rel=1e-5)
            assert seen[epoch][2][group]["momentum"] == pytest.approx(entries["momentum"])
    assert [logs["windows_taken_back"] for *_, logs in seen] == [0, 1, 2]
    assert caplog.text.count("was taken back") == 1


@pytest.mark.parametrize("rate", [10.0, 1e-3])
def test_a_training_from_any_start(rate):
    model = mlp(learning_rate=rate)
    hyper = (HYPER[0], (HYPER[0].sum(1) > 0).astype("int64"))
    learn = LearnHyperparameters(hyper, horizon=2)
    history = model.fit(X, LABELS, batch_size=20, epochs=25, verbose=0, callbacks=[learn]).history
    assert history["hyper_loss"][-1] < 0.4
    assert np.isfinite(np.concatenate([w.ravel() for w in weights(model)])).all()


def test_a_batch_of_nan_is_taken_back():
    x = X.copy()
    x[25] = np.nan
    model = mlp()
    arrays(model, x, LABELS, epochs=3, verbose=0, callbacks=[LearnHyperparameters(HYPER, **SHORT)])
    assert np.isfinite(np.concatenate([w.ravel() for w in weights(model)])).all()


def test_one_step_an_epoch_and_one_sample():
    model = mlp()
    learn = LearnHyperparameters((HYPER[0][:1], HYPER[1][:1]), horizon=2)
    history = model.fit(X, Y, batch_size=80, epochs=4, verbose=0, callbacks=[learn]).history
    assert len(history["hyper_loss"]) == 4
    assert any(np.any(d.numpy()) for d in model.optimizer.displacements.values())


def test_an_exception_in_another_callback():
    class Breaks(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise RuntimeError("of the user's")

    model = mlp()
    with pytest.raises(RuntimeError, match="of the user's"):
        arrays(model, verbose=0, callbacks=[LearnHyperparameters(HYPER, **SHORT), Breaks()])
    arrays(model, epochs=2, verbose=0)  # goes on without it
    learn = LearnHyperparameters(HYPER, **SHORT)
    arrays(model, verbose=0, callbacks=[learn])
    assert learn.hyper_loss is not None


def test_a_training_that_is_broken_off_goes_on_to_the_same_result(tmp_path):
    """The meta-optimizer, the guard, its place to go back to, and the draws of hyper samples."""

    class Breaks(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    def fit(model, *more):
        np.random.seed(len(more))  # the seed of the draws is restored, too
        learn = LearnHyperparameters(HYPER, samples=10, batch_size=5, averages=True, **SHORT)
        callbacks = [learn, keras.callbacks.BackupAndRestore(tmp_path / "backup"), *more]
        arrays(model, epochs=6, verbose=0, callbacks=callbacks)

    def whole():
        model = mlp()
        np.random.seed(1)
        learn = LearnHyperparameters(HYPER, samples=10, batch_size=5, averages=True, **SHORT)
        arrays(model, epochs=6, verbose=0, callbacks=[learn])
        return model

    with pytest.raises(KeyboardInterrupt):
        fit(mlp(), Breaks())
    resumed, expected = mlp(), whole()
    fit(resumed)
    for ours, theirs in zip(weights(resumed), weights(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)
    for ours, theirs in zip(
        resumed.optimizer.as_logs().values(), expected.optimizer.as_logs().values(), strict=True
    ):
        assert ours == pytest.approx(theirs, rel=1e-5)


@pytest.mark.parametrize(
    ("before", "after", "learn"),
    [
        (keras.optimizers.SGD(1.0), keras.optimizers.SGD(1e-9), ("learning_rate", "l2")),
        (Rprop(), Rprop(), ("l2",)),
    ],
)
def test_a_checkpoint_goes_on_otherwise(tmp_path, before, after, learn):
    """What was saved of another meta-optimizer, or of other hyperparameters, is left out."""
    path, model = tmp_path / "at.weights.h5", mlp()
    save = keras.callbacks.ModelCheckpoint(path, save_weights_only=True)
    learning = LearnHyperparameters(HYPER, meta_optimizer=before, **SHORT)
    arrays(model, verbose=0, callbacks=[learning, save])
    model.load_weights(path)
    model.optimizer.learn = learn
    rates = model.optimizer.displacements["learning_rate"]
    start = rates.numpy()
    learning = LearnHyperparameters(HYPER, meta_optimizer=after, **SHORT)
    arrays(model, verbose=0, callbacks=[learning])
    np.testing.assert_allclose(rates, start, atol=1e-6)


def test_averages_replace_the_last_weights_where_they_are_better(monkeypatch):
    means = []

    class Seen(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            means.append(weights(self.model))

    model = mlp(learning_rate=0.5)
    learn = LearnHyperparameters(HYPER, averages=True, meta_optimizer=keras.optimizers.SGD(0.0))
    learn.horizon = 4
    history = model.fit(
        X, Y, batch_size=20, shuffle=False, epochs=5, verbose=0, callbacks=[Seen(), learn]
    ).history
    is_better = history["average_hyper_loss"][-1] < history["hyper_loss"][-1]
    mean = [np.mean(parts, axis=0) for parts in zip(*means[-5:], strict=True)]
    expected = mean if is_better else means[-1]
    for ours, theirs in zip(weights(model), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


# -- when, and by what -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("judge", "expected"), [("auto", [0, 0, 0, 0, 1]), ("mean", [0] * 5), ("last", [1] * 5)]
)
def test_the_last_weights_are_judged_near_the_end(monkeypatch, judge, expected):
    seen = []
    differentiate = Window.differentiate

    def spy(window, hyper, draw, last):
        seen.append(last)
        return differentiate(window, hyper, draw, last)

    monkeypatch.setattr(Window, "differentiate", spy)
    learn = LearnHyperparameters(HYPER, judge=judge, **SHORT)
    arrays(mlp(), epochs=5, verbose=0, callbacks=[learn])
    assert seen == expected


@pytest.mark.parametrize(
    ("steps", "epochs", "window"),
    [
        *[(40, 20, 10), (47, 1, 10), (11, 1, 11), (7, 3, 7), (4, 3, 8), (1, 100, 10), (1, 3, 3)],
        *[(1000, 10, 100), (1, 4000, 40), (469, 100, 94), (None, 10, 10)],
    ],
)
def test_windows_end_with_epochs(steps, epochs, window):
    assert Progress({"epochs": epochs, "steps": steps}).window() == window


@pytest.mark.parametrize(
    ("steps", "epochs", "window"), [(40, 20, 40), (1000, 10, 100), (None, 10, 40)]
)
def test_windows_have_as_many_steps_where_gradients_accumulate(steps, epochs, window):
    assert Progress({"epochs": epochs, "steps": steps}).window(4) == window


def test_each_window_sees_other_samples():
    rows = np.arange(30)
    hyper = HyperSamples(ArrayBatches((rows, rows), 5), 12, seed=0)
    first, again, second = (hyper.draw(n)[0].numpy() for n in (0, 0, 1))
    assert first.shape == (2, 5)
    assert (first == again).all() and not (first == second).all()
    assert len(set(first.ravel())) == 10
    parts = BufferedBatches([(rows[i : i + 8], (), ()) for i in range(0, 30, 8)])
    parts.epoch_steps = len(parts)
    assert HyperSamples(parts, 100, seed=0).count == 3  # not the smaller last one
    assert HyperSamples(parts, None, seed=0).draw(0)[0].shape == (3, 8)


def test_a_line_an_epoch(capsys):
    arrays(mlp(), epochs=2, verbose=0, callbacks=[LearnHyperparameters(HYPER, verbose=1, **SHORT)])
    lines = [line for line in capsys.readouterr().out.splitlines() if line]
    assert len(lines) == 2
    for word in ("Epoch 2: learning_rate 0.", "momentum 0.", "l2 ", "hyper_loss ", "taken_back 0"):
        assert word in lines[1]


def test_two_replicas_find_what_one_device_finds(two_replicas):
    def learned(model):
        learn = LearnHyperparameters(HYPER, meta_optimizer=keras.optimizers.SGD(0.5), **SHORT)
        np.random.seed(0)
        arrays(model, epochs=2, verbose=0, callbacks=[learn])
        return list(model.optimizer.as_logs().values())

    with two_replicas.scope():
        model = mlp()
    np.testing.assert_allclose(learned(model), learned(mlp()), rtol=1e-4)


def test_adamw_from_a_start_that_is_too_small():
    model = mlp()
    model.compile(DrMADAdamW(1e-4), model.loss, jit_compile=False)
    hyper = (HYPER[0], (HYPER[0].sum(1) > 0).astype("int64"))
    learn = LearnHyperparameters(hyper, horizon=2)
    history = model.fit(X, LABELS, batch_size=20, epochs=25, verbose=0, callbacks=[learn]).history
    assert history["hyper_loss"][-1] < 0.4
    assert history["out/learning_rate"][-1] > 1e-3
    kinds = {name.split("/")[-1] for name in history if "/" in name}
    assert kinds == {"learning_rate", "weight_decay", "beta_1"}
