"""`hypergradient` against central differences in float64, and its contracts."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_mlp import STEPS, XH, YH, X, Y, mlp, restorable, run, slope

from keras_drmad import DrMADAdamW, DrMADSGD, hypergradient, paths

EXACT = [paths.Stored(), paths.Checkpointed(), paths.Reversible()]


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
)
def test_every_hyperparameter_is_exact(float64, make, arguments, samples):
    """Each exact path, each hyperparameter, to 1e-6 of finite differences."""
    model = mlp(make, **arguments)
    optimizer, restore = model.optimizer, restorable(model)
    found = {}
    undone = make is DrMADSGD and not arguments.get("nesterov")
    for path in EXACT if undone else EXACT[:2]:
        found[repr(path)] = run(model, path, samples).gradients
        restore()
    exact = EXACT[0]
    for group, entries in optimizer.hyperparameters.items():
        for kind, value in entries.items():
            # One direction for all units of a kernel: finite differences of each would take minutes.
            direction = np.random.default_rng(0).normal(size=np.shape(value))

            def bump(size):
                moved = value * (1 + size * direction)  # noqa: B023
                optimizer.set_hyperparameters({group: {kind: moved}})  # noqa: B023

            expected = slope(model, restore, exact, bump, 1e-4, samples=samples)
            for name, gradients in found.items():
                ours = np.sum(gradients[group][kind] * value * direction)
                assert ours == pytest.approx(expected, rel=1e-6, abs=1e-11), (name, group, kind)


@pytest.mark.parametrize(("path", "samples"), list(zip(EXACT, (50, 48, 48), strict=True)))
def test_initial_weights_and_hyper_variables_are_exact(float64, path, samples):
    """Compiled with XLA, as by default."""
    model = mlp()
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


@pytest.mark.parametrize(
    "arguments",
    [
        {"clipnorm": 0.05},
        {"clipvalue": 0.02},
        {"global_clipnorm": 0.1},
        {"weight_decay": 0.1},
        {"learning_rate": keras.optimizers.schedules.ExponentialDecay(0.1, 5, 0.5)},
    ],
    ids=lambda a: next(iter(a)),
)
def test_exact_with_what_keras_optimizers_can_do(float64, arguments):
    model = mlp(**arguments)
    restore = restorable(model)
    found = run(model, paths.Stored())
    restore()
    displacement = model.optimizer.displacements["momentum"]
    expected = slope(
        model, restore, paths.Stored(), lambda s: displacement.assign(displacement + s), 1e-4
    )
    ours = sum(g["momentum"] * 0.8 * 0.2 for g in found.gradients.values())  # through the logit
    assert ours == pytest.approx(expected, rel=1e-6)
    displacement = model.optimizer.displacements["learning_rate"]
    expected = slope(
        model, restore, paths.Stored(), lambda s: displacement.assign(displacement + s), 1e-4
    )
    last = model.optimizer.learning_rates(STEPS)[-1]
    ours = sum(g["learning_rate"] * last for g in found.gradients.values())
    assert ours == pytest.approx(expected, rel=1e-6)


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
            programs.validate.experimental_get_tracing_count(),
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


@pytest.mark.parametrize(
    "arguments",
    [{"gradient_accumulation_steps": 2}, {"ema_overwrite_frequency": 2, "use_ema": True}],
    ids=lambda a: next(iter(a)),
)
def test_what_the_engine_cannot_follow_is_refused(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        run(mlp(**arguments), None)


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
