"""`hypergradient` against central differences in float64, and its contracts."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_mlp import STEPS, XH, YH, X, Y, mlp, restorable, run, slope

from keras_drmad import DrMADAdamW, DrMADSGD, hypergradient, paths


def named(value):
    return getattr(value, "__name__", re.sub(r"<.*\.(\w+) object at .*?>", r"\1", str(value)))


@pytest.mark.parametrize(
    ("make", "arguments", "samples"),
    [
        (DrMADSGD, {"per": "global"}, 50),
        (DrMADSGD, {"per": "layer"}, 48),
        (DrMADSGD, {"per": "variable"}, 48),
        (DrMADSGD, {"per": "unit"}, 48),
        (DrMADSGD, {"per": "unit", "nesterov": True}, 48),
        (DrMADAdamW, {"per": "global"}, 50),
        (DrMADAdamW, {"per": "layer"}, 48),
        (DrMADAdamW, {"per": "variable"}, 48),
        (DrMADAdamW, {"per": "unit"}, 48),
    ],
    ids=named,
)
def test_every_hyperparameter_is_exact(float64, make, arguments, samples):
    """Each exact path, each hyperparameter, to 1e-6 of finite differences."""
    model = mlp(make, **arguments)
    optimizer, restore = model.optimizer, restorable(model)
    found = {}
    some = [paths.Stored()]
    if arguments["per"] in ("global", "unit"):
        some.append(paths.Checkpointed(every=2, slots=2))
    if make is DrMADSGD and not arguments.get("nesterov"):
        some.append(paths.Reversible())
    for path in some:
        found[repr(path)] = run(model, path, samples).gradients
        restore()
    for group, entries in optimizer.hyperparameters.items():
        for kind, value in entries.items():
            # One direction for all units of a kernel: finite differences of each would take minutes.
            direction = np.random.default_rng(0).normal(size=np.shape(value))

            def bump(size):
                moved = value * (1 + size * direction)  # noqa: B023
                optimizer.set_hyperparameters({group: {kind: moved}})  # noqa: B023

            expected = slope(model, restore, paths.Stored(), bump, 1e-4, samples=samples)
            for name, gradients in found.items():
                ours = np.sum(gradients[group][kind] * value * direction)
                assert ours == pytest.approx(expected, rel=1e-6, abs=1e-11), (name, group, kind)


@pytest.mark.parametrize(
    ("make", "path", "samples"),
    [
        (DrMADSGD, paths.Stored(), 50),
        (DrMADSGD, paths.Checkpointed(), 48),
        (DrMADSGD, paths.Reversible(), 48),
        (DrMADAdamW, paths.Checkpointed(), 48),
    ],
    ids=named,
)
def test_initial_weights_and_hyper_variables_are_exact(float64, make, path, samples):
    """Compiled with XLA, as by default."""
    model = mlp(make)
    strength = model.get_layer("weighted").strength
    restore = restorable(model)
    arguments = {"hyper_variables": [strength], "jit_compile": True, "samples": samples}
    found = run(model, path, **arguments)
    restore()
    direction = np.random.default_rng(0)
    for variables, gradients in [
        (model.trainable_variables, found.initial_weights),
        ([strength], found.hyper_variables),
    ]:
        for variable, gradient in zip(variables, gradients, strict=True):
            d = direction.normal(size=variable.shape)
            expected = slope(
                model,
                restore,
                path,
                lambda s, v=variable, d=d: v.assign(v + s * d),
                1e-4,
                **arguments,
            )
            assert np.sum(gradient * d) == pytest.approx(expected, rel=1e-6, abs=1e-11)


DECAYING = keras.optimizers.schedules.ExponentialDecay(0.1, 5, 0.5)


@pytest.mark.parametrize(
    ("make", "arguments"),
    [
        (DrMADSGD, {"clipnorm": 0.05}),
        (DrMADSGD, {"clipvalue": 0.02}),
        (DrMADSGD, {"global_clipnorm": 0.1}),
        (DrMADSGD, {"weight_decay": 0.1}),
        (DrMADSGD, {"learning_rate": DECAYING}),
        (DrMADAdamW, {"clipnorm": 0.05}),
        (DrMADAdamW, {"learning_rate": DECAYING, "global_clipnorm": 0.1}),
    ],
    ids=named,
)
def test_exact_with_what_keras_optimizers_can_do(float64, make, arguments):
    model = mlp(make, **arguments)
    optimizer, restore = model.optimizer, restorable(model)
    found = run(model, paths.Stored())
    restore()
    last = optimizer.learning_rates(STEPS)[-1]
    mean = "momentum" if make is DrMADSGD else "beta_1"
    # Through the logit, and the logarithm.
    for kind, slope_of_scale in ((mean, 0.8 * 0.2), ("learning_rate", last)):
        displacement = optimizer.displacements[kind]
        expected = slope(
            model,
            restore,
            paths.Stored(),
            lambda s, of=displacement: of.assign(of + s),
            1e-4,
        )
        ours = sum(g[kind] * slope_of_scale for g in found.gradients.values())
        assert ours == pytest.approx(expected, rel=1e-6), kind


@pytest.mark.parametrize("path", [paths.Stored(), paths.SegmentMeans(2), paths.Linear()], ids=str)
def test_weights_that_no_sample_moves(float64, path):
    """The root of a second moment that stays 0 has no derivative; the step by it has."""
    model = mlp(DrMADAdamW, per="variable")
    restore = restorable(model)
    x = X[:48] * np.array([1, 1, 0, 1, 1])
    model.optimizer.reset()
    arguments = {"steps": STEPS, "batch_size": 16, "seed": 3, "jit_compile": False, "verbose": 0}

    def train(path):
        return hypergradient(model, (x, Y[:48]), (XH, YH), path=path, **arguments)

    found = train(path)
    assert not found.diverged
    assert all(np.isfinite(g).all() for g in found.initial_weights)
    for entries in found.gradients.values():
        assert np.isfinite(list(entries.values())).all()
    if not path.exact:
        return
    losses = []
    for size in (1e-4, -1e-4):
        restore()
        model.optimizer.reset()
        model.trainable_variables[0].assign_add([[0.0] * 4] * 2 + [[size] * 4] + [[0.0] * 4] * 2)
        losses.append(train(path).validation_loss)
    slope = (losses[0] - losses[1]) / 2e-4
    assert found.initial_weights[0][2].sum() == pytest.approx(slope, rel=1e-6)


def test_a_path_with_means_of_the_second_moment_is_near(float64):
    arguments = {"steps": 100, "batch_size": 10, "samples": 50}
    model = mlp(DrMADAdamW, per="variable", learning_rate=0.01, beta_2=0.99)
    model.optimizer.reset()
    restore = restorable(model)
    exact = run(model, paths.Stored(), **arguments)
    restore()
    near = run(model, paths.SegmentMeans(), **arguments)
    for kind in ("learning_rate", "weight_decay"):
        a, b = (np.array([g[kind] for g in f.gradients.values()]) for f in (exact, near))
        assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) > 0.9, kind
        assert 0.5 < np.linalg.norm(b) / np.linalg.norm(a) < 2, kind


def test_reversible_refuses_adamw():
    with pytest.raises(ValueError, match="cannot undo a training step with the update rule AdamW"):
        run(mlp(DrMADAdamW), paths.Reversible())


def test_a_path_without_second_moments_is_refused_for_adamw():
    class Standing(paths.Path):
        def segment_data(self, segment, segments, summaries, start, end):
            return end.weights

        def point(self, data, record, step):
            return paths.Point(data, arriving=[tf.zeros_like(w) for w in data])

    with pytest.raises(ValueError, match=r"Standing.* have no \['velocity'\].*AdamW"):
        run(mlp(DrMADAdamW), Standing())


# -- contracts ---------------------------------------------------------------------------------


def test_result():
    model = mlp()
    found = run(model, None)
    assert found.path == paths.SegmentMeans()
    assert found.steps == STEPS
    assert not found.diverged
    shapes = {g: list(v) for g, v in model.optimizer.hyperparameters.items()}
    assert {g: list(v) for g, v in found.gradients.items()} == shapes
    assert int(model.optimizer.iterations.numpy()) == STEPS


def test_a_second_call_compiles_nothing():
    model = mlp()
    run(model, None, jit_compile="auto")
    (engine,) = model.optimizer.engines.by_key.values()
    programs = engine.programs

    def traced():
        return (
            programs.forward.programs(),
            programs.reverse.programs(),
            programs.validate.programs(),
        )

    before = traced()
    model.optimizer.set_hyperparameters({"out": {"learning_rate": 0.02}})
    run(model, paths.SegmentMeans(), seed=9, jit_compile="auto")
    run(model, None, steps=STEPS + 5, jit_compile="auto")
    assert traced() == before
    assert len(model.optimizer.engines.by_key) == 1


def test_the_same_seed_is_the_same_run():
    model = mlp()
    restore = restorable(model)
    first = run(model, None)
    restore()
    again = run(model, None)
    restore()
    other = run(model, None, seed=4)
    assert first.validation_loss == again.validation_loss
    assert first.gradients == again.gradients
    assert first.validation_loss != other.validation_loss


def test_unshuffled_arrays_are_trained_on_in_their_order():
    model = mlp()
    restore = restorable(model)
    arguments = {"steps": STEPS, "jit_compile": False, "verbose": 0}
    first = hypergradient(model, (X, Y), (XH, YH), shuffle=False, batch_size=16, **arguments)
    restore()
    in_order = tf.data.Dataset.from_tensor_slices((X, Y)).batch(16)
    again = hypergradient(model, in_order, (XH, YH), **arguments)
    assert first.validation_loss == again.validation_loss
    with pytest.raises(ValueError, match="`shuffle`"):
        hypergradient(model, (X, Y), (XH, YH), shuffle="batch")


def test_divergence_is_said():
    model = mlp(learning_rate=1e6)
    found = run(model, paths.Stored(), steps=50)
    assert found.diverged


def as_dataset():
    return tf.data.Dataset.from_tensor_slices((X.astype("float32"), Y)).batch(16)


class Sequence(keras.utils.PyDataset):
    def __len__(self):
        return 4

    def __getitem__(self, i):
        return X[16 * i : 16 * i + 16].astype("float32"), Y[16 * i : 16 * i + 16]


def endless():
    while True:
        yield from as_dataset()


@pytest.mark.parametrize("data", [as_dataset, Sequence, endless])
def test_data_in_batches_of_every_kind(data):
    """All give these batches in this order, around the end of an epoch."""
    model = mlp()
    restore = restorable(model)
    found = hypergradient(
        model, data(), (XH, YH), steps=7, path=paths.Stored(), jit_compile=False, verbose=0
    )
    restore()
    reference = hypergradient(
        model, as_dataset(), (XH, YH), steps=7, path=paths.Stored(), jit_compile=False, verbose=0
    )
    assert found.gradients == reference.gradients


def test_a_validation_dataset_is_read_once():
    from keras_drmad.data import as_validation

    batches = as_validation(as_dataset())
    assert [batches.epoch_steps for _ in range(3)] == [4, 4, 4]
    assert len(batches) == 4


def test_one_epoch_is_the_default():
    model = mlp()
    arguments = {"jit_compile": False, "verbose": 0}
    assert hypergradient(model, (X, Y), (XH, YH), batch_size=16, **arguments).steps == 4
    assert hypergradient(model, as_dataset(), as_dataset(), **arguments).steps == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "`steps` must be a positive integer"),
        ({"train_data": (X, Y[:-1])}, "same number of samples"),
        ({"train_data": (X[:0], Y[:0])}, "at least one"),
        ({"train_data": endless(), "batch_size": None}, "`steps` must be given"),
        ({"hyper_variables": [np.zeros(3)]}, "`hyper_variables`"),
        ({"path": "linear"}, "`path`"),
        ({"judge": "best"}, "`judge` must be 'last' or 'mean'"),
        ({"validation_data": as_dataset().repeat()}, "`validation_data`"),
    ],
)
def test_bad_input_is_refused_before_training(arguments, message):
    model = mlp()
    before = [v.numpy() for v in model.trainable_variables]
    call = {"train_data": (X, Y), "validation_data": (XH, YH), "batch_size": 16, "verbose": 0}
    call |= arguments
    with pytest.raises(ValueError, match=message):
        hypergradient(model, call.pop("train_data"), call.pop("validation_data"), **call)
    for variable, value in zip(model.trainable_variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_another_optimizer_is_refused():
    model = mlp()
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="must be compiled with a"):
        run(model, None)


def test_an_interrupted_reverse_pass_leaves_trained_weights(monkeypatch):
    from keras_drmad.engine.engine import Engine

    model = mlp()
    restore = restorable(model)
    run(model, None)
    trained = [v.numpy() for v in model.trainable_variables]
    restore()

    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(Engine, "_inputs_back", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(model, None)
    for variable, value in zip(model.trainable_variables, trained, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_a_capped_path_does_not_blow_up():
    """Far beyond what is stable for the chord, the default path's adjoint stays bounded."""
    arguments = {"steps": 400, "batch_size": 5, "samples": 50}
    chord = run(mlp(learning_rate=0.4, l2=0.0), paths.Linear(), **arguments)
    means = run(mlp(learning_rate=0.4, l2=0.0), paths.SegmentMeans(), **arguments)
    assert chord.growth > 1e3
    assert chord.diverged
    assert means.growth < 10
    assert not means.diverged
