"""The callback: what it sees, when it moves hyperparameters, and what it must never touch."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_drmad import DrMADSGD, LearnHyperparameters, hypergradient, paths
from keras_drmad.callbacks import window as module
from keras_drmad.callbacks.mover import Mover
from keras_drmad.engine.recorded import RecordedWindows

layers = keras.layers
rng = np.random.default_rng(0)
X = rng.normal(size=(80, 5)).astype("float32")
Y = rng.integers(0, 3, 80)
HYPER = (rng.normal(size=(30, 5)).astype("float32"), rng.integers(0, 3, 30))
EXACT = {"path": paths.Stored(), "horizon": 4, "judge": "last", "guard": False, "samples": 30}
NO_CHANGE = keras.optimizers.SGD(0.0)  # a meta-optimizer that moves nothing


def mlp(**arguments):
    """Without XLA in any program: compiling would take longer than these runs."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [layers.Input((5,)), layers.Dense(4, "tanh", name="hidden"), layers.Dense(3, name="out")]
    )
    compile_arguments = {k: arguments.pop(k) for k in ("steps_per_execution",) if k in arguments}
    arguments = {"learning_rate": 0.1, "l2": 0.01} | arguments
    model.compile(
        DrMADSGD(**arguments),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
        **compile_arguments,
    )
    model.optimizer.build(model.trainable_variables)  # `fit` would trace everything twice
    return model


@pytest.fixture(autouse=True)
def _without_xla(monkeypatch):
    from keras_drmad.engine import model_setup

    monkeypatch.setattr(model_setup, "prefers_xla", lambda *arguments: False)


def weights(model):
    return [v.numpy() for v in model.trainable_variables]


def seen(monkeypatch):
    """Collects every gradient by which hyperparameters are moved."""
    found = []
    move = Mover.move

    def spy(mover, gradients, boldness):
        found.append({kind: g.numpy() for kind, g in gradients.items()})
        move(mover, gradients, boldness)

    monkeypatch.setattr(Mover, "move", spy)
    return found


def arrays(model, x=X, y=Y, **arguments):
    model.fit(x, y, batch_size=20, shuffle=False, **arguments)


def dataset(model, x, y, **arguments):
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(20)
    model.fit(data, shuffle=False, **arguments)


def py_dataset(model, x, y, **arguments):
    class Sequence(keras.utils.PyDataset):
        def __len__(self):
            return 4

        def __getitem__(self, i):
            return x[20 * i : 20 * i + 20], y[20 * i : 20 * i + 20]

    model.fit(Sequence(), shuffle=False, **arguments)


def generator(model, x, y, **arguments):
    def batches():
        while True:
            for i in range(0, len(x), 20):
                yield x[i : i + 20], y[i : i + 20]

    model.fit(batches(), steps_per_epoch=4, shuffle=False, **arguments)


@pytest.mark.parametrize(
    ("feed", "steps_per_execution", "samples"),
    [
        # Of 70 samples the last batch is a smaller one, which needs programs of its own.
        (arrays, 1, 70),
        (arrays, 3, 70),
        (dataset, 3, 70),
        (py_dataset, 1, 80),
        (generator, 2, 80),
    ],
)
def test_hypergradient_of_what_fit_fed(monkeypatch, feed, steps_per_execution, samples):
    """The callback's gradients are those of `hypergradient` on the same batches."""
    found = seen(monkeypatch)
    model = mlp(steps_per_execution=steps_per_execution)
    learn = LearnHyperparameters(HYPER, **EXACT, meta_optimizer=NO_CHANGE)
    x, y = X[:samples], Y[:samples]
    feed(model, x, y, epochs=2, verbose=0, callbacks=[learn])

    twin = mlp()
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(20)
    for gradients in found:
        expected = hypergradient(
            twin, data, HYPER, path=paths.Stored(), jit_compile=False, verbose=0
        ).gradients
        ours = [gradients["learning_rate"][i] / 0.1 for i in range(2)]
        np.testing.assert_allclose(
            ours, [g["learning_rate"] for g in expected.values()], rtol=1e-3, atol=1e-6
        )
        np.testing.assert_allclose(
            gradients["l2"], [g["l2"] for g in expected.values()], rtol=1e-3, atol=1e-6
        )
    assert len(found) == 2


def test_sample_and_class_weights_are_seen(monkeypatch):
    found = seen(monkeypatch)

    def gradients(**arguments):
        model = mlp()
        learn = LearnHyperparameters(HYPER, **EXACT, meta_optimizer=NO_CHANGE)
        arrays(model, verbose=0, callbacks=[learn], **arguments)
        return found.pop()["l2"]

    by_class = {0: 1.0, 1: 3.0, 2: 0.5}
    by_sample = np.array([by_class[y] for y in Y], "float32")
    np.testing.assert_allclose(
        gradients(class_weight=by_class), gradients(sample_weight=by_sample), rtol=1e-5
    )
    assert not np.allclose(gradients(sample_weight=by_sample), gradients())


def test_several_inputs_and_outputs(monkeypatch):
    found = seen(monkeypatch)
    a, b = keras.Input((5,), name="a"), keras.Input((5,), name="b")
    hidden = layers.Dense(3)(layers.Concatenate()([a, b]))
    outputs = {"p": layers.Dense(1, name="p")(hidden), "q": layers.Dense(1, name="q")(hidden)}
    model = keras.Model({"a": a, "b": b}, outputs)
    model.compile(DrMADSGD(0.01), {"p": "mse", "q": "mae"})
    x, y = {"a": X, "b": X + 1}, {"p": Y * 1.0, "q": Y - 1.0}
    train, hyper = [
        keras.tree.map_structure(lambda array, part=part: array[part], (x, y))
        for part in (slice(0, 60), slice(60, None))
    ]
    learn = LearnHyperparameters(hyper, horizon=2)
    model.fit(*train, verbose=0, epochs=2, callbacks=[learn])
    assert len(found) == 2


@pytest.mark.parametrize(("horizon", "updates"), [(None, 1), (4, 3), (3, 4), (5, 2)])
def test_horizon(monkeypatch, horizon, updates):
    """Twelve steps in three epochs."""
    found = seen(monkeypatch)
    arrays(mlp(), epochs=3, verbose=0, callbacks=[LearnHyperparameters(HYPER, horizon=horizon)])
    assert len(found) == updates


def test_moves_along_the_gradient_on_the_learning_scale(monkeypatch):
    found = seen(monkeypatch)
    model = mlp(momentum=0.5)
    meta = keras.optimizers.SGD(0.5)
    arrays(
        model, verbose=0, callbacks=[LearnHyperparameters(HYPER, horizon=4, meta_optimizer=meta)]
    )
    (gradients,) = found
    slopes = {"learning_rate": 1.0, "momentum": 0.5 * 0.5, "l2": 0.01}
    for kind, displacement in model.optimizer.displacements.items():
        np.testing.assert_allclose(
            displacement.numpy(), -0.5 * slopes[kind] * gradients[kind], rtol=1e-4, atol=1e-9
        )


def test_only_what_may_be_learned_moves():
    model = mlp(learn="l2")
    arrays(model, verbose=0, callbacks=[LearnHyperparameters(HYPER, horizon=4)])
    moved = {k: np.any(d.numpy() != 0) for k, d in model.optimizer.displacements.items()}
    assert moved == {"learning_rate": False, "momentum": False, "l2": True}


def test_learning_improves_a_badly_tuned_training():
    """A learning rate 30 times too small is raised, and the training loss is better for it."""

    def trained(callbacks):
        model = mlp(learning_rate=0.001, momentum=0.5)
        y = (X.sum(1) > 0).astype("int64")
        hyper = (HYPER[0], (HYPER[0].sum(1) > 0).astype("int64"))
        meta = keras.optimizers.RMSprop(0.1)
        made = [LearnHyperparameters(hyper, meta_optimizer=meta)] if callbacks else []
        history = model.fit(X, y, batch_size=10, epochs=15, verbose=0, callbacks=made)
        return model, history.history["loss"][-1]

    model, learned = trained(True)
    _, frozen = trained(False)
    assert learned < 0.9 * frozen
    assert all(v["learning_rate"] > 0.002 for v in model.optimizer.hyperparameters.values())


def test_training_is_not_disturbed():
    """With a meta-optimizer that moves nothing, `fit` trains as without the callback."""
    watched, alone = mlp(), mlp()
    learn = LearnHyperparameters(HYPER, horizon=4, meta_optimizer=NO_CHANGE)
    arrays(watched, epochs=3, verbose=0, callbacks=[learn])
    arrays(alone, epochs=3, verbose=0)
    for ours, theirs in zip(weights(watched), weights(alone), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7)


def test_an_interrupt_inside_a_reverse_pass_leaves_the_trained_weights(monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    broken, alone = mlp(), mlp()
    with monkeypatch.context() as context:
        context.setattr(RecordedWindows, "differentiate", interrupted)
        with pytest.raises(KeyboardInterrupt):
            arrays(broken, epochs=3, verbose=0, callbacks=[LearnHyperparameters(HYPER, horizon=4)])
    arrays(alone, epochs=1, verbose=0)
    for ours, theirs in zip(weights(broken), weights(alone), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7)


def test_logs(tmp_path):
    model = mlp(per="unit")
    log = keras.callbacks.CSVLogger(tmp_path / "log.csv")
    history = model.fit(X, Y, epochs=2, verbose=0, callbacks=[LearnHyperparameters(HYPER), log])
    names = {f"{g}/{k}" for g, v in model.optimizer.hyperparameters.items() for k in v}
    assert names | {"hyper_loss", "windows_taken_back", "loss"} == set(history.history)
    header = (tmp_path / "log.csv").read_text().splitlines()[0].split(",")
    assert names < set(header)
    last = model.optimizer.hyperparameters["hidden/kernel"]["l2"].mean()
    assert history.history["hidden/kernel/l2"][-1] == pytest.approx(last)


@pytest.mark.parametrize(
    ("sizes", "programs"),
    [
        ([20, 20, 20, 20], 1),
        ([20, 20, 20, 10], 2),  # the last batch of an epoch is smaller
        (
            [9, 9, 9, 8, 7, 6, 5, 4, 3, 2],
            3,
        ),  # one for all, once two lengths and two sizes were seen
    ],
)
def test_no_retracing_after_the_first_epoch(sizes, programs):
    class Sized(keras.utils.PyDataset):
        def __len__(self):
            return len(sizes)

        def __getitem__(self, i):
            return X[: sizes[i]], Y[: sizes[i]]

    model = mlp()
    counts = []

    class Count(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            (engine,) = model.optimizer.engines.by_key.values()
            windows = engine.further[len(sizes)]
            counts.append((windows._validate.programs(), windows._reverse.programs()))

    learn = LearnHyperparameters(HYPER, horizon=len(sizes))
    model.fit(Sized(), epochs=3, shuffle=False, verbose=0, callbacks=[learn, Count()])
    assert counts == [(1, programs)] * 3


def test_smaller_last_batches_are_learned_from_as_without_a_record(monkeypatch):
    def learned():
        model = mlp(momentum=0.5)
        before = model.optimizer.as_logs()
        meta = keras.optimizers.SGD(0.5)
        learn = LearnHyperparameters(HYPER, horizon=5, meta_optimizer=meta)
        arrays(model, X[:70], Y[:70], epochs=4, verbose=0, callbacks=[learn])
        return [np.log(value / before[name]) for name, value in model.optimizer.as_logs().items()]

    recorded = learned()
    monkeypatch.setattr(RecordedWindows, "serve", staticmethod(lambda engine: False))
    again = learned()
    assert np.abs(again).min() > 1e-4
    np.testing.assert_allclose(recorded, again, rtol=1e-3)


def test_an_exploding_hypergradient_is_skipped_with_advice(caplog, monkeypatch):
    found = seen(monkeypatch)
    model = mlp(learning_rate=1.0)
    x = np.tile(X, (4, 1))
    learn = LearnHyperparameters(HYPER, path=paths.Linear(), horizon=200, guard=False)
    model.fit(x, np.tile(Y, 4), batch_size=5, epochs=4, verbose=0, callbacks=[learn])
    assert not found
    assert all(not np.any(d.numpy()) for d in model.optimizer.displacements.values())
    assert "SegmentMeans" in caplog.text


def test_a_training_that_cannot_be_repeated_is_skipped(caplog, monkeypatch):
    found = seen(monkeypatch)

    class Shake(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            for v in self.model.trainable_variables:
                v.assign(v + 1.0)

    arrays(mlp(), verbose=0, callbacks=[Shake(), LearnHyperparameters(HYPER, horizon=4)])
    assert not found
    assert "end elsewhere" in caplog.text


def test_a_schedule_and_callbacks_that_change_the_rate_are_followed(monkeypatch):
    """Windows are repeated with the rates that `fit` used, so they end where it ended."""
    monkeypatch.setattr(module, "TOLERANCE", 1e-4)
    found = seen(monkeypatch)

    class PerBatch(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            self.model.optimizer.learning_rate = 0.1 / (1 + batch)

    callbacks = [LearnHyperparameters(HYPER, horizon=4, meta_optimizer=NO_CHANGE)]
    arrays(mlp(), epochs=2, verbose=0, callbacks=[PerBatch(), *callbacks])
    decay = keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5)
    arrays(mlp(learning_rate=decay), epochs=2, verbose=0, callbacks=callbacks)
    assert len(found) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"horizon": 0}, "`horizon`"),
        ({"samples": 0}, "`samples`"),
        ({"judge": "best"}, "`judge`"),
        ({"path": "linear"}, "`path`"),
        ({"meta_optimizer": "adam"}, "`meta_optimizer`"),
        ({"validation_data": (X, Y[:-1])}, "same number of samples"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        LearnHyperparameters(**({"validation_data": HYPER} | arguments))


def test_other_optimizers_are_refused():
    model = mlp()
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="must be compiled with a"):
        arrays(model, verbose=0, callbacks=[LearnHyperparameters(HYPER)])
    model.compile(DrMADSGD(learn=()), "mse")
    with pytest.raises(ValueError, match="Nothing to learn"):
        arrays(model, verbose=0, callbacks=[LearnHyperparameters(HYPER)])


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_a_training_of_unknown_length_that_is_too_short_is_warned_of(caplog):
    batches = tf.data.Dataset.from_tensor_slices((X, Y)).batch(40).filter(lambda x, y: True)
    mlp().fit(batches, shuffle=False, verbose=0, callbacks=[LearnHyperparameters(HYPER)])
    assert "training ended after 2 steps, before the first window of 10" in caplog.text
