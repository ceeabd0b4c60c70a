"""Models, metrics and data out of the ordinary, in searches and in plain `fit`."""

import keras
import keras_tuner
import numpy as np
import pytest
import tensorflow as tf
from qan_task import TRAIN, VAL, Dense, build, make, outcomes, refused, search, training

from keras_drmad.tuners import Actions, Goal
from keras_drmad.tuners.qan.agent.q_network import q_network
from keras_drmad.tuners.qan.env import TrainingEnv
from keras_drmad.tuners.qan.policy import Policy
from keras_drmad.tuners.qan.training.states import Ratios, State
from keras_drmad.tuners.qan.training.steered_training import SteeredTraining
from keras_drmad.tuners.storage import files

pytestmark = pytest.mark.slow

L = keras.layers
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def compiled(model, **arguments):
    model.compile(keras.optimizers.SGD(0.02, momentum=0.5), LOSS, jit_compile=False, **arguments)
    return model


def last(tuner):
    return {e.ended for e in tuner.oracle.curriculum.episodes}


# -- what the hypermodel makes --------------------------------------------------------------


def test_hyperparameters_of_trials_are_those_that_were_built(tmp_path):
    def hypermodel(hp):
        return build(optimizer=keras.optimizers.SGD(hp.Float("rate", 1e-3, 0.1, default=0.02)))

    tuner = search(make(tmp_path, hypermodel), epochs=1)
    rates = {trial.hyperparameters.get("rate") for trial in tuner.oracle.trials.values()}
    assert rates == {0.02}
    assert tuner.get_best_hyperparameters()[0].get("rate") == 0.02


def shared_optimizer():
    optimizer = keras.optimizers.SGD(0.02)
    return lambda hp=None: build(optimizer=optimizer)


def shared_layers():
    base = keras.Sequential([L.Input((6,)), L.Dense(3)])
    return lambda hp=None: compiled(keras.Sequential([L.Input((6,)), base, L.Dense(3)]))


class Own(keras.Model):
    """Trains by an optimizer of its own."""

    def __init__(self):
        super().__init__()
        self.dense, self.other = L.Dense(3), keras.optimizers.Adam()

    def call(self, x):
        return self.dense(x)


@pytest.mark.parametrize(
    "hypermodel, match",
    [
        (shared_optimizer(), "a new model each time, with a new optimizer"),
        (shared_layers(), "a new model each time: what it trains must be made in it"),
        (lambda hp=None: compiled(Own()), "an optimizer `other` of its own"),
        (lambda hp=None: None, "compiled model. Received: None"),
    ],
)
def test_what_would_not_begin_anew_is_refused(tmp_path, hypermodel, match):
    refused(tmp_path, match, {"hypermodel": hypermodel})


def test_frozen_layers_may_be_shared():
    base = keras.Sequential([L.Input((6,)), L.Dense(3)])
    base.trainable = False
    task = training(build=lambda: compiled(keras.Sequential([L.Input((6,)), base, L.Dense(3)])))
    task.check()
    before = base.get_weights()
    task.run(0, lambda report: 0.1)
    np.testing.assert_array_equal(base.get_weights()[0], before[0])


class Recurrent(keras.Model):
    """Keras cannot build it from shapes alone."""

    def __init__(self):
        super().__init__()
        self.cell, self.out = L.GRU(2, stateful=True), L.Dense(3)

    def call(self, x):
        return self.out(self.cell(keras.ops.expand_dims(x, -1)))


def test_models_are_built_by_calls_where_shapes_do_not_suffice():
    steered = {"states": [Ratios()], "actions": Actions(), "goal": Goal("loss", 1e-9)}
    task = SteeredTraining(lambda: compiled(Recurrent()), *TRAIN, batch_size=8, every=3, **steered)
    before = task.run(1, lambda report: None)[0][-1].metric
    task.run(2, lambda report: None)
    assert task.run(1, lambda report: None)[0][-1].metric == before


def halves(x):
    return [x[:, :3], x[:, 3:]]


def test_lists_of_inputs_and_outputs_are_searched(tmp_path):
    def hypermodel(hp):
        inputs = [keras.Input((3,)), keras.Input((3,))]
        x = L.Concatenate()(inputs)
        return compiled(keras.Model(inputs, [L.Dense(3)(x), L.Dense(3)(x)]))

    tuner = make(tmp_path, hypermodel, goal=("val_loss", 0.1))
    validation = halves(VAL[0]), [VAL[1], VAL[1]]
    tuner.search(
        halves(TRAIN[0]), [TRAIN[1]] * 2, validation_data=validation, batch_size=8, verbose=0
    )
    assert "failed" not in last(tuner)


# -- metrics --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "metric", ["f1_score", "fbeta_score", "r2_score", "mean_io_u", "binary_io_u", "my_iou"]
)
def test_metrics_that_are_better_higher_are_raised(metric):
    assert Goal(f"val_{metric}").direction == "max"


@pytest.mark.parametrize("metric", ["val_loss", "val_mean_absolute_error", "crossentropy", "mse"])
def test_errors_are_lowered(metric):
    assert Goal(metric).direction == "min"


@pytest.mark.parametrize("value", [0.7, 0.1, 0.3, 0.9])
@pytest.mark.parametrize("direction", ["max", "min"])
def test_a_goal_is_reached_at_its_value(value, direction):
    goal, sign = Goal("val_x", value, direction), 1 if direction == "max" else -1
    assert goal.reached(float(np.float32(value * 10) / np.float32(10)))
    assert not goal.reached(value - sign * 1e-4)


def test_directions_that_are_not_known_are_asked_for():
    for metric in ("val_mine", "val_sensitivity_at_specificity"):
        with pytest.raises(ValueError, match=f"Whether '{metric}' is to be raised.*direction="):
            Goal(metric)


def test_metrics_without_a_name_are_told_apart_from_missing_ones(tmp_path):
    keras.metrics.AUC()  # Keras numbers the next ones

    def hypermodel(hp):
        model = keras.Sequential([L.Input((6,)), L.Dense(1, "sigmoid")])
        model.compile("sgd", "mse", metrics=[keras.metrics.AUC()])
        return model

    match = r"'val_auc_\d+' has its number from Keras: give the metric a `name`"
    data = {"validation_data": (VAL[0], VAL[1] % 2)}
    refused(tmp_path, match, {"hypermodel": hypermodel, "goal": ("val_auc", 0.9)}, **data)


class Raw(Dense):
    """Its steps return losses that are no metric."""

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x, y, self(x, training=True))
        variables = self.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return {"loss": loss}


def test_what_a_train_step_returns_by_itself_is_taken_as_it_is():
    task = training(build=lambda: compiled(Raw()), goal=("loss", 1e-9))
    seen = []

    class Seen(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(float(logs["loss"]))

    reports, _ = task.run(0, lambda report: 0.3, callbacks=[Seen()])
    assert [r.metric for r in reports if r.step] == pytest.approx(seen)


def test_means_of_weighted_samples_stay_within_their_range():
    """Half of the samples weigh a hundred times the others, and are right; the others are wrong."""
    weight = np.repeat([1.0, 100.0], 32)
    x, y = np.ones((64, 1), "float32"), np.repeat([1.0, 0.0], 32)
    data = tf.data.Dataset.from_tensor_slices((x, y, weight)).batch(8)
    model = keras.Sequential([L.Input((1,)), L.Dense(1, kernel_initializer="zeros")])
    metric = keras.metrics.BinaryAccuracy(name="right", threshold=0.5)
    model.compile(keras.optimizers.SGD(1e-6), "mse", weighted_metrics=[metric])
    policy = Policy([Ratios()], Actions(), ("loss", 1e-9), 1, 1e-6, 8, network=values())
    callback = policy.as_callback(goal=Goal("right", 2.0, "max"))
    model.fit(data, callbacks=[callback], shuffle=False, verbose=0)
    metrics = [report.metric for report in callback.reports]
    assert metrics[0] == 0 and 0.9 < max(metrics) <= 1


def values():
    return q_network([((7,), None)], actions=5, seed=0)


class Idle(Raw):
    """Trains nothing."""

    def train_step(self, data):
        x, y = data
        return {"loss": self.compute_loss(x, y, self(x))}


class Lossless(Raw):
    """Validates a score alone."""

    def test_step(self, data):
        return {"score": keras.ops.mean(self(data[0]) ** 2)}


def test_in_plain_fit_a_missing_loss_is_named():
    policy = Policy([Ratios()], Actions(), ("loss", 1e-9), 4, 0.02, 32, network=values())
    with pytest.raises(ValueError, match="'val_loss' is needed"):
        steer = policy.as_callback(VAL)
        compiled(Lossless()).fit(*TRAIN, batch_size=8, callbacks=[steer], verbose=0)


def test_an_optimizer_that_takes_no_step_is_noticed():
    task = training(build=lambda: compiled(Idle()), goal=("loss", 1e-9))
    with pytest.warns(UserWarning, match="optimizer has taken no step"):
        task.run(0, lambda report: 0.3)


# -- precision ------------------------------------------------------------------------------


@pytest.fixture
def precision(request):
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize("precision", ["mixed_float16"], indirect=True)
def test_a_search_in_half_precision_goes_on(precision, tmp_path):
    before = outcomes(search(make(tmp_path), epochs=1))
    keras.optimizers.SGD()  # Keras numbers the names of optimizers
    assert outcomes(search(make(tmp_path), epochs=1)) == before


@pytest.mark.parametrize("precision", ["mixed_float16"], indirect=True)
def test_the_environment_trains_in_half_precision(precision):
    env = TrainingEnv(
        build, *TRAIN, goal=("val_loss", 1e-9), validation_data=VAL, batch_size=8, decision_every=3
    )
    env.reset(seed=0)
    assert type(env._training.model.optimizer).__name__ == "LossScaleOptimizer"
    env.step(0)
    env.close()


def test_files_hold_bfloat16(tmp_path):
    array = np.asarray(tf.constant([1.5, -2.0], "bfloat16"))
    files.write_arrays(tmp_path / "a.npz", weights={"0": array})
    np.testing.assert_array_equal(files.read_arrays(tmp_path / "a.npz")["weights"]["0"], [1.5, -2])


class Double(State):
    shape = (1,)

    def observe(self, view):
        return np.ones((len(view.rates), 1))


def test_observations_are_float32_whatever_states_return():
    reports, _ = training(states=[Ratios(), Double()]).run(0, lambda report: None)
    assert {report.observation.dtype for report in reports} == {np.dtype("float32")}


# -- callbacks ------------------------------------------------------------------------------


def test_a_callback_need_not_be_in_a_list(tmp_path):
    begun = []
    watch = keras.callbacks.LambdaCallback(on_train_begin=begun.append)
    search(make(tmp_path), callbacks=watch, epochs=1)
    assert len(begun) == 12


def test_the_search_alone_goes_on_with_what_was_broken_off(tmp_path):
    backup = keras.callbacks.BackupAndRestore(str(tmp_path / "backup"))
    with pytest.raises(ValueError, match="`callbacks` may not hold `BackupAndRestore`"):
        search(make(tmp_path), callbacks=[backup])


def test_a_decision_is_not_repeated_where_a_training_goes_on(tmp_path):
    """What was decided at the end of an epoch is in the backup."""

    class Killed(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    always = values()
    always.set_weights([np.zeros_like(w) for w in always.get_weights()])
    always.layers[-2].bias.assign([0.0, 0, 1, 0, 0, 0])  # multiplies by 0.9
    policy = Policy([Ratios()], Actions(), ("val_loss", 1e-9), 4, 0.02, 32, network=always)

    def rates(folder, *more):
        backup = keras.callbacks.BackupAndRestore(str(tmp_path / folder))
        callbacks = [policy.as_callback(VAL), backup, *more]
        fit = {"batch_size": 8, "epochs": 4, "verbose": 0, "callbacks": callbacks}
        return build().fit(*TRAIN, **fit).history["learning_rate"]

    whole = rates("whole")
    with pytest.raises(KeyboardInterrupt):
        rates("broken", Killed())
    assert rates("broken") == pytest.approx(whole[2:])


# -- what a policy and a search are told ------------------------------------------------------


def test_a_policy_is_saved_as_a_keras_file_only(tmp_path):
    policy = Policy([Ratios()], Actions(), ("val_loss", 0.1), 4, 0.02, 32, network=values())
    with pytest.raises(ValueError, match=r'must end in ".keras".*p.h5'):
        policy.save(tmp_path / "p.h5")


def test_sample_selections_need_a_loss(tmp_path):
    def hypermodel(hp):
        model = keras.Sequential([L.Input((6,)), L.Dense(3, activity_regularizer="l2")])
        model.compile(keras.optimizers.SGD(0.02))
        return model

    actions = Actions((0.5, 1.0), sample_selection=("uniform", "hardest"))
    refused(tmp_path, "compiled with one loss", {"hypermodel": hypermodel, "actions": actions})


def test_an_objective_of_keras_tuner_has_its_direction():
    assert Goal.of(keras_tuner.Objective("val_f1_score", "min")).direction == "min"
