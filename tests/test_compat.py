"""The private names of Keras and TensorFlow that `compat` uses: which one a new release has lost."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework.ops import gradient_registry

from keras_drmad import DrMADSGD, compat


@pytest.fixture(scope="module")
def model():
    inner = keras.Sequential([keras.layers.Dense(2, name="deep")], name="inner")
    model = keras.Sequential([keras.layers.Input((3,)), inner, keras.layers.Dense(1, name="out")])
    optimizer = DrMADSGD(
        keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.5), weight_decay=0.1
    )
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    model.compile(optimizer, "mse")
    model.fit(np.ones((4, 3)), np.ones((4, 1)), verbose=0)
    return model


def _without_decay(model, name):
    optimizer = keras.optimizers.SGD(weight_decay=0.1)
    optimizer.exclude_from_weight_decay(var_names=[name])
    optimizer.build(model.trainable_variables)
    return optimizer


def _doubling():
    function = tf.function(lambda given: {"twice": 2 * given["x"]})
    return function.get_concrete_function({"x": tf.constant(1.0)})


def _kept_beside(argument, read):
    """What Keras keeps of a variable of 1 after a gradient of 3."""
    optimizer = keras.optimizers.SGD(0.1, **argument)
    variable = keras.Variable([1.0])
    optimizer.build([variable])
    optimizer.apply([keras.ops.convert_to_tensor([3.0])])
    return np.ravel(read(optimizer)).tolist()


def _float8():
    layer = keras.layers.Dense(2)
    layer.build((None, 2))
    layer.quantize("float8")
    return layer


@tf.custom_gradient
def doubled(x):
    return 2 * x, lambda upstream: 2 * upstream


def own_gradients(function):
    spec = tf.TensorSpec((2,))
    graph = tf.function(function, autograph=False).get_concrete_function(spec).graph
    kinds = [
        op.get_attr("_gradient_op_type").decode()
        for op in graph.get_operations()
        if op.type == "IdentityN"
    ]
    return [compat.own_gradient(kind) for kind in kinds]


def watched():
    x, y = tf.constant(1.0), tf.constant(1.0)
    with tf.GradientTape() as tape:
        tape.watch(x)
        found = [compat.is_watched(x * y), compat.is_watched(y)]
        with tape.stop_recording():
            return [*found, compat.is_watched(x)]


USES = {
    "`record.should_record_backprop()`": lambda m: watched() == [True, False, False],
    "`Model._flatten_layers()`: all layers": lambda m: (
        {"inner", "deep", "out"} <= {layer.name for layer in compat.all_layers(m)}
    ),
    "`Layer._flatten_layers(include_self, recursive)`: direct layers": lambda m: (
        {layer.name for layer in compat.inner_layers(m)} & {"inner", "deep", "out"}
        == {"inner", "out"}
    ),
    "`Model._compile_loss`": lambda m: compat.compiled_loss(m) is not None,
    "`Optimizer._trainable_variables`": lambda m: (
        [v.path for v in compat.trained_variables(m.optimizer)]
        == [v.path for v in m.trainable_variables]
    ),
    "`Optimizer._get_variable_index()`": lambda m: (
        [compat.variable_index(m.optimizer, v) for v in m.trainable_variables] == [0, 1, 2, 3]
    ),
    "`Optimizer._use_weight_decay()`": lambda m: (
        [compat.is_decayed(m.optimizer, v) for v in m.trainable_variables]
        == [True, False, True, False]
    ),
    "`Optimizer._use_weight_decay()`, of a variable's path": lambda m: (
        compat.is_decayed(m.optimizer, m.layers[0].layers[0].kernel)
        and not compat.is_decayed(_without_decay(m, "deep"), m.layers[0].layers[0].kernel)
    ),
    "`Variable.overwrite_with_gradient`": lambda m: (
        [compat.is_overwritten(v) for v in _float8().trainable_variables].count(True) > 0
        and not any(compat.is_overwritten(v) for v in m.trainable_variables)
    ),
    "`Optimizer._accumulated_gradients`": lambda m: (
        _kept_beside({"gradient_accumulation_steps": 2}, compat.accumulated_gradients) == [3.0]
    ),
    "`Optimizer._model_variables_moving_average`": lambda m: np.allclose(
        _kept_beside({"use_ema": True}, compat.averages), 0.7
    ),
    "`Optimizer._iterations`": lambda m: int(compat.step_counter(m.optimizer).numpy()) == 1,
    "`Optimizer._learning_rate`": lambda m: isinstance(
        compat.learning_rate(m.optimizer), keras.optimizers.schedules.LearningRateSchedule
    ),
    "`Variable.handle`": lambda m: (
        compat.handle(m.trainable_variables[0]).dtype == tf.resource
        and compat.handle(tf.Variable(1.0)).dtype == tf.resource
    ),
    "`ConcreteFunction._call_flat()`": lambda m: (
        float(compat.call(_doubling(), [tf.constant(3.0)])["twice"]) == 6.0
    ),
    "`gradient_registry.lookup()` of `tf.custom_gradient`": lambda m: (
        own_gradients(doubled) == ["doubled"] and own_gradients(tf.nn.silu) == [None]
    ),
    "`gradient_registry.lookup()`": lambda m: (
        compat.has_gradient("MatMul") and not compat.has_gradient("NoSuchOperation")
    ),
}


@pytest.mark.parametrize("name", USES)
def test_a_private_name_is_there_and_means_the_same(model, name):
    try:
        kept = USES[name](model)
    except (AttributeError, ImportError, TypeError) as error:
        kept, reason = False, f" ({error})"
    else:
        reason = ""
    assert kept, (
        f"Keras {keras.__version__} or TensorFlow {tf.__version__} changed {name}{reason}: "
        "mend `keras_drmad/compat.py`."
    )


def test_a_compiled_loss_is_in_a_name_scope_of_its_own(model):
    def loss(x, y):
        return model.compute_loss(x=x, y=y, y_pred=model(x))

    inputs = tf.ones((4, 3)), tf.ones((4, 1))
    graph = tf.function(loss, autograph=False).get_concrete_function(*inputs).graph
    names = [operation.name for operation in graph.get_operations()]
    assert any(compat.LOSS_SCOPE in name for name in names), (
        f"Keras {keras.__version__} names the scope of a compiled loss otherwise: mend "
        "`keras_drmad.compat.LOSS_SCOPE`."
    )


def test_names_are_given_as_before():
    names = compat.Names()
    first = keras.layers.Dense(1).name
    for _ in range(2):
        with names.again():
            assert keras.layers.Dense(1).name == first, (
                f"Keras {keras.__version__} counts names otherwise: mend `keras_drmad.compat.Names`."
            )
    assert keras.layers.Dense(1).name not in (first, "dense")


def test_hyperparameters_are_reached_through_a_loss_scale_optimizer():
    inner = DrMADSGD(0.05)
    scaled = keras.optimizers.LossScaleOptimizer(inner)
    scaled.build([keras.Variable([1.0], name="w")])
    scaled.set_hyperparameters({"w": {"learning_rate": 0.01}})
    assert scaled.hyperparameters == inner.hyperparameters
    assert scaled.hyperparameters["w"]["learning_rate"] == pytest.approx(0.01)
    scaled.move_hyperparameters({"w": {"learning_rate": 1.0}}, keras.optimizers.SGD(1.0))
    assert scaled.hyperparameters["w"]["learning_rate"] < 0.01
    plain = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD())
    for name in ("hyperparameters", "set_hyperparameters", "move_hyperparameters"):
        assert not hasattr(plain, name)
    with pytest.raises(AttributeError, match="SGD has none"):
        _ = plain.hyperparameters


def test_graphs_with_own_derivatives_are_forgotten():
    """With `tf.custom_gradient` TensorFlow would keep them for ever."""

    @compat.custom_gradient
    def cubed(x):
        return x**3, lambda upstream: upstream * 3 * x**2

    def second_derivative(x):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = cubed(x)
            slope = tape.gradient(y, x)
        return outer.gradient(slope, x)

    def registered():
        return {
            name for name in gradient_registry.list() if name.startswith(compat.CUSTOM_GRADIENT)
        }

    before = registered()
    assert second_derivative(tf.constant(2.0)) == 12
    assert tf.function(second_derivative)(tf.constant(2.0)) == 12
    assert registered() == before
    tf.function(tf.custom_gradient(cubed.__wrapped__))(tf.constant(2.0))
    assert registered() != before  # TensorFlow's own leaves one, with the graph
